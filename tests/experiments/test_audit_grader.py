"""The audit of the math grader on a data set."""

import json

import pytest
from helpers import shared_data

from experiments import audit_grader

ROWS = [
  {"prompt": "Add 1 and 2.", "answer": "3", "solution": r"\boxed{3}"},
  {"prompt": "Halve 1.", "answer": "0.5", "solution": r"It is \boxed{1}."},
  {"prompt": r"Take $\frac12$ of 1.", "answer": r"\frac{1}{2}"},
]


def test_counts_and_lists_what_is_to_read(tmp_path, capsys):
  file = tmp_path / "mine.jsonl"
  file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
  audit_grader.main(["--task=jsonl", f"--path={file}", "--workers=1"])
  lines = capsys.readouterr().out.split("\n")
  assert lines[0] == "references that their own solutions miss: 1 of 2"
  assert "line 2: '0.5' <- 'It is \\\\boxed{1}.'" in lines[1]
  assert lines[2] == "questions solved by a copy: 0 of 3"
  assert lines[3] == "cross pairs accepted: 2 of 6"


def test_a_mistake_ends_in_two_lines(tmp_path, capsys):
  with pytest.raises(SystemExit):
    audit_grader.main(["--task=math", f"--path={tmp_path}"])
  assert "There is no MATH" in capsys.readouterr().err


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize(
  "split",
  [
    "test",
    pytest.param(
      "train",
      marks=pytest.mark.verify("experiments/audit_grader.py", "pkpo_jax/tasks"),
    ),
  ],
)
def test_all_of_gsm8k(split):
  folder = shared_data.folder("gsm8k_train.jsonl", "gsm8k_test.jsonl")
  options = ["--task=gsm8k", f"--path={folder}", f"--split={split}"]
  args = audit_grader.parser().parse_args(options)
  problems = audit_grader.read(args)
  missed, copied, mixed = audit_grader.audit(
    problems, num_workers=2, timeout=5.0, cross=2, seed=0
  )
  assert missed.total == len(problems) and not missed.cases
  assert not copied.cases and not mixed.cases
