"""Small disks, and full ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kubeletpy_common.linux import mounts


@contextmanager
def small_disk(path: Path, size: int) -> Iterator[None]:
    """Mount a file system of ``size`` bytes on a new directory."""
    path.mkdir(parents=True, exist_ok=True)
    mounts.mount("small", path, "tmpfs", 0, f"size={size},mode=700")
    try:
        yield
    finally:
        mounts.umount(path, mounts.MNT_DETACH)


@contextmanager
def filled(directory: Path) -> Iterator[None]:
    """Leave no room on the disk of ``directory`` within the block."""
    ballast = directory / "ballast"
    with open(ballast, "wb", buffering=0) as stream:
        size = 1 << 20
        while size:
            try:
                stream.write(bytes(size))
            except OSError:
                size //= 2
    try:
        yield
    finally:
        ballast.unlink()
