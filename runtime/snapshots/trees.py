"""Directory trees that others filled: removed and measured without trusting a name in them.

Trees may be deeper than any path the kernel takes, and containers may rename inside them while
they are measured; no look-up here follows a symbolic link.
"""

from __future__ import annotations

import errno
import os
import stat
from collections import deque
from typing import Final

from kubeletpy_common.linux.paths import RESOLVE_BENEATH, RESOLVE_NO_SYMLINKS, openat2

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_BLOCK: Final = 512
_MAX_RELATIVE: Final = 4095


def is_whiteout(found: os.stat_result) -> bool:
    """Tell whether this is overlayfs' whiteout: a character device 0/0."""
    return stat.S_ISCHR(found.st_mode) and found.st_rdev == 0


def remove_entry(parent: int, name: bytes | str) -> None:
    """Remove a file or a whole directory; idempotent.

    Directories found inside are first moved up, beside each other, and then emptied one by one:
    neither recursion, nor descriptors, nor paths grow with the depth.

    Args:
        parent: descriptor of the directory that holds ``name``.
        name: one component.

    Raises:
        OSError: the kernel refused.
    """
    try:
        found = os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(found.st_mode):
        os.unlink(name, dir_fd=parent)
        return
    top = os.open(name, _DIRECTORY, dir_fd=parent)
    try:
        _empty(top)
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=parent)


def _empty(top: int) -> None:
    while True:
        try:
            _empty_by_moving(top)
            return
        except OSError as error:
            # On a full disk there is no room for a new directory before something else is gone.
            if error.errno not in (errno.ENOSPC, errno.EDQUOT) or not _remove_something(top):
                raise


def _remove_something(top: int) -> bool:
    """Remove the files of one directory below ``top``, or an empty directory.

    Returns:
        whether there was any.
    """
    upper, lower, name = os.dup(top), os.dup(top), ""
    try:
        while True:
            with os.scandir(lower) as entries:
                found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
            files = [each for each, is_directory in found if not is_directory]
            for each in files:
                os.unlink(each, dir_fd=lower)
            if files:
                return True
            if not found:
                if not name:
                    return False
                os.rmdir(name, dir_fd=upper)
                return True
            name = found[0][0]
            os.chmod(name, 0o700, dir_fd=lower)
            os.close(upper)
            upper, lower = lower, -1
            lower = os.open(name, _DIRECTORY, dir_fd=upper)
    finally:
        os.close(upper)
        if lower >= 0:
            os.close(lower)


def _empty_by_moving(top: int) -> None:
    # The names of moved directories must not meet names that are there: they get a fresh home.
    home_name = _free_name(top)
    os.mkdir(home_name, 0o700, dir_fd=top)
    home = os.open(home_name, _DIRECTORY, dir_fd=top)
    try:
        moved = _strip(top, home, 0, skip=home_name)
        emptied = 0
        while emptied < moved:
            directory = os.open(str(emptied), _DIRECTORY, dir_fd=home)
            try:
                moved = _strip(directory, home, moved)
            finally:
                os.close(directory)
            os.rmdir(str(emptied), dir_fd=home)
            emptied += 1
    finally:
        os.close(home)
    os.rmdir(home_name, dir_fd=top)


def _free_name(directory: int) -> str:
    number = 0
    while True:
        name = f".removing-{number}"
        try:
            os.stat(name, dir_fd=directory, follow_symlinks=False)
        except FileNotFoundError:
            return name
        number += 1


def _strip(directory: int, home: int, moved: int, skip: str = "") -> int:
    """Unlink the files of ``directory`` and move its directories to ``home``."""
    with os.scandir(directory) as entries:
        found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
    for name, is_directory in found:
        if name == skip:
            continue
        if not is_directory:
            os.unlink(name, dir_fd=directory)
            continue
        # Renaming a directory writes its "..", which needs write permission on it.
        os.chmod(name, 0o700, dir_fd=directory)
        os.rename(name, str(moved), src_dir_fd=directory, dst_dir_fd=home)
        moved += 1
    return moved


def usage(root: str | os.PathLike[str]) -> tuple[int, int]:
    """Return the bytes on disk and the inodes of a tree, each hard-linked file once.

    What vanishes meanwhile, and what lies deeper than a path can name, is not counted.

    Raises:
        OSError: ``root`` cannot be opened.
    """
    total, inodes = 0, 0
    linked: set[tuple[int, int]] = set()
    root_fd = os.open(root, _DIRECTORY)
    try:
        todo: deque[bytes] = deque([b"."])
        while todo:
            path = todo.pop()
            if len(path) > _MAX_RELATIVE:
                continue
            try:
                resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS
                directory = openat2(root_fd, path, os.O_RDONLY | os.O_DIRECTORY, 0, resolve)
            except OSError:
                continue
            try:
                own = os.fstat(directory)
                total, inodes = total + own.st_blocks * _BLOCK, inodes + 1
                for name in os.listdir(directory):
                    found = _lstat(directory, name)
                    if found is None:
                        continue
                    if stat.S_ISDIR(found.st_mode):
                        todo.append(path + b"/" + os.fsencode(name))
                        continue
                    key = (found.st_dev, found.st_ino)
                    if found.st_nlink > 1 and key in linked:
                        continue
                    if found.st_nlink > 1:
                        linked.add(key)
                    total, inodes = total + found.st_blocks * _BLOCK, inodes + 1
            finally:
                os.close(directory)
    finally:
        os.close(root_fd)
    return total, inodes


def _lstat(directory: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None
