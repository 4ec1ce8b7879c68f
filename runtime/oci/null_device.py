"""The null device as containers get hold of it: by read-only mounts, so that it stays as it is.

A process whose standard input is the host's /dev/null, or that sees it behind a masked path, holds
the host's own inode. As root it could change that one's mode or owner, and every program of the
node would fail. Through a read-only mount nothing of an inode can be changed (EROFS), while reading
and writing a device do not count as changes of its file system.
"""

from __future__ import annotations

import functools
import os
import stat

from kubeletpy_common.linux import mounts as m
from kubeletpy_common.linux.libc import AT_EMPTY_PATH, AT_FDCWD

# Type checkers take this name for true; see kubeletpy_common/record.py.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_NUMBER: Final = os.makedev(1, 3)


def open_null(flags: int) -> int:
    """Open the null device for a container's process; the descriptor is close-on-exec.

    Args:
        flags: ``O_RDONLY`` or ``O_RDWR``.

    Raises:
        OSError: the kernel refused, or /dev/null of the host is something else.
    """
    return os.open(f"/proc/self/fd/{_read_only_mount()}", flags | os.O_CLOEXEC)


def clone_null(path_fd: int) -> int:
    """Return a detached read-only mount of the null device ``path_fd``, to be attached somewhere.

    Raises:
        OSError: the kernel refused, or it is something else.
    """
    facts = os.fstat(path_fd)
    if not stat.S_ISCHR(facts.st_mode) or facts.st_rdev != _NUMBER:
        raise OSError("/dev/null of the host is not the null device (character device 1:3)")
    mount_fd = m.open_tree(path_fd, "", m.OPEN_TREE_CLONE | AT_EMPTY_PATH)
    m.set_mount_attributes(mount_fd, attr_set=m.MOUNT_ATTR_RDONLY)
    return mount_fd


@functools.cache
def _read_only_mount() -> int:
    # One for each shim, whose children close it with everything else that is not theirs.
    path_fd = m.open_tree(AT_FDCWD, "/dev/null", 0)
    try:
        return clone_null(path_fd)
    finally:
        os.close(path_fd)
