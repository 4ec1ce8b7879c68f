"""The registry client against registries that misbehave, over real sockets."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from collections.abc import Callable

import pytest
from aiohttp import web

from runtime.images.errors import (
    DigestMismatch,
    ImageError,
    ImageNotFound,
    MalformedImage,
    RegistryRefused,
    RegistryUnreachable,
    Unauthorized,
)
from runtime.images.manifest import MAX_DOCUMENT, OCI_MANIFEST, parse
from runtime.images.registry import Document, Repository
from runtime.images.settings import Credentials, RegistryConfig
from runtime.images.transport import Transport
from tests.support.ociimage import OciImage
from tests.support.scripted_registry import ScriptedRegistry
from tests.unit.runtime.images.registries import (
    BASIC,
    HASTY,
    SECRET,
    challenge,
    manifest,
)


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
    with pytest.raises(
        RegistryUnreachable, match=r"cannot connect to 127\.0\.0\.1:\d+: Connection refused; check"
    ):
        await manifest(transport, gone)


@pytest.mark.parametrize("registry_config", [HASTY], ids=[""])
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


async def test_bearer_by_post_where_the_service_has_no_get(
    transport: Transport, registry: ScriptedRegistry, image: OciImage
) -> None:
    """distribution's oauth.md: the password goes in a form."""
    forms: list[dict[str, str]] = []

    async def script(request: web.Request) -> web.Response | None:
        if request.path == "/token" and request.method == "GET":
            return web.Response(status=405)
        if request.path == "/token":
            forms.append({key: str(value) for key, value in (await request.post()).items()})
            return web.json_response({"access_token": "t0ken", "expires_in": 60})
        if request.headers.get("Authorization") != "Bearer t0ken":
            return challenge(f'Bearer realm="{registry.url}/token",service="s"')
        return None

    registry.script = script
    assert (await manifest(transport, registry, SECRET)).digest == image.digest
    assert forms == [
        {
            "service": "s",
            "scope": "repository:app:pull",
            "grant_type": "password",
            "username": "user",
            "password": "s3cret",
            "client_id": "kubeletpy",
        }
    ]
    with pytest.raises(Unauthorized, match="405"):
        await manifest(transport, registry)
    assert len(forms) == 1


async def test_an_expired_token_is_renewed(
    transport: Transport, registry: ScriptedRegistry, image: OciImage
) -> None:
    issued = 0

    async def script(request: web.Request) -> web.Response | None:
        nonlocal issued
        if request.path == "/token":
            issued += 1
            return web.json_response({"token": f"t{issued}"})
        if request.headers.get("Authorization") != f"Bearer t{max(issued, 1)}":
            return challenge(f'Bearer realm="{registry.url}/token"')
        return None

    registry.script = script
    repository = Repository(transport, registry.host, "app", None)
    await repository.manifest("v1")
    issued += 1
    await repository.manifest("v1")
    assert issued == 3


@pytest.mark.slow
async def test_retry_after_is_waited_for(registry: ScriptedRegistry, image: OciImage) -> None:
    times: list[float] = []

    async def script(request: web.Request) -> web.Response | None:
        times.append(asyncio.get_running_loop().time())
        return web.Response(status=429, headers={"Retry-After": "1"}) if len(times) == 1 else None

    registry.script = script
    transport = Transport(RegistryConfig(backoff_seconds=0.001))
    try:
        await manifest(transport, registry)
    finally:
        await transport.close()
    assert times[1] - times[0] >= 1


async def test_a_head_that_trickles_is_given_up(registry: ScriptedRegistry) -> None:
    """The head of an answer, a byte now and then: no read ever lasts too long, the whole does."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            writer.write(b"HTTP/1.1 200 OK\r\nX: ")
            while True:
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0.05)
        except ConnectionError:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    config = RegistryConfig(
        attempts=2, backoff_seconds=0.001, connect_seconds=0.2, stall_seconds=0.2
    )
    transport = Transport(config)
    try:
        async with asyncio.timeout(10):
            with pytest.raises(RegistryUnreachable, match="deadline"):
                await Repository(transport, f"127.0.0.1:{port}", "app", None).manifest("v1")
    finally:
        await transport.close()
        server.close()


@pytest.mark.parametrize(
    "bomb",
    [
        lambda: b'{"a":' + b"[" * 2_000_000,
        lambda: b'{"layers":[' + b"{}," * 1_000_000 + b"{}]}",
        lambda: b'{"layers":[' + b"0," * 2_000_000 + b"0]}",
        lambda: b"{" + b",".join(b'"%d":0' % n for n in range(300_000)) + b"}",
    ],
    ids=["deep", "objects", "numbers", "keys"],
)
def test_json_that_swells(bomb: Callable[[], bytes]) -> None:
    """CVE-2023-25153: 4 MiB of JSON would take up to 400 MiB as objects."""
    text = bomb()
    tracemalloc.start()
    try:
        with pytest.raises(MalformedImage):
            parse(text, OCI_MANIFEST, "image")
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()
