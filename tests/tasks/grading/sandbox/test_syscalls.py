"""The filter, run step by step as the kernel does."""

import errno
import struct

import pytest

from pkpo_jax.tasks.grading.sandbox import syscalls

ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
ALLOWED = 0x7FFF0000
UNIX, INET, NETLINK, VSOCK = 1, 2, 16, 40
THREAD, NEW_USER = 0x3D0F00, 0x10000000

# From the kernel's own tables, once more.
NUMBERS = {
  "x86_64": {"read": 0, "execve": 59, "clone": 56, "clone3": 435, "socket": 41,
             "socketpair": 53, "unshare": 272, "fork": 57,
             "io_uring_setup": 425, "shmget": 29, "ptrace": 101, "mmap": 9},
  "aarch64": {"read": 63, "execve": 221, "clone": 220, "clone3": 435,
              "socket": 198, "socketpair": 199, "unshare": 97,
              "io_uring_setup": 425, "shmget": 194, "ptrace": 117, "mmap": 222},
}  # fmt: skip


def outcome(machine, number, argument=0, arch=None):
  """What a filter says to a call: an error, or "allowed" or "killed"."""
  data = struct.pack("=IIQQ", number, arch or ARCH[machine], 0, argument)
  steps = list(struct.iter_unpack("=HBBI", syscalls.seccomp_filter(machine)))
  at, value = 0, 0
  while True:
    code, if_true, if_false, operand = steps[at]
    at += 1
    if code == 0x20:
      (value,) = struct.unpack_from("=I", data, operand)
    elif code == 0x06:
      known = {ALLOWED: "allowed", 0x80000000: "killed"}
      return known.get(operand) or errno.errorcode[operand & 0xFFFF]
    else:
      holds = {0x15: value == operand, 0x35: value >= operand}
      holds[0x45] = bool(value & operand)
      at += if_true if holds[code] else if_false


@pytest.mark.parametrize("machine", ARCH)
@pytest.mark.parametrize(
  ("call", "argument", "expected"),
  [
    ("read", 0, "allowed"),
    ("mmap", 0, "allowed"),
    ("execve", 0, "allowed"),
    ("socketpair", UNIX, "allowed"),
    ("socket", UNIX, "allowed"),
    ("socket", INET, "EAFNOSUPPORT"),
    ("socket", NETLINK, "EAFNOSUPPORT"),
    ("socket", VSOCK, "EAFNOSUPPORT"),
    ("clone", THREAD, "allowed"),
    ("clone", 17, "EPERM"),
    ("clone", NEW_USER, "EPERM"),
    ("clone3", 0, "ENOSYS"),
    ("fork", 0, "EPERM"),
    ("unshare", NEW_USER, "EPERM"),
    ("io_uring_setup", 0, "EPERM"),
    ("shmget", 0, "EPERM"),
    ("ptrace", 0, "EPERM"),
  ],
)
def test_what_is_allowed(machine, call, argument, expected):
  if call in NUMBERS[machine]:
    assert outcome(machine, NUMBERS[machine][call], argument) == expected


def test_calls_of_another_machine_are_refused():
  assert outcome("x86_64", 0, arch=0x40000003) == "killed"  # 32 bits
  assert outcome("aarch64", 0, arch=ARCH["x86_64"]) == "killed"
  assert outcome("x86_64", 0x40000000 + 41, UNIX) == "EPERM"  # x32
  with pytest.raises(
    RuntimeError, match=r"isolated on riscv64.*x86_64, aarch64"
  ):
    syscalls.seccomp_filter("riscv64")
