"""Loading a compiled system call filter into the calling process: seccomp(2)."""

from __future__ import annotations

import ctypes

from kubeletpy_common.linux.libc import syscall

# Type checkers take this name for true; see kubeletpy_common/record.py.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

SECCOMP_SET_MODE_FILTER: Final = 1
INSTRUCTION_SIZE: Final = 8
"""Bytes of ``struct sock_filter``."""
MAX_INSTRUCTIONS: Final = 4096
"""The kernel's limit of one program, ``BPF_MAXINSNS``."""

# seccomp(2); the names are those of the OCI runtime specification.
FILTER_FLAGS: Final = {
    "SECCOMP_FILTER_FLAG_TSYNC": 1,
    "SECCOMP_FILTER_FLAG_LOG": 2,
    "SECCOMP_FILTER_FLAG_SPEC_ALLOW": 4,
}


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def load_filter(program: bytes, flags: int = 0) -> None:
    """Have the kernel filter the system calls of this process and all that come of it, for good.

    Args:
        program: ``struct sock_filter`` after ``struct sock_filter``.
        flags: values of :data:`FILTER_FLAGS`.

    Raises:
        OSError: ``EACCES`` without CAP_SYS_ADMIN and no_new_privs, ``EINVAL`` for a bad program.
        ValueError: its size is no multiple of an instruction's.
    """
    count, rest = divmod(len(program), INSTRUCTION_SIZE)
    if rest or not 0 < count <= MAX_INSTRUCTIONS:
        raise ValueError(f"seccomp program of {len(program)} bytes is damaged")
    fprog = _Program(count, program)
    syscall(
        "seccomp",
        SECCOMP_SET_MODE_FILTER,
        flags,
        ctypes.byref(fprog),
        operands=(f"{count} instructions", f"flags {flags:#x}"),
    )
