"""Records of data, in every kind of file."""

import decimal
import gzip
import json
import logging

import pytest

from pkpo_jax.tasks import records

ROWS = [{"q": "1+1?", "a": "2"}, {"q": "\u2028?", "a": "0.5"}]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)


def read(tmp_path, content, name="data.jsonl"):
  file = tmp_path / name
  file.write_bytes(content if isinstance(content, bytes) else content.encode())
  return records.read(file)


@pytest.mark.parametrize(
  ("content", "name"),
  [
    (LINES, "data.jsonl"),
    (LINES + "\n \n", "blank_end.jsonl"),
    (LINES.rstrip(), "no_end.jsonl"),
    ("\ufeff" + LINES.replace("\n", "\r\n"), "windows.jsonl"),
    (json.dumps(ROWS), "array.json"),
    (json.dumps(ROWS, indent=2), "array.jsonl"),
    (gzip.compress(LINES.encode(), mtime=0), "data.jsonl.gz"),
  ],
)
def test_the_same_records_in_other_clothes(tmp_path, content, name):
  assert [record for _, record in read(tmp_path, content, name)] == ROWS


def test_every_record_says_where_it_stands(tmp_path):
  found = read(tmp_path, LINES.replace("\n", "\n\n"))
  assert [where[-6:] for where, _ in found] == ["line 1", "line 3"]
  found = read(tmp_path, json.dumps(ROWS))
  assert [where[-8:] for where, _ in found] == ["record 1", "record 2"]


@pytest.mark.parametrize(
  ("content", "name", "message"),
  [
    ('{"q": 1}\n{"q"', "x.jsonl", "x.jsonl, line 2: not JSON; .* cut off"),
    ('{"q": 1}\n{"q": 1}}\n{}', "x.jsonl", "x.jsonl, line 2: not JSON"),
    ('{"q": 1}\n5\n', "x.jsonl", "x.jsonl, line 2: not a JSON object"),
    ("[1, 2]", "x.json", "x.json, record 1: not a JSON object"),
    (
      '[ {"q": "1"} ,\n{"q": {"a": 1, "a": 2}}, {"q": "3"}]',
      "x.json",
      r"x.json, record 2: not JSON \(the key 'a' is there twice",
    ),
    ('[{"q": "1"}, {"q": "2"} {}]', "x.json", "x.json, record 2: not JSON"),
    ('[{"q": "1"}, {"q": 2,}]', "x.json", "x.json, record 2: not JSON"),
    ("[{},]", "x.json", "x.json, record 2: not JSON"),
    ("\n \n", "x.jsonl", "x.jsonl is empty"),
    ("[]", "x.jsonl", "x.jsonl is empty"),
    ('{}\n{"q": 1, "a": 2, "q": 1}', "x.jsonl", "line 2: .* key 'q' is there"),
    (
      '[{"a": {"q": 1, "q": 2}}]',
      "x.json",
      "x.json, record 1: .* key 'q' is there twic",
    ),
    (b"\xff\xfe{", "x.jsonl", "x.jsonl: not UTF-8"),
    (b"{}", "x.jsonl.gz", "x.jsonl.gz: not gzip, or cut off"),
    (
      gzip.compress(b"{}" * 50, mtime=0)[:-9],
      "x.jsonl.gz",
      "not gzip, or cut off",
    ),
    (b"PAR1", "x.parquet", "x.parquet: not read"),
  ],
)
def test_errors_name_file_and_line(tmp_path, content, name, message):
  if name.endswith("parquet"):
    pytest.importorskip("pyarrow")
  with pytest.raises(ValueError, match=message):
    read(tmp_path, content, name)


def test_an_absent_file_is_named(tmp_path):
  with pytest.raises(FileNotFoundError, match=r"no file .*nowhere\.jsonl"):
    records.read(tmp_path / "nowhere.jsonl")


def test_parquet_has_the_same_rows(tmp_path):
  parquet = pytest.importorskip("pyarrow.parquet")
  pyarrow = pytest.importorskip("pyarrow")
  file = tmp_path / "train-0.parquet"
  parquet.write_table(pyarrow.Table.from_pylist(ROWS), file)
  assert [record for _, record in records.read(file)] == ROWS
  assert records.find(tmp_path, "train") == [file]
  assert records.find(tmp_path, "test") == []


@pytest.mark.parametrize("ending", ["jsonl", "jsonl.gz", "json", "json.gz"])
def test_json_is_found_packed_or_not(tmp_path, ending):
  file = tmp_path / f"train.{ending}"
  file.write_text("")
  assert records.find(tmp_path, "train") == [file]


def test_json_lines_come_before_parquet(tmp_path):
  for name in ("train.parquet", "gsm8k_train.jsonl"):
    (tmp_path / name).write_text("")
  found = records.find(tmp_path, "train", prefix="gsm8k_")
  assert [file.name for file in found] == ["gsm8k_train.jsonl"]


@pytest.mark.parametrize(
  ("value", "text"),
  [("a", "a"), (5, "5"), (decimal.Decimal("1.5e3"), "1500"), (0.25, "0.25")],
)
def test_numbers_become_text(value, text):
  assert records.text_or_number({"a": value}, "a", "line 1") == text


@pytest.mark.parametrize(
  "value", [None, True, " ", [], float("nan"), float("inf"), -float("inf")]
)
def test_what_is_neither_text_nor_number_is_an_error(value):
  with pytest.raises(ValueError, match=r"line 1: the field 'a' is .* text"):
    records.text_or_number({"a": value}, "a", "line 1")
  with pytest.raises(ValueError, match="line 1: the field 'b' is None"):
    records.text({"a": value}, "b", "line 1")


def test_half_of_a_surrogate_pair_is_no_text(tmp_path):
  (_, record), (where, other) = read(
    tmp_path, '{"q": "\\ud83d\\ude00"}\n{"q": "a \\ud83d b"}'
  )
  assert records.text(record, "q", "") == "\U0001f600"
  with pytest.raises(ValueError, match=r"line 2: the field 'q' is no text in"):
    records.text_or_number(other, "q", where)


def test_data_that_were_read_twice_are_an_error_and_a_few_a_warning(caplog):
  rows = [(f"a, row {i}", {"q": f"{i}?"}) for i in range(300)]
  again = [(f"b, row {i}", record) for i, (_, record) in enumerate(rows)]
  with pytest.raises(
    ValueError, match=r"300 of 600 .* b, row 0: the q of a, r"
  ):
    records.check_repeats([*rows, *again], "q")
  with caplog.at_level(logging.WARNING):
    records.check_repeats([*rows, again[7]], "q")
  assert "1 of 301 problems are there twice. b, row 7" in caplog.text
  records.check_repeats(rows, "q")


def test_held_out_data_that_are_trained_on_are_an_error_and_a_few_a_warning(
  caplog,
):
  rows = [(f"a, row {i}", {"q": f"{i} + 1?"}) for i in range(3000)]
  test = [(f"b, row {i}", {"q": f" {i}  +\n1?"}) for i in range(2998, 3198)]
  with caplog.at_level(logging.WARNING):
    records.check_held_out(rows[:2998], test, "q")
    assert not caplog.messages
    records.check_held_out(rows, test, "q")
  assert "2 of 200 held-out problems are trained on. b, row 2998" in caplog.text
  with pytest.raises(ValueError, match=r"4 of 200 held-out .* of a, row 2998"):
    records.check_held_out(rows, [*test[:198], *test[:2]], "q")
