"""What a process is and may do: prctl(2), capabilities(7), descriptors, signals."""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Iterable
from typing import Final

from kubeletpy_common.linux.libc import check, libc, syscall

_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4
_PR_SET_KEEPCAPS: Final = 8
_PR_SET_NAME: Final = 15
_PR_CAPBSET_DROP: Final = 24
_PR_SET_CHILD_SUBREAPER: Final = 36
_PR_SET_NO_NEW_PRIVS: Final = 38
_PR_CAP_AMBIENT: Final = 47
_PR_CAP_AMBIENT_RAISE: Final = 2
_PR_CAP_AMBIENT_CLEAR_ALL: Final = 4

CLOSE_RANGE_CLOEXEC: Final = 4

# capabilities(7); the position is the number.
_NAMES: Final = (
    "CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE "
    "NET_BIND_SERVICE NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO "
    "SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME "
    "SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE MAC_ADMIN SYSLOG "
    "WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE"
).split()
CAPABILITIES: Final[dict[str, int]] = {f"CAP_{name}": n for n, name in enumerate(_NAMES)}

_CAPABILITY_VERSION_3: Final = 0x20080522


class _Header(ctypes.Structure):
    _fields_ = [("version", ctypes.c_uint32), ("pid", ctypes.c_int)]


class _Sets(ctypes.Structure):
    _fields_ = [
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    ]


def _prctl(option: int, name: str, *arguments: int) -> int:
    padded = [ctypes.c_ulong(a) for a in (*arguments, 0, 0, 0, 0)[:4]]
    return check(libc.prctl(option, *padded), "prctl", name, *arguments)


def set_parent_death_signal(signal: int) -> None:
    """Have the kernel send ``signal`` to this process when its parent thread dies (0: never)."""
    _prctl(_PR_SET_PDEATHSIG, "PR_SET_PDEATHSIG", signal)


def set_dumpable(dumpable: bool) -> None:
    """Allow or forbid that others of the same user trace this process or open its /proc files."""
    _prctl(_PR_SET_DUMPABLE, "PR_SET_DUMPABLE", int(dumpable))


def set_child_subreaper() -> None:
    """Make this process the parent of its orphaned descendants."""
    _prctl(_PR_SET_CHILD_SUBREAPER, "PR_SET_CHILD_SUBREAPER", 1)


def set_no_new_privs() -> None:
    """Forbid this process, for good, to gain privileges by execve (setuid, file capabilities)."""
    _prctl(_PR_SET_NO_NEW_PRIVS, "PR_SET_NO_NEW_PRIVS", 1)


def set_keep_capabilities(keep: bool) -> None:
    """Keep the permitted capabilities over the next change of user from root to another."""
    _prctl(_PR_SET_KEEPCAPS, "PR_SET_KEEPCAPS", int(keep))


def set_name(name: str) -> None:
    """Name this thread (15 bytes at most are kept), as ps and /proc/PID/comm show it."""
    buffer = ctypes.create_string_buffer(name.encode()[:15])
    check(libc.prctl(_PR_SET_NAME, buffer, 0, 0, 0), "prctl", "PR_SET_NAME", name)


def set_title(title: str) -> None:
    """Overwrite this process's command line as ps shows it; at most as long as the original.

    A forked child would otherwise show its parent's.
    """
    with open("/proc/self/stat", "rb") as stream:
        # proc_pid_stat(5): fields 48 and 49 (arg_start, arg_end), counted behind the name.
        fields = stream.read().rpartition(b")")[2].split()
    start, end = int(fields[45]), int(fields[46])
    if start and end > start:
        room = end - start
        raw = title.encode()[: room - 1].ljust(room, b"\0")
        ctypes.memmove(start, raw, room)


@functools.cache
def last_capability() -> int:
    """Return the highest capability number that the running kernel knows.

    It is read once: a process on its way into a container must not ask the container's /proc.
    """
    with open("/proc/sys/kernel/cap_last_cap") as stream:
        return int(stream.read())


def capability_numbers(names: Iterable[str]) -> frozenset[int]:
    """Translate names such as ``CAP_CHOWN`` into numbers.

    Raises:
        ValueError: a name is unknown.
    """
    try:
        return frozenset(CAPABILITIES[name] for name in names)
    except KeyError as error:
        raise ValueError(f"unknown capability {error.args[0]!r}") from None


def limit_bounding_set(keep: frozenset[int]) -> None:
    """Drop every capability but ``keep`` from the bounding set.

    Raises:
        OSError: ``EPERM`` without CAP_SETPCAP.
    """
    for number in range(last_capability() + 1):
        if number not in keep:
            _prctl(_PR_CAPBSET_DROP, "PR_CAPBSET_DROP", number)


def set_capabilities(
    effective: frozenset[int], permitted: frozenset[int], inheritable: frozenset[int]
) -> None:
    """Set this thread's capability sets by capset(2).

    Raises:
        OSError: ``EPERM`` if a set would grow.
    """
    header = _Header(_CAPABILITY_VERSION_3, 0)
    sets = (_Sets * 2)()
    for index in range(2):
        sets[index] = _Sets(
            *(_word(numbers, index) for numbers in (effective, permitted, inheritable))
        )
    syscall("capset", ctypes.byref(header), sets, operands=(sorted(permitted),))


def _word(numbers: frozenset[int], index: int) -> int:
    return sum(1 << (n - 32 * index) for n in numbers if n // 32 == index)


def set_ambient_capabilities(numbers: frozenset[int]) -> None:
    """Replace the ambient set; each must be permitted and inheritable.

    Raises:
        OSError: the kernel refused.
    """
    _prctl(_PR_CAP_AMBIENT, "PR_CAP_AMBIENT_CLEAR_ALL", _PR_CAP_AMBIENT_CLEAR_ALL)
    for number in sorted(numbers):
        _prctl(_PR_CAP_AMBIENT, "PR_CAP_AMBIENT_RAISE", _PR_CAP_AMBIENT_RAISE, number)


def close_on_exec_from(first: int) -> None:
    """Mark every descriptor from ``first`` on as close-on-exec (close_range(2), Linux 5.11).

    Raises:
        OSError: the kernel refused.
    """
    syscall(
        "close_range",
        first,
        ctypes.c_uint(0xFFFFFFFF),
        CLOSE_RANGE_CLOEXEC,
        operands=(first, "~0"),
    )


def close_from(first: int, keep: Iterable[int] = ()) -> None:
    """Close every descriptor from ``first`` on but ``keep``.

    Raises:
        OSError: the kernel refused.
    """
    start = first
    for descriptor in sorted({fd for fd in keep if fd >= first}):
        if descriptor > start:
            os.closerange(start, descriptor)
        start = descriptor + 1
    syscall("close_range", start, ctypes.c_uint(0xFFFFFFFF), 0, operands=(start, "~0"))
