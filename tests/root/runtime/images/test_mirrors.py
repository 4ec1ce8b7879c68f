"""Whole pulls through mirrors of a hosts.toml: tags, manifests and layers, each where it may be."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from runtime.images.errors import BadRegistryConfig, DigestMismatch, ImageNotFound
from runtime.images.service import ImageStore
from tests.root.runtime.images.stores import QUICK, assert_empty
from tests.support.ociimage import build_image
from tests.support.scripted_registry import ScriptedRegistry

pytestmark = pytest.mark.root

IMAGE = build_image({"top": os.urandom(3_000_000)}, layers=[{"base": b"b"}])
LAYERS = [digest for digest in IMAGE.blobs if digest != IMAGE.id]


@pytest.fixture
async def mirror() -> AsyncIterator[ScriptedRegistry]:
    async with ScriptedRegistry() as found:
        found.add(IMAGE, "app", "v1")
        yield found


@pytest.fixture
async def upstream() -> AsyncIterator[ScriptedRegistry]:
    async with ScriptedRegistry() as found:
        found.add(IMAGE, "app", "v1")
        yield found


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[ImageStore]:
    config = replace(QUICK, host_directories=(tmp_path / "certs.d",))
    found = ImageStore(tmp_path / "root", config)
    await found.open()
    yield found
    await found.close()


def hosts(tmp_path: Path, upstream: ScriptedRegistry, text: str) -> str:
    """Write the file for ``upstream``; returns the name of the image there."""
    directory = tmp_path / "certs.d" / (upstream.host.replace(":", "_") + "_")
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "hosts.toml").write_text(text)
    return f"{upstream.host}/app:v1"


async def test_all_of_it_from_the_mirror(
    store: ImageStore, mirror: ScriptedRegistry, upstream: ScriptedRegistry, tmp_path: Path
) -> None:
    name = hosts(tmp_path, upstream, f'[host."{mirror.url}"]')
    image = await store.pull(name)
    assert image.repo_tags == (name,)
    assert image.repo_digests == (f"{upstream.host}/app@{IMAGE.digest}",)
    assert upstream.seen == []
    assert all(path.endswith(f"?ns={upstream.host}") for path in mirror.paths())
    assert len(mirror.seen) == 4


async def test_a_mirror_that_may_not_say_what_a_tag_is(
    store: ImageStore, mirror: ScriptedRegistry, upstream: ScriptedRegistry, tmp_path: Path
) -> None:
    """A public mirror has the bytes; the registry itself has the word on tags."""
    forged = build_image({"evil": b""})
    mirror.manifests["/v2/app/manifests/v1"] = (forged.manifest, forged.media_type)
    name = hosts(tmp_path, upstream, f'[host."{mirror.url}"]\ncapabilities = ["pull"]')
    assert (await store.pull(name)).id == IMAGE.id
    assert [(method, path) for method, path, _ in upstream.seen] == [
        ("HEAD", "/v2/app/manifests/v1")
    ]
    assert "/v2/app/manifests/v1" not in [path.partition("?")[0] for path in mirror.paths()]
    assert len(mirror.seen) == 4


async def test_a_registry_that_has_no_head(
    store: ImageStore, mirror: ScriptedRegistry, upstream: ScriptedRegistry, tmp_path: Path
) -> None:
    async def script(request: web.Request) -> web.Response | None:
        return web.Response(status=405) if request.method == "HEAD" else None

    upstream.script = script
    name = hosts(tmp_path, upstream, f'[host."{mirror.url}"]\ncapabilities = ["pull"]')
    assert (await store.pull(name)).id == IMAGE.id
    assert [method for method, *_ in upstream.seen] == ["HEAD", "GET"]


async def test_a_mirror_that_lacks_a_layer_or_damages_it(
    store: ImageStore, mirror: ScriptedRegistry, upstream: ScriptedRegistry, tmp_path: Path
) -> None:
    del mirror.blobs[LAYERS[0]]
    whole = mirror.blobs[LAYERS[1]]
    mirror.blobs[LAYERS[1]] = b"?" * len(whole)
    name = hosts(tmp_path, upstream, f'[host."{mirror.url}"]')
    assert (await store.pull(name)).id == IMAGE.id
    assert sorted(upstream.paths()) == sorted(f"/v2/app/blobs/{digest}" for digest in LAYERS)


def _start(header: str) -> int:
    return int(header.removeprefix("bytes=").removesuffix("-"))


async def test_a_mirror_that_breaks_off_in_the_middle(
    store: ImageStore, mirror: ScriptedRegistry, upstream: ScriptedRegistry, tmp_path: Path
) -> None:
    """What the mirror has sent is not sent again; unless it turns out to be wrong."""
    big = max(LAYERS, key=lambda digest: len(IMAGE.blobs[digest]))
    sent = IMAGE.blobs[big][:2_000_000]

    async def script(request: web.Request) -> web.StreamResponse | None:
        if big not in request.path:
            return None
        if request.headers.get("Range"):
            return web.Response(status=500)
        response = web.StreamResponse()
        response.content_length = len(IMAGE.blobs[big])
        await response.prepare(request)
        await response.write(sent)
        assert request.transport is not None
        request.transport.close()
        return response

    mirror.script = script
    name = hosts(tmp_path, upstream, f'[host."{mirror.url}"]')
    image = await store.pull(name)
    assert image.id == IMAGE.id
    (seen,) = [headers for _, path, headers in upstream.seen if big in path]
    assert _start(seen["Range"]) > 0

    await store.remove(image.id)
    await assert_empty(store)
    sent, mirror.seen = b"?" * len(sent), []
    upstream.seen = []
    assert (await store.pull(name)).id == IMAGE.id
    resumed, again = [headers.get("Range") for _, path, headers in upstream.seen if big in path]
    assert resumed is not None
    assert again is None


async def test_a_mirror_that_answers_with_a_web_page(
    store: ImageStore, mirror: ScriptedRegistry, upstream: ScriptedRegistry, tmp_path: Path
) -> None:
    async def script(request: web.Request) -> web.Response:
        return web.Response(text="<html>please log in</html>", content_type="text/html")

    mirror.script = script
    name = hosts(tmp_path, upstream, f'[host."{mirror.url}"]')
    assert (await store.pull(name)).id == IMAGE.id


async def test_no_place_has_it(
    store: ImageStore, mirror: ScriptedRegistry, upstream: ScriptedRegistry, tmp_path: Path
) -> None:
    name = hosts(tmp_path, upstream, f'[host."{mirror.url}"]')
    for served in (mirror, upstream):
        served.blobs[LAYERS[0]] = b"!" * len(IMAGE.blobs[LAYERS[0]])
    with pytest.raises(DigestMismatch, match=f"mirrors failed before: {mirror.host}"):
        await store.pull(name)
    await assert_empty(store)
    with pytest.raises(ImageNotFound, match=upstream.host):
        await store.pull(name + "2")


async def test_the_file_is_read_for_every_pull(
    store: ImageStore, mirror: ScriptedRegistry, upstream: ScriptedRegistry, tmp_path: Path
) -> None:
    name = hosts(tmp_path, upstream, f'[host."{mirror.url}"]\ncapabilities = 7')
    with pytest.raises(BadRegistryConfig, match=r"hosts\.toml: host.*capabilities is 7"):
        await store.pull(name)
    assert mirror.seen == upstream.seen == []
    hosts(tmp_path, upstream, f'[host."{mirror.url}"]')
    await store.pull(name)
    assert upstream.seen == []
    hosts(tmp_path, upstream, "")
    await store.pull(name)
    assert upstream.paths() == ["/v2/app/manifests/v1"]
