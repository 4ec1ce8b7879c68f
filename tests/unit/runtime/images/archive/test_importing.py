"""Archives whose images are broken: refused before anything is unpacked, and nothing stays."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from runtime.images.archive.contents import Wanted, full_name
from runtime.images.archive.importing import ImageImport
from runtime.images.errors import (
    DigestMismatch,
    ImageError,
    MalformedImage,
    NoMatchingPlatform,
    UnsupportedMedia,
)
from runtime.images.platforms import Platform
from runtime.images.progress import PullProgress
from runtime.images.service import ImageStore
from tests.support.archives import Entries, docker_entries, link, oci_entries, tar_of
from tests.support.ociimage import build_image, digest_of, dumps, tar_layer

HOST = Platform("linux", "amd64")
IMAGE = build_image({"a": b"a"}, compression="none")
LAYER = tar_layer({"a": b"a"})
CONFIG = IMAGE.config
ARM = build_image({"a": b"a"}, architecture="arm64")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[ImageStore]:
    found = ImageStore(tmp_path / "root")
    await found.open()
    yield found
    assert found.list() == []
    assert found.content.digests() == set()
    assert os.listdir(found.root / "content/ingest") == []
    assert os.listdir(found.root / "snapshots") == []
    await found.close()


def ignore(_: PullProgress) -> None:
    return None


async def sent(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 1000):
        yield data[start : start + 1000]


def without(entries: Entries, number: int) -> Entries:
    return [entry for index, entry in enumerate(entries) if index != number]


def replaced(entries: Entries, number: int, data: bytes) -> Entries:
    changed = list(entries)
    changed[number] = (changed[number][0], data)
    return changed


OCI = oci_entries(IMAGE)
DOCKER = docker_entries(CONFIG, [LAYER])


@pytest.mark.parametrize(
    ("entries", "kind", "why"),
    [
        ([], MalformedImage, "neither index.json nor manifest.json"),
        ([("repositories", b"{}")], UnsupportedMedia, "before 1.10"),
        (replaced(OCI, 0, b'{"imageLayoutVersion":"2.0.0"}'), UnsupportedMedia, "version '2.0.0'"),
        (replaced(OCI, 1, OCI[1][1] + b" "), MalformedImage, "has the digest"),
        (replaced(OCI, 3, LAYER + b"x"), MalformedImage, "has the digest"),
        (without(OCI, 1), MalformedImage, "manifest of v1 .* is not in the archive"),
        (without(OCI, 2), MalformedImage, "config of v1 .* is not in the archive"),
        (without(OCI, 3), MalformedImage, "blob .* is not in the archive"),
        (replaced(OCI, 4, b'{"manifests": 7}'), MalformedImage, "no list of manifests"),
        (replaced(OCI, 4, b'{"manifests": []}'), MalformedImage, "holds no image"),
        (replaced(OCI, 4, b"["), MalformedImage, "not valid JSON"),
        (replaced(OCI, 4, b" " * (5 << 20)), MalformedImage, "limit is"),
        (oci_entries(ARM), NoMatchingPlatform, "made for linux/arm64"),
        (docker_entries(ARM.config, [LAYER]), NoMatchingPlatform, "made for linux/arm64"),
        (docker_entries(CONFIG, [LAYER + bytes(512)]), DigestMismatch, "a layer has the digest"),
        (docker_entries(CONFIG, []), MalformedImage, "1 diff_ids, the manifest 0 layers"),
        (without(DOCKER, 2), MalformedImage, "layer .* is not in the archive"),
        (without(DOCKER, 3), MalformedImage, "config .* is not in the archive"),
        (replaced(DOCKER, 4, b"{}"), MalformedImage, "not a list of objects"),
        (replaced(DOCKER, 4, b'[{"Layers": []}]'), MalformedImage, "no Config"),
        (
            [*without(DOCKER, 2), (DOCKER[2][0], link(DOCKER[2][0].rpartition("/")[2]))],
            MalformedImage, "circle of links",
        ),
    ],
    ids=range(21),
)  # fmt: skip
async def test_broken_archives_leave_nothing(
    store: ImageStore, entries: Entries, kind: type[ImageError], why: str
) -> None:
    with pytest.raises(kind, match=why):
        await ImageImport(store, Wanted(HOST), ignore).run(sent(tar_of(entries)))


async def test_a_name_for_two_images_is_refused(store: ImageStore) -> None:
    other = build_image({"b": b"b"}, compression="none")
    first, second = oci_entries(IMAGE, None), oci_entries(other, None)
    entries = [json.loads(each[-1][1])["manifests"][0] for each in (first, second)]
    index = dumps({"schemaVersion": 2, "manifests": entries})
    archive = [*first[:-1], *second[1:-1], ("index.json", index)]
    with pytest.raises(MalformedImage, match="can name only one"):
        await ImageImport(store, Wanted(HOST, name="a/b"), ignore).run(sent(tar_of(archive)))


async def test_a_client_that_leaves_takes_everything_along(store: ImageStore) -> None:
    data = tar_of(OCI)
    arrived = asyncio.Event()

    async def stalls() -> AsyncIterator[bytes]:
        yield data[:-2048]
        arrived.set()
        await asyncio.Event().wait()

    work = asyncio.create_task(ImageImport(store, Wanted(HOST), ignore).run(stalls()))
    async with asyncio.timeout(10):
        await arrived.wait()
        # What has arrived is held: another's collection does not take it.
        held = await store.collect_garbage()
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
    assert held == 0
    assert digest_of(LAYER) not in store.content.digests()


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("v1", None),
        ("", None),
        ("localhost/a:v1", "localhost/a:v1"),
        ("busybox:1.36", "docker.io/library/busybox:1.36"),
        ("a/b", "docker.io/a/b:latest"),
        ("Not/A:Name", None),
    ],
)
def test_full_names(text: str, name: str | None) -> None:
    assert full_name(text) == name


def test_names_that_are_given() -> None:
    assert Wanted(HOST).named("v1") is None
    assert Wanted(HOST, name="r.io/a").named("v1") == "r.io/a:v1"
    assert Wanted(HOST, name="r.io/a").named("") == "r.io/a:latest"
    assert Wanted(HOST, name="r.io/a", tag="v2").named("v1") == "r.io/a:v2"
