"""Room on the disk of the image store: what is left, in words, and a reserve for the worst case.

On a disk that is wholly full not even an image can be removed: the database writes before it
forgets. So some room is set aside while there is any, and given free before things are removed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

RESERVE_BYTES: Final = 1 << 20
RESERVE_FILES: Final = 4
_SCARCE_BYTES: Final = 4 * RESERVE_BYTES
_SCARCE_FILES: Final = 64
_SHARE: Final = 8
"""The reserve is made only where this many times its size is free."""


def describe(path: Path) -> str:
    """Return how full the file system of ``path`` is and what to do about it, for an error."""
    while True:
        try:
            found = os.statvfs(path)
            break
        except FileNotFoundError:
            path = path.parent
        except OSError:
            return "free space on the disk of the image store"
    free = found.f_bavail * found.f_frsize
    lacking = "inodes" if found.f_files and not found.f_favail else "space"
    return (
        f"the disk of the image store ({path}) has {free} bytes and {found.f_favail} inodes left; "
        f"free {lacking} on it: remove images that nobody needs, or enlarge it"
    )


def is_full(path: Path) -> bool:
    """Tell whether the file system of ``path`` has no room, or no inode, left."""
    try:
        found = os.statvfs(path)
    except OSError:
        return False
    return found.f_bavail * found.f_frsize < 64 << 10 or bool(found.f_files and not found.f_favail)


class Reserve:
    """A directory of files whose only purpose is to be removed when the disk is full."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def fill(self) -> None:
        """Set room aside, if there is enough of it; never fails."""
        with suppress(OSError):
            self._directory.mkdir(mode=0o700, exist_ok=True)
            found = os.statvfs(self._directory)
            if not found.f_files or found.f_favail >= _SHARE * RESERVE_FILES:
                for number in range(RESERVE_FILES):
                    path = self._directory / f"inode{number}"
                    if not path.exists():
                        path.touch(mode=0o600)
            bulk = self._directory / "bytes"
            if found.f_bavail * found.f_frsize >= _SHARE * RESERVE_BYTES and not bulk.exists():
                descriptor = os.open(bulk, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
                try:
                    os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
                finally:
                    os.close(descriptor)

    def release(self) -> None:
        """Give the room free; never fails."""
        with suppress(OSError):
            for entry in os.scandir(self._directory):
                with suppress(OSError):
                    os.unlink(entry.path)

    def _is_scarce(self) -> bool:
        try:
            found = os.statvfs(self._directory.parent)
        except OSError:
            return False
        if found.f_bavail * found.f_frsize < _SCARCE_BYTES:
            return True
        # Some file systems do not count inodes: they say 0 of 0.
        return bool(found.f_files) and found.f_favail < _SCARCE_FILES

    @contextmanager
    def given_free(self) -> Iterator[None]:
        """Give the room free for the time of the body if the disk is nearly full."""
        if self._is_scarce():
            self.release()
        try:
            yield
        finally:
            self.fill()
