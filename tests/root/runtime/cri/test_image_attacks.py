"""Registries and images that attack the daemon, through CRI; and what it says to its clients."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import os
from collections.abc import AsyncIterator

import grpc
import psutil
import pytest
from aiohttp import web

from kubeletpy_proto import cri_pb2 as cri
from tests.root.runtime.cri.node import CALL_SECONDS, Node, Place
from tests.support.ociimage import OCI_MANIFEST, build_image, dumps
from tests.support.scripted_registry import ScriptedRegistry

pytestmark = pytest.mark.root

MIB = 1 << 20
BASIC = "Basic " + base64.b64encode(b"user:s3cret").decode()


@pytest.fixture(scope="module")
def settings(place: Place) -> str:
    return (
        f'[images]\nconfig_path = "{place.directory}/certs.d"\nattempts = 2\n'
        'pinned = ["*/pinned:*"]\n'
    )


@pytest.fixture
async def registry(place: Place, node: Node) -> AsyncIterator[ScriptedRegistry]:
    async with ScriptedRegistry(netns=place.netns) as found:
        yield found


@pytest.fixture
async def other(place: Place, node: Node) -> AsyncIterator[ScriptedRegistry]:
    async with ScriptedRegistry(netns=place.netns) as found:
        yield found


async def pull(node: Node, image: str, auth: cri.AuthConfig | None = None) -> str:
    request = cri.PullImageRequest(image=cri.ImageSpec(image=image), auth=auth)
    answer = await asyncio.to_thread(node.images.PullImage, request, timeout=CALL_SECONDS)
    reference: str = answer.image_ref
    return reference


async def refusal(node: Node, image: str, auth: cri.AuthConfig | None = None) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        await pull(node, image, auth)
    return caught.value


async def remove(node: Node, image: str) -> None:
    request = cri.RemoveImageRequest(image=cri.ImageSpec(image=image))
    await asyncio.to_thread(node.images.RemoveImage, request, timeout=CALL_SECONDS)


def used(place: Place) -> list[str]:
    """What is on the disk of the store."""
    return sorted(
        str(path.relative_to(place.root))
        for name in ("content", "snapshots")
        for path in (place.root / name).rglob("*")
    )


# CVE-2020-15157: credentials sent to who is not meant.


@pytest.mark.parametrize(
    "auth",
    [
        cri.AuthConfig(username="user", password="s3cret"),
        cri.AuthConfig(auth=base64.b64encode(b"user:s3cret").decode()),
        cri.AuthConfig(identity_token="s3cret"),
        cri.AuthConfig(registry_token="s3cret"),
    ],
    ids=["password", "auth", "identity", "token"],
)
async def test_a_foreign_layer_url_sees_no_secret(
    node: Node, place: Place, registry: ScriptedRegistry, other: ScriptedRegistry,
    auth: cri.AuthConfig,
) -> None:  # fmt: skip
    built = build_image({"a": b"a"})
    layer = json.loads(built.manifest)["layers"][0] | {"urls": [f"{other.url}/layer"]}
    manifest = json.loads(built.manifest) | {"layers": [layer]}
    registry.blobs |= {built.id: built.config}
    registry.add_manifest(dumps(manifest), OCI_MANIFEST, "app", "v1")

    async def authentic(request: web.Request) -> web.Response | None:
        if request.path == "/token":
            return web.json_response({"token": "s3cret-token"})
        if "Authorization" not in request.headers:
            bearer = f'Bearer realm="{registry.url}/token",service="s"'
            scheme = 'Basic realm="r"' if auth.password or auth.auth else bearer
            return web.Response(status=401, headers={"WWW-Authenticate": scheme})
        return None

    async def greedy(request: web.Request) -> web.Response:
        wanted = f'Basic realm="r", Bearer realm="{other.url}/token",service="s"'
        return web.Response(status=401, headers={"WWW-Authenticate": wanted})

    registry.script, other.script = authentic, greedy
    before = used(place)
    error = await refusal(node, f"{registry.host}/app:v1", auth)
    assert registry.secrets()
    assert other.paths() == ["/layer"]
    for _, path, headers in other.seen:
        assert "s3cret" not in path + str(headers)
    assert "s3cret" not in str(error.details())
    assert "s3cret" not in node.daemon.log()
    assert used(place) == before


async def test_mirrors_and_redirects_see_no_secret(
    node: Node, place: Place, registry: ScriptedRegistry, other: ScriptedRegistry
) -> None:
    """The same by hosts.toml: the mirror asks for a password and gets none."""
    built = build_image({"b": b"b"})
    registry.add(built, "app", "v1")
    directory = place.directory / "certs.d" / registry.host
    directory.mkdir(parents=True)
    (directory / "hosts.toml").write_text(f'[host."{other.url}"]\n')

    async def greedy(request: web.Request) -> web.Response:
        wanted = f'Basic realm="r", Bearer realm="{other.url}/token",service="s"'
        return web.Response(status=401, headers={"WWW-Authenticate": wanted})

    other.script = greedy
    auth = cri.AuthConfig(username="user", password="s3cret")
    assert await pull(node, f"{registry.host}/app:v1", auth) == built.id
    # The mirror's own token service is asked, anonymously.
    assert other.paths()[0] == f"/v2/app/manifests/v1?ns={registry.host}"
    assert other.secrets() == []
    await remove(node, built.id)


# CVE-2023-25153: what a registry sends must not fill the memory.


async def grows(node: Node, action: object) -> int:
    """Return by how many bytes the daemon's memory peaked while ``action`` was awaited."""
    process = psutil.Process(node.daemon.pid)
    start, peak = process.memory_info().rss, 0
    task = asyncio.ensure_future(action)  # type: ignore[call-overload]
    while not task.done():
        peak = max(peak, process.memory_info().rss)
        await asyncio.wait([task], timeout=0.02)
    await task
    return int(max(peak - start, 0))


