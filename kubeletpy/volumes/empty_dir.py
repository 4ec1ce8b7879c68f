"""emptyDir volumes: a directory of the node, a tmpfs, or huge pages."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from kubeletpy.api.pod import Pod
from kubeletpy.api.quantity import Quantity
from kubeletpy.api.volumes import EmptyDirVolumeSource
from kubeletpy.cri.node import NodeFacts
from kubeletpy.resources.limits import pod_cgroup_limits
from kubeletpy_common.linux import mounts

from . import cleanup, mountinfo
from .context import Context
from .errors import VolumeError
from .paths import EMPTY_DIR, PodPaths
from .payload import group_of
from .plugin import MountRecord, SetUp, VolumeRequest, VolumeSource

MEMORY = "Memory"
HUGE_PAGES = "HugePages"
_RESOURCE = "hugepages-"
_MODE = 0o777
_SET_GID = 0o2000
_STICKY = 0o1000
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


def page_size(pod: Pod, medium: str) -> int:
    """Return the size in bytes of the pages of a volume of huge pages (pure).

    Args:
        pod: whose containers request huge pages.
        medium: ``HugePages`` (of the one size that they request) or ``HugePages-<size>``.

    Raises:
        VolumeError: none of that size are requested, or it is not clear which.
    """
    requests = [container.resources.requests for container in pod.spec.containers]
    requests += [container.resources.requests for container in pod.spec.init_containers]
    if pod.spec.resources is not None:
        requests.append(pod.spec.resources.requests)
    sizes = {
        int(Quantity(name.removeprefix(_RESOURCE)))
        for resources in requests
        for name in resources
        if name.startswith(_RESOURCE)
    }
    if medium == HUGE_PAGES:
        if len(sizes) > 1:
            raise VolumeError(
                "",
                f"medium: {medium} can't be used if container requests multiple huge page sizes",
            )
    else:
        sizes &= {int(Quantity(medium.removeprefix(f"{HUGE_PAGES}-")))}
    if not sizes:
        raise VolumeError(
            "",
            f"medium {medium}: hugePages storage requested, but there is no resource request "
            "for huge pages",
        )
    return sizes.pop()


def make(directory: Path, pod: Pod, medium: str, node: NodeFacts, size: int | None = None) -> None:
    """Make the directory of a volume, once, and mount what its medium needs.

    It is writable for everybody; with fsGroup it belongs to that group, and so does what is made
    in it (set-group-ID). A tmpfs keeps the sticky bit that every one has, as with the Go kubelet:
    who may write there may not remove the files of others.

    Args:
        directory: of the volume.
        pod: whose volume it is.
        medium: as the volume has it.
        node: facts of the node.
        size: bytes that a tmpfs may take; None: what the pod may take.

    Raises:
        OSError: the kernel refused.
        VolumeError: the huge pages asked for are not there.
    """
    if medium:
        directory.mkdir(mode=_PARENTS, parents=True, exist_ok=True)
        if mountinfo.mounted_at(directory) is not None:
            return
        if medium == MEMORY:
            if size is None:
                size = memory_size(pod, EmptyDirVolumeSource(), node.memory_bytes)
            _mount_tmpfs(directory, size)
        else:
            _mount_huge_pages(directory, page_size(pod, medium))
    else:
        directory.mkdir(mode=_PARENTS, parents=True, exist_ok=True)
        # Else it was made before: only a kubelet that died at once left it as it was made.
        if stat.S_IMODE(directory.lstat().st_mode) != _PARENTS:
            return
    _open_up(directory, pod, _MODE | _STICKY if medium == MEMORY else _MODE)


def _open_up(directory: Path, pod: Pod, mode: int) -> None:
    group = group_of(pod)
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if group is not None:
            os.fchown(descriptor, -1, group)
        os.fchmod(descriptor, mode if group is None else mode | _SET_GID)
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


def _mount_huge_pages(directory: Path, size: int) -> None:
    try:
        mounts.mount("nodev", directory, "hugetlbfs", 0, f"pagesize={size}")
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise
        raise VolumeError("", f"the kernel has no huge pages of {size} bytes") from error


class EmptyDirPlugin:
    """See `VolumePlugin`."""

    name = EMPTY_DIR
    mount_options = False
    follows = False

    def __init__(self, context: Context) -> None:
        self._context = context

    def supports(self, source: VolumeSource) -> bool:
        """See `VolumePlugin`."""
        return source.inline is not None and source.inline.empty_dir is not None

    def path(self, request: VolumeRequest) -> str:
        """See `VolumePlugin`."""
        return str(request.directory)

    def read_only(self, request: VolumeRequest) -> bool:
        """See `VolumePlugin`."""
        return False

    async def set_up(self, request: VolumeRequest) -> SetUp:
        """See `VolumePlugin`."""
        assert request.source.inline is not None
        source = request.source.inline.empty_dir
        assert source is not None
        node, pod = self._context.node, request.pod

        def work() -> None:
            paths = PodPaths(node.root_dir, pod.metadata.uid)
            marker = paths.ready_marker(EMPTY_DIR, request.name)
            directory = request.directory
            if not source.medium and marker.exists() and directory.is_dir():
                # Its containers may run: what they did to the directory's mode is theirs.
                return
            size = memory_size(pod, source, node.memory_bytes)
            make(directory, pod, source.medium, node, size)
            marker.parent.mkdir(mode=_PARENTS, parents=True, exist_ok=True)
            marker.touch()

        await self._context.run(request, f"making volume {request.name}", work)
        return SetUp()

    async def tear_down(self, uid: str, record: MountRecord) -> None:
        """See `VolumePlugin`: what it holds is gone at once, though its pod may stay for long.

        A pod that was evicted because it filled the disk would else fill it until it is deleted.
        """
        paths = PodPaths(self._context.node.root_dir, uid)
        directory = paths.volume(EMPTY_DIR, record.spec_name)

        def work() -> None:
            cleanup.unmount_below(directory)
            cleanup.remove_tree(directory)
            paths.ready_marker(EMPTY_DIR, record.name).unlink(missing_ok=True)

        await self._context.run_for(uid, record.name, f"removing volume {record.name}", work)
