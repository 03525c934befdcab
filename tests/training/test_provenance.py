"""training.provenance: what a run was made of, and whether it still is."""

import dataclasses
import json
import pathlib
import shutil

import pytest
from helpers import quick_config

from pkpo_jax import multihost
from pkpo_jax.tasks import base, copy_words
from pkpo_jax.training import build_run, provenance

TOKENIZER = pathlib.Path(__file__).parents[1] / "lm/fixtures"


def test_each_start_says_with_what(tmp_path, capsys):
  provenance.record_start(tmp_path, 0, {"train": 3, "test": 0})
  provenance.record_start(tmp_path, 4, {"train": 3, "test": 0})
  assert not capsys.readouterr().out
  first, second = (
    json.loads(x) for x in (tmp_path / "starts.jsonl").read_text().splitlines()
  )
  assert (first["step"], second["step"]) == (0, 4)
  assert first["dropped"] == {"train": 3, "test": 0}
  assert len(first["commit"].rstrip("+")) == 40
  assert first["versions"]["jax"] and first["devices"]


def test_other_code_at_a_resume_is_named(tmp_path, capsys):
  provenance.record_start(tmp_path, 0, {})
  path = tmp_path / "starts.jsonl"
  line = json.loads(path.read_text())
  path.write_text(json.dumps(line | {"commit": "0000"}) + "\n")
  provenance.record_start(tmp_path, 2, {})
  assert "other code than before" in (said := capsys.readouterr().out)
  assert "commit: 0000 -> " in said and "versions" not in said


def test_a_line_that_a_full_disk_cut_off_is_passed_over(tmp_path):
  path = tmp_path / "starts.jsonl"
  provenance.record_start(tmp_path, 0, {})
  path.write_text(path.read_text() + path.read_text()[:50])
  provenance.record_start(tmp_path, 4, {})
  whole, cut, last = path.read_text().splitlines()
  assert cut == whole[:50] and json.loads(last)["step"] == 4
  assert provenance.commits(tmp_path) == json.loads(whole)["commit"][:7] + (
    "+" * json.loads(whole)["commit"].endswith("+")
  )


@pytest.mark.parametrize(
  ("starts", "commits"),
  [
    ([(0, "a" * 40)], "aaaaaaa"),
    ([(0, "a" * 40 + "+")], "aaaaaaa+"),
    ([(0, None)], "unknown"),
    ([(0, "a" * 40), (5, "a" * 40)], "aaaaaaa"),
    ([(0, "b" * 40), (5, "a" * 40), (9, "b" * 40)], "bbbbbbb, aaaaaaa"),
    ([(0, "a" * 40), (0, "b" * 40)], "bbbbbbb"),  # killed before it saved
    ([(0, "a" * 40), (5, "b" * 40), (3, "c" * 40)], "aaaaaaa, ccccccc"),
  ],
)
def test_commits_are_those_that_made_steps(tmp_path, starts, commits):
  lines = (json.dumps({"step": i, "commit": c}) + "\n" for i, c in starts)
  (tmp_path / "starts.jsonl").write_text("".join(lines))
  assert provenance.commits(tmp_path) == commits


def data(problems):
  return build_run.Data(None, None, {"train": problems, "test": []}, {})


def fingerprint(*problems):
  config = quick_config.get_config()
  return provenance.contents(config, data(problems))["train problems"]


def test_a_fingerprint_sees_any_change_of_the_problems():
  one = base.Problem("1", "a", "t", {"answer": frozenset("xyz"), "n": (1, 2)})
  two = base.Problem("2", "b", "t", {(1, "a"): lambda x: x, 2: 3j})
  variants = [
    (one, two),
    (two, one),
    (one,),
    (one, two, two),
    (dataclasses.replace(one, prompt="A"), two),
    (dataclasses.replace(one, data={"answer": frozenset("xy")}), two),
  ]
  assert len({fingerprint(*x) for x in variants}) == len(variants)
  same = base.Problem("2", "b", "t", two.data)
  again = dataclasses.replace(one, data={"n": [1, 2], "answer": set("zyx")})
  assert fingerprint(one, two) == fingerprint(again, same)


