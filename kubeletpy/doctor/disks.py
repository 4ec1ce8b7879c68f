"""The file systems of the directories that are used: kind, space, inodes, access."""

from __future__ import annotations

import fcntl
import os
import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from kubeletpy.doctor.finding import Finding, error, fine, warning
from kubeletpy.doctor.looking import Aside, text
from kubeletpy.doctor.purpose import Directory, Purpose
from kubeletpy_common.overlays import NO_UPPER_DIRECTORY

_SECONDS: Final = 2.0
"""What a file system gets to say how full it is; that of a server that is gone never does."""
_OCTAL: Final = re.compile(r"\\([0-7]{3})")
_VOLUME: Final = (
    "put it on ext4, xfs, btrfs or tmpfs: mount a disk at {0}, or, of a container, a volume "
    "(podman run -v NAME:{0})"
)
_FEW_INODES: Final = 2000
_EVICTION: Final = 0.10
"""``nodefs.available`` of the kubelet's default hard eviction thresholds."""
_EVICTION_INODES: Final = 0.05
_XFS_GEOMETRY: Final = 0x80705864  # XFS_IOC_FSGEOMETRY_V1
_XFS_FTYPE: Final = 1 << 16  # XFS_FSOP_GEOM_FLAGS_FTYPE


@dataclass(frozen=True)
class Mount:
    """A line of mountinfo: where, file system, options of the mount and of the file system."""

    point: str
    kind: str
    options: frozenset[str]


@dataclass(frozen=True)
class Space:
    """What statvfs(3) tells; inodes are 0 in all where the file system counts none."""

    size: int
    free: int
    inodes: int
    inodes_free: int
    d_type: bool = True


@dataclass(frozen=True)
class Facts:
    """The file system of a directory.

    Attributes:
        directory: the one that is used.
        mount: where it is, or will be; None if mountinfo has it not.
        space: None if the file system did not answer.
        problem: why it did not.
    """

    directory: Directory
    mount: Mount | None
    space: Space | None
    problem: str = ""


def look(purpose: Purpose) -> list[Finding]:
    """Look at this machine."""
    return [finding for facts in gather(purpose) for finding in judge(facts)]


def gather(purpose: Purpose) -> list[Facts]:
    """Read the facts."""
    mounted = mounts(text("/proc/self/mountinfo") or "")
    asked = [(one, Aside(partial(measure, one.path))) for one in purpose.directories]
    found = []
    for directory, asking in asked:
        try:
            path, space = asking.result(_SECONDS)
            found.append(Facts(directory, mount_of(path, mounted), space))
        except (OSError, TimeoutError) as reason:
            mount = mount_of(directory.path, mounted)
            found.append(Facts(directory, mount, None, str(reason)))
    return found


def measure(path: Path) -> tuple[Path, Space]:
    """Return where a directory really is, or will be made, and the space there.

    Raises:
        OSError: the file system cannot be asked.
    """
    real = Path(os.path.realpath(path))
    while not real.exists() and real != real.parent:
        real = real.parent
    descriptor = os.open(real, os.O_RDONLY | os.O_CLOEXEC)
    try:
        told = os.fstatvfs(descriptor)
        unit = told.f_frsize
        return real, Space(
            size=told.f_blocks * unit,
            free=told.f_bavail * unit,
            inodes=told.f_files,
            inodes_free=told.f_favail,
            d_type=_has_d_type(descriptor),
        )
    finally:
        os.close(descriptor)


def _has_d_type(descriptor: int) -> bool:
    """Return False for an XFS made without ``ftype=1``, as xfs_info(8) tells."""
    answer = bytearray(112)
    try:
        fcntl.ioctl(descriptor, _XFS_GEOMETRY, answer)
    except OSError:
        return True  # another file system
    return bool(int.from_bytes(answer[92:96], "little") & _XFS_FTYPE)


def mounts(mountinfo: str) -> list[Mount]:
    """Return what is mounted, in the order it was (pure; proc(5))."""
    found = []
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        before, after = left.split(" "), right.split(" ")
        if len(before) < 6 or len(after) < 3:
            continue
        point = _OCTAL.sub(lambda match: chr(int(match[1], 8)), before[4])
        options = frozenset(before[5].split(",")) | frozenset({"ro"} & set(after[2].split(",")))
        found.append(Mount(point, after[0], options))
    return found


