"""ImageFsInfo: what images and containers take of the disk."""

from __future__ import annotations

import asyncio
import time

from kubeletpy_proto import cri_pb2 as cri
from runtime.cri.runtime import Runtime


async def image_fs_info(
    runtime: Runtime, request: cri.ImageFsInfoRequest
) -> cri.ImageFsInfoResponse:
    """Return bytes and inodes of the store; images and writable layers share a file system."""
    used = await asyncio.to_thread(runtime.images.filesystem_usage)
    usage = cri.FilesystemUsage(
        timestamp=time.time_ns(),
        fs_id=cri.FilesystemIdentifier(mountpoint=used.mountpoint),
        used_bytes=cri.UInt64Value(value=used.used_bytes),
        inodes_used=cri.UInt64Value(value=used.used_inodes),
    )
    return cri.ImageFsInfoResponse(image_filesystems=[usage], container_filesystems=[usage])
