"""experiments.streams: what is said may be lost, and nothing raises."""

import subprocess
import sys

import pytest

PROGRAM = """
from experiments import streams
streams.make_tolerant()
import contextlib, os, sys
for _ in range(3):
  print("out \u00b1" * 3000)
  print("err " * 3000, file=sys.stderr, flush=True)
with open(sys.argv[1], "w") as file:
  assert file.fileno() > 2
  with contextlib.suppress(OSError):
    os.write(2, b"of a library")
  file.write("kept")
"""


@pytest.mark.parametrize(
  "streams", ["2>&1 | head -c 10", "<&- >&- 2>&-", "> /dev/full 2>&1", ">&-"]
)
def test_a_program_ends_well_whoever_reads(streams, tmp_path):
  line = f'set -o pipefail; "$0" -c "$1" {tmp_path}/file {streams}'
  command = ["bash", "-c", line, sys.executable, PROGRAM]
  result = subprocess.run(command, capture_output=True, check=False)
  assert result.returncode == 0, result.stderr
  assert (tmp_path / "file").read_text() == "kept"


def test_a_terminal_that_lacks_a_letter_gets_another():
  result = subprocess.run(
    [sys.executable, "-c", PROGRAM, "/dev/null"],
    env={"PYTHONIOENCODING": "ascii", "PYTHONPATH": ":".join(sys.path)},
    capture_output=True,
    text=True,
    check=False,
  )
  assert result.returncode == 0, result.stderr
  assert "out ?" in result.stdout
