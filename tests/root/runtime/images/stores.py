"""What the tests of the image service share."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path

from kubeletpy_common.linux.mounts import MNT_DETACH, mount, umount
from runtime.images.service import ImageStore
from runtime.images.settings import RegistryConfig
from runtime.shim.messages import Rootfs

QUICK = RegistryConfig(attempts=2, backoff_seconds=0.001, max_backoff_seconds=0.01, stall_seconds=5)


def directories(store: ImageStore) -> list[str]:
    return sorted(os.listdir(store.root / "snapshots"), key=int)


async def assert_empty(store: ImageStore) -> None:
    await store.collect_garbage()
    assert store.list() == []
    assert directories(store) == []
    assert store.content.digests() == set()
    assert os.listdir(store.root / "content/ingest") == []
    assert store.filesystem_usage().used_bytes == 0


def mounted(rootfs: Rootfs, target: Path, resources: ExitStack) -> Path:
    """Mount a rootfs as the child does: directories relative to their base."""
    here = os.getcwd()
    resources.callback(os.chdir, here)
    os.chdir(rootfs.base)
    target.mkdir(exist_ok=True)
    data = f"lowerdir={':'.join(rootfs.lower)},upperdir={rootfs.upper},workdir={rootfs.work}"
    mount("overlay", str(target), "overlay", 0, data)
    resources.callback(umount, str(target), MNT_DETACH)
    return target
