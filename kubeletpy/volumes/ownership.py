"""fsGroup: volumes that belong to a group of the pod (KEP-695).

Every file gets the group, and the group whatever the owner may need; directories get the
set-group-ID bit, so that what is made in them belongs to the group too. As in Go, a file that
refuses (a server that squashes root) does not fail the volume.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

_READ_WRITE = 0o660
_READ = 0o440
_ENTER = 0o110
ON_ROOT_MISMATCH = "OnRootMismatch"


def owned_mode(mode: int, *, read_only: bool) -> int:
    """Return the permission bits (``st_mode & 07777``) that a file of ``mode`` is to have (pure).

    Args:
        mode: all of ``st_mode``.
        read_only: whether containers get the volume read-only.
    """
    wanted = stat.S_IMODE(mode) | (_READ if read_only else _READ_WRITE)
    if stat.S_ISDIR(mode):
        wanted |= stat.S_ISGID | _ENTER
    return wanted


def mismatch(status: os.stat_result, group: int, *, read_only: bool) -> bool:
    """Whether the root of a volume says that its files are not the group's yet (pure)."""
    if status.st_gid != group or not stat.S_ISDIR(status.st_mode):
        return True
    return owned_mode(status.st_mode, read_only=read_only) != stat.S_IMODE(status.st_mode)


def change(path: Path, group: int | None, *, read_only: bool = False, policy: str = "") -> int:
    """Give all below ``path``, and itself last, to ``group``; return how many files refused.

    No link is followed, though a container may swap files for links meanwhile: each is opened
    first, and what is open is changed.

    Raises:
        OSError: ``path`` itself cannot be looked at.
    """
    if group is None:
        return 0
    if policy == ON_ROOT_MISMATCH and not mismatch(os.stat(path), group, read_only=read_only):
        return 0
    refused = 0
    for _, directories, files, descriptor in os.fwalk(path, topdown=False, follow_symlinks=False):
        for name in (*directories, *files):
            refused += not _change_one(name, descriptor, group, read_only)
    refused += not _change_one(str(path), None, group, read_only)
    return refused


def _change_one(name: str, directory: int | None, group: int, read_only: bool) -> bool:
    try:
        held = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    try:
        status = os.fstat(held)
        if stat.S_ISLNK(status.st_mode):
            # Never through the link: its own group only.
            os.chown(name, -1, group, dir_fd=directory, follow_symlinks=False)
            return True
        # A descriptor of O_PATH can only be changed by its name in /proc.
        shown = f"/proc/self/fd/{held}"
        if status.st_gid != group:
            os.chown(shown, -1, group)
            status = os.fstat(held)
        wanted = owned_mode(status.st_mode, read_only=read_only)
        if wanted != stat.S_IMODE(status.st_mode):
            os.chmod(shown, wanted)
    except OSError:
        return False
    finally:
        os.close(held)
    return True
