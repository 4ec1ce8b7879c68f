"""The C library handle, the system call numbers, and the one check of results."""

from __future__ import annotations

import ctypes
import os

# Type checkers take this name for true; see kubeletpy_common/record.py.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

libc: Final = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
# An address, or -1: wide enough for both.
libc.mmap.restype = ctypes.c_ssize_t

# Numbers from 403 on are the same on every architecture (kernel: Documentation/process/
# adding-syscalls.rst); the older ones are not.
_OLD_NUMBERS: Final = {
    "x86_64": {"pivot_root": 155, "capset": 126, "seccomp": 317, "bpf": 321, "keyctl": 250},
    "aarch64": {"pivot_root": 41, "capset": 91, "seccomp": 277, "bpf": 280, "keyctl": 219},
}
NUMBERS: Final[dict[str, int]] = {
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "clone3": 435,
    "close_range": 436,
    "openat2": 437,
    "mount_setattr": 442,
    **_OLD_NUMBERS.get(os.uname().machine, {}),
}

AT_FDCWD: Final = -100
AT_EMPTY_PATH: Final = 0x1000
AT_RECURSIVE: Final = 0x8000

Path = str | bytes | os.PathLike[str]


def check(result: int, call: str, *operands: object) -> int:
    """Return ``result``, or raise what ``errno`` says if it is -1.

    Args:
        result: what the C function returned.
        call: the function's name, for the error text.
        operands: what it was called with, for the error text.

    Raises:
        OSError: ``result`` is -1; ``errno`` is kept, the text is ``call(operands): reason``.
    """
    if result != -1:
        return result
    number = ctypes.get_errno()
    raise failure(number, call, *operands)


def failure(number: int, call: str, *operands: object) -> OSError:
    """Build the :class:`OSError` for errno ``number`` of ``call(operands)``."""
    shown = ", ".join(os.fsdecode(o) if isinstance(o, bytes) else str(o) for o in operands)
    return OSError(number, f"{call}({shown}): {os.strerror(number)}")


def syscall(name: str, *arguments: object, operands: tuple[object, ...] = ()) -> int:
    """Make the system call ``name``.

    Args:
        name: a key of :data:`NUMBERS`.
        arguments: ctypes values or ints, passed as they are (an int as a C long).
        operands: what the error text shows.

    Raises:
        OSError: the call failed, or this architecture has no number for it (``ENOSYS``).
    """
    number = NUMBERS.get(name)
    if number is None:
        raise failure(38, name, *operands)
    passed = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return check(libc.syscall(ctypes.c_long(number), *passed), name, *operands)


def encode(path: Path | None) -> bytes | None:
    """Return ``path`` as the bytes a C function takes; None stays None.

    Raises:
        ValueError: the path holds a NUL byte, which C would read as its end.
    """
    if path is None:
        return None
    raw = os.fsencode(path)
    if b"\0" in raw:
        raise ValueError(f"path {raw!r} holds a NUL byte")
    return raw
