"""Unit tests of the form `assert expression`, for code in a sandbox.

The calls of the function that is asked for go into the sandbox; the rest of the
expression, which holds what is expected, is evaluated on the values that they
gave: out here if it only compares them, else in another sandbox, as `10**f(3)`
may take as long as an answer likes. No answer runs there, so none can forge a
verdict.
"""

import ast
import dataclasses
import functools
import inspect
import pickle
from collections.abc import Callable, Sequence
from typing import Any

from pkpo_jax.tasks import code_blocks
from pkpo_jax.tasks.grading.sandbox import equal, sandbox

_VALUES, _EQUAL = "__values__", "__equal__"
# What tests need in a sandbox, but for the values.
PRELUDE = f"""
from math import inf, nan
{_EQUAL} = {{}}
exec({inspect.getsource(equal)!r}, {_EQUAL})
{_EQUAL} = {_EQUAL}["equal"]
"""
# What does nothing but compare.
_COMPARES = (
  ast.Expression, ast.Compare, ast.cmpop, ast.BoolOp, ast.boolop, ast.UnaryOp,
  ast.unaryop, ast.Call, ast.Subscript, ast.Slice, ast.Name, ast.expr_context,
  ast.Constant, ast.List, ast.Tuple, ast.Set, ast.Dict,
)  # fmt: skip
# Functions that may run beside the answer, as they make a value of an iterator,
# which does not come out of the sandbox. An answer that has its own instead
# gains no more than by what it returns. What gives a verdict stays outside.
_CONVERTERS = {
  "dict", "float", "frozenset", "int", "list", "max", "min", "set", "sorted",
  "str", "sum", "tuple",
}  # fmt: skip

# Runs sources, then evaluates expressions, as `Sandbox.run` does.
Run = Callable[
  [Sequence[str], Sequence[str]], Sequence[sandbox.Value | sandbox.Failure]
]


@dataclasses.dataclass(frozen=True)
class Asserts:
  """The tests of one problem.

  Attributes:
    entry_point: the function that is asked for.
    setup: source that the calls need, run after the answer.
    imports: source that the tests need; never in a sandbox with an answer.
    calls: Python expressions, for the sandbox.
    tests: Python expressions over `__values__`, what the calls gave.
  """

  entry_point: str
  setup: str
  imports: str
  calls: tuple[str, ...]
  tests: tuple[str, ...]

  def program(self, completion: str) -> tuple[str | sandbox.Answer, ...] | None:
    """What `code_blocks.find` finds, then the setup."""
    found = code_blocks.find(completion, self.entry_point)
    if found is None:
      return None
    parts = map(sandbox.Answer, found[:-1])
    return *parts, sandbox.Answer(found[-1], self.entry_point), self.setup

  def passed(
    self, results: Sequence[sandbox.Value | sandbox.Failure], run: Run
  ) -> list[bool]:
    """Which tests hold; one whose call failed does not."""
    values = {
      i: result.value
      for i, result in enumerate(results)
      if isinstance(result, sandbox.Value)
    }
    compute = [test for test in self.tests if not _only_compares(test)]
    held = dict(zip(compute, _computed(compute, values, self.imports, run)))
    names = {_VALUES: values, _EQUAL: equal.equal}
    return [
      held[test] if test in held else _holds(test, names) for test in self.tests
    ]


def from_sources(
  tests: Sequence[str],
  entry_point: str,
  *,
  setup: str = "",
  imports: str = "",
  evaluate: Callable[[str], Any] = ast.literal_eval,
) -> Asserts:
  """The tests of a problem from their source, which is trusted.

  Args:
    tests: statements `assert expression`.
    entry_point: the function that each of them calls.
    setup: see `Asserts`; what of it the tests use on the values of the calls,
      such as a function that judges them, belongs to the imports instead.
    imports: see `Asserts`.
    evaluate: gives the value of what `==` expects where that is no literal.

  Raises:
    ValueError: a test is not of that form, and the message has its text; or
      what the tests need does not run.
  """
  calls = _Calls(entry_point, evaluate)
  outside = tuple(calls.without(test) for test in tests)
  setup, helpers = _parted(setup, outside, calls.found)
  imports = "\n".join(filter(None, (imports, helpers)))
  try:
    _try_out(imports)
  except Exception as error:
    raise ValueError(
      f"what the tests need does not run without an answer ({error!r}):"
      f" {imports!r}"
    ) from error
  return Asserts(
    entry_point, setup, imports, calls=tuple(calls.found), tests=outside
  )


def parse(test: str) -> ast.expr:
  """The expression of a test.

  Raises:
    ValueError: it is none.
  """
  try:
    body = ast.parse(test.strip()).body
  except SyntaxError as error:
    raise ValueError(f"no Python ({error}): {test!r}") from error
  match body:
    case [ast.Assert(test=expression)]:
      return expression
  raise ValueError(f"not of the form `assert expression`: {test!r}")


