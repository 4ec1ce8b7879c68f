"""Limits of ephemeral storage: of emptyDirs, of pods and of containers (pure)."""

from __future__ import annotations

from kubeletpy.api.pod import Pod
from kubeletpy.resources.totals import pod_limits

from .usage import Disks, PodUsage

STORAGE = "ephemeral-storage"


def limited(pod: Pod) -> bool:
    """Whether a pod has any limit of ephemeral storage that has to be looked after."""
    if any(_size_limit(pod, name) for name in empty_dirs(pod)):
        return True
    return bool(pod_limits(pod).get(STORAGE))


def empty_dirs(pod: Pod) -> list[str]:
    """Return the names of the emptyDirs of a pod."""
    return [one.name for one in pod.spec.volumes if one.empty_dir is not None]


def excess(pod: Pod, usage: PodUsage, disks: Disks) -> str:
    """Return which limit a pod exceeds, as it is told; "" if it keeps to all of them.

    Args:
        pod: as it runs.
        usage: of it.
        disks: where images have a file system of their own, writable layers do not count against
            a container's limit, as in the Go kubelet.
    """
    for volume in pod.spec.volumes:
        limit = _size_limit(pod, volume.name)
        used = usage.volumes.get(volume.name)
        if limit and used is not None and used.bytes > limit:
            text = volume.empty_dir.size_limit if volume.empty_dir is not None else ""
            return f'Usage of EmptyDir volume "{volume.name}" exceeds the limit "{text}". '
    total = pod_limits(pod).get(STORAGE)
    if total and usage.storage().bytes > int(total):
        return f"Pod ephemeral local storage usage exceeds the total limit of containers {total}. "
    for container in pod.spec.containers:
        limits = container.resources.limits.get(STORAGE)
        one = usage.containers.get(container.name)
        if not limits or one is None:
            continue
        used_bytes = one.logs.bytes + (0 if disks.image_fs else one.rootfs.bytes)
        if used_bytes > int(limits):
            return (
                f"Container {container.name} exceeded its local ephemeral storage limit "
                f'"{limits}". '
            )
    return ""


def _size_limit(pod: Pod, name: str) -> int:
    for volume in pod.spec.volumes:
        if volume.name == name and volume.empty_dir is not None:
            return int(volume.empty_dir.size_limit or 0)
    return 0
