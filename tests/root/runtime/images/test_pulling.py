"""How a pull goes: side by side, bounded, again after failures; and what a failed one leaves."""

from __future__ import annotations

import asyncio
import gzip
import logging
import os
from dataclasses import replace
from pathlib import Path

import pytest
import zstandard
from aiohttp import web

from runtime.images.errors import DigestMismatch, ImageError, RegistryUnreachable
from runtime.images.service import ImageStore
from runtime.images.settings import RegistryConfig
from tests.root.runtime.cri.node import wait_until
from tests.root.runtime.images.stores import QUICK, assert_empty, directories
from tests.support.circumstances import patient
from tests.support.ociimage import (
    OCI_LAYER,
    Entry,
    OciImage,
    assemble,
    build_image,
    descriptor,
    digest_of,
    dumps,
    tar_layer,
)
from tests.support.scripted_registry import ScriptedRegistry

pytestmark = pytest.mark.root

DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


def layers_of(image: OciImage) -> list[str]:
    return [digest_of(layer) for layer in image.layers]


def many_layers(count: int) -> OciImage:
    layers: list[dict[str, Entry]] = [{f"f{n}": os.urandom(1000)} for n in range(count)]
    return build_image(layers=layers)


async def opened(path: Path, config: RegistryConfig) -> ImageStore:
    store = ImageStore(path, config)
    await store.open()
    return store


async def until_empty(store: ImageStore) -> None:
    # The loop goes on meanwhile, which is where the collection runs.
    gone = lambda: not store.content.digests() and not directories(store)  # noqa: E731
    await asyncio.to_thread(wait_until, gone, "leftovers to be collected", 20)


async def test_layers_are_fetched_side_by_side_and_not_all_at_once(
    hostile: ScriptedRegistry, store: ImageStore
) -> None:
    one, two = many_layers(4), many_layers(3)
    hostile.add(one, "one", "v1")
    hostile.add(two, "two", "v1")
    now, most = 0, 0
    full = asyncio.Event()

    async def script(request: web.Request) -> None:
        nonlocal now, most
        digest = request.path.rpartition("/")[2]
        if digest not in layers_of(one) + layers_of(two):
            return
        now += 1
        most = max(most, now)
        if now == store.config.parallel_downloads:
            full.set()
        try:
            # Nobody goes on before as many as may be are under way.
            async with asyncio.timeout(patient(20)):
                await full.wait()
            await asyncio.sleep(0.01)
        finally:
            now -= 1

    hostile.script = script
    pulls = (store.pull(f"{hostile.host}/{name}:v1") for name in ("one", "two"))
    assert [image.id for image in await asyncio.gather(*pulls)] == [one.id, two.id]
    assert most == store.config.parallel_downloads == 3


async def test_a_download_that_stands_still_is_resumed(
    hostile: ScriptedRegistry, tmp_path: Path
) -> None:
    built = build_image({"big": os.urandom(2_000_000)})
    hostile.add(built, "app", "v1")
    (layer,) = layers_of(built)
    released = asyncio.Event()

    async def script(request: web.Request) -> web.StreamResponse | None:
        if layer not in request.path or request.headers.get("Range"):
            return None
        response = web.StreamResponse()
        response.content_length = len(built.blobs[layer])
        await response.prepare(request)
        await response.write(built.blobs[layer][:1_500_000])
        await released.wait()
        return response

    hostile.script = script
    store = await opened(tmp_path / "r", replace(QUICK, stall_seconds=1))
    try:
        async with asyncio.timeout(patient(20)):
            assert (await store.pull(f"{hostile.host}/app:v1")).id == built.id
    finally:
        released.set()
        await store.close()
    first, second, *_ = [headers.get("Range") for _, path, headers in hostile.seen if layer in path]
    assert first is None
    assert second == "bytes=1500000-"


async def test_the_next_try_goes_on_where_the_failed_one_stopped(
    hostile: ScriptedRegistry, tmp_path: Path
) -> None:
    built = build_image({"b": os.urandom(1000)}, layers=[{"a": os.urandom(1000)}])
    hostile.add(built, "app", "v1")
    first, second = layers_of(built)
    broken = True

    async def script(request: web.Request) -> web.Response | None:
        if first in request.path:
            return None
        return web.Response(status=503) if second in request.path and broken else None

    hostile.script = script
    name = f"{hostile.host}/app:v1"
    store = await opened(tmp_path / "r", replace(QUICK, leftover_seconds=30))
    try:
        done = asyncio.Event()
        with pytest.raises(RegistryUnreachable):
            await store.pull(name, progress=lambda step: done.set())
        assert store.list() == []
        broken, hostile.seen = False, []
        assert (await store.pull(name)).id == built.id
        assert sum(first in path for path in hostile.paths()) <= 1
        assert store.list() != []
    finally:
        await store.close()


