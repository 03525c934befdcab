r"""A table of references and answers, in both directions.

pairs/right.jsonl has right answers in unusual dress, pairs/wrong*.jsonl wrong
ones that tempt a grader, by the mechanism in their field `kind`. Where the
question decides, it is there too.
"""

import collections
import json
import pathlib

import pytest

from pkpo_jax.tasks.grading.latex import equality

FOLDER = pathlib.Path(__file__).parent / "pairs"
ROWS = {
  name: [
    json.loads(line)
    for file in sorted(FOLDER.glob(f"{name}*.jsonl"))
    for line in file.read_text("utf-8").split("\n")
    if line
  ]
  for name in ("right", "wrong")
}
KINDS = [
  (n, k) for n in ROWS for k in dict.fromkeys(r["kind"] for r in ROWS[n])
]


@pytest.mark.parametrize(("name", "kind"), KINDS)
def test_pairs(name, kind):
  other = [
    (row["gold"], row["completion"], row.get("question", ""), grade[2])
    for row in ROWS[name]
    if row["kind"] == kind
    for grade in [
      equality.grade(row["gold"], row["completion"], row.get("question", ""))
    ]
    if grade[:2] != (float(name == "right"), True)
  ]
  assert other == []


def test_the_table_is_large_and_varied():
  for name, rows in ROWS.items():
    assert len(rows) >= 250
    templates = collections.Counter(
      (row["kind"], row["gold"], row.get("question")) for row in rows
    )
    assert max(templates.values()) <= 5
    pairs = {(r["gold"], r["completion"], r.get("question")) for r in rows}
    assert len(pairs) == len(rows), name
  kinds = {name: {row["kind"] for row in rows} for name, rows in ROWS.items()}
  assert len(kinds["wrong"]) >= 10
  for rows in ROWS.values():
    counts = collections.Counter(row["kind"] for row in rows)
    assert min(counts.values()) >= 4, counts


def test_what_the_question_decides_is_decided_by_it():
  """The same pairs without their question are right: only the form differs."""
  copies = [r for r in ROWS["wrong"] if r["kind"] == "copies of the question"]
  assert len([r for r in copies if r["question"]]) == len(copies) >= 40
  without = [equality.grade(r["gold"], r["completion"])[0] for r in copies]
  assert 10 <= sum(without) < len(copies)
