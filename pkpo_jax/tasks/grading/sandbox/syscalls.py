"""Makes the seccomp filter that a container runs under.

Namespaces leave holes: AF_VSOCK and io_uring know no network namespace, a new
user namespace makes its maker root of it, and limits on memory are those of
one process, so that children would multiply them. The filter refuses such
calls; `man 2 seccomp` has its language, a list of (operation, jumps, operand).
"""

import errno
import platform
import struct

# The audit number of a machine, and its column below.
_MACHINES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}

# Numbers on x86_64 and on aarch64, from the kernel's tables.
_REFUSED = {
  # New processes, and namespaces to be root of.
  "fork": (57, None),
  "vfork": (58, None),
  "unshare": (272, 97),
  "setns": (308, 268),
  "chroot": (161, 51),
  "pivot_root": (155, 41),
  "mount": (165, 40),
  "umount2": (166, 39),
  "open_tree": (428, 428),
  "move_mount": (429, 429),
  "fsopen": (430, 430),
  "fsconfig": (431, 431),
  "fsmount": (432, 432),
  "fspick": (433, 433),
  "mount_setattr": (442, 442),
  # Memory that no limit of a process counts.
  "shmget": (29, 194),
  "msgget": (68, 186),
  "semget": (64, 190),
  # Other processes, and large doors of the kernel.
  "ptrace": (101, 117),
  "process_vm_readv": (310, 270),
  "process_vm_writev": (311, 271),
  "pidfd_getfd": (438, 438),
  "add_key": (248, 217),
  "request_key": (249, 218),
  "keyctl": (250, 219),
  "perf_event_open": (298, 241),
  "bpf": (321, 280),
  "userfaultfd": (323, 282),
  "io_uring_setup": (425, 425),
  "io_uring_enter": (426, 426),
  "io_uring_register": (427, 427),
}
_CLONE = (56, 220)
_CLONE3 = (435, 435)
_SOCKET = (41, 198)
_X32 = 0x40000000  # x86_64 has each call twice; the second set starts here

_CLONE_THREAD = 0x10000
_AF_UNIX = 1

_ALLOW = 0x7FFF0000
_KILL = 0x80000000
_ERRNO = 0x00050000
# Where the numbers of a call stand: in struct seccomp_data.
_NUMBER, _ARCH, _ARGUMENT = 0, 4, 16
_LOAD, _RETURN = 0x20, 0x06
_IF_EQUAL, _IF_AT_LEAST, _IF_ANY_BIT = 0x15, 0x35, 0x45

_Step = tuple[int, int, int, int]


def seccomp_filter(machine: str | None = None) -> bytes:
  """The filter for a machine, such as "x86_64"; None: for this one.

  Threads may be started and sockets of AF_UNIX be opened, as asyncio does.

  Raises:
    RuntimeError: the numbers of its system calls are not known here.
  """
  machine = machine or platform.machine()
  if machine not in _MACHINES:
    known = ", ".join(_MACHINES)
    raise RuntimeError(
      f"Code cannot be isolated on {machine}: its system calls are not known"
      f" here, as those of {known} are."
    )
  arch, column = _MACHINES[machine]
  steps: list[_Step] = [
    (_LOAD, 0, 0, _ARCH),
    (_IF_EQUAL, 1, 0, arch),
    (_RETURN, 0, 0, _KILL),
    (_LOAD, 0, 0, _NUMBER),
  ]
  if machine == "x86_64":
    steps += _unless(_IF_AT_LEAST, _X32, errno.EPERM)
  for numbers in _REFUSED.values():
    if (number := numbers[column]) is not None:
      steps += _unless(_IF_EQUAL, number, errno.EPERM)
  # Its flags are in memory, where no filter looks: libc then takes `clone`.
  steps += _unless(_IF_EQUAL, _CLONE3[column], errno.ENOSYS)
  steps += _only(_CLONE[column], _IF_ANY_BIT, _CLONE_THREAD, errno.EPERM)
  steps += _only(_SOCKET[column], _IF_EQUAL, _AF_UNIX, errno.EAFNOSUPPORT)
  steps.append((_RETURN, 0, 0, _ALLOW))
  return b"".join(struct.pack("=HBBI", *step) for step in steps)


def _unless(condition: int, operand: int, error: int) -> list[_Step]:
  """Refuses a call whose number meets the condition."""
  return [(condition, 0, 1, operand), (_RETURN, 0, 0, _ERRNO | error)]


def _only(number: int, condition: int, operand: int, error: int) -> list[_Step]:
  """Refuses this call unless its first argument meets the condition."""
  return [
    (_IF_EQUAL, 0, 4, number),
    (_LOAD, 0, 0, _ARGUMENT),
    (condition, 0, 1, operand),
    (_RETURN, 0, 0, _ALLOW),
    (_RETURN, 0, 0, _ERRNO | error),
  ]
