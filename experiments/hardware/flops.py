"""Floating-point operations of a function, counted in its jaxpr."""

import math
from typing import Any

from jax.extend import core
from jax.interpreters import partial_eval


def count(closed: Any, *, once: bool = False, share: float = 1.0) -> float:
  """Operations of all matrix products, for one run over all devices.

  Args:
    closed: a closed jaxpr; what its results don't need is left out, as
      compilers do.
    once: every loop runs a single time, as XLA's own count has it; none where
      the share is 0.
    share: of the trips after which its counter ends it that a `while` runs.

  Returns:
    Two for each multiplication and addition. What rematerialisation computes
    again is counted again.

  Raises:
    ValueError: a `while` without a counter.
  """
  jaxpr, _ = partial_eval.dce_jaxpr(
    closed.jaxpr, [True] * len(closed.jaxpr.outvars)
  )
  return _count(jaxpr, once, share)


def _count(jaxpr: core.Jaxpr, once: bool, share: float) -> float:
  total = 0.0
  for eqn in jaxpr.eqns:
    name = eqn.primitive.name
    if name == "dot_general":
      total += _dot(eqn)
    inner = [
      _count(getattr(sub, "jaxpr", sub), once, share)
      for value in eqn.params.values()
      for sub in _jaxprs(value)
    ]
    work = max(inner) if name == "cond" else sum(inner)
    if once:
      work *= name != "while" or share > 0
    elif work:  # a loop without products may be of any length
      work *= _trips(eqn, share)
    total += work
  return total


def _trips(eqn, share: float) -> int:
  """How often a loop runs; 1 if the equation is no loop."""
  if eqn.primitive.name == "scan":
    return eqn.params["length"]
  if eqn.primitive.name != "while":
    return 1

  def constants(comparison: str) -> list[int]:
    return [
      int(x.val)
      for test in eqn.params["cond_jaxpr"].eqns
      if test.primitive.name == comparison
      for x in test.invars
      if isinstance(x, core.Literal)
    ]

  if constants("ne"):
    return 0  # goes on where another loop ended before its counter did
  bounds = constants("lt")
  if len(bounds) != 1:
    raise ValueError(
      "A while loop must compare its counter, from 0, with one constant;"
      f" its condition is {eqn.params['cond_jaxpr']}."
    )
  return math.ceil(share * bounds[0])


def _dot(eqn) -> float:
  (contracted, _), _ = eqn.params["dimension_numbers"]
  shape = eqn.invars[0].aval.shape
  length = math.prod(shape[i] for i in contracted)
  return 2.0 * length * math.prod(eqn.outvars[0].aval.shape)


def _jaxprs(value: Any) -> list[Any]:
  """The jaxprs inside a parameter of an equation."""
  if isinstance(value, (tuple, list)):
    return [jaxpr for x in value for jaxpr in _jaxprs(x)]
  closed = isinstance(value, core.ClosedJaxpr)
  return [value] if closed or isinstance(value, core.Jaxpr) else []
