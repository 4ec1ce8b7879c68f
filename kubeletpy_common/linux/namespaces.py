"""Namespaces: unshare(2), setns(2), and visits of a thread to a network namespace."""

from __future__ import annotations

import os
from contextlib import contextmanager

from kubeletpy_common.linux.libc import Path, check, libc

# Type checkers take this name for true; see kubeletpy_common/record.py.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Final

CLONE_NEWTIME: Final = 0x00000080
CLONE_NEWNS: Final = 0x00020000
CLONE_NEWCGROUP: Final = 0x02000000
CLONE_NEWUTS: Final = 0x04000000
CLONE_NEWIPC: Final = 0x08000000
CLONE_NEWUSER: Final = 0x10000000
CLONE_NEWPID: Final = 0x20000000
CLONE_NEWNET: Final = 0x40000000


def unshare(flags: int) -> None:
    """Move the calling thread into new namespaces (``CLONE_NEWPID``: only its later children).

    Raises:
        OSError: the kernel refused.
    """
    check(libc.unshare(flags), "unshare", f"{flags:#x}")


def setns(fd: int, nstype: int = 0) -> None:
    """Move the calling thread into the namespace ``fd``, or those of a pidfd named by ``nstype``.

    Raises:
        OSError: the kernel refused.
    """
    check(libc.setns(fd, nstype), "setns", fd, f"{nstype:#x}")


def enter(path: Path, nstype: int) -> None:
    """Move the calling thread into the namespace pinned at ``path``.

    Raises:
        OSError: the path is gone, is no namespace of that type, or the kernel refused.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        check(libc.setns(fd, nstype), "setns", path, f"{nstype:#x}")
    finally:
        os.close(fd)


@contextmanager
def in_namespace(path: Path, nstype: int = CLONE_NEWNET) -> Iterator[None]:
    """Visit the network namespace at ``path`` in this thread, and come back after.

    Sockets made inside keep belonging to it. No other thread is affected. The block must not
    await: the event loop's thread would serve others from within the namespace.

    Raises:
        OSError: the namespace cannot be entered.
    """
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter(path, nstype)
        try:
            yield
        finally:
            setns(home, nstype)
    finally:
        os.close(home)