def mount_of(path: Path, mounted: list[Mount]) -> Mount | None:
    """Return the mount that a path is on: the last one at the nearest place above (pure)."""
    places = {str(path), *map(str, path.parents)}
    above = [mount for mount in mounted if mount.point in places]
    return max(reversed(above), key=lambda mount: len(mount.point), default=None)


def judge(facts: Facts) -> list[Finding]:
    """Return what the facts mean (pure)."""
    path = facts.directory.path
    name = f"disk of {path}"
    if facts.space is None:
        kind = f" ({facts.mount.kind} at {facts.mount.point})" if facts.mount else ""
        remedy = f"see whether its server answers: timeout 5 stat -f {path}"
        return [error(name, f"cannot be asked{kind}: {facts.problem}", "runtime, kubelet", remedy)]
    found = [_kind(facts, f"file system of {path}"), _space(facts, facts.space, name)]
    return [finding for finding in found if finding is not None]


def _kind(facts: Facts, name: str) -> Finding | None:
    mount, directory = facts.mount, facts.directory
    if mount is None:
        return None
    seen = f"{mount.kind} at {mount.point}"
    user = "runtime" if directory.overlay else "kubelet, runtime"
    if "ro" in mount.options:
        remedy = (
            f"mount -o remount,rw {mount.point} (and see `dmesg`: the kernel makes a file system "
            "read-only when its disk fails)"
        )
        return error(name, f"{seen} is read-only", user, remedy)
    if not directory.overlay:
        return fine(name, seen, user)
    if reason := NO_UPPER_DIRECTORY.get(mount.kind):
        found = f"{seen} cannot hold containers: {reason}"
        return error(name, found, user, _VOLUME.format(directory.path))
    if facts.space is not None and not facts.space.d_type:
        remedy = "back up, make it anew (mkfs.xfs -n ftype=1 DEVICE), restore"
        return error(name, f"{seen} was made without d_type (ftype=0)", user, remedy)
    if "noexec" in mount.options:
        remedy = f"mount -o remount,exec {mount.point}, and take noexec out of /etc/fstab"
        return error(name, f"{seen} is noexec: no container can run a program", user, remedy)
    if mount.kind.startswith("fuse"):
        found = f"{seen}: whether it can hold an overlay's upper directory depends on its server"
        return warning(name, found, user, _VOLUME.format(directory.path))
    if "nosuid" in mount.options:
        remedy = f"mount -o remount,suid {mount.point}, and take nosuid out of /etc/fstab"
        return warning(name, f"{seen} is nosuid: sudo, ping in images lose", user, remedy)
    return fine(name, seen, user)


def _space(facts: Facts, space: Space, name: str) -> Finding:
    point = facts.mount.point if facts.mount else str(facts.directory.path)
    free = f"{space.free >> 20} MiB of {space.size >> 20} free"
    clean = f"free space at {point}: du -xh {point} | sort -h | tail"
    if space.free < facts.directory.bytes_needed:
        return error(name, f"full: {free}", "runtime, kubelet", clean)
    if space.inodes and space.inodes_free < _FEW_INODES:
        remedy = f"remove files at {point}: du -x --inodes {point} | sort -n | tail"
        found = f"out of inodes: {space.inodes_free} of {space.inodes} free"
        return error(name, found, "runtime, kubelet", remedy)
    if facts.mount is not None and facts.mount.kind == "tmpfs":
        return fine(name, free, "runtime, kubelet")
    if space.free < space.size * _EVICTION:
        found = f"{free}: below 10 % the kubelet evicts pods"
        return warning(name, found, "kubelet", clean)
    if space.inodes and space.inodes_free < space.inodes * _EVICTION_INODES:
        found = f"{space.inodes_free} of {space.inodes} inodes free: below 5 % the kubelet evicts"
        remedy = f"remove files at {point}: du -x --inodes {point} | sort -n | tail"
        return warning(name, found, "kubelet", remedy)
    return fine(name, free, "runtime, kubelet")
