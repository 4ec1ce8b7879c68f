"""What a process is and may do: prctl(2), capabilities(7), descriptors, signals."""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import signal
import struct

from kubeletpy_common.linux.libc import NUMBERS, Path, check, libc, syscall

# Type checkers take this name for true; see kubeletpy_common/record.py.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final

PR_SET_PDEATHSIG: Final = 1
PR_SET_DUMPABLE: Final = 4
PR_SET_KEEPCAPS: Final = 8
PR_CAPBSET_DROP: Final = 24
_PR_SET_SECUREBITS: Final = 28
# capabilities(7): SECBIT_NO_SETUID_FIXUP
_NO_SETUID_FIXUP: Final = 1 << 2
_PR_SET_CHILD_SUBREAPER: Final = 36
PR_SET_NO_NEW_PRIVS: Final = 38
PR_CAP_AMBIENT: Final = 47
PR_CAP_AMBIENT_RAISE: Final = 2
PR_CAP_AMBIENT_CLEAR_ALL: Final = 4
# keyctl(2)
KEYCTL_JOIN_SESSION_KEYRING: Final = 1

CLOSE_RANGE_CLOEXEC: Final = 4
_PROT_READ: Final = 1
_MAP_SHARED: Final = 1

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


def _prctl(option: int, name: str, *arguments: int) -> int:
    padded = [ctypes.c_ulong(a) for a in (*arguments, 0, 0, 0, 0)[:4]]
    return check(libc.prctl(option, *padded), "prctl", name, *arguments)


class _CloneArguments(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_uint64)
        for name in (
            "flags", "pidfd", "child_tid", "parent_tid", "exit_signal", "stack", "stack_size",
            "tls", "set_tid", "set_tid_size", "cgroup",
        )
    ]  # fmt: skip


_CLONE_INTO_CGROUP: Final = 0x200000000
# Keeps the interpreter's lock during the call: the child must find it as the parent left it.
_locked_libc: Final = ctypes.PyDLL(None, use_errno=True)
_locked_libc.syscall.restype = ctypes.c_long


def fork_into_cgroup(directory: Path) -> int:
    """Fork by clone3(2), the child being born in a cgroup of version 2.

    Moving a process there afterwards takes a lock that waits for every other fork and exit of the
    machine: 11 ms where measured. Only a process with a single thread may call this:
    nothing of what os.fork() repairs in the child is repaired, and there nothing needs it.

    Returns:
        0 in the child, its process id in the parent.

    Raises:
        OSError: the cgroup is gone or full, or the kernel is older than 5.7.
    """
    cgroup = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        arguments = _CloneArguments()
        arguments.flags = _CLONE_INTO_CGROUP
        arguments.exit_signal = signal.SIGCHLD
        arguments.cgroup = cgroup
        size = ctypes.c_size_t(ctypes.sizeof(arguments))
        number = ctypes.c_long(NUMBERS["clone3"])
        result = _locked_libc.syscall(number, ctypes.byref(arguments), size)
        return check(result, "clone3", f"into the cgroup {os.fspath(directory)!r}")
    finally:
        os.close(cgroup)


def set_parent_death_signal(number: int) -> None:
    """Have the kernel send signal ``number`` to this process when its parent dies (0: none)."""
    _prctl(PR_SET_PDEATHSIG, "PR_SET_PDEATHSIG", number)


def set_dumpable(dumpable: bool) -> None:
    """Allow or forbid that others of the same user trace this process or open its /proc files."""
    _prctl(PR_SET_DUMPABLE, "PR_SET_DUMPABLE", int(dumpable))


def set_child_subreaper() -> None:
    """Make this process the parent of its orphaned descendants."""
    _prctl(_PR_SET_CHILD_SUBREAPER, "PR_SET_CHILD_SUBREAPER", 1)


def join_new_session_keyring() -> None:
    """Begin a session keyring of one's own, empty (keyrings(7)), instead of the inherited one.

    A kernel without keyrings, or a filter that forbids them here and in all children, has none to
    share.

    Raises:
        OSError: ``EDQUOT`` if the user's quota of keys is used up.
    """
    try:
        syscall("keyctl", KEYCTL_JOIN_SESSION_KEYRING, 0, operands=("new session",))
    except OSError as error:
        if error.errno not in (errno.ENOSYS, errno.EPERM):
            raise


