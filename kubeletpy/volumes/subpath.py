"""subPath: a path inside a volume, bound to a place of its own before it is mounted.

A container may swap any component of the path for a link, at any time (CVE-2017-1002101,
CVE-2021-25741). So the path is resolved once, by openat2 with RESOLVE_BENEATH; what that
descriptor holds is cloned and attached by descriptor, and the runtime is given the clone's path,
on which no container has a hand.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from kubeletpy_common.linux import mounts
from kubeletpy_common.linux.libc import AT_EMPTY_PATH
from kubeletpy_common.linux.paths import open_beneath

from . import mountinfo
from .errors import VolumeError

_HOLD = os.O_PATH | os.O_CLOEXEC


def prepare(volume: str, volume_path: str, sub_path: str, target: Path) -> str:
    """Bind ``sub_path`` of the volume at ``target`` and return it; missing directories are made.

    Called anew (a container restarts), it keeps the mount if it shows the same inode, else
    replaces it.

    Raises:
        VolumeError: the path leaves the volume, or the kernel refused.
    """
    try:
        source = _open(volume_path, sub_path)
    except OSError as error:
        raise VolumeError(
            volume,
            f"subPath {sub_path!r} cannot be opened inside the volume: {error} (it must not "
            "leave the volume, also not by symbolic links)",
        ) from error
    try:
        _bind(source, target)
    except OSError as error:
        raise VolumeError(volume, f"subPath {sub_path!r} cannot be bound: {error}") from error
    finally:
        os.close(source)
    return str(target)


def _open(volume_path: str, sub_path: str) -> int:
    """Return a descriptor (O_PATH) of the path beneath the volume."""
    root = os.open(volume_path, _HOLD | os.O_DIRECTORY)
    try:
        mode = stat.S_IMODE(os.fstat(root).st_mode)
        parts = [part for part in sub_path.split("/") if part not in ("", ".")]
        current, walked = os.open(".", _HOLD | os.O_DIRECTORY, dir_fd=root), ""
        for part in parts:
            walked = f"{walked}/{part}".lstrip("/")
            try:
                following = _enter(root, current, walked, part, mode)
            finally:
                os.close(current)
            current = following
        return current
    finally:
        os.close(root)


def _enter(root: int, parent: int, walked: str, name: str, mode: int) -> int:
    try:
        return open_beneath(root, walked, _HOLD)
    except FileNotFoundError:
        try:
            os.mkdir(name, 0o700, dir_fd=parent)
        except FileExistsError:
            # A dangling link: its target is not ours to make.
            return open_beneath(root, walked, _HOLD)
    # As the volume itself, so that whoever may write there may write here.
    made = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=parent)
    try:
        status = os.fstat(root)
        os.fchown(made, status.st_uid, status.st_gid)
        os.fchmod(made, mode)
    finally:
        os.close(made)
    return open_beneath(root, walked, _HOLD)


def _bind(source: int, target: Path) -> None:
    wanted = os.fstat(source)
    target.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    if mountinfo.mounted_at(target) is not None:
        shown = target.stat()
        if (shown.st_dev, shown.st_ino) == (wanted.st_dev, wanted.st_ino):
            return
        mounts.umount(target, mounts.UMOUNT_NOFOLLOW | mounts.MNT_DETACH)
    _make_place(target, directory=stat.S_ISDIR(wanted.st_mode))
    place = os.open(target, _HOLD | os.O_NOFOLLOW)
    try:
        clone = mounts.open_tree(source, "", mounts.OPEN_TREE_CLONE | AT_EMPTY_PATH)
        try:
            mounts.attach(clone, place)
        finally:
            os.close(clone)
    finally:
        os.close(place)


def _make_place(target: Path, *, directory: bool) -> None:
    if target.exists() and target.is_dir() != directory:
        target.rmdir() if target.is_dir() else target.unlink()
    if directory:
        target.mkdir(mode=0o750, exist_ok=True)
    else:
        target.touch(mode=0o640)
