"""The registry client against registries that misbehave, over real sockets."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from aiohttp import web

from runtime.images.content import ContentStore
from runtime.images.download import Download
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
from runtime.images.manifest import MAX_DOCUMENT, OCI_MANIFEST, Descriptor
from runtime.images.registry import Document, Repository
from runtime.images.settings import Credentials, RegistryConfig
from runtime.images.transport import Transport
from tests.support.ociimage import OciImage, build_image, digest_of
from tests.support.scripted_registry import ScriptedRegistry

QUICK = RegistryConfig(
    attempts=3, backoff_seconds=0.001, max_backoff_seconds=0.01, stall_seconds=0.3
)
SECRET = Credentials(username="user", password="s3cret")
BASIC = "Basic " + base64.b64encode(b"user:s3cret").decode()
BLOB = bytes(range(256)) * 20_000
"""5 MB: several chunks."""


@pytest.fixture
async def registry() -> AsyncIterator[ScriptedRegistry]:
    async with ScriptedRegistry() as found:
        yield found


@pytest.fixture
async def other() -> AsyncIterator[ScriptedRegistry]:
    async with ScriptedRegistry() as found:
        yield found


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    found = Transport(QUICK)
    yield found
    await found.close()


@pytest.fixture
def content(tmp_path: Path) -> ContentStore:
    store = ContentStore(tmp_path / "content")
    store.open()
    return store


@pytest.fixture
def image(registry: ScriptedRegistry) -> OciImage:
    built = build_image({"a": b"text"})
    registry.add(built, "app", "v1")
    return built


Fetch = Callable[..., Awaitable[bytes]]


@pytest.fixture
def fetch(registry: ScriptedRegistry, transport: Transport, content: ContentStore) -> Fetch:
    """Download BLOB as the service does, and return what the store then has."""

    async def run(
        credentials: Credentials | None = None, urls: tuple[str, ...] = (), size: int = len(BLOB)
    ) -> bytes:
        blob = Descriptor("", digest_of(BLOB), size, urls)
        repository = Repository(transport, registry.host, "app", credentials)
        ingest = content.ingest(blob.digest, blob.size)
        with ThreadPoolExecutor(1) as executor:
            try:
                await Download(repository, blob, ingest, executor, lambda done: None).run()
                content.commit(ingest)
            finally:
                ingest.close()
        return content.path(blob.digest).read_bytes()

    return run


async def manifest(
    transport: Transport,
    registry: ScriptedRegistry,
    credentials: Credentials | None = None,
    reference: str = "v1",
) -> Document:
    return await Repository(transport, registry.host, "app", credentials).manifest(reference)


def challenge(text: str) -> web.Response:
    return web.Response(status=401, headers={"WWW-Authenticate": text})


async def test_manifest_by_tag_and_by_digest(
    transport: Transport, registry: ScriptedRegistry, image: OciImage
) -> None:
    by_tag = await manifest(transport, registry)
    by_digest = await manifest(transport, registry, reference=image.digest)
    assert by_tag == by_digest == Document(image.manifest, image.digest, OCI_MANIFEST)


async def test_manifest_that_is_not_its_digest(
    transport: Transport, registry: ScriptedRegistry, image: OciImage
) -> None:
    registry.manifests[f"/v2/app/manifests/{image.digest}"] = (b"{}", OCI_MANIFEST)
    with pytest.raises(DigestMismatch, match=image.digest):
        await manifest(transport, registry, reference=image.digest)


async def test_manifest_that_is_not_what_the_registry_says(
    transport: Transport, registry: ScriptedRegistry, image: OciImage
) -> None:
    async def script(request: web.Request) -> web.Response:
        return web.Response(body=b"{}", headers={"Docker-Content-Digest": image.digest})

    registry.script = script
    with pytest.raises(DigestMismatch):
        await manifest(transport, registry)


async def test_endless_manifest_is_cut_off(
    transport: Transport, registry: ScriptedRegistry
) -> None:
    sent = 0

    async def script(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b" " * 65536)
            sent += 65536

    registry.script = script
    with pytest.raises(MalformedImage, match="longer than"):
        await manifest(transport, registry)
    assert sent < 4 * MAX_DOCUMENT


@pytest.mark.parametrize(
    ("status", "error", "requests"),
    [
        (400, RegistryRefused, 1),
        (403, Unauthorized, 1),
        (404, ImageNotFound, 1),
        (418, RegistryRefused, 1),
        (429, RegistryUnreachable, 3),
        (500, RegistryUnreachable, 3),
        (503, RegistryUnreachable, 3),
    ],
)
async def test_statuses_and_retries(
    transport: Transport,
    registry: ScriptedRegistry,
    status: int,
    error: type[ImageError],
    requests: int,
) -> None:
    async def script(request: web.Request) -> web.Response:
        return web.Response(status=status, body=b"why\n\x1b[31m", headers={"Retry-After": "999"})

    registry.script = script
    with pytest.raises(error, match="why") as caught:
        await manifest(transport, registry)
    assert len(registry.seen) == requests
    assert "\n" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


async def test_trouble_that_passes_is_not_noticed(
    transport: Transport, registry: ScriptedRegistry, image: OciImage
) -> None:
    async def script(request: web.Request) -> web.Response | None:
        return web.Response(status=502) if len(registry.seen) < 3 else None

    registry.script = script
    assert (await manifest(transport, registry)).digest == image.digest


async def test_nobody_listens(transport: Transport) -> None:
    async with ScriptedRegistry() as gone:
        pass
    with pytest.raises(RegistryUnreachable, match=r"127\.0\.0\.1.*3 attempts.*check that"):
        await manifest(transport, gone)


async def test_a_registry_that_hangs(transport: Transport, registry: ScriptedRegistry) -> None:
    async def script(request: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    registry.script = script
    async with asyncio.timeout(10):
        with pytest.raises(RegistryUnreachable, match=r"deadline|imeout"):
            await manifest(transport, registry)


async def test_https_is_not_spoken_to_plain_http(registry: ScriptedRegistry) -> None:
    from runtime.images.settings import RegistrySettings

    config = RegistryConfig(registries={registry.host: RegistrySettings(plain_http=False)})
    transport = Transport(config)
    try:
        with pytest.raises(RegistryUnreachable, match="plain_http"):
            await manifest(transport, registry)
    finally:
        await transport.close()
    assert registry.seen == []


# Authentication.


async def test_basic(transport: Transport, registry: ScriptedRegistry, image: OciImage) -> None:
    async def script(request: web.Request) -> web.Response | None:
        if request.headers.get("Authorization") != BASIC:
            return challenge('Basic realm="r"')
        return None

    registry.script = script
    assert (await manifest(transport, registry, SECRET)).digest == image.digest
    for wrong in (None, Credentials(username="user", password="wrong")):
        registry.seen.clear()
        with pytest.raises(Unauthorized):
            await manifest(transport, registry, wrong)
        assert len(registry.seen) <= 2


def token_script(
    registry: ScriptedRegistry, needed: str | None, answer: bytes | None = None
) -> None:
    """Make ``registry`` want a token, which its service gives to whoever sends ``needed``."""

    async def script(request: web.Request) -> web.Response | None:
        if request.path == "/token":
            if needed is not None and request.headers.get("Authorization") != needed:
                return web.Response(status=401, body=b"wrong password")
            body = answer or json.dumps({"token": "t0ken", "expires_in": 300}).encode()
            return web.Response(body=body)
        if request.headers.get("Authorization") != "Bearer t0ken":
            return challenge(
                f'Bearer realm="{registry.url}/token?a=b",service="s",scope="repository:all:*"'
            )
        return None

    registry.script = script


@pytest.mark.parametrize("credentials", [None, SECRET])
async def test_bearer(
    transport: Transport,
    registry: ScriptedRegistry,
    image: OciImage,
    credentials: Credentials | None,
) -> None:
    token_script(registry, BASIC if credentials else None)
    repository = Repository(transport, registry.host, "app", credentials)
    assert (await repository.manifest("v1")).digest == image.digest
    await repository.manifest("v1")
    tokens = [path for path in registry.paths() if path.startswith("/token")]
    # Asked once, for what is needed and not for what the challenge suggests.
    assert tokens == ["/token?a=b&service=s&scope=repository:app:pull"]


async def test_bearer_refused(
    transport: Transport, registry: ScriptedRegistry, image: OciImage
) -> None:
    token_script(registry, BASIC)
    with pytest.raises(Unauthorized, match="wrong password"):
        await manifest(transport, registry, Credentials(username="user", password="no"))


async def test_token_that_the_registry_does_not_take(
    transport: Transport, registry: ScriptedRegistry, image: OciImage
) -> None:
    token_script(registry, None, b'{"access_token": "other"}')
    with pytest.raises(Unauthorized):
        await manifest(transport, registry)
    assert len(registry.seen) < 10


@pytest.mark.parametrize(
    "answer",
    [b"{}", b"[]", b'{"token": 7}', b'{"token": "a\\r\\nX-Evil: 1"}', b'{"token": "a b"}',
     b"<html>",
     b'{"token": "' + b"a" * 70_000 + b'"}', b" " * 300_000],
)  # fmt: skip
async def test_bad_token_answers(
    transport: Transport, registry: ScriptedRegistry, image: OciImage, answer: bytes
) -> None:
    token_script(registry, None, answer)
    with pytest.raises(MalformedImage):
        await manifest(transport, registry)


async def test_registry_token_and_identity_token(
    transport: Transport, registry: ScriptedRegistry, image: OciImage
) -> None:
    token_script(registry, None)
    await manifest(transport, registry, Credentials(registry_token="t0ken"))
    assert not any(path.startswith("/token") for path in registry.paths())

    forms: list[str] = []
    usual = registry.script

    async def script(request: web.Request) -> web.StreamResponse | None:
        if request.path == "/token":
            assert request.method == "POST"
            forms.append(await request.text())
        return await usual(request)

    registry.script = script
    await manifest(transport, registry, Credentials(identity_token="refresh"))
    assert "grant_type=refresh_token" in forms[0]
    assert "refresh_token=refresh" in forms[0]


async def test_token_service_may_not_redirect(
    transport: Transport, registry: ScriptedRegistry, other: ScriptedRegistry, image: OciImage
) -> None:
    async def script(request: web.Request) -> web.Response | None:
        if request.path == "/token":
            return web.Response(status=307, headers={"Location": f"{other.url}/token"})
        return challenge(f'Bearer realm="{registry.url}/token"')

    registry.script = script
    with pytest.raises(Unauthorized):
        await manifest(transport, registry, Credentials(identity_token="refresh"))
    assert other.seen == []


# Blobs.


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
