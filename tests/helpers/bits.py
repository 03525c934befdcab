"""64-bit jax for a while, in the oldest jax that the group needs, too."""

import jax
import jax.experimental

enable_x64 = (
  jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64
)
