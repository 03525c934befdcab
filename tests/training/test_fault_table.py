"""The table of faults: docs/faults.md, row by row, on real runs."""

import contextlib
import pathlib
import shutil
import signal

import pytest
from helpers import disks, fault_table, launches, moments, runs

PAGE = pathlib.Path(__file__).parents[2] / "docs/faults.md"
VERIFY = pytest.mark.verify(
  "pkpo_jax/training",
  "pkpo_jax/multihost.py",
  "pkpo_jax/rl",
  "experiments/train.py",
  "experiments/command_line.py",
  "tests/helpers/fault_table.py",
)


def rows(faults):
  return pytest.mark.parametrize("fault", faults, ids=lambda fault: fault.what)


@pytest.fixture(scope="module", params=[1, 2], ids=["one", "two"])
def prepared(request, tmp_path_factory):
  """An undisturbed run of so many processes, and one that has done 5 steps."""
  folder, empty = tmp_path_factory.mktemp("runs"), ((),) * (request.param - 1)
  stop = moments.Moment("update", 5, moments.send, (signal.SIGTERM,))
  for name, plan, code in (("whole", (), 0), ("half", (stop,), 143)):
    launch = launches.Launch(folder / name, plans=(plan, *empty))
    codes, outputs = launch.finish()
    assert codes == [code] * request.param, outputs
  assert runs.saved_steps(folder / "half") == [4, 5]
  return folder


def check_codes(codes, expected, outputs):
  for code, allowed in zip(codes, expected, strict=True):
    if allowed == fault_table.FAILED:
      right = code != 0
    else:
      right = code in allowed if isinstance(allowed, set) else code == allowed
    assert right, f"{codes} and not {expected}: {outputs}"


def check_left(left, workdir, before, whole):
  """Whether on disk is what the table says, in its words."""
  saved, steps = runs.saved_steps(workdir), runs.train_steps(workdir)
  if left == fault_table.NOTHING:
    assert not workdir.exists()
  elif left == fault_table.AS_BEFORE:
    assert state(workdir) == before
  elif left == fault_table.LAST_STEP:
    assert saved[-1] == steps[-1] + 1
  elif left == fault_table.LAST_SAVE:
    assert 0 < saved[-1] < runs.STEPS and saved[-1] % 2 == 0
    assert steps[: saved[-1]] == list(range(saved[-1]))
  elif left == fault_table.ALL:
    runs.assert_same(workdir, whole)
  else:
    assert left == fault_table.BAD_STEP
    assert (saved[-1], steps[-1]) == (runs.STEPS, runs.STEPS - 1)
    assert runs.records(workdir)[-2]["bad_steps"] == 1


def state(workdir):
  """Steps that are saved, and records; None where there is no folder."""
  if not workdir.exists():
    return None
  return runs.saved_steps(workdir), runs.records(workdir)


def planned(fault, disk):
  """Its plans, with the name of the disk that they are about."""
  return [
    [m._replace(args=tuple(named(x, disk) for x in m.args)) for m in plan]
    for plan in fault.plans
  ]


def named(x, disk):
  return x.replace("DISK", str(disk)) if isinstance(x, str) else x


def inflict(fault, workdir):
  """The launch that the fault befalls: exit codes and outputs."""
  if fault.start:
    return fault.start(workdir)
  launch = launches.Launch(
    workdir,
    *fault.options,
    plans=planned(fault, workdir.parent),
    streams=fault.streams,
    environment=dict(fault.environment),
    second=fault.second,
  )
  return launch.finish()


def check(fault, prepared, folder):
  """A row of the table: the fault, what is left of it, and the next start."""
  workdir, whole = folder / "run", prepared / "whole"
  if fault.begun:
    shutil.copytree(prepared / "half", workdir)
  if fault.harm:
    fault.harm(workdir)
  before = state(workdir)
  codes, outputs = inflict(fault, workdir)
  check_codes(codes, fault.code, outputs)
  for text in fault.says:
    assert text in "".join(outputs), outputs
  check_left(fault.left, workdir, before, whole)
  if fault.mend:
    fault.mend(workdir)
  launch = launches.Launch(workdir, plans=((),) * len(fault.plans))
  codes, outputs = launch.finish()
  assert set(codes) == {0}, outputs
  for text in fault.then:
    assert text in outputs[0], outputs
  if fault.left != fault_table.BAD_STEP:
    runs.assert_same(workdir, whole)


def run_row(fault, prepared, tmp_path):
  with contextlib.ExitStack() as stack:
    folder = tmp_path
    if fault.disk:
      folder = stack.enter_context(disks.small(tmp_path / "disk", fault.disk))
    check(fault, prepared, folder)


@VERIFY
@rows(fault_table.FAULTS)
@pytest.mark.parametrize("prepared", [1], indirect=True, ids=["one"])
def test_one_process(fault, prepared, tmp_path):
  run_row(fault, prepared, tmp_path)


@VERIFY
@rows(fault_table.TWO)
@pytest.mark.parametrize("prepared", [2], indirect=True, ids=["two"])
def test_two_processes(fault, prepared, tmp_path):
  run_row(fault, prepared, tmp_path)


def test_the_page_has_the_table():
  text = PAGE.read_text()
  for faults in (fault_table.FAULTS, fault_table.TWO):
    assert fault_table.table(faults) in text
  assert len(fault_table.FAULTS) >= 25
