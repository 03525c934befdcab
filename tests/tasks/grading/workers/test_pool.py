"""The pool against graders that hang, crash and eat memory."""

import collections
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

import pytest

from pkpo_jax.tasks import base
from pkpo_jax.tasks.grading.workers import pool, worker

ROOT = pathlib.Path(__file__).parents[4]


@pytest.fixture
def make(monkeypatch):
  """Pools of `graders.behave`, closed at the end."""
  monkeypatch.syspath_prepend(str(ROOT / "tests/helpers"))
  pools = []

  def make(grade="graders:behave", **options):
    pools.append(pool.Pool(grade, **options))
    return pools[-1]

  yield make
  for each in pools:
    each.close()


def echoes(count):
  return [("echo", f"text {i}") for i in range(count)]


def is_running(pid):
  """A zombie is not gone: somebody has to wait for it."""
  return pathlib.Path(f"/proc/{pid}").exists()


def wait_until(condition, seconds=20):
  deadline = time.monotonic() + seconds
  while not condition():
    assert time.monotonic() < deadline
    time.sleep(0.02)


def pids(workers):
  return [each._process.pid for each in workers._workers]


@pytest.mark.parametrize("num_workers", [1, 2, 5])
def test_grades_come_in_the_order_of_the_answers(make, num_workers):
  workers = make(num_workers=num_workers)
  items = [*echoes(300), ("half",), *echoes(10)]
  grades = workers.grade(items)
  assert grades[300] == base.Grade(0.5, False, "half")
  texts = [item[-1] for item in items]
  assert [grade.reason for grade in grades] == texts
  assert workers.grade([]) == []


def test_equal_answers_are_graded_once(make):
  workers = make(num_workers=2)
  assert len({g.reason for g in workers.grade([("process", 1)] * 40)}) == 1
  start = time.perf_counter()
  grades = workers.grade([("sleep", 0.5)] * 40)
  assert time.perf_counter() - start < 5
  assert grades == [base.Grade(1.0, True, "slept")] * 40


@pytest.mark.parametrize("how", ["sleep", "sleep_deaf", "hold_interpreter"])
def test_late_answers_are_wrong_and_their_workers_replaced(make, how):
  """Deaf to SIGTERM, or in one computation that leaves Python no turn."""
  workers = make(num_workers=1, timeout=0.5)
  before = workers.grade([("process",)])[0].reason
  start = time.perf_counter()
  late, after = workers.grade([(how, 60), ("process", "again")])
  assert 0.5 <= time.perf_counter() - start < 10
  assert late == base.Grade(0.0, True, "timeout")
  assert after.reward == 1.0 and after.reason != before
  assert not is_running(before)


@pytest.mark.slow
def test_the_time_of_an_answer_does_not_count_its_wait(make):
  workers = make(num_workers=1, timeout=2.0)
  items = [("sleep", 0.5 + i / 1000) for i in range(6)]
  assert {g.reason for g in workers.grade(items)} == {"slept"}


def test_one_late_answer_does_not_hold_up_the_others(make):
  workers = make(num_workers=2, timeout=2.0)
  workers.grade(echoes(2))
  start = time.perf_counter()
  grades = workers.grade([("sleep", 60), *echoes(500)])
  assert 2.0 <= time.perf_counter() - start < 4.0
  assert [grade.reward for grade in grades] == [0.0] + [1.0] * 500


@pytest.mark.parametrize(
  ("item", "reason"),
  [
    (("segfault",), "crash"),
    (("leave", 0), "crash"),
    (("leave", 3), "crash"),
    (("allocate", 10 * 2**30), "out of memory"),
    (("recurse",), "error: RecursionError: maximum recursion depth exceeded"),
    (("fail",), "error: ValueError: no"),
    (("exit_quietly",), "error: SystemExit"),
    (("interrupt",), "error: KeyboardInterrupt"),
    (("unknown",), "error: KeyError: 'unknown'"),
    (("confuse",), "error: TypeError: can only concatenate str"),
  ],
)
def test_what_an_answer_breaks_is_its_own_fault(make, item, reason):
  workers = make(num_workers=1)
  grades = workers.grade([("echo", "a"), item, ("echo", "b")])
  assert [g.reason[: len(reason)] for g in grades] == ["a", reason, "b"]
  assert [grade.reward for grade in grades] == [1.0, 0.0, 1.0]
  assert all(grade.valid for grade in grades)


def test_memory_within_the_limit_can_be_had(make):
  workers = make(num_workers=1, memory=2**28)
  within, beyond = workers.grade([("allocate", 2**27), ("allocate", 2**29)])
  assert within.reason == str(2**27)
  assert beyond.reason == "out of memory"


def test_large_answers_and_chatty_graders(make):
  workers = make(num_workers=2)
  text = "x" * 5_000_000
  grades = workers.grade([("echo", text), ("print_much",)])
  assert [grade.reason for grade in grades] == [text, "printed"]


