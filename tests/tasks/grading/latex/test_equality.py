r"""The math grader against a mathematician, and against hostile answers."""

import re
import threading
import time

import pytest

from pkpo_jax.tasks.grading.latex import equality
from pkpo_jax.tasks.grading.workers import pool

# A reference, then answers that are right, then answers that are wrong.
TABLE = [
  ("5", ["5", "5.0", "05", "+5", "5.", "$5$", r"\$5"],
   ["10/2", r"\frac{10}{2}", "-5", "6", "50", "5.01", "4.9999999", "5i", "5x",
    "five"]),
  ("5", ["x = 5", r"x=5", "2+3=5", r"\{5\}", "(5)",
         "5 cm", r"5\text{ cm}", r"5 \text{ dollars}", "5 apples", r"5\%",
         r"5^\circ", r"\text{5}", r"\boxed{5}", r"\left(5\right)"],
   [r"2+3", r"\sqrt{25}", "4=5", "5=6", "5, 6", "4, 5, 6", r"5 \text{ or } 6",
    "5 or 6", "5 6",
    "5 (or 6)", "5 or more", r"5\text{ or more}", r"\pm 5", "x > 5", "[5, 6]",
    r"\text{not } 5", "5;6", r"5\\6", "5|6", r"5 \lor 6", "5/6", "5:6"]),
  (r"\frac{1}{3}",
   ["1/3", r"\dfrac{1}{3}", r"\tfrac13", r"\frac13", "2/6", r"0.\overline{3}",
    r"\frac{1}{3} \approx 0.333", r"\frac{-1}{-3}", r"1 \div 3"],
   ["0.333", r"3^{-1}", "0.3333333333333333", "0.33", "3", r"\frac{1}{30}",
    "1/3x",
    r"\approx 0.333", "-1/3"]),
  (r"-\frac{3}{4}", ["-0.75", "-3/4", r"\frac{-3}{4}", r"\frac{3}{-4}"],
   ["0.75", "3/4", r"-\frac{4}{3}"]),
  (r"2\frac{1}{2}", ["2.5", "5/2", "2 1/2", r"2 \frac12", r"\frac52"],
   ["1", "21/2", r"2 \cdot \frac{1}{2}", "2, 1/2"]),
  ("0.5", ["1/2", ".5", "0.50", r"\frac{5}{10}", r"5 \times 10^{-1}", "5e-1"],
   ["50", r"50\%", "0.49999999", "5"]),
  (r"50\%", [r"50\%", "50%", "50", r"50\text{ percent}", "50 percent"],
   ["0.5", "1/2", "5", r"0.5\%"]),
  ("1234", ["1,234", r"1{,}234", r"1,\!234", r"\$1,234", r"1\,234"],
   ["1, 234", "1,2,3,4", "12,34", "1.234", "(1,234)", "234"]),
  ("12345678", ["12,345,678", "12,345,678.0"], ["12,345,67", "12345,678"]),
  ("6000000", [r"6 \times 10^6", r"6\cdot 10^{6}", "6e6", "6,000,000"],
   [r"6 \times 10^5", "6", r"6 \times 10^{-6}"]),
  (r"\frac{\sqrt{3}}{2}",
   [r"\sqrt{3}/2", r"\frac{1}{2}\sqrt{3}",
    r"\frac{3}{2\sqrt{3}}", r"\sqrt3/2"],
   [r"\sqrt{\frac{3}{4}}", r"\sin 60^\circ", r"\frac{\sqrt{3}}{4}", "0.866",
    r"\frac{\sqrt{2}}{2}",
    r"\frac{-\sqrt{3}}{2}", "0.8660254037844386"]),
  (r"3\sqrt{2}", [r"\sqrt2 \cdot 3", r"\frac{6}{\sqrt{2}}"],
   [r"\sqrt{18}", r"2\sqrt{3}", r"\sqrt{3}\cdot 2", r"\sqrt[3]{2}"]),
  (r"\sqrt{2}", [r"2^{1/2}", r"2^{\frac{1}{2}}"],
   [r"\sqrt{2}+10^{-60}", "1.41421356", r"\frac{141421}{100000}"]),
  (r"\frac{2\pi}{3}", [r"2\pi/3", r"\frac{2}{3}\pi", r"2/3\pi", "\u03c0*2/3"],
   [r"\frac{2}{3}", "2.0944", r"\frac{\pi}{3}", "120", r"120^\circ"]),
  (r"90^\circ", ["90", r"90^{\circ}", "90 degrees", "90\u00b0",
                 r"90\text{ degrees}"],
   [r"\frac{\pi}{2}", "180", "9"]),
  (r"5\text{ cm}", ["5", "5 cm", r"5\mathrm{ cm}", "5 centimeters",
                    r"5\,\text{cm}"],
   ["5 m", r"5\text{ m}", "6 cm", "5 inches", r"5\text{ cm}^2"]),
  (r"12\text{ cm}^2", ["12", r"12\text{ cm}^2", r"12 \text{ cm}^{2}"],
   [r"12\text{ cm}^3", "144", r"12\text{ cm}"]),
  (r"\$18.50", ["18.5", "18.50", r"\$18.5", "18.50 dollars", "$18.50"],
   ["18", "1850", "18.05"]),
  ("[1,2)", [r"\left[1,2\right)", "[1, 2)", "[1.0,2)", r"1\le x<2",
             r"x \in [1,2)"],
   ["(1,2)", r"[1,\frac{4}{2})", "[1,2]", "(1,2]", "1,2", r"\{1,2\}", "[1,3)",
    "[0,2)", "[2,1)",
    r"1<x\le 2"]),
  (r"(-\infty, 3]", [r"x \le 3", r"3 \geq x", r"\left(-\infty,3\right]"],
   [r"(-\infty, 3)", "x < 3", r"x \ge 3", r"(3, \infty)"]),
  (r"(-\infty,-2)\cup(2,\infty)",
   [r"(2,\infty)\cup(-\infty,-2)", r"(-\infty, -2) \cup (2, \infty)"],
   [r"(-2,2)", r"(-\infty,-2]\cup[2,\infty)", r"(-\infty,-2)", r"(2,\infty)",
    r"(-\infty,2)\cup(-2,\infty)"]),
  ("[1,3]", [r"[1,2]\cup[2,3]"], [r"[1,2)\cup(2,3]", r"[1,2]"]),
  (r"\mathbb{R}", [r"(-\infty,\infty)", r"\mathbb{R}"],
   [r"\mathbb{Z}", r"(0,\infty)", r"\emptyset"]),
  ("x > 3", ["3 < x", r"(3,\infty)", "x>3"], [r"x \ge 3", "x < 3", "3", "x=3"]),
  ("(3,4)", ["(3, 4)", r"\left(3,4\right)", r"(3, 4.0)",
             r"\langle 3,4\rangle"],
   ["(4,3)", "3,4", r"\{3,4\}", "(3,4,5)", "(3)", "34", "[3,4]"]),
  ("(2,1)", ["(2, 1)"], [r"\emptyset", "2<x<1", "x<x", "(3,1)", "(1,2)"]),
  ("x > 3 + 1", [r"(4,\infty)"], ["2x>8", r"[4,\infty)", "(4,5)", "4<x<5"]),
  (r"x \ne 2", [r"2 \ne x", r"(-\infty,2)\cup(2,\infty)"], ["x=2", "2"]),
  ("(1,1)", ["(1, 1)"], ["(2,2)", "1", "(1,2)", "(1)"]),
  (r"\left(2,\frac{\pi}{2}\right)", [r"(2,\pi/2)"],
   [r"(2,90^\circ)", r"(\pi/2,2)"]),
  ("(1,2),(3,4)", ["(3,4), (1,2)", r"\{(1,2),(3,4)\}", "(1,2) and (3,4)"],
   ["(1,2)", "(1,3),(2,4)", "(2,1),(3,4)", "(1,2,3,4)"]),
  ("1,2", ["2, 1", r"\{1,2\}", "1 and 2", r"1 \text{ and } 2", "x=1,2",
           r"x=1 \text{ or } x=2", "x = 2, x = 1"],
   ["1", "2", "1,2,3", "1,1,2", "12", "1.2", "(1,2)", "[1,2]", "x=1,y=2"]),
  (r"\{1,2,3\}", [r"\{3,2,1\}", "1,2,3", r"\{1,1,2,3\}"],
   [r"\{1,2\}", r"\{1,2,3,4\}", "(1,2,3)", "123", "6"]),
  (r"\emptyset", [r"\emptyset"], ["0", r"\{0\}"]),
  (r"1\pm\sqrt{2}",
   [r"1+\sqrt2, 1-\sqrt2", r"1-\sqrt{2}, 1+\sqrt{2}", r"x = 1 \pm \sqrt{2}"],
   [r"1+\sqrt{2}", r"1-\sqrt{2}", r"\pm\sqrt{2}", r"-1\pm\sqrt{2}"]),
  (r"\frac{-1\pm\sqrt{5}}{2}",
   [r"\frac{-1+\sqrt5}{2}, \frac{-1-\sqrt5}{2}",
    r"-\frac12 \pm \frac{\sqrt5}{2}"],
   [r"\frac{1\pm\sqrt{5}}{2}", r"\frac{-1+\sqrt{5}}{2}"]),
  (r"\{1\pm\sqrt{5},-2\}", [r"-2, 1+\sqrt5, 1-\sqrt5"], [r"-2,1+\sqrt{5}"]),
  (r"\pm 3", ["3,-3", "-3, 3", r"x=\pm 3"], ["3", "-3", "9"]),
  ("3+4i", ["4i+3", "3 + 4 i"],
   ["i^2+4+4i", r"(2+i)^2", "3-4i", "3+4", "4+3i", "7", "5", "3+4x"]),
  ("-i", ["-1i"], ["i^3", r"\frac{1}{i}", "i", "-1", "1"]),
  ("x^2-1", ["(x-1)(x+1)", "(x + 1)(x - 1)", "-1+x^2"],
   [r"x\cdot x-1", "x^2+1", "y^2-1", "x-1", "(x-1)^2", "x^2", "1-x^2"]),
  ("2x+3", ["3+2x", "y=2x+3", "f(x)=2x+3", r"2\left(x+\frac32\right)"],
   ["2x-3", "3x+2", "2x", "5x", "2+3x"]),
  ("y=2x+3", ["2x+3", "y = 3 + 2x", "2x-y+3=0"],
   ["y=2x-3", "x=2y+3", "z=2x+3", "y=3"]),
  ("2x+3y=5", ["4x+6y=10", "3y+2x=5", "2x+3y-5=0"],
   ["2x+3y=6", "2x-3y=5", "5", "3x+2y=5"]),
  ("x^2+y^2=1", ["y^2+x^2=1", "1=x^2+y^2"], ["x^2-y^2=1", "x^2+y^2=2", "1"]),
  ("x=5", ["5", "x = 5", "x=2+3=5", "5=x"],
   ["x=2+3", "2x=10", "y=5", "x=6", "x>5"]),
  (r"\sqrt{x^2}", ["|x|"], ["x", "-x", "x^2"]),
  (r"\frac{1}{x+1}", [r"(x+1)^{-1}", "1/(x+1)"], ["x+1", r"\frac1x+1"]),
  (r"\sin^2 x", [r"1-\cos^2 x", r"(\sin x)^2"], [r"\sin x", r"\cos^2 x"]),
  (r"\ln 2", [r"\frac{1}{2}\ln 4"], [r"\log_2 e", "0.693"]),
  (r"\log_2 8", ["3"], ["8", "2"]),
  (r"\begin{pmatrix}1&2\\3&4\end{pmatrix}",
   [r"\begin{bmatrix} 1 & 2 \\ 3 & 4 \end{bmatrix}",
    r"\begin{pmatrix}1&2.0\\3&4\\\end{pmatrix}"],
   [r"\begin{pmatrix}1&3\\2&4\end{pmatrix}", r"\begin{pmatrix}1&2\end{pmatrix}",
    "1,2,3,4", r"\begin{pmatrix}1\\2\\3\\4\end{pmatrix}"]),
  (r"\begin{pmatrix} \frac{1}{2} \\ -3 \end{pmatrix}",
   [r"\begin{pmatrix} 0.5 \\ -3 \end{pmatrix}"],
   [r"\begin{pmatrix} -3 \\ 0.5 \end{pmatrix}", "(0.5,-3)"]),
  (r"\text{Friday}", ["Friday", "friday", r"\textbf{Friday}",
                      r"\mathrm{Friday}"],
   ["Monday", r"\text{Fridays}", "F", "5"]),
  (r"\text{(B)}", ["B", "(B)", r"\text{B}", r"(\text{B})", "b"],
   ["A", "A, B", r"\text{(A) or (B)}", "8"]),
  (r"\text{east}", ["East"], ["seat", "west"]),
  (r"\text{A, C}", ["A, C", r"\text{C, A}", r"\text{A}, \text{C}"],
   ["A", "A, B, C", "AC"]),
  (r"\text{undefined}", ["undefined"], ["0", r"\infty"]),
  (r"\infty", [r"\infty", r"+\infty"], [r"-\infty", "0", "9999999999"]),
  ("1011_2", ["1011_{2}"], ["1011", "11", "1011_3", "11_{10}"]),
  ("3:4", ["3 : 4"], ["4:3", "3/4", "0.75"]),
  (r"\dbinom{10}{5}", ["252", r"\binom{10}{5}"], ["250"]),
  ("120", ["120.0"], ["5!", r"5 \cdot 4 \cdot 3 \cdot 2", "4!", "60"]),
  ("1024", ["1,024"], ["2^{10}", "2^10", "4^5", "2^{11}", "210", "20"]),
  (r"2^{100}", [r"4^{50}", "1267650600228229401496703205376"],
   [r"2^{99}", "1267650600228229401496703205377", "1.2676506e30"]),
  (r"\frac{1}{2^{99}}", ["2^{-99}"], [r"\frac{1}{2^{98}}", "0"]),
  (r"e^{-200}", [r"\frac{1}{e^{200}}"], [r"e^{-201}", "0"]),
  ("5050", ["5050", "5,050"],
   [r"\frac{100\cdot 101}{2}", r"\sum_{k=1}^{100} k",
    r"\int_0^{100} (k+\frac12) dk"]),
  ("6", ["6.0"],
   [r"2(3)", "(2)(3)", r"2 \times 3", "3!", r"\gcd(12,18)", "5",
    r"\operatorname{lcm}(2,3)", r"\max(5,6)"]),
]  # fmt: skip

