"""A program that waits, in a few bytes: what the first process of a shared PID namespace becomes.

As an interpreter it would keep 1.6 MiB of every pod for nothing but waiting. What it has to do
besides, the kernel does for a process that ignores SIGCHLD: it reaps whoever is left to it
(wait(2), "NOTES"), and a program started by execve(2) goes on ignoring what was ignored before.
"""

from __future__ import annotations

import fcntl
import os
import struct

# Type checkers take this name for true; see kubeletpy_common/record.py.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_ADDRESS: Final = 0x400000
_HEADERS: Final = 64 + 56
_X86_64: Final = 62
_CODE: Final = (
    b"\xbf\x0f\x00\x00\x00"  # mov edi, 15: PR_SET_NAME
    b"\x48\x8d\x35\x10\x00\x00\x00"  # lea rsi, [rip + 16]: the name behind the code
    b"\xb8\x9d\x00\x00\x00"  # mov eax, 157: prctl
    b"\x0f\x05"  # syscall
    b"\xb8\x22\x00\x00\x00"  # mov eax, 34: pause
    b"\x0f\x05"  # syscall
    b"\xeb\xf7"  # jmp to the move before it
    b"pause\x00"
)
_SEALS: Final = 0x1 | 0x2 | 0x4 | 0x8  # F_SEAL_SEAL, _SHRINK, _GROW, _WRITE (fcntl(2))


def image() -> bytes:
    """Return it as an ELF executable for x86-64: one segment, read and executed (elf(5))."""
    size = _HEADERS + len(_CODE)
    identity = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        identity, 2, _X86_64, 1, _ADDRESS + _HEADERS, 64, 0, 0, 64, 56, 1, 0, 0, 0,
    )  # fmt: skip
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _ADDRESS, _ADDRESS, size, size, 0x1000)
    return header + segment + _CODE


def open_program() -> int:
    """Return a descriptor of the program, in memory, that nobody can write; -1: there is none.

    There is none for other processors, and where the kernel refuses such files (sysctl
    ``vm.memfd_noexec``). Its mode lets others execute it without reading it: a process without
    privileges that does so cannot be traced nor dumped (ptrace(2), prctl(2) PR_SET_DUMPABLE).
    """
    if os.uname().machine != "x86_64":
        return -1
    try:
        descriptor = os.memfd_create("pause", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except OSError:
        return -1
    os.write(descriptor, image())
    os.fchmod(descriptor, 0o111)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    return descriptor
