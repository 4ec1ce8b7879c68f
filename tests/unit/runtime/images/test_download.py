"""Blobs on their way from a registry: redirected, broken, resumed, verified."""

from __future__ import annotations

import asyncio

import pytest
from aiohttp import web

from runtime.images.content import ContentStore
from runtime.images.errors import (
    DigestMismatch,
    ImageError,
    ImageNotFound,
    MalformedImage,
    NoMatchingPlatform,
    RegistryRefused,
    RegistryUnreachable,
    TruncatedBlob,
    Unauthorized,
)
from runtime.images.manifest import Descriptor
from runtime.images.registry import Repository
from runtime.images.transport import Transport
from tests.support.ociimage import digest_of
from tests.support.scripted_registry import ScriptedRegistry
from tests.unit.runtime.images.registries import (
    BASIC,
    BLOB,
    HASTY,
    SECRET,
    Fetch,
    challenge,
)


async def test_blob(registry: ScriptedRegistry, fetch: Fetch) -> None:
    registry.blobs[digest_of(BLOB)] = BLOB
    assert await fetch() == BLOB


async def test_redirected_blob_takes_no_secrets_along(
    registry: ScriptedRegistry, other: ScriptedRegistry, fetch: Fetch
) -> None:
    """CVE-2020-15157: who a registry redirects to sees no token, whatever it asks for."""
    other.blobs[digest_of(BLOB)] = BLOB

    async def script(request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != BASIC:
            return challenge('Basic realm="r"')
        return web.Response(status=307, headers={"Location": other.url + request.path_qs})

    registry.script = script
    assert await fetch(SECRET) == BLOB
    assert registry.secrets() == [BASIC]
    assert len(other.seen) == 1
    assert other.secrets() == []


async def test_challenges_of_foreign_hosts_are_not_answered(
    registry: ScriptedRegistry, other: ScriptedRegistry, fetch: Fetch
) -> None:
    async def script(request: web.Request) -> web.Response:
        if request.headers.get("Authorization") != BASIC:
            return challenge('Basic realm="r"')
        return web.Response(status=302, headers={"Location": f"{other.url}/x"})

    async def greedy(request: web.Request) -> web.Response:
        return challenge(f'Basic realm="r", Bearer realm="{other.url}/token"')

    registry.script, other.script = script, greedy
    with pytest.raises(Unauthorized):
        await fetch(SECRET)
    assert other.paths() == ["/x"]
    assert other.secrets() == []


async def test_foreign_layer_url_sees_no_secrets(
    registry: ScriptedRegistry, other: ScriptedRegistry, fetch: Fetch
) -> None:
    """CVE-2020-15157, by the descriptor's own URL."""

    async def greedy(request: web.Request) -> web.Response:
        return challenge(f'Bearer realm="{other.url}/token"')

    async def script(request: web.Request) -> web.Response | None:
        if request.headers.get("Authorization") != BASIC:
            return challenge('Basic realm="r"')
        return None

    registry.script, other.script = script, greedy
    with pytest.raises(Unauthorized):
        await fetch(SECRET, urls=(f"{other.url}/layer",))
    assert other.paths() == ["/layer"]
    assert other.secrets() == []


async def test_foreign_layer_url_is_used_when_the_registry_has_no_copy(
    registry: ScriptedRegistry, other: ScriptedRegistry, fetch: Fetch
) -> None:
    other.blobs[digest_of(BLOB)] = BLOB
    assert await fetch(urls=(f"{other.url}/v2/app/blobs/{digest_of(BLOB)}",)) == BLOB


@pytest.mark.parametrize(
    "location",
    ["file:///etc/passwd", "http://169.254.169.254/latest", "gopher://a/", "http://u:p@a/", ""],
)
async def test_unsafe_redirects(registry: ScriptedRegistry, fetch: Fetch, location: str) -> None:
    async def script(request: web.Request) -> web.Response | None:
        if request.path == "/loop":
            return web.Response(status=302, headers={"Location": "/loop"})
        return web.Response(status=302, headers={"Location": location or "/loop"})

    registry.script = script
    with pytest.raises(RegistryRefused):
        await fetch()
    assert len(registry.seen) < 20


def breaking(registry: ScriptedRegistry, pieces: int, *, ranges: bool = True) -> list[str | None]:
    """Make each answer break off after a part of the blob; returns the Range headers seen."""
    seen: list[str | None] = []
    step = len(BLOB) // pieces + 1

    async def script(request: web.Request) -> web.StreamResponse:
        seen.append(request.headers.get("Range"))
        start = (request.http_range.start or 0) if ranges else 0
        response = web.StreamResponse(status=206 if start else 200)
        if start:
            response.headers["Content-Range"] = f"bytes {start}-{len(BLOB) - 1}/{len(BLOB)}"
        response.content_length = len(BLOB) - start
        await response.prepare(request)
        await response.write(BLOB[start : start + step])
        if start + step < len(BLOB):
            assert request.transport is not None
            request.transport.close()
        return response

    registry.script = script
    return seen


async def test_broken_download_is_resumed(registry: ScriptedRegistry, fetch: Fetch) -> None:
    seen = breaking(registry, pieces=4)
    assert await fetch() == BLOB
    assert seen[0] is None
    assert all(header is not None and header.startswith("bytes=") for header in seen[1:])
    assert len(seen) >= 4


async def test_server_that_cannot_resume_and_never_finishes(
    registry: ScriptedRegistry, fetch: Fetch
) -> None:
    breaking(registry, pieces=2, ranges=False)
    with pytest.raises(TruncatedBlob, match=r"of 5120000 bytes arrived"):
        await fetch()
    assert len(registry.seen) < 10


async def test_server_that_cannot_resume_but_finishes(
    registry: ScriptedRegistry, fetch: Fetch
) -> None:
    registry.blobs[digest_of(BLOB)] = BLOB
    breaking(registry, pieces=2, ranges=False)
    broken = registry.script

    async def script(request: web.Request) -> web.StreamResponse | None:
        if len(registry.seen) == 1:
            return await broken(request)
        return web.Response(body=BLOB)

    registry.script = script
    assert await fetch() == BLOB


async def test_truncated_blob(
    registry: ScriptedRegistry, fetch: Fetch, content: ContentStore
) -> None:
    registry.blobs[digest_of(BLOB)] = BLOB[:-1]
    with pytest.raises(TruncatedBlob, match="5119999 of 5120000"):
        await fetch()
    assert content.digests() == set()


async def test_wrong_content_range(registry: ScriptedRegistry, fetch: Fetch) -> None:
    breaking(registry, pieces=2)
    broken = registry.script

    async def script(request: web.Request) -> web.StreamResponse | None:
        if request.headers.get("Range") is None:
            return await broken(request)
        return web.Response(status=206, body=BLOB, headers={"Content-Range": "bytes 0-9/10"})

    registry.script = script
    with pytest.raises(RegistryRefused, match="Content-Range"):
        await fetch()


@pytest.mark.parametrize("served", [BLOB[:-1] + b"!", BLOB + b"!", BLOB * 3])
async def test_blob_that_is_not_its_digest(
    registry: ScriptedRegistry, fetch: Fetch, content: ContentStore, served: bytes
) -> None:
    registry.blobs[digest_of(BLOB)] = served
    with pytest.raises(DigestMismatch):
        await fetch()
    assert content.digests() == set()
    assert not content.path(digest_of(BLOB)).exists()


async def test_blob_of_another_size(registry: ScriptedRegistry, fetch: Fetch) -> None:
    registry.blobs[digest_of(BLOB)] = BLOB
    with pytest.raises(DigestMismatch):
        await fetch(size=len(BLOB) - 1)


@pytest.mark.slow
@pytest.mark.parametrize("registry_config", [HASTY], ids=[""])
async def test_download_that_trickles_is_given_up(registry: ScriptedRegistry, fetch: Fetch) -> None:
    async def script(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = len(BLOB)
        await response.prepare(request)
        for byte in BLOB:
            # A byte now and then is no progress.
            await response.write(bytes([byte]))
            await asyncio.sleep(0.05)
        return response

    registry.script = script
    async with asyncio.timeout(10):
        with pytest.raises(ImageError) as caught:
            await fetch()
    assert isinstance(caught.value, RegistryUnreachable | TruncatedBlob)


async def test_small_blob_is_verified(transport: Transport, registry: ScriptedRegistry) -> None:
    repository = Repository(transport, registry.host, "app", None)
    blob = Descriptor("", digest_of(b"abc"), 3)
    registry.blobs[blob.digest] = b"abc"
    assert await repository.small_blob(blob, "config") == b"abc"
    for wrong in (b"abd", b"ab"):
        registry.blobs[blob.digest] = wrong
        with pytest.raises(DigestMismatch):
            await repository.small_blob(blob, "config")
    registry.blobs[blob.digest] = b"abcdefgh"
    with pytest.raises(MalformedImage):
        await repository.small_blob(blob, "config")


def test_reasons_differ() -> None:
    kinds = [DigestMismatch, ImageNotFound, MalformedImage, NoMatchingPlatform, RegistryRefused,
             RegistryUnreachable, TruncatedBlob, Unauthorized]  # fmt: skip
    assert len({kind.reason for kind in kinds}) == len(kinds)