def test_who_kills_a_worker_does_not_make_its_answer_wrong(make, tmp_path):
  workers = make(num_workers=1)
  grade = workers.grade([("crash_once", str(tmp_path / "mark"))])[0]
  assert grade == base.Grade(1.0, True, "second try")
  os.kill(pids(workers)[0], signal.SIGKILL)
  assert workers.grade([("echo", "a")])[0].reason == "a"


def test_workers_do_not_hear_ctrl_c(make):
  workers = make(num_workers=1)
  before = workers.grade([("process", 1)])[0].reason
  assert os.getpgid(int(before)) != os.getpgrp()
  os.kill(int(before), signal.SIGINT)
  assert workers.grade([("process", 2)])[0].reason == before


def test_workers_are_replaced_after_max_tasks(make):
  workers = make(num_workers=2, max_tasks=3)
  grades = workers.grade([("process", i) for i in range(20)])
  counts = collections.Counter(grade.reason for grade in grades)
  assert max(counts.values()) <= 3
  assert all(
    not is_running(pid) for pid in set(counts) - set(map(str, pids(workers)))
  )


def test_workers_start_when_needed_and_end_with_close(make):
  workers = make(num_workers=3)
  assert pids(workers) == []
  workers.grade(echoes(1))
  assert len(pids(workers)) == 1
  workers.start()
  started = pids(workers)
  assert len(started) == 3
  assert len(workers.grade(echoes(30))) == 30
  assert pids(workers) == started
  workers.close()
  assert not any(map(is_running, started))
  assert workers.grade(echoes(1))[0].reward == 1.0


def test_workers_end_with_the_pool(make):
  with pool.Pool("graders:behave") as workers:
    workers.grade(echoes(1))
    started = pids(workers)
  assert not any(map(is_running, started))
  workers.grade(echoes(1))
  started = pids(workers)
  del workers
  wait_until(lambda: not any(map(is_running, started)))


def test_children_of_a_late_grader_end_with_it(make, tmp_path):
  workers = make(num_workers=1, timeout=1.0)
  path = tmp_path / "pid"
  grade = workers.grade([("leave_child_and_hang", str(path))])[0]
  assert grade.reason == "timeout"
  wait_until(lambda: not is_running(path.read_text()))


PARENT = """
import sys, threading, time
sys.path.insert(0, {tests!r})
from pkpo_jax.tasks.grading.workers import pool
workers = pool.Pool("graders:behave", num_workers=2, timeout=600)
workers.grade([("echo", 1), ("sleep", 0.5)])
def grade():
  workers.grade([("hold_interpreter",), ("sleep", 600)])
threading.Thread(target=grade, daemon=True).start()
while not all(w.item for w in workers._workers) or len(workers._workers) < 2:
  time.sleep(0.01)
print(*[w._process.pid for w in workers._workers], flush=True)
time.sleep(600)
"""


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_worker_outlives_its_parent(number):
  """Not even one that leaves Python no turn."""
  script = PARENT.format(tests=str(ROOT / "tests/helpers"))
  with subprocess.Popen(
    [sys.executable, "-c", script], stdout=subprocess.PIPE, cwd=ROOT, text=True
  ) as parent:
    started = parent.stdout.readline().split()
    assert len(started) == 2 and all(map(is_running, started))
    time.sleep(0.3)
    parent.send_signal(number)
  wait_until(lambda: not any(map(is_running, started)))


def test_an_interrupted_batch_leaves_no_replies_behind(make):
  class InterruptError(Exception):
    pass

  def interrupt(*_):
    raise InterruptError

  workers = make(num_workers=2)
  workers.grade(echoes(10))
  before = signal.signal(signal.SIGUSR1, interrupt)
  timer = threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGUSR1))
  timer.start()
  try:
    with pytest.raises(InterruptError):
      workers.grade([("sleep", 3), ("sleep", 3.1)])
  finally:
    signal.signal(signal.SIGUSR1, before)
  assert [g.reason for g in workers.grade(echoes(3))] == [
    "text 0",
    "text 1",
    "text 2",
  ]


def test_threads_take_turns(make):
  workers = make(num_workers=2)
  found = {}

  def grade(name):
    items = [("echo", f"{name} {i}") for i in range(200)]
    found[name] = [g.reason for g in workers.grade(items)]

  threads = [threading.Thread(target=grade, args=(n,)) for n in "abc"]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  for name in "abc":
    assert found[name] == [f"{name} {i}" for i in range(200)]


