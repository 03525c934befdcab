"""Floating-point operations of a function, counted in its jaxpr."""

import math
from typing import Any

from jax.extend import core
from jax.interpreters import partial_eval


def count(closed: Any, *, decode_steps: int, once: bool = False) -> float:
  """Operations of all matrix products, for one run over all devices.

  Args:
    closed: a closed jaxpr; what its results don't need is left out, as
      compilers do.
    decode_steps: how often a loop of unknown length runs.
    once: every loop runs a single time, as XLA's own count has it.

  Returns:
    Two for each multiplication and addition. What rematerialisation computes
    again is counted again.
  """
  jaxpr, _ = partial_eval.dce_jaxpr(
    closed.jaxpr, [True] * len(closed.jaxpr.outvars)
  )
  return _count(jaxpr, decode_steps, once)


def _count(jaxpr: core.Jaxpr, decode_steps: int, once: bool) -> float:
  total = 0.0
  for eqn in jaxpr.eqns:
    name = eqn.primitive.name
    if name == "dot_general":
      total += _dot(eqn)
    loops = {"scan": eqn.params.get("length"), "while": decode_steps}
    inner = [
      _count(getattr(sub, "jaxpr", sub), decode_steps, once)
      for value in eqn.params.values()
      for sub in _jaxprs(value)
    ]
    times = 1 if once else loops.get(name, 1)
    total += times * (max(inner) if name == "cond" else sum(inner))
  return total


def _dot(eqn) -> float:
  (contracted, _), _ = eqn.params["dimension_numbers"]
  shape = eqn.invars[0].aval.shape
  length = math.prod(shape[i] for i in contracted)
  return 2.0 * length * math.prod(eqn.outvars[0].aval.shape)


def _jaxprs(value: Any) -> list[Any]:
  """Those in a parameter of an equation."""
  if isinstance(value, (tuple, list)):
    return [jaxpr for x in value for jaxpr in _jaxprs(x)]
  closed = isinstance(value, core.ClosedJaxpr)
  return [value] if closed or isinstance(value, core.Jaxpr) else []
