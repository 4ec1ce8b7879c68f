"""Which file systems can hold the upper directory of an overlay: what a container writes to.

Source: Documentation/filesystems/overlayfs.rst, "Upper and Lower": an upper file system has
``trusted.*`` attributes and tells the type of a directory's entries.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

NO_UPPER_DIRECTORY: Final = {
    "overlay": "overlayfs is not put on overlayfs (this is a container's own file system?)",
    "nfs": "NFS keeps no trusted.* attributes",
    "nfs4": "NFS keeps no trusted.* attributes",
    "cifs": "SMB keeps no trusted.* attributes",
    "smb3": "SMB keeps no trusted.* attributes",
    "9p": "9p keeps no trusted.* attributes",
    "vfat": "FAT keeps neither owners nor attributes",
    "exfat": "exFAT keeps neither owners nor attributes",
    "ntfs3": "NTFS keeps no trusted.* attributes",
    "ecryptfs": "the kernel refuses it",
    "squashfs": "it is read-only",
    "iso9660": "it is read-only",
    "erofs": "it is read-only",
}
"""Kinds of file systems that cannot, and why."""


def kind_of(path: Path) -> str:
    """Return the kind of the file system that ``path`` is on, or will be made on.

    It is "" where the kernel's list of mounts does not tell, as of btrfs, which can.

    Raises:
        OSError: the path cannot be looked at.
    """
    real = Path(os.path.realpath(path))
    while not real.exists() and real != real.parent:
        real = real.parent
    return kind_of_device(os.stat(real).st_dev, Path("/proc/self/mountinfo").read_text())


def kind_of_device(device: int, mountinfo: str) -> str:
    """Return the kind of the file system with a device number, "" if it is not there (pure)."""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        if left.split(" ")[2:3] == [wanted]:
            return right.split(" ")[0]
    return ""
