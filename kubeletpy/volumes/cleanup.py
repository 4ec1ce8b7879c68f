"""Removing a pod's directory: never over a mount point, never through a symbolic link.

A pod may have left anything in its volumes: links to the node's files, and mounts whose unmount
failed (CVE-2017-1002102). Every step goes by descriptors from the directory down, and openat2
with RESOLVE_NO_XDEV refuses to enter what is mounted, bind mounts of the same file system too.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from pathlib import Path

from kubeletpy_common.linux import mounts
from kubeletpy_common.linux.paths import (
    RESOLVE_BENEATH,
    RESOLVE_NO_SYMLINKS,
    RESOLVE_NO_XDEV,
    openat2,
)

from . import mountinfo
from .errors import VolumeError

_ENTER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_DEEPEST = 100
_STRICT = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV


def unmount_below(directory: Path) -> None:
    """Unmount all mounts at or below ``directory``, deepest first; none is fine.

    Raises:
        VolumeError: one is busy, or the kernel refused.
    """
    for mount in mountinfo.below(directory):
        try:
            mounts.umount(mount.path, mounts.UMOUNT_NOFOLLOW)
        except OSError as error:
            # EINVAL: it went with its parent, or another one was faster.
            if error.errno not in (errno.EINVAL, errno.ENOENT):
                raise VolumeError(
                    "", f"{error}; a process may still have files open below {mount.path}"
                ) from error


def remove_tree(directory: Path) -> None:
    """Remove ``directory`` and all below it; one that is gone is fine.

    Raises:
        VolumeError: something is mounted below it (nothing behind the mount is touched), or the
            kernel refused.
    """
    try:
        parent = os.open(directory.parent, _ENTER & ~os.O_NOFOLLOW)
    except FileNotFoundError:
        return
    try:
        _remove_entry(parent, directory.name, str(directory))
    finally:
        os.close(parent)


def _remove_entry(parent: int, name: str, shown: str) -> None:
    """Remove one entry with all below it, without recursion in Python (depth is the pod's)."""
    pending: list[tuple[int, str, list[str]]] = []
    try:
        opened = _open_or_unlink(parent, name, shown)
        if opened is None:
            return
        pending.append((opened, shown, os.listdir(opened)))
        while pending:
            directory, path, names = pending[-1]
            if names:
                entry = names.pop()
                below = f"{path}/{entry}"
                child = _open_or_unlink(directory, entry, below)
                if child is None:
                    continue
                if len(pending) < _DEEPEST:
                    pending.append((child, below, os.listdir(child)))
                    continue
                # A descriptor is held for each level; what lies deeper is hung up at the top.
                os.close(child)
                raised = f"..deep-{secrets.token_hex(8)}"
                os.rename(entry, raised, src_dir_fd=directory, dst_dir_fd=pending[0][0])
                pending[0][2].append(raised)
                continue
            os.close(directory)
            pending.pop()
            above = pending[-1][0] if pending else parent
            _rmdir(above, os.path.basename(path), path)
    finally:
        for directory, _, _ in pending:
            os.close(directory)


def _open_or_unlink(parent: int, name: str, shown: str) -> int | None:
    """Open a directory, or unlink what is none (None)."""
    try:
        status = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            return openat2(parent, name, _ENTER, resolve=_STRICT)
        os.unlink(name, dir_fd=parent)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno in (errno.EXDEV, errno.EBUSY):
            raise VolumeError(
                "", f"{shown} is a mount point: not removed, nor anything behind it"
            ) from error
        raise VolumeError("", f"remove {shown}: {error}") from error
    return None


def _rmdir(parent: int, name: str, shown: str) -> None:
    try:
        os.rmdir(name, dir_fd=parent)
    except FileNotFoundError:
        return
    except OSError as error:
        raise VolumeError("", f"remove {shown}: {error}") from error
