r"""The structure of final answers: lists, brackets, matrices, relations."""

import pytest

from pkpo_jax.tasks.grading.latex import spelling
from pkpo_jax.tasks.grading.latex.parse import (
  Group,
  Leaf,
  Relation,
  commands,
  parse,
  without_indices,
)


def group(kind, *texts):
  return Group(kind, tuple(map(Leaf, texts)))


def relation(*texts, name=""):
  """Makes a relation from parts and operators in turn."""
  return Relation(tuple(map(Leaf, texts[::2])), texts[1::2], name)


@pytest.mark.parametrize(
  ("text", "node"),
  [
    (" 5 ", Leaf("5")),
    ("(5)", Leaf("5")),
    ("((5))", Leaf("5")),
    ("(x+1)(x-1)", Leaf("(x+1)(x-1)")),
    ("f(1,2)", Leaf("f(1,2)")),
    (r"\frac{1}{2}", Leaf(r"\frac{1}{2}")),
    ("2,1", group("list", "2", "1")),
    (r"\text{A, C}", group("list", "A", "C")),
    (r"\{2,1,2\}", group("set", "2", "1")),
    (r"\{\}", group("set")),
    ("(2,1)", group("()", "2", "1")),
    ("[1,2)", group("[)", "1", "2")),
    ("(1,2]", group("(]", "1", "2")),
    ("[5]", group("[]", "5")),
    ("(1,2),(3,4)",
     Group("list", (group("()", "1", "2"), group("()", "3", "4")))),
    (r"(1,2)\cup[3,4]",
     Group("union", (group("()", "1", "2"), group("[]", "3", "4")))),
    (r"\begin{pmatrix}1&2\cr 3&4\cr\end{pmatrix}",
     Group("matrix", (group("row", "1", "2"), group("row", "3", "4")))),
    (r"1\lor 2", group("either", "1", "2")),
    (r"x>1\land x<2",
     Group("both", (relation("x", ">", "1"), relation("x", "<", "2")))),
    ("{1,2}", group("set", "1", "2")),
    (r"\{x:x>1\}", relation("x", ">", "1")),
    (r"n\equiv 5\pmod{17}", group("modulo", "5", "17")),
    (r"\text{(C)} 12", group("choice", "C", "12")),
    (r"\text{(C) Paris}", group("choice", "C", "Paris")),
    ("C) 12", group("choice", "C", "12")),
    ("C. Paris", group("choice", "C", "Paris")),
    ("C: Paris", group("choice", "C", "Paris")),
    ("C)", Leaf("C")),
    (r"\text{Option C}", Leaf(r"\text{C}")),
    ("3:4", Leaf("3:4")),
    ("C. not", Leaf("C. not")),
    (r"[\begin{matrix}1&2\end{matrix}]",
     Group("matrix", (group("row", "1", "2"),))),
    (r"\mathbb{R}\setminus\{1,2\}", group("all but", "1", "2")),
    (r"\text{all real numbers}", Leaf(r"\mathbb{R}")),
    (r"2\begin{pmatrix}1\cr 2\end{pmatrix}",
     Group("scaled", (Leaf("2"), Group("matrix", (group("row", "1"),
                                                  group("row", "2")))))),
    (r"\begin{array}{cc}1&2\end{array}",
     Group("matrix", (group("row", "1", "2"),))),
  ],
)  # fmt: skip
def test_groups_and_leaves(text, node):
  assert parse(text) == node


@pytest.mark.parametrize(
  ("text", "node"),
  [
    ("x=5", relation("x", "=", "5", name="x")),
    ("f(x)=2x", relation("f(x)", "=", "2x", name="f(x)")),
    ("5=x", relation("x", "=", "5", name="x")),
    (r"\angle A=45", relation(r"\angle A", "=", "45", name=r"\angle A")),
    ("f(2)=10", relation("f(2)", "=", "10", name="f(2)")),
    ("x+y=10", relation("x+y", "=", "10")),
    ("2x=y", relation("2x", "=", "y")),
    ("2+3=5", relation("2+3", "=", "5")),
    ("x=2+3=5", relation("x", "=", "2+3", "=", "5", name="x")),
    (r"1<x\le 2", relation("1", "<", "x", r"\le", "2")),
    ("x>3", relation("x", ">", "3")),
    (r"x\in S", relation("x", "=", "S", name="x")),
    ("=5", Leaf("5")),
    (r"\frac13\approx 0.33", Leaf(r"\frac13")),
    (r"x\approx 0.33", Leaf("0.33")),
    (r"x=\frac13\approx 0.33", relation("x", "=", r"\frac13", name="x")),
  ],
)
def test_relations(text, node):
  assert parse(text) == node


@pytest.mark.parametrize(
  ("text", "texts"),
  [
    (r"1\pm x", ["1+ x", "1- x"]),
    (r"\pm 1\pm 2", ["+ 1+ 2", "+ 1- 2", "- 1+ 2", "- 1- 2"]),
    (r"3,\pm 1", ["3", "+ 1", "- 1"]),
  ],
)
def test_plus_minus_is_two_answers(text, texts):
  assert parse(text) == group("list", *texts)


@pytest.mark.parametrize(
  ("text", "node"),
  [
    ("x=1,x=2", group("list", "1", "2")),
    ("x=1,2", group("list", "1", "2")),
    ("x=1,y=2", Group("list", (relation("x", "=", "1", name="x"),
                               relation("y", "=", "2", name="y")))),
    ("x=1,x=1+1=2",
     Group("list", (relation("x", "=", "1", name="x"),
                    relation("x", "=", "1+1", "=", "2", name="x")))),
    ("1,x=2", Group("list", (Leaf("1"), relation("x", "=", "2", name="x")))),
  ],
)  # fmt: skip
def test_a_list_drops_only_a_common_name(text, node):
  assert parse(text) == node


@pytest.mark.parametrize(
  ("text", "reason"),
  [
    ("(5", "unbalanced"),
    ("5)", "unbalanced"),
    (r"\{5", "unbalanced"),
    ("1<", "unreadable"),
    ("<1", "unreadable"),
    ("1==2", "unreadable"),
  ],
)
def test_refuses_open_brackets_and_empty_sides(text, reason):
  with pytest.raises(spelling.UnfitError, match=f"^{reason}$"):
    parse(text)


def test_relations_know_what_they_are():
  named, chain = parse("x=2+3=5"), parse("2+3=5")
  assert named.is_equation() and not parse("x<5").is_equation()
  assert named.values() == (Leaf("2+3"), Leaf("5"))
  assert chain.values() == chain.parts
  assert chain.is_chain_of_values() and not named.is_chain_of_values()
  assert parse(r"\frac12=\sqrt{x}").is_chain_of_values() is False
  assert parse(r"\pi=\frac{2\pi}{2}").is_chain_of_values()


def test_inequalities_turn_upward():
  assert parse(r"3>x\ge 1").upward() == relation("1", r"\le", "x", "<", "3")
  for text in ("1<x", "x=1", "1<x>0"):
    assert parse(text).upward() == parse(text)


def test_finds_commands():
  assert commands(r"\frac{\pi}{2}+\pi\,x") == {r"\frac", r"\pi"}


@pytest.mark.parametrize(
  ("text", "found"),
  [
    ("x_1=1,x_2=2", group("list", "1", "2")),
    ("x_{1}=3,x_{2}=3", group("list", "3", "3")),
    ("x_1=1,y_2=2", None),
    ("x=1,y=2", None),
    ("x_1=1,2", None),
  ],
)
def test_indices_of_one_letter_are_left_out(text, found):
  parsed = parse(text)
  assert without_indices(parsed) == (found or parsed)