def test_a_tokenizer_is_its_files(tmp_path):
  config = quick_config.get_config()
  (tmp_path / "tokenizer.json").write_text("{}")
  with config.unlocked():
    config.tokenizer.path = str(tmp_path)
  name = "the tokenizer"
  before = provenance.contents(config, data([]))[name]
  (tmp_path / "model.safetensors").write_text("large")
  assert provenance.contents(config, data([]))[name] == before
  (tmp_path / "tokenizer_config.json").write_text("{}")
  assert provenance.contents(config, data([]))[name] != before


def test_what_stands_beside_a_tokenizer_counts_too(tmp_path):
  config = quick_config.get_config()
  with config.unlocked():
    config.tokenizer.path = str(tmp_path / "tokenizer.json")
  (tmp_path / "tokenizer.json").write_text("{}")
  found = provenance.contents(config, data([]))
  (tmp_path / "other.json").write_text("[]")
  assert provenance.contents(config, data([])) == found
  for name in ("generation_config.json", "chat_template.jinja"):
    (tmp_path / name).write_text("{}")
    now = provenance.contents(config, data([]))
    assert now["the tokenizer"] == found["the tokenizer"]
    assert now != found
    found = now


def test_what_has_changed_is_refused_by_name(tmp_path):
  check = provenance.check_contents
  check(tmp_path, {"train problems": "1", "the tokenizer": "2"}, begun=False)
  check(tmp_path, {"train problems": "3"}, begun=False)  # nothing is trained
  check(tmp_path, {"the base policy": "4"}, begun=True)
  found = {"train problems": "3", "the tokenizer": "2", "the base policy": "4"}
  check(tmp_path, found, begun=True)
  for name in found:
    with pytest.raises(ValueError, match=f"^{name} changed since .*bring back"):
      check(tmp_path, found | {name: "5"}, begun=True)
  shutil.rmtree(tmp_path)


def words_task(*words):
  task = copy_words.CopyWords(num_train=1, num_test=1)
  task.words = words
  return task


def test_words_are_told_by_their_order_too(tmp_path):
  """Ids follow from it."""
  data = build_run.Data(words_task("a", "b"), None, {}, {})
  found = provenance.contents(quick_config.get_config(), data)
  assert found == provenance.of_words(words_task("a", "b"))
  provenance.check_contents(tmp_path, found, begun=False)
  for words in (("b", "a"), ("a", "b", "c"), ("ab",)):
    other = provenance.of_words(words_task(*words))
    with pytest.raises(ValueError, match=r"^the words of the task changed"):
      provenance.check_contents(tmp_path, other, begun=True)
  assert provenance.of_words(object()) == {}  # a task in Gemma's tokens


def test_the_words_of_a_run_are_those_it_noted_or_else_its_tasks(tmp_path):
  config = quick_config.get_config()
  own = build_run.make_task(config)
  other = words_task("a", "b")
  provenance.require_words(tmp_path, config, own)
  with pytest.raises(ValueError, match=r"words are not those of .*countdown"):
    provenance.require_words(tmp_path, config, other)
  provenance.check_contents(tmp_path, provenance.of_words(other), begun=False)
  provenance.require_words(tmp_path, config, other)
  with pytest.raises(ValueError, match="or are in another order"):
    provenance.require_words(tmp_path, config, own)
  config.tokenizer.name = "gemma3"  # of a run that took the folder later on
  provenance.require_words(tmp_path, config, object())


def test_what_differs_between_processes_is_refused(tmp_path, monkeypatch):
  first = json.dumps({"the words of the task": "1"})
  monkeypatch.setattr(multihost, "broadcast_text", lambda _: first)
  with pytest.raises(ValueError, match="words of the task: not the same"):
    provenance.check_contents(
      tmp_path, {"the words of the task": "2"}, begun=False
    )
  assert not list(tmp_path.iterdir())


def test_a_damaged_file_is_named(tmp_path):
  (tmp_path / "contents.json").write_text("")
  with pytest.raises(ValueError, match=r"contents\.json is damaged"):
    provenance.require_contents(tmp_path, {})
