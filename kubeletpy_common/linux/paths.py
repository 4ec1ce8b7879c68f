"""Path look-ups that cannot leave a directory: openat2(2)."""

from __future__ import annotations

import ctypes
import errno
import os

from kubeletpy_common.linux.libc import Path, encode, syscall

# Type checkers take this name for true; see kubeletpy_common/record.py.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

RESOLVE_NO_XDEV: Final = 0x01
RESOLVE_NO_MAGICLINKS: Final = 0x02
RESOLVE_NO_SYMLINKS: Final = 0x04
RESOLVE_BENEATH: Final = 0x08
RESOLVE_IN_ROOT: Final = 0x10

# openat2(2): a look-up with RESOLVE_IN_ROOT or RESOLVE_BENEATH fails with EAGAIN when the kernel
# saw a rename race on a ".."; trying again is what the manual page asks for.
_RACE_ATTEMPTS: Final = 128


class _OpenHow(ctypes.Structure):
    _fields_ = [
        ("flags", ctypes.c_uint64),
        ("mode", ctypes.c_uint64),
        ("resolve", ctypes.c_uint64),
    ]


def openat2(dirfd: int, path: Path, flags: int, mode: int = 0, resolve: int = 0) -> int:
    """Call openat2(2); the descriptor is close-on-exec.

    Args:
        dirfd: where a relative path, and the root of ``RESOLVE_IN_ROOT``, starts.
        path: what to open.
        flags: ``O_*``; unlike open(2), unknown flags are an error.
        mode: permission bits with ``O_CREAT``.
        resolve: ``RESOLVE_*``.

    Raises:
        OSError: ``EXDEV`` if the path would leave, ``ELOOP`` for refused links, and the usual.
    """
    how = _OpenHow(flags | os.O_CLOEXEC, mode, resolve)
    for attempt in range(_RACE_ATTEMPTS):
        try:
            return syscall(
                "openat2",
                dirfd,
                encode(path),
                ctypes.byref(how),
                ctypes.c_size_t(ctypes.sizeof(how)),
                operands=(dirfd, path, f"flags {flags:#o}", f"resolve {resolve:#x}"),
            )
        except OSError as error:
            if error.errno != errno.EAGAIN or attempt == _RACE_ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


def open_in_root(root_fd: int, path: Path, flags: int, mode: int = 0) -> int:
    """Open ``path`` as if ``root_fd`` were ``/``: absolute links and ``..`` stay inside.

    Raises:
        OSError: as :func:`openat2`.
    """
    return openat2(root_fd, path, flags, mode, RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS)


def open_beneath(root_fd: int, path: Path, flags: int, mode: int = 0) -> int:
    """Open ``path`` below ``root_fd``; a look-up that would leave it fails with ``EXDEV``.

    Raises:
        OSError: as :func:`openat2`.
    """
    return openat2(root_fd, path, flags, mode, RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS)


def make_directories_in_root(root_fd: int, path: Path, mode: int = 0o755) -> int:
    """Make the missing directories of ``path`` inside ``root_fd`` and open the last one.

    Existing symbolic links are followed as a process chrooted there would follow them; one whose
    target is missing is an error, for it is not ours to make what an image merely points at.

    Returns:
        an ``O_PATH`` descriptor of the directory.

    Raises:
        OSError: a component is no directory, or the kernel refused.
    """
    current = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=root_fd)
    walked = ""
    try:
        for name in os.fsdecode(path).split("/"):
            if name in ("", "."):
                continue
            walked = f"{walked}/{name}"
            following = _enter_or_make(root_fd, current, walked, name, mode)
            os.close(current)
            current = following
    except BaseException:
        os.close(current)
        raise
    return current


def _enter_or_make(root_fd: int, parent: int, walked: str, name: str, mode: int) -> int:
    flags = os.O_PATH | os.O_DIRECTORY
    try:
        return open_in_root(root_fd, walked, flags)
    except FileNotFoundError:
        try:
            os.mkdir(name, mode, dir_fd=parent)
        except FileExistsError:
            # Another one made it, or it is a dangling link: the look-up below tells.
            pass
        return open_in_root(root_fd, walked, flags)
