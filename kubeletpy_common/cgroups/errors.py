"""What went wrong with a cgroup: which file, which value, why, and what to do about it."""

from __future__ import annotations

import errno
import os
from typing import Final

_REMEDIES: Final = {
    errno.EACCES: "run as root, outside a container that mounts cgroups read-only",
    errno.EPERM: "run as root, with CAP_SYS_ADMIN; a parent cgroup may forbid this value",
    errno.EROFS: "mount the cgroup file system read-write (`mount -o remount,rw`)",
    errno.EINVAL: "the value is malformed, or out of what the parent cgroup allows",
    errno.ERANGE: "the value is out of the range that the kernel takes",
    errno.ENOSPC: "the parent cgroup has no CPU or memory node to give (cpuset)",
}


class CgroupError(OSError):
    """A cgroup cannot be made, limited, read, emptied or removed.

    ``errno`` is the kernel's (or the nearest one for what we refuse ourselves), ``filename`` the
    cgroup directory or file. The text says what was tried, why it failed and what to do.
    """

    def __init__(self, number: int, path: object, action: str, reason: str = "", remedy: str = ""):
        reason = reason or os.strerror(number)
        remedy = remedy or _REMEDIES.get(number, "")
        text = f"{action}: {reason}" + (f"; {remedy}" if remedy else "")
        super().__init__(number, text)
        self.filename = str(path)
        self.reason = reason
        self.remedy = remedy

    def __str__(self) -> str:
        return f"cgroup {self.filename}: {self.args[1]}"


def missing(error: OSError) -> bool:
    """Tell whether ``error`` means that the file or the whole cgroup is not there.

    ENODEV is what kernfs says to a reader whose cgroup was removed after the open; EOPNOTSUPP is
    what pressure files say where PSI is switched off.
    """
    return error.errno in (errno.ENOENT, errno.ENODEV, errno.EOPNOTSUPP, errno.ENOTDIR)