def set_no_new_privs() -> None:
    """Forbid this process, for good, to gain privileges by execve (setuid, file capabilities)."""
    _prctl(PR_SET_NO_NEW_PRIVS, "PR_SET_NO_NEW_PRIVS", 1)


def set_keep_capabilities(keep: bool) -> None:
    """Keep the permitted capabilities over the next change of user from root to another."""
    _prctl(PR_SET_KEEPCAPS, "PR_SET_KEEPCAPS", int(keep))


def keep_capabilities_over_setuid() -> None:
    """Leave all capability sets alone when user ids change, until a user namespace is entered.

    Raises:
        OSError: ``EPERM`` without CAP_SETPCAP.
    """
    _prctl(_PR_SET_SECUREBITS, "PR_SET_SECUREBITS", _NO_SETUID_FIXUP)


def title_room() -> tuple[int, int]:
    """Return where the kernel finds this process's command line: address and size in bytes.

    Both are the same in every forked child.
    """
    with open("/proc/self/stat", "rb") as stream:
        # proc_pid_stat(5): fields 48 and 49 (arg_start, arg_end), counted behind the name.
        fields = stream.read().rpartition(b")")[2].split()
    return int(fields[45]), int(fields[46]) - int(fields[45])


def set_title(name: str, title: str, room: tuple[int, int]) -> None:
    """Change what ps and top show of this process; a forked child would show its parent's.

    Written by files and not by prctl(2), which takes more of a shim's memory.

    Args:
        name: of the thread, 15 bytes at most.
        title: of the command line, cut to its room.
        room: from :func:`title_room`.
    """
    start, size = room
    comm = os.open("/proc/self/comm", os.O_WRONLY | os.O_CLOEXEC)
    os.write(comm, name.encode())
    os.close(comm)
    memory = os.open("/proc/self/mem", os.O_WRONLY | os.O_CLOEXEC)
    os.pwrite(memory, title.encode()[: size - 1].ljust(size, b"\0"), start)
    os.close(memory)


def keep_mapped(path: Path) -> None:
    """Have a file shown in this process's /proc/self/maps, and in those of what it forks.

    Nothing of it is read, no descriptor stays, and execve(2) ends it.

    Raises:
        OSError: it cannot be opened or mapped.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        offset = ctypes.c_long(0)
        check(libc.mmap(None, ctypes.c_size_t(1), _PROT_READ, _MAP_SHARED, descriptor, offset),
              "mmap", path)  # fmt: skip
    finally:
        os.close(descriptor)


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
    drop_from_bounding_set(n for n in range(last_capability() + 1) if n not in keep)


def drop_from_bounding_set(numbers: Iterable[int]) -> None:
    """Drop capabilities from the bounding set.

    Raises:
        OSError: ``EPERM`` without CAP_SETPCAP.
    """
    for number in numbers:
        _prctl(PR_CAPBSET_DROP, "PR_CAPBSET_DROP", number)


def set_capabilities(
    effective: frozenset[int], permitted: frozenset[int], inheritable: frozenset[int]
) -> None:
    """Set this thread's capability sets by capset(2).

    Raises:
        OSError: ``EPERM`` if a set would grow.
    """
    header, sets = capability_structures(effective, permitted, inheritable)
    syscall("capset", header, sets, operands=(sorted(permitted),))


def capability_structures(
    effective: frozenset[int], permitted: frozenset[int], inheritable: frozenset[int]
) -> tuple[bytes, bytes]:
    """Return what capset(2) takes: its header, for the calling thread, and the sets."""
    header = struct.pack("=Ii", _CAPABILITY_VERSION_3, 0)
    each = (effective, permitted, inheritable)
    words = (_word(numbers, index) for index in range(2) for numbers in each)
    return header, struct.pack("=6I", *words)


def _word(numbers: frozenset[int], index: int) -> int:
    return sum(1 << (n - 32 * index) for n in numbers if n // 32 == index)


def set_ambient_capabilities(numbers: frozenset[int]) -> None:
    """Replace the ambient set; each must be permitted and inheritable.

    Raises:
        OSError: the kernel refused.
    """
    _prctl(PR_CAP_AMBIENT, "PR_CAP_AMBIENT_CLEAR_ALL", PR_CAP_AMBIENT_CLEAR_ALL)
    for number in sorted(numbers):
        _prctl(PR_CAP_AMBIENT, "PR_CAP_AMBIENT_RAISE", PR_CAP_AMBIENT_RAISE, number)


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
