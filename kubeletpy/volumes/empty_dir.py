"""emptyDir volumes: a directory of the node, or a tmpfs."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from kubeletpy.api.pod import Pod
from kubeletpy.api.volumes import EmptyDirVolumeSource
from kubeletpy.resources.limits import pod_cgroup_limits
from kubeletpy_common.linux import mounts

from . import mountinfo
from .errors import VolumeError
from .paths import EMPTY_DIR, PodPaths

_MODE = 0o777
_SET_GID = 0o2000
_PARENTS = 0o750


def memory_size(pod: Pod, source: EmptyDirVolumeSource, node_memory: int) -> int:
    """Return the size of a tmpfs in bytes (pure).

    The least of the volume's sizeLimit, the pod's memory limit and the node's memory: what is
    written to it is charged to the pod.
    """
    bounds = [node_memory] if node_memory > 0 else []
    of_pod = pod_cgroup_limits(pod).memory_bytes
    if of_pod:
        bounds.append(of_pod)
    if source.size_limit:
        bounds.append(int(source.size_limit))
    return min(bounds, default=0)


def set_up(
    pod: Pod, name: str, source: EmptyDirVolumeSource, paths: PodPaths, node_memory: int
) -> str:
    """Make the volume, once, and return its path.

    It is writable for everybody; with fsGroup it belongs to that group, and so does what is made
    in it (set-group-ID).

    Raises:
        VolumeError: the kernel refused.
    """
    directory = paths.volume(EMPTY_DIR, name)
    marker = paths.ready_marker(EMPTY_DIR, name)
    try:
        directory.mkdir(mode=_PARENTS, parents=True, exist_ok=True)
        if source.medium == "Memory":
            if mountinfo.mounted_at(directory) is not None:
                return str(directory)
            _mount_tmpfs(directory, memory_size(pod, source, node_memory))
        elif marker.exists():
            # Its containers may run: what they did to the directory's mode is theirs.
            return str(directory)
        _open_up(directory, pod)
        marker.parent.mkdir(mode=_PARENTS, parents=True, exist_ok=True)
        marker.touch()
    except OSError as error:
        raise VolumeError(name, f"emptyDir cannot be made: {error}") from error
    return str(directory)


def _open_up(directory: Path, pod: Pod) -> None:
    context = pod.spec.security_context
    group = context.fs_group if context is not None else None
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if group is not None:
            os.fchown(descriptor, -1, group)
        os.fchmod(descriptor, _MODE if group is None else _MODE | _SET_GID)
    finally:
        os.close(descriptor)


def _mount_tmpfs(directory: Path, size: int) -> None:
    data = f"size={size}" if size else ""
    try:
        # What a pod holds in memory is not written to the node's disk (Linux 6.4).
        mounts.mount("tmpfs", directory, "tmpfs", 0, f"{data},noswap".lstrip(","))
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        mounts.mount("tmpfs", directory, "tmpfs", 0, data)