REFERENCES = [gold for gold, _, _ in TABLE]


def verdict(gold, answer):
  return equality.grade(gold, f"So it is {box(answer)}.")


@pytest.mark.parametrize(("gold", "right", "wrong"), TABLE, ids=REFERENCES)
def test_grades_like_a_mathematician(gold, right, wrong):
  right = {answer: verdict(gold, answer) for answer in [gold, *right]}
  wrong = {answer: verdict(gold, answer) for answer in wrong}
  assert {a: v for a, v in right.items() if v != (1.0, True, "right")} == {}
  assert {
    a: v for a, v in wrong.items() if v[:2] != (0.0, True) or v[2] == "right"
  } == {}


def box(text):
  return f"\\boxed{{{text}}}"


# The reference is 42.
HOSTILE = {
  "nothing": "",
  "all boxes at once": " ".join(box(i) for i in range(100)),
  "all in one box": box(",".join(map(str, range(100)))),
  "box in a box": box("41 " + box("42")),
  "box of boxes": box(box("42") + box("41")),
  "boxed many times": r"\boxed{" * 20_000 + "42" + "}" * 20_000,
  "boxes never closed": r"\boxed{42 " * 20_000,
  "last box not closed": box("42") + r" \boxed{4",
  "deep braces": r"\boxed{" + "{" * 50_000 + "42" + "}" * 50_000 + "}",
  "deep brackets": box("(" * 200 + "42" + ")" * 200),
  "deep fractions": box(r"\frac{1}{" * 19 + "42" + "}" * 19),
  "deep sets": box(r"\{" * 200 + "42" + r"\}" * 200),
  "continued fraction": box(r"\cfrac{1}{1+" * 60 + "42" + "}" * 60),
  "infinite fraction": box(r"41+\cfrac{1}{1+\cfrac{1}{\ddots}}"),
  "unbalanced": box(r"\{42"),
  "begins and no end": box(r"\begin{pmatrix}" * 30),
  "python power": box("9**9**9"),
  "power": box("9^{9^{9}}"),
  "tower": box("10^{10^{10^{10}}}"),
  "tiny tower": box("42+9^{-9^{9^{9}}}"),
  "power of one": box(r"42 \cdot 1^{9^{9^{9}}}"),
  "powers cancel": box("42+9^{9^{9}}-9^{9^{9}}"),
  "power of a power": box("((2^{999})^{999})^{999}"),
  "exponentials": box("e^{e^{e^{e^{e^{42}}}}}"),
  "root": box(r"\sqrt[1000000000]{42}"),
  "factorial": box("1000000!"),
  "factorials": box("9!!!!!"),
  "factorials cancel": box(r"\frac{42 \cdot (10^6)!}{(10^6)!}"),
  "binomial": box(r"\binom{10000000}{5000000}"),
  "modulus": box(r"42 \bmod 10^{9^{9}}"),
  "polynomial": box("((x+1)^{999}+1)^{999}"),
  "many sines": box(r"\sin " * 80 + "42"),
  "huge integer": box("4" * 400),
  "huger integer": box("4" * 100_000),
  "huge exponent": box("42e999999999"),
  "long decimal": box("42." + "0" * 150 + "1"),
  "a sum": box(r"\sum_{k=1}^{42} 1"),
  "an integral": box(r"\int_0^{42} 1 dx"),
  "a limit": box(r"\lim_{x\to\infty} 42"),
  "a choice": box(r"41 \text{ or } 42"),
  "a relation": box("41 < x < 43"),
  "false equations": box("42=41=42"),
  "not": box(r"\text{not } 42"),
  "unlike": box(r"x \ne 42"),
  "a range": box("42-43"),
  "plus or minus": box(r"41.5 \pm 0.5"),
  "roughly": box(r"41 \approx 42"),
  "anything": box("x"),
  "everything": box(r"\mathbb{R}"),
  "undefined": box(r"\frac{0}{0}"),
  "not a number": box("nan"),
  "null byte": box("4\x002"),
  "null bytes": "\x00" * 10_000 + box("43"),
  "arabic": box("\u0664\u0662"),
  "no width": box("4\u200b2"),
  "right to left": box("\u202e24"),
  "surrogate": box("\ud83442"),
  "blank": box("4 2"),
  "line end": box("4\n2"),
  "prime": box("42'"),
  "overline": box(r"\overline{42}"),
  "operators": box("+" * 400),
  "signs": box("-" * 399 + "42"),
  "bars": box("|" * 400),
  "commas": box("," * 400),
  "backslashes": box("\\" * 399),
  "dollars": box("$" * 400),
  "macro": r"\def\x{\x\x}\x " + box(r"\x"),
  "file": box(r"\input{/etc/passwd}"),
  "code": box("__import__('os')._exit(0)"),
  "call": box("(lambda: 42)()"),
  "hashes": "####" * 100_000,
  "answers": "the answer is " * 100_000,
  "two answers": "The answer is 41 or 42.",
}


