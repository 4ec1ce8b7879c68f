"""A full disk while an image is pulled: a clear error, nothing half there, and the way back."""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kubeletpy_common.linux.mounts import MNT_DETACH, mount, umount
from runtime.images.errors import NoSpace
from runtime.images.service import ImageStore
from runtime.images.settings import RegistryConfig
from tests.root.runtime.images.stores import QUICK, assert_empty, directories
from tests.support.ociimage import Entry, build_image, tar_layer
from tests.support.scripted_registry import ScriptedRegistry

pytestmark = pytest.mark.root

MIB = 1 << 20


@pytest.fixture(params=["tmpfs", "ext4"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MiB and 512 inodes."""
    target = tmp_path / "disk"
    target.mkdir()
    if request.param == "tmpfs":
        mount("tmpfs", str(target), "tmpfs", 0, "size=16m,nr_inodes=512,mode=0700")
    else:
        image = tmp_path / "disk.img"
        with open(image, "wb") as file:
            file.truncate(16 * MIB)
        # -m 0: nothing is kept back for root, who is what fills it here.
        make = ["mkfs.ext4", "-q", "-m", "0", "-N", "512", "-O", "^has_journal", str(image)]
        subprocess.run(make, check=True, capture_output=True)
        subprocess.run(["mount", "-o", "loop", str(image), str(target)], check=True)
    try:
        yield target
    finally:
        umount(str(target), MNT_DETACH)


@pytest.fixture
async def store(disk: Path) -> AsyncIterator[ImageStore]:
    found = ImageStore(disk / "root", QUICK)
    await found.open()
    yield found
    await found.close()


@contextmanager
def until_full() -> Iterator[None]:
    with pytest.raises(OSError, match="No space left") as caught:
        yield
    assert caught.value.errno == errno.ENOSPC


def fill(disk: Path, *, leave: int = 0) -> Path:
    """Write until nothing fits any more; returns the file."""
    ballast = disk / "ballast"
    descriptor = os.open(ballast, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        for piece in (b"x" * MIB, b"x" * 4096):
            with until_full():
                while True:
                    os.write(descriptor, piece)
    finally:
        os.close(descriptor)
    os.truncate(ballast, max(ballast.stat().st_size - leave, 0))
    return ballast


def fill_inodes(disk: Path, *, leave: int = 0) -> Path:
    """Make files until there is no inode left; returns their directory."""
    ballast = disk / "files"
    ballast.mkdir()
    with until_full():
        for number in itertools.count():
            os.close(os.open(ballast / str(number), os.O_CREAT | os.O_WRONLY, 0o600))
    for number in range(leave):
        (ballast / str(number)).unlink()
    return ballast


def empty(ballast: Path) -> None:
    if ballast.is_dir():
        for entry in ballast.iterdir():
            entry.unlink()
        ballast.rmdir()
    else:
        ballast.unlink()


async def refused(store: ImageStore, name: str, *words: str) -> None:
    """A pull fails for want of room, says so, and leaves nothing."""
    before = store.list(), store.content.digests(), directories(store)
    with pytest.raises(NoSpace) as caught:
        await store.pull(name)
    said = str(caught.value)
    # The kernel's words or SQLite's, by which of them came to write first.
    assert "No space left" in said or "disk is full" in said
    assert "remove images" in said
    if "image database" not in said:
        assert all(word in said for word in words)
    assert (store.list(), store.content.digests(), directories(store)) == before
    assert os.listdir(store.root / "content/ingest") == []


async def test_during_the_download(
    hostile: ScriptedRegistry, store: ImageStore, disk: Path
) -> None:
    small = build_image({"small": b"s"})
    big = build_image({"big": os.urandom(4 * MIB)})
    hostile.add(small, "small", "v1")
    hostile.add(big, "big", "v1")
    kept = await store.pull(f"{hostile.host}/small:v1")
    ballast = fill(disk, leave=2 * MIB)
    await refused(store, f"{hostile.host}/big:v1", "writing blob", "bytes")
    assert store.get(kept.id) == kept
    empty(ballast)
    assert (await store.pull(f"{hostile.host}/big:v1")).id == big.id


async def test_during_the_unpacking(
    hostile: ScriptedRegistry, store: ImageStore, disk: Path
) -> None:
    """The layer of zeros is small on its way and large on the disk."""
    built = build_image({"zeros": bytes(8 * MIB)}, layers=[{"base": b"b"}])
    hostile.add(built, "zeros", "v1")
    name = f"{hostile.host}/zeros:v1"
    ballast = fill(disk, leave=2 * MIB)
    await refused(store, name, "unpacking layer")
    empty(ballast)
    assert (await store.pull(name)).id == built.id


async def test_without_inodes(hostile: ScriptedRegistry, store: ImageStore, disk: Path) -> None:
    files: dict[str, Entry] = {f"d/{n}": b"" for n in range(200)}
    built = build_image(files)
    hostile.add(built, "many", "v1")
    name = f"{hostile.host}/many:v1"
    ballast = fill_inodes(disk, leave=100)
    await refused(store, name, "inodes")
    empty(ballast)
    assert (await store.pull(name)).id == built.id


async def test_from_the_first_byte(
    hostile: ScriptedRegistry, store: ImageStore, disk: Path
) -> None:
    built = build_image({"a": b"a"})
    hostile.add(built, "app", "v1")
    name = f"{hostile.host}/app:v1"
    for make in (fill, fill_inodes):
        ballast = make(disk)
        await refused(store, name)
        empty(ballast)
    assert (await store.pull(name)).id == built.id


async def test_images_can_be_removed_from_a_full_disk(
    hostile: ScriptedRegistry, store: ImageStore, disk: Path
) -> None:
    """Else the kubelet could never make room: the database writes before it forgets."""
    built = build_image({"f": os.urandom(2 * MIB)})
    hostile.add(built, "app", "v1")
    name = f"{hostile.host}/app:v1"
    for make in (fill, fill_inodes):
        await store.pull(name)
        ballast = make(disk)
        await store.remove(built.id)
        await assert_empty(store)
        empty(ballast)
    # The room that was set aside for this is there again.
    await store.collect_garbage()
    assert (store.root / "reserve/bytes").stat().st_size == MIB


async def test_a_start_on_a_full_disk(
    hostile: ScriptedRegistry, store: ImageStore, disk: Path
) -> None:
    built = build_image({"f": os.urandom(MIB)})
    hostile.add(built, "app", "v1")
    image = await store.pull(f"{hostile.host}/app:v1")
    unfinished = store.snapshots.begin_layer("sha256:" + "0" * 64)
    (store.snapshots.path(unfinished) / "half").write_text("done")
    for make in (fill, fill_inodes):
        await store.close()
        ballast = make(disk)
        store = ImageStore(store.root, QUICK)
        await store.open()
        assert store.list() == [image]
        assert len(directories(store)) == 1
        empty(ballast)
    await store.remove(image.id)
    await store.close()


async def test_others_are_not_harmed(
    hostile: ScriptedRegistry, store: ImageStore, disk: Path
) -> None:
    """One pull too many fails; the one beside it, held up meanwhile, ends well."""
    big = build_image({"big": os.urandom(20 * MIB)})
    small = build_image({"small": os.urandom(MIB)})
    hostile.add(big, "big", "v1")
    hostile.add(small, "small", "v1")
    go_on = asyncio.Event()

    async def script(request: object) -> None:
        path = getattr(request, "path", "")
        if "/small/blobs/" in path and small.id not in path:
            await go_on.wait()

    hostile.script = script
    slow = asyncio.create_task(store.pull(f"{hostile.host}/small:v1"))
    with pytest.raises(NoSpace):
        await store.pull(f"{hostile.host}/big:v1")
    go_on.set()
    assert (await slow).id == small.id
    await store.collect_garbage()
    assert store.content.digests() >= set(small.blobs)


async def test_a_bomb_fills_the_disk_and_nothing_else(
    hostile: ScriptedRegistry, disk: Path
) -> None:
    """Much in little, where the bound on layers is far above the disk's size."""
    bomb = build_image(layers=[tar_layer({"zeros": bytes(64 * MIB)})], compression="zstd")
    hostile.add(bomb, "bomb", "v1")
    assert sum(map(len, bomb.blobs.values())) < MIB
    store = ImageStore(disk / "root", RegistryConfig())
    await store.open()
    try:
        await refused(store, f"{hostile.host}/bomb:v1", "unpacking layer")
    finally:
        await store.close()
