"""What the node and its pods use: files of the kernel, statvfs, CRI; no process is started."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kubeletpy.api.pod import Pod
from kubeletpy.cri import labels
from kubeletpy.cri.client import CriClient, CriError
from kubeletpy.cri.node import NodeFacts
from kubeletpy.cri.sandbox_config import pod_log_directory
from kubeletpy.resources.cgroups import CgroupError, PodCgroups
from kubeletpy.stats import processes
from kubeletpy.volumes.paths import EMPTY_DIR, PodPaths
from kubeletpy_common.cgroups import MemoryStats
from kubeletpy_proto import cri_pb2

from .signals import Observation, Signal
from .storage import empty_dirs
from .trees import file_usage, tree_usage
from .usage import ContainerUsage, Disk, Disks, PodUsage

_MEMORY = Path("/proc/meminfo")


@dataclass(frozen=True)
class Places:
    """Directories whose file systems are watched; "" where the runtime tells of none."""

    node: str
    images: str = ""
    containers: str = ""

    @property
    def disks(self) -> Disks:
        """Which file systems these are."""
        node, images, containers = (
            _device(path) for path in (self.node, self.images, self.containers)
        )
        if images is None or images == node:
            return Disks()
        return Disks(image_fs=True, split=containers is not None and containers != images)


def _device(path: str) -> int | None:
    try:
        return os.stat(path).st_dev if path else None
    except OSError:
        return None


async def find_places(cri: CriClient, root_dir: Path) -> Places:
    """Ask the runtime where images and writable layers are.

    Raises:
        CriError: it does not answer.
    """
    info = await cri.image_fs_info()
    images = next((one.fs_id.mountpoint for one in info.image_filesystems), "")
    containers = next((one.fs_id.mountpoint for one in info.container_filesystems), "")
    return Places(str(root_dir), images, containers or images)


def in_use(memory: MemoryStats) -> int:
    """Return the memory that counts against a pod: without page cache, active or not.

    The Go kubelet counts the active cache, which the kernel takes back as well when it must; a
    pod that reads files much is then evicted for memory that nobody lacks.
    """
    return max(0, memory.working_set - memory.active_file)


def observe(places: Places, cgroups: PodCgroups) -> dict[Signal, Observation]:
    """Return the present value of each signal that can be read.

    memory.available is what the kernel calls MemAvailable: what can be had without swapping.
    """
    found: dict[Signal, Observation] = {}
    memory = _meminfo()
    if {"MemAvailable", "MemTotal"} <= memory.keys():
        found[Signal.MEMORY] = Observation(memory["MemAvailable"], memory["MemTotal"])
    of_pods = _pods_memory(cgroups)
    if of_pods is not None and of_pods.limit is not None:
        left = max(0, of_pods.limit - in_use(of_pods))
        found[Signal.ALLOCATABLE_MEMORY] = Observation(left, of_pods.limit)
    for path, space, inodes in (
        (places.node, Signal.NODE_FS, Signal.NODE_FS_INODES),
        (places.images, Signal.IMAGE_FS, Signal.IMAGE_FS_INODES),
        (places.containers, Signal.CONTAINER_FS, Signal.CONTAINER_FS_INODES),
    ):
        try:
            disk = os.statvfs(path) if path else None
        except OSError:
            disk = None
        if disk is None:
            continue
        found[space] = Observation(disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize)
        if disk.f_files:
            # btrfs and others have no fixed number of inodes, and say 0.
            found[inodes] = Observation(disk.f_ffree, disk.f_files)
    found[Signal.PIDS] = _pids()
    return found


def _pods_memory(cgroups: PodCgroups) -> MemoryStats | None:
    try:
        return cgroups.all_usage().memory
    except CgroupError:
        return None


def _meminfo() -> dict[str, int]:
    found = {}
    for line in _MEMORY.read_text(encoding="ascii").splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if words and words[0].isdecimal():
            found[name] = int(words[0]) * 1024
    return found


def _pids() -> Observation:
    capacity = processes.most()
    return Observation(max(0, capacity - processes.running()), capacity)


class Meter:
    """Measures pods.

    Args:
        cri: the runtime.
        cgroups: those of the pods.
        node: facts of the node.
    """

    def __init__(self, cri: CriClient, cgroups: PodCgroups, node: NodeFacts) -> None:
        self._cri = cri
        self._cgroups = cgroups
        self._node = node

    async def containers(self) -> dict[str, dict[str, cri_pb2.ContainerStats]]:
        """Return what the runtime says of its containers, by pod uid and container name.

        Without an answer there is none, and what only the runtime knows does not count.
        """
        found: dict[str, dict[str, cri_pb2.ContainerStats]] = {}
        try:
            stats = await self._cri.list_container_stats()
        except CriError:
            return found
        for one in stats:
            notes = one.attributes.labels
            uid, name = notes.get(labels.POD_UID, ""), notes.get(labels.CONTAINER_NAME, "")
            if uid and name:
                found.setdefault(uid, {})[name] = one
        return found

    def memory(self, pods: Iterable[Pod]) -> dict[str, PodUsage]:
        """Return memory and processes of pods by uid, from their cgroups alone; cheap."""
        found = {}
        for pod in pods:
            used = self._of_cgroup(pod)
            if used is not None:
                found[pod.metadata.uid] = used
        return found

    def storage(
        self, pod: Pod, containers: dict[str, cri_pb2.ContainerStats], places: Places
    ) -> PodUsage:
        """Return all that a pod uses; it reads its directories, so call it in a thread."""
        memory = self._of_cgroup(pod) or PodUsage()
        logs = pod_log_directory(pod, self._node)
        names = [one.name for one in (*pod.spec.containers, *pod.spec.init_containers)]
        usages = {}
        for name in names:
            stats = containers.get(name)
            layer = Disk()
            used: int | None = None
            if stats is not None:
                written = stats.writable_layer
                layer = Disk(written.used_bytes.value, written.inodes_used.value)
                if stats.memory.HasField("working_set_bytes"):
                    used = stats.memory.working_set_bytes.value
            usages[name] = ContainerUsage(used, layer, tree_usage(logs / name))
        return PodUsage(
            memory=memory.memory,
            processes=memory.processes,
            containers=usages,
            volumes=self._volumes(pod),
            own=self._own(pod),
        )

    def _of_cgroup(self, pod: Pod) -> PodUsage | None:
        try:
            stats = self._cgroups.usage(pod)
        except CgroupError:
            return None
        memory = in_use(stats.memory) if stats.memory is not None else None
        return PodUsage(memory, stats.pids.current if stats.pids is not None else 0)

    def _volumes(self, pod: Pod) -> dict[str, Disk]:
        """Return the use of emptyDirs on disk; what is in memory is charged as memory."""
        paths = PodPaths(self._node.root_dir, pod.metadata.uid)
        on_disk = {
            one.name for one in pod.spec.volumes
            if one.empty_dir is not None and one.empty_dir.medium == ""
        }  # fmt: skip
        return {
            name: tree_usage(paths.volume(EMPTY_DIR, name))
            for name in empty_dirs(pod)
            if name in on_disk
        }

    def _own(self, pod: Pod) -> Disk:
        paths = PodPaths(self._node.root_dir, pod.metadata.uid)
        return file_usage(paths.etc_hosts) + tree_usage(paths.directory / "containers")
