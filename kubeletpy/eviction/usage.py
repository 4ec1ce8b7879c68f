"""What pods use, as plain data, and how much of it counts for which resource (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kubeletpy.api.pod import Pod

from .signals import Signal


@dataclass(frozen=True, slots=True)
class Disk:
    """Use of a file system: bytes and inodes."""

    bytes: int = 0
    inodes: int = 0

    def __add__(self, other: Disk) -> Disk:
        return Disk(self.bytes + other.bytes, self.inodes + other.inodes)


@dataclass(frozen=True, slots=True)
class ContainerUsage:
    """One container: bytes of memory, its writable layer, its logs."""

    memory: int | None = None
    rootfs: Disk = field(default_factory=Disk)
    logs: Disk = field(default_factory=Disk)


@dataclass(frozen=True, slots=True)
class PodUsage:
    """One pod.

    Attributes:
        memory: bytes of memory, page cache not counted; None: not known.
        processes: processes and threads.
        containers: by name.
        volumes: emptyDirs on disk and other local volumes of the pod, by name.
        own: files that the kubelet keeps for it and that it can write to: /etc/hosts, termination
            logs (CVE-2020-8557).
    """

    memory: int | None = None
    processes: int = 0
    containers: Mapping[str, ContainerUsage] = field(default_factory=dict)
    volumes: Mapping[str, Disk] = field(default_factory=dict)
    own: Disk = field(default_factory=Disk)

    def storage(self) -> Disk:
        """Return all ephemeral storage of the pod."""
        total = self.own
        for one in self.containers.values():
            total = total + one.rootfs + one.logs
        for volume in self.volumes.values():
            total = total + volume
        return total


@dataclass(frozen=True, slots=True)
class Disks:
    """Which file systems the node has.

    Attributes:
        image_fs: images are not on the node's file system.
        split: images have one of their own, writable layers are on the node's (KEP-4191).
    """

    image_fs: bool = False
    split: bool = False


def counted(pod: Pod, usage: PodUsage, signal: Signal, disks: Disks) -> Disk:
    """Return what a pod uses of the file system that a signal is about.

    Args:
        pod: names its local volumes.
        usage: of the pod.
        signal: of a file system.
        disks: which file systems there are.
    """
    rootfs = logs = volumes = True
    if disks.image_fs:
        of_images = signal in (Signal.IMAGE_FS, Signal.IMAGE_FS_INODES)
        of_containers = signal in (Signal.CONTAINER_FS, Signal.CONTAINER_FS_INODES)
        if disks.split:
            # Layers are with logs and volumes; images use what no pod can give back.
            rootfs = logs = volumes = not of_images
        else:
            rootfs = of_images or of_containers
            logs = volumes = not rootfs
    total = usage.own if volumes else Disk()
    for one in usage.containers.values():
        total = total + (one.rootfs if rootfs else Disk()) + (one.logs if logs else Disk())
    if volumes:
        for name in usage.volumes:
            total = total + usage.volumes[name]
    return total