class _Calls(ast.NodeTransformer):
  """Takes the calls out of tests, and numbers them."""

  def __init__(self, entry_point: str, evaluate: Callable[[str], Any]):
    self.found: list[str] = []
    self._entry_point, self._evaluate = entry_point, evaluate

  def without(self, test: str) -> str:
    """A test over the values of its calls."""
    tree, before = parse(test), len(self.found)
    if self._entry_point in _names(tree):
      tree = self.visit(tree)
    if len(self.found) == before:
      raise ValueError(f"no call of {self._entry_point}: {test!r}")
    return ast.unparse(ast.fix_missing_locations(tree))

  def visit_Compare(self, node: ast.Compare) -> ast.expr:
    match node:
      case ast.Compare(left, [ast.Eq()], [right]):
        sides = [self._side(left), self._side(right)]
        return ast.Call(ast.Name(_EQUAL, ast.Load()), sides, [])
    self.generic_visit(node)
    return node

  def visit_Call(self, node: ast.Call) -> ast.expr:
    match node:
      case ast.Call(ast.Name(id="all" | "any"), [argument], []):
        node.args = [self._iterated(argument)]
    if not self._goes_in(node):
      self.generic_visit(node)
      return node
    self.found.append(ast.unparse(node))
    number = ast.Constant(len(self.found) - 1)
    return ast.Subscript(ast.Name(_VALUES, ast.Load()), number, ast.Load())

  def visit_comprehension(self, node: ast.comprehension) -> ast.comprehension:
    node.iter = self._iterated(node.iter)
    self.generic_visit(node)
    return node

  def _iterated(self, node: ast.expr) -> ast.expr:
    """What is iterated alone: of a call as a list, as it may be a generator."""
    if not self._goes_in(node):
      return node
    return ast.Call(ast.Name("list", ast.Load()), [node], [])

  def _side(self, side: ast.expr) -> ast.expr:
    """A side of `==`; one without calls as the literal of its value."""
    names = _names(side)
    if self._entry_point in names or not names:
      return self.visit(side)
    value = repr(self._evaluate(ast.unparse(side)))
    return ast.parse(value, mode="eval").body

  def _goes_in(self, node: ast.expr) -> bool:
    """Whether it is a call, or a function such as `set` of one alone."""
    match node:
      case ast.Call(ast.Name(id=name)) if name == self._entry_point:
        return True
      case ast.Call(ast.Name(id=name), [argument], []):
        return name in _CONVERTERS and self._goes_in(argument)
    return False


def _parted(
  setup: str, tests: Sequence[str], calls: Sequence[str]
) -> tuple[str, str]:
  """The setup for the sandbox, and what of it the tests use outside.

  A statement is in both only where the calls need it, too.
  """
  try:
    body = ast.parse(setup).body
  except SyntaxError:  # The data's own solution will fail by it.
    return setup, ""
  outside = _needed(body, _names(ast.parse("\n".join(tests))))
  if not outside:
    return setup, ""
  rest = [statement for statement in body if statement not in outside]
  names = _names(ast.parse("\n".join(calls))).union(*map(_names, rest))
  inside = [*rest, *_needed(outside, names)]
  return _source(body, inside), _source(body, outside)


def _needed(body: Sequence[ast.stmt], names: set[str]) -> list[ast.stmt]:
  """The statements that define names, and those that they need in turn."""
  found = [s for s in body if names & _defined(s)]
  rest = [s for s in body if s not in found]
  if not found or not rest:
    return found
  return found + _needed(rest, set[str]().union(*map(_names, found)))


def _defined(statement: ast.stmt) -> set[str]:
  """The names that a statement defines or changes."""
  match statement:
    case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
      return {name}
    case ast.Import(names=aliases) | ast.ImportFrom(names=aliases):
      return {(a.asname or a.name).partition(".")[0] for a in aliases}
    case ast.Assign(targets=targets):
      return set[str]().union(*map(_names, targets))
    case ast.AnnAssign(target=target) | ast.AugAssign(target=target):
      return _names(target)
  return set()


def _source(body: Sequence[ast.stmt], chosen: Sequence[ast.stmt]) -> str:
  """The chosen statements in the order of the body."""
  return "\n".join(ast.unparse(s) for s in body if s in chosen)


def _names(tree: ast.AST) -> set[str]:
  return {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}


@functools.lru_cache(1 << 14)
def _only_compares(test: str) -> bool:
  """Whether a test ends soon, whatever the values."""
  tree = ast.parse(test, mode="eval")
  return _names(tree) <= {_VALUES, _EQUAL} and all(
    isinstance(node, _COMPARES) for node in ast.walk(tree)
  )


def _computed(
  tests: Sequence[str], values: dict[int, Any], imports: str, run: Run
) -> list[bool]:
  """Which tests hold, by a sandbox that has no answer in it."""
  if not tests or not values:
    return [False] * len(tests)
  try:
    pickled = pickle.dumps(values)
  except RecursionError:  # A value is nested too deeply.
    return [False] * len(tests)
  given = f"{_VALUES} = __import__('pickle').loads({pickled!r})"
  verdicts = run(
    (PRELUDE, given, imports), [f"not not ({test})" for test in tests]
  )
  return [verdict == sandbox.Value(True) for verdict in verdicts]


def _holds(test: str, names: dict[str, Any]) -> bool:
  try:
    return bool(eval(_compiled(test), names))
  except Exception:  # whatever a wrong value leads to
    return False


@functools.lru_cache(1 << 14)
def _compiled(test: str) -> Any:
  return compile(test, "test", "eval")


@functools.lru_cache
def _try_out(imports: str) -> None:
  exec(imports, {})
