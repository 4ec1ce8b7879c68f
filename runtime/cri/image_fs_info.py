"""ImageFsInfo: what images and containers take of the disk."""

from __future__ import annotations

import asyncio
import time

from kubeletpy_proto import cri_pb2 as cri
from runtime.cri.runtime import Runtime


async def image_fs_info(
    runtime: Runtime, request: cri.ImageFsInfoRequest
) -> cri.ImageFsInfoResponse:
    """Return bytes and inodes of images, and of the writable layers of all containers.

    Both lie on one file system, which clients see by the same mount point. The sizes of layers
    are those of the statistics of containers: their timestamp is that of the oldest walk.
    """
    now = time.time_ns()
    used = await asyncio.to_thread(runtime.images.filesystem_usage)
    containers = [container.id for container in runtime.store.containers()]
    runtime.layer_sizes.keep(containers)
    sizes = await runtime.layer_sizes.sizes(containers)
    place = cri.FilesystemIdentifier(mountpoint=used.mountpoint)
    images = _usage(now, place, used.used_bytes, used.used_inodes)
    layers = _usage(
        min((size.time_ns for size in sizes.values()), default=now),
        place,
        sum(size.bytes for size in sizes.values()),
        sum(size.inodes for size in sizes.values()),
    )
    return cri.ImageFsInfoResponse(image_filesystems=[images], container_filesystems=[layers])


def _usage(
    timestamp: int, place: cri.FilesystemIdentifier, used_bytes: int, used_inodes: int
) -> cri.FilesystemUsage:
    return cri.FilesystemUsage(
        timestamp=timestamp,
        fs_id=place,
        used_bytes=cri.UInt64Value(value=used_bytes),
        inodes_used=cri.UInt64Value(value=used_inodes),
    )