async def test_what_nobody_tries_again_is_collected(
    hostile: ScriptedRegistry, tmp_path: Path
) -> None:
    built = build_image({"b": os.urandom(1000)}, layers=[{"a": os.urandom(1000)}])
    hostile.add(built, "app", "v1")
    second = layers_of(built)[1]

    async def script(request: web.Request) -> web.Response | None:
        return web.Response(status=503) if second in request.path else None

    hostile.script = script
    store = await opened(tmp_path / "r", replace(QUICK, leftover_seconds=0.2))
    try:
        with pytest.raises(RegistryUnreachable):
            await store.pull(f"{hostile.host}/app:v1")
        assert built.id in store.content.digests()
        await until_empty(store)
        await assert_empty(store)
    finally:
        await store.close()


async def test_a_cancelled_pull_is_collected(hostile: ScriptedRegistry, tmp_path: Path) -> None:
    built = build_image({"b": os.urandom(1000)})
    hostile.add(built, "app", "v1")
    asked, never = asyncio.Event(), asyncio.Event()

    async def script(request: web.Request) -> None:
        if layers_of(built)[0] in request.path:
            asked.set()
            await never.wait()

    hostile.script = script
    store = await opened(tmp_path / "r", replace(QUICK, leftover_seconds=0.2))
    try:
        pull = asyncio.create_task(store.pull(f"{hostile.host}/app:v1"))
        await asked.wait()
        pull.cancel()
        await asyncio.wait([pull])
        assert store.content.digests() != set()
        await until_empty(store)
    finally:
        never.set()
        await store.close()


async def test_clearing_up_after_one_pull_leaves_the_others_alone(
    hostile: ScriptedRegistry, store: ImageStore
) -> None:
    """Collected at once, for a damaged image is of no use; and without waiting for the others."""
    good = build_image({"top": os.urandom(2_000_000)}, layers=[{"base": os.urandom(1000)}])
    bad = build_image({"bad": os.urandom(1000)}, layers=[{"more": os.urandom(1000)}])
    hostile.add(good, "good", "v1")
    hostile.add(bad, "bad", "v1")
    hostile.blobs[layers_of(bad)[1]] = b"!" * len(bad.layers[1])
    halfway, go_on = asyncio.Event(), asyncio.Event()

    async def script(request: web.Request) -> web.StreamResponse | None:
        top = layers_of(good)[1]
        if top not in request.path:
            return None
        response = web.StreamResponse()
        response.content_length = len(good.blobs[top])
        await response.prepare(request)
        await response.write(good.blobs[top][:1_500_000])
        halfway.set()
        await go_on.wait()
        await response.write(good.blobs[top][1_500_000:])
        return response

    hostile.script = script
    slow = asyncio.create_task(store.pull(f"{hostile.host}/good:v1"))
    await halfway.wait()
    with pytest.raises(DigestMismatch):
        await store.pull(f"{hostile.host}/bad:v1")
    assert not store.content.digests() & set(bad.blobs)
    assert not slow.done()
    go_on.set()
    assert (await slow).id == good.id
    assert sum(layers_of(good)[1] in path for path in hostile.paths()) == 1


async def test_removing_images_while_others_are_pulled(
    hostile: ScriptedRegistry, store: ImageStore
) -> None:
    """The base is shared: removing the one image never takes it from under the other."""
    base: dict[str, Entry] = {"base": os.urandom(200_000)}
    images = [build_image({"top": f"{n}"}, layers=[base]) for n in range(4)]
    for n, image in enumerate(images):
        hostile.add(image, f"app{n}", "v1")

    async def cycle(n: int) -> None:
        for _ in range(5):
            image = await store.pull(f"{hostile.host}/app{n}:v1")
            assert store.snapshots.read_image_file(image, "base", 1 << 20) == base["base"]
            await store.remove(image.id)

    async with asyncio.timeout(patient(60)):
        await asyncio.gather(*(cycle(n) for n in range(4)))
    await assert_empty(store)


