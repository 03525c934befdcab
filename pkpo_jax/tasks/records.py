"""Reads records of data: JSON lines, a JSON array, parquet and arrow files.

Every record comes with where it stands, and every error names that place.
"""

import gzip
import json
import logging
import math
import os
import pathlib
import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any

Record = Mapping[str, Any]
Placed = tuple[str, Record]
_log = logging.getLogger(__name__)
# Fewer repeated problems than this are in the data; more were read twice.
_READ_TWICE = 0.01


def read(file: pathlib.Path) -> list[Placed]:
  """Reads a file; its name tells parquet and arrow files, and gzip.

  Returns:
    (where, record) of each record, where being "FILE, line 3" or "FILE, row 3".

  Raises:
    FileNotFoundError: there is no such file.
    ValueError: it has no records, or one that cannot be read.
  """
  if not file.is_file():
    raise FileNotFoundError(f"There is no file {str(file)!r}.")
  if file.suffix in (".parquet", ".arrow"):
    found = _rows(file)
  else:
    found = _of_text(text_of_file(file), str(file))
  if not found:
    raise ValueError(f"{file} is empty; it must have a problem on each line.")
  return found


def text_of_file(file: pathlib.Path) -> str:
  """Text of a file in UTF-8, unpacked if its name ends in .gz.

  Raises:
    ValueError: it is not UTF-8, or not gzip.
  """
  content = file.read_bytes()
  try:
    if file.suffix == ".gz":
      content = gzip.decompress(content)
    # Windows marks the beginning of UTF-8; "-sig" skips the mark.
    return content.decode("utf-8-sig")
  except UnicodeDecodeError as error:
    raise ValueError(f"{file}: not UTF-8 ({error}).") from error
  except (OSError, EOFError, zlib.error) as error:
    raise ValueError(f"{file}: not gzip, or cut off ({error}).") from error


def parse(text: str, where: str) -> Record:
  """Parses one JSON object; numbers with a point become `Decimal`.

  Raises:
    ValueError: it is none; the message names the place.
  """
  record = _json(text, where)
  if not isinstance(record, dict):
    raise ValueError(f"{where}: not a JSON object.")
  return record


def _of_text(text: str, name: str) -> list[Placed]:
  """Records of JSON lines, or of one JSON array of objects."""
  if text.lstrip().startswith("[") and text.rstrip().endswith("]"):
    try:
      array = _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
      where = f"{name}, record {_first_broken(text)}"
      raise ValueError(f"{where}: not JSON ({error}).") from error
    return [
      (where, record)
      for where, record in _numbered(array, f"{name}, record")
      if _is_object(record, where)
    ]
  # Not splitlines: some characters within JSON strings look like line ends.
  lines = text.rstrip().split("\n")
  return [
    (where, parse(_whole(line, where, number == len(lines)), where))
    for number, (where, line) in enumerate(_numbered(lines, f"{name}, line"), 1)
    if line.strip()
  ]


def _numbered(items: Sequence[Any], name: str) -> list[tuple[str, Any]]:
  return [(f"{name} {number}", item) for number, item in enumerate(items, 1)]


def _is_object(record: Any, where: str) -> bool:
  if not isinstance(record, dict):
    raise ValueError(f"{where}: not a JSON object.")
  return True


def _whole(line: str, where: str, is_last: bool) -> str:
  """Says of a last line without an end that it was cut off."""
  if is_last and line.lstrip().startswith("{") and "}" not in line[-2:]:
    raise ValueError(
      f"{where}: not JSON; the file seems to be cut off in its last line."
    )
  return line


def _json(text: str, where: str) -> Any:
  try:
    return _DECODER.decode(text)
  except (ValueError, RecursionError) as error:
    raise ValueError(f"{where}: not JSON ({error}).") from error


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
  """An object; raises ValueError if it has two values for a key."""
  found = dict(pairs)
  if len(found) < len(pairs):
    keys = [key for key, _ in pairs]
    twice = next(key for key in found if keys.count(key) > 1)
    raise ValueError(f"the key {twice!r} is there twice")
  return found


_COMMA = re.compile(r"\s*,\s*")
_DECODER = json.JSONDecoder(parse_float=Decimal, object_pairs_hook=_object)


def _first_broken(array: str) -> int:
  """Number of the first item of a JSON array that cannot be read, from 1 on."""
  inside = array.lstrip()[1:].lstrip()
  at, number = len(array) - len(inside), 1
  while True:
    try:
      _, at = _DECODER.raw_decode(array, at)
    except (ValueError, RecursionError):
      return number
    if (comma := _COMMA.match(array, at)) is None:
      return number
    at, number = comma.end(), number + 1


