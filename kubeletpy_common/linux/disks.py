"""Flushing a file system: syncfs(2)."""

from __future__ import annotations

import os

from kubeletpy_common.linux.libc import Path, check, libc


def sync_filesystem(path: Path) -> None:
    """Flush the file system that holds ``path``; unlike sync(2), no other one.

    Raises:
        OSError: ``path`` cannot be opened, or something could not be written.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        check(libc.syncfs(descriptor), "syncfs", path)
    finally:
        os.close(descriptor)