async def test_progress_is_in_the_log(
    hostile: ScriptedRegistry, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    built = build_image({"big": os.urandom(6_000_000)}, layers=[{"base": b"b"}])
    hostile.add(built, "app", "v1")
    store = await opened(tmp_path / "r", replace(QUICK, progress_log_seconds=0.0))
    try:
        with caplog.at_level(logging.INFO):
            await store.pull(f"{hostile.host}/app:v1")
    finally:
        await store.close()
    lines = [record.__dict__["fields"] for record in caplog.records if "progress" in record.message]
    done = [line["bytes_done"] for line in lines]
    assert done == sorted(done)
    assert len(set(done)) > 3
    assert lines[-1]["bytes_done"] == lines[-1]["bytes_total"] == sum(map(len, built.layers))
    assert (lines[-1]["layers_ready"], lines[-1]["layers"]) == (2, 2)


def _docker(image: OciImage) -> bytes:
    return dumps(
        {
            "schemaVersion": 2,
            "mediaType": DOCKER_MANIFEST,
            "config": descriptor(DOCKER_CONFIG, image.config),
            "layers": [descriptor(DOCKER_LAYER, layer) for layer in image.layers],
        }
    )


async def test_a_docker_manifest_list_with_variants(
    hostile: ScriptedRegistry, tmp_path: Path
) -> None:
    from runtime.images.platforms import Platform

    images = {v: build_image({"v": v}, architecture="arm") for v in ("v5", "v6", "v7")}
    entries = []
    for variant, image in images.items():
        hostile.blobs |= image.blobs
        hostile.add_manifest(_docker(image), DOCKER_MANIFEST, "multi", variant)
        platform = {"os": "linux", "architecture": "arm", "variant": variant}
        entries.append(descriptor(DOCKER_MANIFEST, _docker(image), platform=platform))
    # What build tools attach to an image is for no platform, and never chosen.
    entries.insert(0, entries[0] | {"platform": {"os": "unknown", "architecture": "unknown"}})
    index = dumps({"schemaVersion": 2, "mediaType": DOCKER_LIST, "manifests": entries})
    digest = hostile.add_manifest(index, DOCKER_LIST, "multi", "v1")
    for host, chosen in (("v6", "v6"), ("v8", "v7")):
        config = replace(QUICK, platform=Platform("linux", "arm", host))
        store = await opened(tmp_path / host, config)
        try:
            pulled = await store.pull(f"{hostile.host}/multi:v1@{digest}")
            assert pulled.id == images[chosen].id
            assert pulled.repo_tags == ()
            assert pulled.repo_digests == (f"{hostile.host}/multi@{digest}",)
        finally:
            await store.close()


def _packed(kind: str, tar: bytes) -> bytes:
    half = len(tar) // 2
    parts = [tar[:half], b"", tar[half:]]
    if kind == "gzip":
        return b"".join(map(gzip.compress, parts))
    skippable = b"\x50\x2a\x4d\x18\x04\x00\x00\x00abcd"
    return skippable.join(zstandard.ZstdCompressor().compress(part) for part in parts)


@pytest.mark.parametrize("kind", ["gzip", "zstd"])
async def test_layers_of_several_streams(
    hostile: ScriptedRegistry, store: ImageStore, kind: str
) -> None:
    """Several gzip members, several zstd frames and frames to be skipped: one layer each."""
    content = os.urandom(300_000)
    tar = tar_layer({"f": content})
    plain = build_image(layers=[tar])
    built = assemble(plain.config, [_packed(kind, tar)], layer_type=f"{OCI_LAYER}+{kind}")
    hostile.add(built, "streams", "v1")
    image = await store.pull(f"{hostile.host}/streams:v1")
    assert store.snapshots.read_image_file(image, "f", 1 << 20) == content


@pytest.mark.parametrize("said", ["", "+gzip", "+zstd"])
async def test_layers_under_a_wrong_media_type(
    hostile: ScriptedRegistry, store: ImageStore, said: str
) -> None:
    tar = tar_layer({"f": b"content"})
    plain = build_image(layers=[tar])
    packings = {"": tar, "+gzip": gzip.compress(tar), "+zstd": zstandard.compress(tar)}
    for n, packed in enumerate(packings.values()):
        hostile.add(assemble(plain.config, [packed], layer_type=OCI_LAYER + said), f"w{n}", "v1")
        image = await store.pull(f"{hostile.host}/w{n}:v1")
        assert store.snapshots.read_image_file(image, "f", 100) == b"content"
        await store.remove(image.id)


async def test_many_names_and_no_secret_left(hostile: ScriptedRegistry, store: ImageStore) -> None:
    """Two repositories, tags and digests of one image; each name goes alone, the id takes all."""
    built = build_image({"n": b"n"})
    names = []
    for repository in ("one", "two"):
        for tag in ("v1", "v2"):
            hostile.add(built, repository, tag)
            names.append(f"{hostile.host}/{repository}:{tag}")
    for name in names:
        await store.pull(name)
    found = store.get(built.id)
    assert found is not None
    assert found.repo_tags == tuple(names)
    digests = tuple(f"{hostile.host}/{each}@{built.digest}" for each in ("one", "two"))
    assert found.repo_digests == digests
    await store.remove(digests[0])
    await store.remove(names[0])
    found = store.get(names[1])
    assert found is not None
    assert found.repo_tags == tuple(names[1:])
    assert found.repo_digests == digests[1:]
    await store.remove(built.id)
    await assert_empty(store)
    with pytest.raises(ImageError):
        await store.pull(f"{hostile.host}/one:v3")