@pytest.mark.parametrize(
  ("code", "cause"),
  [
    ("raise ValueError('broken')", "ValueError: broken"),
    ("import no_such_module_at_all", "No module named"),
    ("import os; os._exit(7)", "ended with status 7"),
    ("grader = 1", "has no attribute 'grade'"),
  ],
)
def test_without_workers_answers_are_invalid(
  make, monkeypatch, tmp_path, code, cause
):
  name = f"broken_grader_{abs(hash(code))}"
  (tmp_path / f"{name}.py").write_text(code)
  monkeypatch.syspath_prepend(str(tmp_path))
  grades = make(f"{name}:grade").grade([(1,), (2,), (3,)])
  assert [(g.reward, g.valid) for g in grades] == [(0.0, False)] * 3
  assert all(cause in grade.reason for grade in grades)


def test_without_an_interpreter_answers_are_invalid(make, monkeypatch):
  workers = make()
  with monkeypatch.context() as patch:
    patch.setattr(sys, "executable", "/no/such/python")
    grade = workers.grade(echoes(1))[0]
  assert not grade.valid and "/no/such/python" in grade.reason
  assert workers.grade(echoes(1))[0].valid


def test_all_workers_hash_alike(make):
  workers = make(num_workers=1, max_tasks=1)
  grades = workers.grade([("hash_seed", i) for i in range(3)])
  assert len({grade.reason for grade in grades}) == 1


GRADERS = ["pkpo_jax.tasks.grading.latex.equality:grade"]
LOAD = """
import runpy, sys
load = runpy.run_path({script!r})["_load"]
load({grade!r}, sys.path, {packages!r})
print(*sys.modules)
"""


@pytest.mark.parametrize("grade", GRADERS)
def test_workers_do_not_import_the_accelerator_stack(make, grade):
  script = LOAD.format(
    script=worker.__file__, grade=grade, packages=pool._packages()
  )
  found = subprocess.run(
    [sys.executable, "-c", script],
    capture_output=True,
    text=True,
    check=True,
    cwd=ROOT,
  ).stdout.split()
  assert grade.split(":")[0] in found
  heavy = {"jax", "jaxlib", "flax", "gemma", "tensorflow", "kauldron", "numpy"}
  assert not heavy & {name.split(".")[0] for name in found}
  workers = make(grade, num_workers=1)
  workers.grade([("1", "#### 1")])
  maps = pathlib.Path(f"/proc/{pids(workers)[0]}/maps").read_text()
  assert "python" in maps and "jaxlib" not in maps


@pytest.mark.parametrize(
  ("grade", "options", "message"),
  [
    ("graders:behave", {"num_workers": 0}, "num_workers=0"),
    ("graders:behave", {"timeout": 0.0}, "timeout=0.0"),
    ("graders:behave", {"memory": -1}, "memory=-1"),
    ("graders:behave", {"max_tasks": 0}, "max_tasks=0"),
    ("graders", {}, "module:function"),
    ("graders:", {}, "module:function"),
  ],
)
def test_options_out_of_range_are_errors(make, grade, options, message):
  with pytest.raises(ValueError, match=message):
    make(grade, **options)


@pytest.mark.parametrize(
  ("item", "fault"),
  [
    (("give", "right"), "returned str"),
    (("give", None), "returned NoneType"),
    (("give", (1.0, True)), "returned tuple"),
    (("echo", 1, 2), "does not take 3 arguments"),
  ],
)
def test_a_mistake_in_the_grader_is_no_fault_of_the_answer(make, item, fault):
  workers = make(num_workers=1)
  reason = f"the grader {fault}"
  assert workers.grade([item]) == [base.Grade(0.0, False, reason)]
  with pytest.raises(ValueError, match=f"'graders:behave' cannot .*{fault}"):
    workers.check(item)


@pytest.mark.parametrize(
  ("item", "logged"),
  [(("fail",), "'error: ValueError: no'"), (("segfault",), "'crash'"),
   (("give", (0.0, False, "no luck")), "")],
)  # fmt: skip
def test_a_check_warns_of_a_lost_answer(make, caplog, item, logged):
  make(num_workers=1).check(item)
  assert bool(caplog.messages) == bool(logged) and logged in caplog.text


@pytest.mark.parametrize(
  ("grade", "cause"),
  [
    ("no_such_grader:grade", "ModuleNotFoundError.*no_such_grader"),
    ("graders:no_such_function", "AttributeError.*no_such_function"),
    ("graders:os", "TypeError.*'graders:os' is module, not a function"),
  ],
)
def test_a_grader_that_is_not_there_is_found_by_a_check(make, grade, cause):
  with pytest.raises(ValueError, match=f"{grade!r} cannot be used.*{cause}"):
    make(grade).check(("echo", "a"))


def test_a_stopped_worker_does_not_hold_up_a_large_answer(make, monkeypatch):
  monkeypatch.setattr(pool, "_WAIT_SECONDS", 1)
  workers = make(num_workers=1)
  workers.grade(echoes(1))
  os.kill(pids(workers)[0], signal.SIGSTOP)
  text = "x" * 5_000_000
  assert workers.grade([("echo", text)])[0].reason == text
