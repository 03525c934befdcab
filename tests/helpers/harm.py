"""What is done to the folder of a run between two starts, or to its start."""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time

from helpers import launches, runs


def newest(workdir):
  return workdir / "checkpoints" / str(runs.saved_steps(workdir)[-1])


def _largest(folder):
  files = [path for path in folder.glob("**/d/*") if path.is_file()]
  return max(files, key=lambda path: path.stat().st_size)


def flip(workdir):
  path = _largest(newest(workdir))
  data = bytearray(path.read_bytes())
  data[len(data) // 2] ^= 1
  path.write_bytes(bytes(data))


def cut(workdir):
  path = _largest(newest(workdir))
  path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def delete_newest(workdir):
  shutil.rmtree(newest(workdir))


def copy_newest(workdir):
  shutil.copytree(newest(workdir), workdir / "checkpoints" / "6")


def leave_remains(workdir):
  shutil.copytree(
    newest(workdir), workdir / "checkpoints" / "6.orbax-checkpoint-tmp-1"
  )


def mount_in_old(workdir):
  busy = workdir / "checkpoints" / str(runs.saved_steps(workdir)[0]) / "busy"
  busy.mkdir()
  mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "none", str(busy)]
  subprocess.run(mount, check=True)


def unmount_old(workdir):
  (busy,) = workdir.glob("checkpoints/*/busy")
  subprocess.run(["umount", str(busy)], check=True)


def cut_metrics(workdir):
  """As a kill in the middle of a write; the record before it is whole."""
  path = workdir / "metrics.jsonl"
  with path.open("a") as file:
    file.write(path.read_text().splitlines()[-1][:40])


def rename(workdir):
  """To another and back, since tests know the one; with old paths removed."""
  other = workdir.with_name("other")
  workdir.rename(other)
  shutil.copytree(other, workdir)
  shutil.rmtree(other)


def set_format(number):
  def change(workdir):
    path = workdir / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"format": number}, indent=2) + "\n")

  return change


def make_room(workdir):
  (workdir.parent / "filler").unlink()


def make_read_only(workdir):
  _remount(workdir.parent, "ro")


def make_writable(workdir):
  _remount(workdir.parent, "rw")


def _remount(disk, how):
  mount = ["mount", "-o", f"remount,{how}", str(disk)]
  subprocess.run(mount, check=True)


def with_64_bits(workdir):
  """A start from a shell that has an opinion on jax."""
  return _finish(_start(workdir, JAX_ENABLE_X64="1"))


def interrupt_imports(workdir):
  """A start that gets SIGINT as soon as it has begun to import jax."""
  process = _start(workdir)
  maps = pathlib.Path(f"/proc/{process.pid}/maps")
  _wait(process, lambda: "jaxlib" in maps.read_text())
  os.kill(process.pid, signal.SIGINT)
  codes, outputs = _finish(process)
  assert len(outputs[0].splitlines()) == 1, outputs
  return codes, outputs


def interrupt_who_waits(workdir):
  """A start of the first of two processes that gets SIGINT as it waits."""
  port = launches.free_port()
  variables = launches.one_of_many(0, 2, port)
  process = _start(workdir, "--distributed", **variables)
  _wait(process, lambda: _listens(port))
  os.kill(process.pid, signal.SIGINT)
  return _finish(process)


def _start(workdir, *options, **variables):
  command = [sys.executable, "-m", "experiments.train", launches.CONFIG]
  command += [f"--workdir={workdir}", f"--base_dir={workdir}/base", *options]
  return subprocess.Popen(
    command,
    cwd=runs.ROOT,
    env=runs.environment() | variables,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    preexec_fn=runs.heed_signals,
  )


def _finish(process):
  output, _ = process.communicate(timeout=launches.TIMEOUT)
  return [process.returncode], [output]


def _wait(process, condition):
  while not condition():
    assert process.poll() is None, process.communicate()
    time.sleep(0.01)


def _listens(port):
  with socket.socket() as client:
    return client.connect_ex(("127.0.0.1", port)) == 0
