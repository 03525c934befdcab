"""What users write passes their type checker: the types of the public names."""

import json

import pytest
from helpers import bare

RIGHT = """
import jax
import jax.numpy as jnp
import numpy as np

import pkpo_jax
from pkpo_jax import intervals
from pkpo_jax.adapters import group_advantages

rewards = jnp.array([0.0, 1.0, 1.0, 0.0])
where = np.array([True, True, False, True])
weights: jax.Array = pkpo_jax.sloo_minus_one(rewards, 2)
weights = pkpo_jax.scloo(np.array([0, 1, 1, 0]), k=jnp.int32(2), where=where)
weights = pkpo_jax.rloo(rewards) + pkpo_jax.maxrl(rewards, None)
weights = pkpo_jax.k_mixture(rewards, np.ones(3), centred=True)
weights = pkpo_jax.order_statistics(rewards, np.ones(3), where=where)
weights = pkpo_jax.get_transform("tailrl")(rewards, k=None)
batch: jax.Array = jax.jit(jax.vmap(pkpo_jax.passk_training, (0, None)))(
  jnp.ones((2, 4)), 2
)

schedule = pkpo_jax.piecewise_k([8, 1], boundaries=[1500])
k: jax.Array = schedule(jnp.int32(3))
largest: int = schedule.max_k
ks: jax.Array = pkpo_jax.k_from_solve_rate(np.ones(3), np.ones(3), k_max=8)
value: float = float(pkpo_jax.max_at_k(rewards, k))
errors: jax.Array = pkpo_jax.pass_at_k_standard_error(np.arange(5), 4, 2)
share: jax.Array = pkpo_jax.pass_at_k(3, 4, k=2)


def loss(log_probs: jax.Array, rewards: jax.Array, step: int) -> jax.Array:
  weights = jax.vmap(pkpo_jax.sloo_minus_one, (0, None))(
    rewards, schedule(step)
  )
  return -jnp.sum(weights * log_probs) / len(rewards)


gradient: jax.Array = jax.grad(loss)(jnp.zeros((2, 4)), jnp.zeros((2, 4)), 0)
of_numpy: np.ndarray = group_advantages(np.ones(8), 4, 2, transform="scloo")
of_a_list: np.ndarray = group_advantages([0.0, None, 1.0, 1.0], 4, schedule(1))
of_jax: jax.Array = group_advantages(jnp.ones((2, 4)), 4, 2)
gain: intervals.Interval = intervals.paired(np.ones(4), np.zeros(4))
low: float = gain.low
"""
# Line by line; each has to be an error.
WRONG = """
from pkpo_jax import get_transform, piecewise_k, sloo_minus_one
from pkpo_jax.adapters import group_advantages
import numpy as np
a: int = sloo_minus_one(np.ones(4), 2)
b = sloo_minus_one("0110", 2)
c = piecewise_k([8, 1], 1500)
d = sloo_minus_one(np.ones(4))
e: float = group_advantages(np.ones(4), 4, 2)
f = get_transform(3)
"""
SETTINGS = {"typeCheckingMode": "standard"}


def errors_in(folder, text):
  """Messages of basedpyright about a file of this text, by line."""
  folder.mkdir()
  (folder / "snippet.py").write_text(text)
  (folder / "pyrightconfig.json").write_text(json.dumps(SETTINGS))
  command = ["basedpyright", "--outputjson", "--level", "error"]
  result = bare.run(folder, command, extra=["basedpyright"])
  assert result.stdout, result.stderr[-3000:]
  found = json.loads(result.stdout)
  assert found["summary"]["filesAnalyzed"] == 1
  return {
    message["range"]["start"]["line"] + 1: message["message"]
    for message in found["generalDiagnostics"]
  }


@pytest.mark.verify(
  "pkpo_jax/__init__.py",
  "pkpo_jax/adapters",
  "pkpo_jax/estimators.py",
  "pkpo_jax/intervals.py",
  "pkpo_jax/schedules.py",
  "pkpo_jax/solve_rates.py",
  "pkpo_jax/transforms",
)
def test_a_type_checker_takes_what_is_right_alone(tmp_path):
  assert errors_in(tmp_path / "right", RIGHT) == {}
  wrong = [i for i, line in enumerate(WRONG.splitlines(), 1) if "=" in line]
  assert sorted(errors_in(tmp_path / "wrong", WRONG)) == wrong
