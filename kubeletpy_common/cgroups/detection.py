"""Which cgroups this machine has, and what of them is missing."""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kubeletpy_common.cgroups.base import Hierarchy
from kubeletpy_common.cgroups.errors import CgroupError
from kubeletpy_common.cgroups.v1 import cgroup as v1
from kubeletpy_common.cgroups.v2 import cgroup as v2

_OCTAL: Final = re.compile(r"\\([0-7]{3})")
_NAMED: Final = "name=systemd"


@dataclass(frozen=True)
class Mount:
    """A mounted cgroup file system: where, ``cgroup`` or ``cgroup2``, and its options."""

    path: Path
    kind: str
    options: frozenset[str]


@dataclass(frozen=True)
class Missing:
    """A controller that the node needs and does not find, and how to get it."""

    name: str
    remedy: str


def detect(mountpoint: str | os.PathLike[str] = "/sys/fs/cgroup") -> Hierarchy:
    """Find the cgroups mounted at or below ``mountpoint``.

    On a hybrid machine (v1 with v2 in a directory beside it) the controllers are those of v1.

    Raises:
        CgroupError: (ENOENT) there are none; the text says how to mount them.
    """
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        return choose(Path(mountpoint), cgroup_mounts(file.read()))


def cgroup_mounts(mountinfo: str) -> list[Mount]:
    """Return the cgroup file systems in the text of ``/proc/<pid>/mountinfo`` (pure; proc(5))."""
    found: dict[Path, Mount] = {}
    for line in mountinfo.splitlines():
        words = line.split(" ")
        if "-" not in words or len(words) < words.index("-") + 4:
            continue
        kind, _, options = words[words.index("-") + 1 :][:3]
        path = Path(_OCTAL.sub(lambda match: chr(int(match[1], 8)), words[4]))
        # A later mount at the same place hides the earlier one, of whatever kind it is.
        found.pop(path, None)
        if kind in ("cgroup", "cgroup2"):
            found[path] = Mount(path, kind, frozenset(options.split(",")))
    return list(found.values())


def choose(mountpoint: Path, mounts: list[Mount]) -> Hierarchy:
    """Choose the version and its hierarchies from what is mounted (pure).

    Raises:
        CgroupError: (ENOENT) nothing of use is mounted at or below ``mountpoint``.
    """
    below = [m for m in mounts if m.path == mountpoint or mountpoint in m.path.parents]
    for mount in below:
        if mount.path == mountpoint and mount.kind == "cgroup2":
            return v2.CgroupsV2(mountpoint)
    roots: dict[str, Path] = {}
    named = unified = None
    for mount in below:
        if mount.kind == "cgroup2":
            unified = mount.path
        elif _NAMED in mount.options:
            named = mount.path
        else:
            roots.update((name, mount.path) for name in mount.options if name in v1.USED)
    if roots:
        return v1.CgroupsV1(roots, named, unified)
    reason = "no cgroup file system is mounted there" if not unified else "it has no controllers"
    remedy = (
        f"mount one, `mount -t cgroup2 none {mountpoint}`; `ip netns exec` hides the mounts, "
        "`nsenter --net=` keeps them"
    )
    raise CgroupError(errno.ENOENT, mountpoint, "cannot use", reason, remedy)


def missing_controllers(hierarchy: Hierarchy) -> list[Missing]:
    """Return what a node cannot do without and ``hierarchy`` has not, with a remedy each."""
    available = hierarchy.controllers()
    if hierarchy.version == 2:
        # A controller can be kept from v2 by a mount of v1, by the command line, or by the parent
        # of a delegated cgroup.
        remedy = (
            "boot without cgroup_disable={0} and with cgroup_no_v1=all; in a container, have its "
            "manager delegate the controller {0}"
        )
        return [Missing(n, remedy.format(n)) for n in v2.REQUIRED if n not in available]
    remedy = (
        "mkdir -p /sys/fs/cgroup/{0} && mount -t cgroup -o {0} cgroup /sys/fs/cgroup/{0} (needs a "
        "kernel with this controller, booted without cgroup_disable={0})"
    )
    return [Missing(n, remedy.format(n)) for n in v1.REQUIRED if n not in available]
