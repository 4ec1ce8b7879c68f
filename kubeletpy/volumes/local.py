"""local PersistentVolumes: a directory (or a raw disk) of the node, bound into the pod's directory.

Each pod has a mount of its own, so that it ends with the pod, and so that options and ownership
can be the volume's.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from kubeletpy_common.linux import mounts
from kubeletpy_common.linux.libc import AT_FDCWD

from . import mountinfo, ownership
from .context import Context
from .errors import VolumeError
from .paths import LOCAL, pods_directory
from .plugin import MountRecord, SetUp, VolumeRequest, VolumeSource

ATTRIBUTES = {
    "ro": mounts.MOUNT_ATTR_RDONLY,
    "nosuid": mounts.MOUNT_ATTR_NOSUID,
    "nodev": mounts.MOUNT_ATTR_NODEV,
    "noexec": mounts.MOUNT_ATTR_NOEXEC,
    "noatime": mounts.MOUNT_ATTR_NOATIME,
    "nodiratime": mounts.MOUNT_ATTR_NODIRATIME,
}
_WITHOUT_EFFECT = frozenset({"bind", "rw", "defaults", "relatime"})


def attributes_of(options: list[str]) -> int:
    """Return the attributes (mount_setattr(2)) that mount options stand for (pure).

    Raises:
        VolumeError: one is not known.
    """
    result = 0
    for option in options:
        if option in _WITHOUT_EFFECT:
            continue
        if option not in ATTRIBUTES:
            raise VolumeError(
                "",
                f"mount option {option!r} cannot be had for a local volume; "
                f"there are {', '.join(sorted(ATTRIBUTES))}",
            )
        result |= ATTRIBUTES[option]
    return result


class LocalPlugin:
    """See `VolumePlugin`."""

    name = LOCAL
    mount_options = True
    follows = False

    def __init__(self, context: Context) -> None:
        self._context = context

    def supports(self, source: VolumeSource) -> bool:
        """See `VolumePlugin`."""
        return source.of_volume("local") is not None

    def path(self, request: VolumeRequest) -> str:
        """See `VolumePlugin`."""
        return _path(request) if request.block else str(request.directory)

    def read_only(self, request: VolumeRequest) -> bool:
        """See `VolumePlugin`."""
        return request.read_only

    async def set_up(self, request: VolumeRequest) -> SetUp:
        """See `VolumePlugin`."""
        path = _path(request)
        assert request.source.volume is not None
        options = list(request.source.volume["spec"].get("mountOptions") or [])
        if request.read_only:
            options.append("ro")
        attributes = attributes_of(options)
        if not path.startswith("/") or ".." in path.split("/"):
            raise VolumeError("", f"invalid path: {path} must be absolute and not contain '..'")
        what = f"mounting local volume {request.spec_name}"
        pods = pods_directory(self._context.node.root_dir)
        group = await self._context.run(request, what, lambda: _mount(request, attributes, pods))
        recorder = self._context.recorder
        if group is not None and recorder is not None:
            recorder.warning(
                request.pod,
                "AlreadyMountedVolume",
                f"The requested fsGroup is {request.fs_group}, but the volume {request.spec_name} "
                f"has GID {group}. The volume may not be shareable.",
            )
        return SetUp()

    async def tear_down(self, uid: str, record: MountRecord) -> None:
        """Nothing: what is mounted below the pod's directory goes with it."""


def _path(request: VolumeRequest) -> str:
    source = request.source.of_volume("local")
    assert source is not None
    return str(source.get("path", ""))


def _mount(request: VolumeRequest, attributes: int, pods: Path) -> int | None:
    """Bind the volume; return its group if another pod uses it and another group is wanted."""
    source, target = _path(request), request.directory
    status = os.stat(source)
    if request.block:
        if not stat.S_ISBLK(status.st_mode):
            raise VolumeError("", f"local volume {source} is not a block device")
        return None
    if not stat.S_ISDIR(status.st_mode):
        raise VolumeError(
            "",
            f"local volume {source} is not a directory: a disk with volumeMode Filesystem is to "
            "be formatted and mounted on the node first, and the volume to name its directory",
        )
    if mountinfo.mounted_at(target) is not None:
        return None
    target.mkdir(mode=0o750, parents=True, exist_ok=True)
    mounts.mount(source, target, None, mounts.MS_BIND)
    try:
        if attributes:
            _restrict(target, attributes)
        if request.read_only or request.fs_group is None:
            return None
        if _shared(target, pods):
            return status.st_gid if status.st_gid != request.fs_group else None
        ownership.change(target, request.fs_group, policy=request.fs_group_policy)
    except BaseException:
        mounts.umount(target, mounts.UMOUNT_NOFOLLOW)
        raise
    return None


def _restrict(target: Path, attributes: int) -> None:
    clear = mounts.MOUNT_ATTR__ATIME if attributes & mounts.MOUNT_ATTR_NOATIME else 0
    mounts.mount_setattr(AT_FDCWD, target, 0, attr_set=attributes, attr_clr=clear)


def _shared(target: Path, pods: Path) -> bool:
    """Whether the mount of another pod shows the same directory."""
    every = mountinfo.all_mounts()
    own_path, prefix = os.path.realpath(target), f"{os.path.realpath(pods)}/"
    own = next((each for each in reversed(every) if each.path == own_path), None)
    return own is not None and any(
        each.path.startswith(prefix)
        and each.path != own_path
        and "/volumes/" in each.path
        and (each.device, each.root) == (own.device, own.root)
        for each in every
    )
