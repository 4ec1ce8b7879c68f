"""A real registry, a hostile one, and a fresh store."""

from __future__ import annotations

import asyncio
import gzip
import os
import stat
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from runtime.images.service import ImageStore
from runtime.images.settings import UnpackLimits
from runtime.unpacker.client import Layer, Unpacker
from tests.root.runtime.images.layers import Unpack
from tests.root.runtime.images.stores import QUICK
from tests.support.ociimage import (
    Files,
    compress,
    digest_of,
    tar_layer,
)
from tests.support.registry import DockerRegistry
from tests.support.scripted_registry import ScriptedRegistry


@pytest.fixture(scope="module")
def registry() -> Iterator[DockerRegistry]:
    with tempfile.TemporaryDirectory() as name, DockerRegistry(Path(name)) as found:
        yield found


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[ImageStore]:
    found = ImageStore(tmp_path / "root", QUICK)
    await found.open()
    yield found
    await found.close()


@pytest.fixture
async def hostile() -> AsyncIterator[ScriptedRegistry]:
    async with ScriptedRegistry() as found:
        yield found


@pytest.fixture
def canaries(tmp_path: Path) -> Iterator[Path]:
    """A directory beside the layers; whatever a layer does, it stays as it is."""
    host = tmp_path / "host"
    host.mkdir(mode=0o751)
    (host / "file").write_text("untouched")
    os.chmod(host / "file", 0o640)
    before = _picture(host)
    passwd = _picture(Path("/etc/passwd"))
    yield host
    assert _picture(host) == before
    assert _picture(Path("/etc/passwd")) == passwd
    assert sorted(os.listdir(host)) == ["file"]


def _picture(path: Path) -> list[tuple[str, int, int, int, int, int, bytes]]:
    found = []
    for each in [path, *sorted(path.rglob("*"))]:
        status = each.lstat()
        content = each.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        found.append(
            (str(each), status.st_mode, status.st_uid, status.st_nlink, status.st_ino,
             status.st_mtime_ns, content)
        )  # fmt: skip
    return found


@pytest.fixture
def run(tmp_path: Path, canaries: Path) -> Iterator[Unpack]:
    """Unpack files, or a ready tar, into a new directory, by the unpacker's own processes."""
    count, base = 0, tmp_path / "snapshots"
    base.mkdir()

    async def bring_in(
        unpacker: Unpacker, layer: Layer, limits: UnpackLimits, lower: list[Path]
    ) -> None:
        unpacked = await unpacker.unpack(layer, count, limits)
        try:
            await unpacker.settle(unpacked, [int(path.parent.name) for path in lower], limits)
        finally:
            unpacked.close()

    with asyncio.Runner() as runner:
        unpacker = runner.run(_made(base))

        def work(
            files: Files | bytes,
            limits: UnpackLimits | None = None,
            lower: list[Path] | None = None,
            compression: str = "none",
        ) -> Path:
            nonlocal count
            count += 1
            tar = files if isinstance(files, bytes) else tar_layer(files)
            blob = tmp_path / f"blob{count}"
            packed = {"none": lambda: tar, "gzip": lambda: gzip.compress(tar),
                      "zstd": lambda: compress(tar, "zstd")}[compression]()  # fmt: skip
            blob.write_bytes(packed)
            layer = Layer(blob, digest_of(packed), compression, digest_of(tar))
            directory = base / str(count) / "fs"
            directory.mkdir(parents=True)
            runner.run(bring_in(unpacker, layer, limits or UnpackLimits(), lower or []))
            return directory

        yield work
        runner.run(unpacker.close())


async def _made(base: Path) -> Unpacker:
    return Unpacker(base)
