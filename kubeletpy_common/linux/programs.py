"""Programs of a few instructions, made in memory: executables without a file, a compiler, a copy.

What waits or forks in every pod need not be an interpreter, which takes a megabyte and more to
wait, and milliseconds to fork.
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
_SEALS: Final = 0x1 | 0x2 | 0x4 | 0x8  # F_SEAL_SEAL, _SHRINK, _GROW, _WRITE (fcntl(2))


def executable(code: bytes) -> bytes:
    """Return ``code`` as an ELF executable for x86-64: one segment, read and executed (elf(5))."""
    size = _HEADERS + len(code)
    identity = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = struct.pack(
        "<16sHHIQQQIHHHHHH",
        identity, 2, _X86_64, 1, _ADDRESS + _HEADERS, 64, 0, 0, 64, 56, 1, 0, 0, 0,
    )  # fmt: skip
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _ADDRESS, _ADDRESS, size, size, 0x1000)
    return header + segment + code


def sealed(name: str, image: bytes) -> int:
    """Return a descriptor of a program, in memory, that nobody can write; -1: there is none.

    There is none for other processors than x86-64, and where the kernel refuses such files (sysctl
    ``vm.memfd_noexec``). Its mode lets others execute it without reading it: a process without
    privileges that does so cannot be traced nor dumped (ptrace(2), prctl(2) PR_SET_DUMPABLE).
    """
    if os.uname().machine != "x86_64":
        return -1
    try:
        descriptor = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except OSError:
        return -1
    os.write(descriptor, image)
    os.fchmod(descriptor, 0o111)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    return descriptor
