"""The toy problem: a Gaussian policy below a cliff, with exact max@k curves.

The policy is x ~ N(theta, 0.1). The reward is g(x) = x^2 on [0, 1] and 0
elsewhere, so that samples just below x = 1 are the best and those just above
are worth nothing.

One draw is worth at most u^2 with probability

  F(u) = 1 - P(u < x <= 1),   0 <= u <= 1,

the best of k draws with probability F(u)^k, and with t = u^2

  max@k = integral of 1 - F(sqrt t)^k over t in [0, 1]
        = integral of 2 u (1 - F(u)^k) over u in [0, 1].

The integrand is analytic, so Gauss-Legendre quadrature gives it to rounding
error in float64, and so it does the derivative under the integral.
"""

import chex
import jax.numpy as jnp
import numpy as np
from scipy import optimize, special

SD = 0.1
KS = (1, 2, 4, 8, 16)

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(200)
_U = (1 + _NODES) / 2
_DT = _WEIGHTS * _U  # dt = 2 u du, and du is half the weight


def reward(x: chex.Array) -> chex.Array:
  """g(x) = x^2 on [0, 1], else 0; elementwise."""
  return jnp.where((0 <= x) & (x <= 1), x**2, 0.0)


def max_at_k(theta: np.ndarray, k: int) -> np.ndarray:
  """Exact max@k of the policy (eq 11); any shape of theta, float64."""
  return (1 - _at_most(theta) ** k) @ _DT


def max_at_k_gradient(theta: np.ndarray, k: int) -> np.ndarray:
  """Exact derivative of `max_at_k` in theta; any shape of theta, float64."""
  slope = _density(1.0, theta) - _density(_U, theta)  # d/dtheta F(u)
  return (-k * _at_most(theta) ** (k - 1) * slope) @ _DT


def best_theta(k: int) -> float:
  """The theta at which max@k is largest."""
  return optimize.brentq(lambda theta: max_at_k_gradient(theta, k), 0.5, 1.2)


def _at_most(theta: np.ndarray) -> np.ndarray:
  """F(u) at the nodes, [..., node]."""
  below = special.ndtr(_standardise(_U, theta))
  return 1 - special.ndtr(_standardise(1.0, theta)) + below


def _density(x: chex.Numeric, theta: np.ndarray) -> np.ndarray:
  """The policy's density at x, [..., x]."""
  z = _standardise(x, theta)
  return np.exp(-(z**2) / 2) / (SD * np.sqrt(2 * np.pi))


def _standardise(x: chex.Numeric, theta: np.ndarray) -> np.ndarray:
  return (x - np.asarray(theta)[..., None]) / SD
