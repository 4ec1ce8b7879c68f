"""How much space a directory takes, without a fork and without trusting what lies in it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from kubeletpy_common.linux.paths import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2

from .usage import Disk

_BLOCK = 512
_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_STRICT = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS
_LONGEST = 2000
"""Characters of a relative path (the kernel takes 4095) after which a look-up begins anew."""


def tree_usage(directory: Path | str) -> Disk:
    """Return bytes and inodes of a directory and all below it, on its own file system.

    A file with several names counts once. Links are never followed, mounts are not entered, and
    however deep a pod nests, everything is counted. What vanishes meanwhile is no error.

    Args:
        directory: a path; one that does not exist takes nothing.

    Raises:
        OSError: the directory itself cannot be opened.
    """
    try:
        root = os.open(directory, _FLAGS & ~os.O_NOFOLLOW)
    except FileNotFoundError:
        return Disk()
    tally = _Tally(os.fstat(root))
    # (base, path below it); ("", base) closes a base again once all below it is done.
    pending: list[tuple[int, str]] = [(root, ""), (root, ".")]
    while pending:
        base, path = pending.pop()
        if not path:
            os.close(base)
            continue
        try:
            descriptor = openat2(base, path, _FLAGS, resolve=_STRICT)
        except OSError:
            continue
        try:
            below = os.listdir(descriptor)
            inner = base
            if len(path) > _LONGEST:
                inner, path = os.dup(descriptor), "."
                pending.append((inner, ""))
            for name in below:
                if tally.add(_look(descriptor, name)):
                    pending.append((inner, name if path == "." else f"{path}/{name}"))
        except OSError:
            continue
        finally:
            os.close(descriptor)
    return Disk(tally.blocks * _BLOCK, tally.inodes)


class _Tally:
    """Adds up what is found below a directory, itself included."""

    def __init__(self, top: os.stat_result) -> None:
        self._device = top.st_dev
        self._seen: set[int] = set()
        self.blocks, self.inodes = top.st_blocks, 1

    def add(self, found: os.stat_result | None) -> bool:
        """Count an entry once; return whether it is a directory to look into."""
        if found is None or found.st_dev != self._device:
            return False
        directory = stat.S_ISDIR(found.st_mode)
        if found.st_nlink > 1 and not directory:
            if found.st_ino in self._seen:
                return False
            self._seen.add(found.st_ino)
        self.blocks += found.st_blocks
        self.inodes += 1
        return directory


def file_usage(path: Path | str) -> Disk:
    """Return bytes and inodes of one file; one that does not exist takes nothing."""
    try:
        found = os.lstat(path)
    except OSError:
        return Disk()
    return Disk(found.st_blocks * _BLOCK, 1)


def _look(descriptor: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=descriptor, follow_symlinks=False)
    except OSError:
        return None