@pytest.fixture(scope="module")
def workers():
  grader = "pkpo_jax.tasks.grading.latex.equality:grade"
  with pool.Pool(grader, num_workers=2, timeout=2.0) as workers:
    yield workers


@pytest.mark.slow
def test_no_hostile_answer_passes_or_holds_up_the_others(workers):
  """They take turns with good answers; few of them may use up their time."""
  good = [(rf"\frac{{{i}}}{{7}}", box(f"{i}/7")) for i in range(20)]
  workers.grade(good)
  start = time.perf_counter()
  grades = workers.grade(
    [pair for text in HOSTILE.values() for pair in (("42", text), *good)]
  )
  seconds = time.perf_counter() - start
  hostile = dict(zip(HOSTILE, grades[:: len(good) + 1]))
  for name, grade in hostile.items():
    assert (grade.reward, grade.valid) == (0.0, True), (name, grade)
    assert grade.reason not in ("crash", "out of memory"), (name, grade)
  assert sum(grade.reward for grade in grades) == len(good) * len(HOSTILE)
  late = [name for name, g in hostile.items() if g.reason == "timeout"]
  assert len(late) <= 3, late
  assert seconds < 2.0 * len(late) + 20


@pytest.mark.parametrize(
  ("gold", "text", "reason"),
  [
    ("5", "5", "no answer"),
    ("5", box("5" * 300), "too many digits"),
    ("5", box("x" * 501), "too long"),
    ("5", box("x" * 301), "too long"),
    ("5", box("{" * 21 + "5" + "}" * 21), "too deep"),
    ("5", box("\u0664"), "unreadable"),
    ("x", box("5 + "), "unreadable"),
    ("5", box("(5"), "unbalanced"),
    ("x", box("9^{9^{9}}"), "too large"),
    ("5", box(r"\sum_{k=1}^5 1"), "not evaluated"),
    (r"2\sqrt{2}", box(r"\sqrt{8}"), "not worked out"),
    ("5", box("6"), "wrong"),
  ],
)
def test_says_why_an_answer_is_wrong(gold, text, reason):
  assert equality.grade(gold, text) == (0.0, True, reason)


@pytest.mark.slow
def test_grades_off_the_main_thread(workers):
  """math-verify's own time limits would raise there."""
  found = []
  pairs = [(r"\frac12", box("0.5")), (r"\frac12", box("0.4"))]
  thread = threading.Thread(target=lambda: found.extend(workers.grade(pairs)))
  thread.start()
  thread.join()
  assert [grade.reason for grade in found] == ["right", "wrong"]
  found.clear()
  thread = threading.Thread(
    target=lambda: found.extend(equality.grade(*pair) for pair in pairs)
  )
  thread.start()
  thread.join()
  assert [reason for _, _, reason in found] == ["right", "wrong"]


def test_plain_integers_are_compared_as_all_else_is(monkeypatch):
  """By a way of their own, which says the same."""
  texts = ["0", "7", "-7", "70", "1234", "-1234", "12345678901234567890"]
  odd = ["07", "-0", "+7", "7.0", "1,234"]
  pairs = [(a, b) for a in texts for b in texts + odd]
  found = [equality.is_same(*pair) for pair in pairs]
  monkeypatch.setattr(equality, "_PLAIN_INTEGER", re.compile("(?!)"))
  assert [equality.is_same(*pair) for pair in pairs] == found