async def _endless(request: web.Request, start: bytes, chunk: bytes, **headers: str) -> None:
    response = web.StreamResponse(headers={"Content-Type": OCI_MANIFEST, **headers})
    await response.prepare(request)
    await response.write(start)
    for _ in range(1024):
        await response.write(chunk)


@pytest.mark.parametrize("kind", ["manifest", "index", "config", "token", "error"])
async def test_a_gigabyte_of_json(
    node: Node, place: Place, registry: ScriptedRegistry, kind: str
) -> None:
    built = build_image({"c": b"c"})
    registry.add(built, "app", "v1")
    sent = b" " * MIB

    async def script(request: web.Request) -> web.Response | None:
        where = {"config": built.id, "token": "/token", "error": "blobs"}.get(kind, "manifests")
        if kind == "token" and where not in request.path:
            bearer = f'Bearer realm="{registry.url}/token",service="s"'
            return web.Response(status=401, headers={"WWW-Authenticate": bearer})
        if kind == "error" and where in request.path:
            return web.Response(status=403, body=b"?" * (16 * MIB))
        if where in request.path:
            await _endless(request, b'{"manifests":[' if kind == "index" else b"{", sent)
        return None

    registry.script = script
    before = used(place)
    assert await grows(node, refusal(node, f"{registry.host}/app:v1")) < 48 * MIB
    assert used(place) == before


async def test_a_packed_manifest_is_not_unpacked(node: Node, registry: ScriptedRegistry) -> None:
    """A gigabyte of spaces in a megabyte of gzip, as the encoding of the answer."""
    packed = gzip.compress(b"{" + b" " * (64 * MIB), 1)

    async def script(request: web.Request) -> web.Response:
        headers = {"Content-Type": OCI_MANIFEST, "Content-Encoding": "gzip"}
        return web.Response(body=packed, headers=headers)

    registry.script = script
    assert await grows(node, refusal(node, f"{registry.host}/app:v1")) < 24 * MIB


async def test_a_manifest_of_a_million_values(node: Node, registry: ScriptedRegistry) -> None:
    data = b'{"layers":[' + b"{}," * (MIB - 100) + b"{}]}"
    registry.add_manifest(data, OCI_MANIFEST, "app", "v1")
    error = None

    async def refused() -> None:
        nonlocal error
        error = await refusal(node, f"{registry.host}/app:v1")

    assert await grows(node, refused()) < 32 * MIB
    assert error is not None
    assert error.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert "malformed-image" in str(error.details())


@pytest.mark.parametrize("size", [1 << 49, -1, 1 << 60])
async def test_a_layer_that_claims_any_size(
    node: Node, place: Place, registry: ScriptedRegistry, size: int
) -> None:
    built = build_image({"d": os.urandom(1000)})
    manifest = json.loads(built.manifest)
    manifest["layers"][0]["size"] = size
    registry.blobs |= built.blobs
    registry.add_manifest(dumps(manifest), OCI_MANIFEST, "app", "v1")
    before = used(place)
    error = await refusal(node, f"{registry.host}/app:v1")
    assert error.code() in (grpc.StatusCode.FAILED_PRECONDITION, grpc.StatusCode.DATA_LOSS)
    # What arrived of a blob that broke off is kept for the next try, and no more than that.
    rest = [name for name in used(place) if name not in before]
    total = sum((place.root / name).stat().st_size for name in rest if "ingest" in name)
    assert total < MIB


# What clients are told.


async def test_a_bad_hosts_file_is_named(
    node: Node, place: Place, registry: ScriptedRegistry
) -> None:
    directory = place.directory / "certs.d" / (registry.host.replace(":", "_") + "_")
    directory.mkdir(parents=True)
    (directory / "hosts.toml").write_text('[host."https://m"]\nskip_verify = "yes"\n')
    error = await refusal(node, f"{registry.host}/app:v1")
    assert error.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert str(directory / "hosts.toml") in str(error.details())
    assert 'host."https://m".skip_verify' in str(error.details())
    assert registry.seen == []


async def test_pinned_images_are_told_as_such(node: Node, registry: ScriptedRegistry) -> None:
    built = build_image({"e": b"e"})
    registry.add(built, "some/pinned", "v1")
    registry.add(built, "some/app", "v1")

    async def status() -> cri.Image:
        request = cri.ImageStatusRequest(image=cri.ImageSpec(image=built.id))
        answer = await asyncio.to_thread(node.images.ImageStatus, request, timeout=CALL_SECONDS)
        image: cri.Image = answer.image
        return image

    await pull(node, f"{registry.host}/some/app:v1")
    assert not (await status()).pinned
    await pull(node, f"{registry.host}/some/pinned:v1")
    assert (await status()).pinned
    assert len((await status()).repo_tags) == 2
    # A name for it can be removed as any other; by its id all names go.
    await remove(node, f"{registry.host}/some/pinned:v1")
    assert not (await status()).pinned
    await remove(node, built.id)
    assert not (await status()).id