def _rows(file: pathlib.Path) -> list[Placed]:
  """Rows of a parquet file, or of an arrow file as `datasets` saves it.

  Raises:
    ImportError: there is no pyarrow.
    ValueError: the file cannot be read.
  """
  try:
    import pyarrow
    import pyarrow.parquet
  except ImportError as error:
    raise ImportError(
      "Arrow and parquet files need pyarrow: pip install pyarrow."
    ) from error
  try:
    if file.suffix == ".parquet":
      table = pyarrow.parquet.read_table(file)
    else:
      with pyarrow.memory_map(str(file)) as source:
        table = pyarrow.ipc.open_stream(source).read_all()
  except pyarrow.ArrowException as error:
    raise ValueError(f"{file}: not read ({error}).") from error
  return [(f"{file}, row {i}", row) for i, row in enumerate(table.to_pylist())]


def find(
  path: str | os.PathLike[str], split: str, prefix: str = ""
) -> list[pathlib.Path]:
  """Finds the files of a split in a folder; [] if there are none.

  JSON lines come first: SPLIT.jsonl, PREFIXSPLIT.jsonl, also as .json and
  packed; then what `datasets` saved to disk, SPLIT/*.arrow; then all parquet
  files whose names begin with the split, in any folder.
  """
  folder = pathlib.Path(path)
  for name in (split, prefix + split):
    for ending in (".jsonl", ".jsonl.gz", ".json", ".json.gz"):
      if (file := folder / f"{name}{ending}").is_file():
        return [file]
  arrow = sorted(folder.glob(f"{split}/*.arrow"))
  return arrow or sorted(folder.glob(f"**/{split}*.parquet"))


def text(record: Record, field: str, where: str) -> str:
  """A field that must be text.

  Raises:
    ValueError: it is absent or not text, such as half of a surrogate pair.
  """
  value = record.get(field)
  if not isinstance(value, str) or not value.strip():
    raise ValueError(
      f"{where}: the field {field!r} is {value!r}, but must be text."
    )
  try:
    value.encode()
  except UnicodeEncodeError as error:
    raise ValueError(
      f"{where}: the field {field!r} is no text in Unicode ({error})."
    ) from error
  return value


def text_or_number(record: Record, field: str, where: str) -> str:
  """A field as text; a number as it is written without an exponent.

  Raises:
    ValueError: it is absent, or neither text nor a finite number.
  """
  value = record.get(field)
  if isinstance(value, Decimal):
    value = f"{value:f}"
  elif isinstance(value, float) and math.isfinite(value):  # From parquet.
    value = f"{Decimal(repr(value)):f}"
  elif isinstance(value, int) and not isinstance(value, bool):
    value = str(value)
  return text({field: value}, field, where)


def check_repeats(found: Iterable[Placed], field: str) -> None:
  """Raises ValueError if many records occur twice: data were read twice.

  A few are in some data themselves; they are logged.
  """
  places: dict[str, str] = {}
  twice = []
  total = 0
  for where, record in found:
    total += 1
    if (first := places.setdefault(key(record, field), where)) != where:
      twice.append(f"{where}: the {field} of {first} again")
  message = f"{len(twice)} of {total} problems are there twice"
  _report(twice, total, message, "remove one, or name the folder to read")


def check_held_out(
  train: Iterable[Placed], test: Sequence[Placed], field: str
) -> None:
  """Raises ValueError if many held-out problems are trained on, too.

  A few are in some data themselves; they are logged.
  """
  places = {key(record, field): where for where, record in train}
  shared = [
    f"{where}: the {field} of {places[key(record, field)]} again"
    for where, record in test
    if key(record, field) in places
  ]
  message = f"{len(shared)} of {len(test)} held-out problems are trained on"
  _report(shared, len(test), message, "remove them from one of the two")


def key(record: Record, field: str) -> str:
  """A field as text with single blanks, by which problems are told apart."""
  return " ".join(str(record.get(field, "")).split())


def _report(
  repeats: Sequence[str], total: int, message: str, remedy: str
) -> None:
  if not repeats:
    return
  message = f"{message}. {repeats[0]}"
  if len(repeats) > _READ_TWICE * total + 1:
    raise ValueError(f"{message}; {remedy}.")
  _log.warning("%s.", message)
