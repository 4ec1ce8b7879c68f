"""hosts.toml at work: mirrors, TLS and headers against registries on real sockets."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from aiohttp import web

from runtime.images.digests import digest_bytes
from runtime.images.endpoints import endpoints_of
from runtime.images.errors import (
    BadRegistryConfig,
    ImageError,
    ImageNotFound,
    NoSpace,
    RegistryUnreachable,
)
from runtime.images.places import Places
from runtime.images.registry import Document, Repository, repositories
from runtime.images.settings import Credentials, RegistryConfig
from runtime.images.transport import Transport
from tests.support.certificates import Certificates, write_certificates
from tests.support.ociimage import build_image
from tests.support.scripted_registry import ScriptedRegistry
from tests.unit.runtime.images.registries import BASIC, SECRET, challenge

Ask = Callable[..., Awaitable[Document]]
IMAGE = build_image({"a": b"text"})


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    directory = tmp_path / "certificates"
    directory.mkdir()
    return write_certificates(directory)


@pytest.fixture
async def ask(tmp_path: Path) -> AsyncIterator[Ask]:
    """Write a hosts.toml and fetch app:v1 of the first place in it."""
    config = RegistryConfig(
        host_directories=(tmp_path / "certs.d",), attempts=2, backoff_seconds=0.001,
        stall_seconds=5,
    )  # fmt: skip
    transport = Transport(config)

    async def run(domain: str, text: str, credentials: Credentials | None = None) -> Document:
        directory = tmp_path / "certs.d" / domain
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "hosts.toml").write_text(text)
        place = endpoints_of(config, domain)[0]
        return await Repository(transport, domain, "app", credentials, place).manifest("v1")

    yield run
    await transport.close()


async def test_a_mirror_is_told_whose_image_it_is(ask: Ask, registry: ScriptedRegistry) -> None:
    registry.add(IMAGE, "app", "v1")
    found = await ask("a.io:5000", f'[host."{registry.url}"]\n[host."{registry.url}".header]\n'
                      'x-one = ["1", "2"]\nUser-Agent = "me"\n')  # fmt: skip
    assert found.digest == IMAGE.digest
    (seen,) = registry.seen
    assert seen[1] == "/v2/app/manifests/v1?ns=a.io:5000"
    assert seen[2]["x-one"] in ("1", "2")


async def test_a_path_of_ones_own(ask: Ask, registry: ScriptedRegistry) -> None:
    """override_path: no /v2 is added, and the token is asked for the name that the mirror has."""
    registry.manifests["/v2/proxy/app/manifests/v1"] = (IMAGE.manifest, IMAGE.media_type)

    async def script(request: web.Request) -> web.Response | None:
        if request.path == "/token":
            return web.json_response({"token": "t0ken"})
        if request.headers.get("Authorization") != "Bearer t0ken":
            return challenge(f'Bearer realm="{registry.url}/token",service="s"')
        return None

    registry.script = script
    await ask("a.io", f'[host."{registry.url}/v2/proxy"]\noverride_path = true\n')
    assert registry.paths() == [
        "/v2/proxy/app/manifests/v1?ns=a.io",
        "/token?service=s&scope=repository:proxy/app:pull",
        "/v2/proxy/app/manifests/v1?ns=a.io",
    ]


@pytest.mark.parametrize(
    ("text", "shown"),
    [('[host."{url}"]', False), ('server = "{url}"', True)],
)
async def test_mirrors_see_no_credentials(
    ask: Ask, registry: ScriptedRegistry, text: str, shown: bool
) -> None:
    registry.add(IMAGE, "app", "v1")

    async def script(request: web.Request) -> web.Response | None:
        wanted = request.headers.get("Authorization") != BASIC
        return challenge('Basic realm="r"') if wanted else None

    registry.script = script
    try:
        await ask("a.io", text.format(url=registry.url), SECRET)
    except ImageError:
        pass
    assert registry.secrets() == ([BASIC] if shown else [])


async def test_configured_headers_do_not_follow_redirects(
    ask: Ask, registry: ScriptedRegistry, other: ScriptedRegistry
) -> None:
    other.add(IMAGE, "app", "v1")

    async def script(request: web.Request) -> web.Response:
        return web.Response(status=307, headers={"Location": other.url + request.path})

    registry.script = script
    await ask("a.io", f'[host."{registry.url}"]\nheader = {{authorization = "Basic own"}}\n')
    assert registry.secrets() == ["Basic own"]
    assert other.secrets() == []


# TLS.


@pytest.fixture
async def tls(certificates: Certificates) -> AsyncIterator[ScriptedRegistry]:
    async with ScriptedRegistry(certificates.server_context()) as found:
        found.add(IMAGE, "app", "v1")
        yield found


@pytest.fixture
async def mutual(certificates: Certificates) -> AsyncIterator[ScriptedRegistry]:
    async with ScriptedRegistry(certificates.server_context(mutual=True)) as found:
        found.add(IMAGE, "app", "v1")
        yield found


async def test_an_own_authority(
    ask: Ask, tls: ScriptedRegistry, certificates: Certificates
) -> None:
    with pytest.raises(RegistryUnreachable, match="authority"):
        await ask("a.io", f'[host."{tls.url}"]')
    assert tls.seen == []
    await ask("a.io", f'[host."{tls.url}"]\nca = "{certificates.ca}"')
    await ask("a.io", f'[host."{tls.url}"]\nca = ["{certificates.server}", "{certificates.ca}"]')
    await ask("a.io", f'server = "{tls.url}"\nca = "../../certificates/ca.pem"')
    await ask("a.io", f'[host."{tls.url}"]\nskip_verify = true')


async def test_changed_files_count_for_the_next_pull(
    ask: Ask, tls: ScriptedRegistry, certificates: Certificates, tmp_path: Path
) -> None:
    authority = tmp_path / "ca.pem"
    text = f'[host."{tls.url}"]\nca = "{authority}"'
    with pytest.raises(BadRegistryConfig, match=str(authority)):
        await ask("a.io", text)
    authority.write_text("no certificate")
    with pytest.raises(BadRegistryConfig, match=str(authority)):
        await ask("a.io", text)
    authority.write_bytes(certificates.ca.read_bytes())
    assert (await ask("a.io", text)).digest == IMAGE.digest


@pytest.mark.parametrize(
    "client",
    ['"{c.client_both}"', '["{c.client_both}"]', '[["{c.client}", "{c.client_key}"]]',
     '[["{c.client_both}", ""], "{c.client_both}"]'],
)  # fmt: skip
async def test_client_certificates(
    ask: Ask, mutual: ScriptedRegistry, certificates: Certificates, client: str
) -> None:
    text = f'[host."{mutual.url}"]\nca = "{certificates.ca}"\n'
    with pytest.raises(RegistryUnreachable):
        await ask("a.io", text)
    assert mutual.seen == []
    found = await ask("a.io", text + "client = " + client.format(c=certificates))
    assert found.digest == IMAGE.digest


async def test_another_host_sees_no_client_certificate(
    ask: Ask, mutual: ScriptedRegistry, certificates: Certificates
) -> None:
    seen: list[object] = []

    async def script(request: web.Request) -> web.Response | None:
        if request.path == "/token":
            assert request.transport is not None
            seen.append(request.transport.get_extra_info("peercert"))
            return web.json_response({"token": "t"})
        if "Authorization" in request.headers:
            return None
        port = mutual.host.partition(":")[2]
        return challenge(f'Bearer realm="https://localhost:{port}/token",service="s"')

    mutual.script = script
    text = (
        f'[host."{mutual.url}"]\nskip_verify = true\n'
        f'client = [["{certificates.client}", "{certificates.client_key}"]]'
    )
    with pytest.raises(RegistryUnreachable, match="localhost"):
        await ask("a.io", text)
    assert seen == []


async def test_http_with_tls_settings(
    ask: Ask, registry: ScriptedRegistry, tls: ScriptedRegistry, certificates: Certificates
) -> None:
    """containerd's own example has skip_verify at an http address: HTTPS first, then HTTP."""
    registry.add(IMAGE, "app", "v1")
    for served in (registry, tls):
        await ask("a.io", f'[host."http://{served.host}"]\nskip_verify = true')
        assert served.paths()[-1] == "/v2/app/manifests/v1?ns=a.io"
    # A certificate that is not trusted is no reason to speak cleartext.
    with pytest.raises(RegistryUnreachable, match="authority"):
        await ask("a.io", f'[host."http://{tls.host}"]\nca = []')


async def test_dial_timeout(ask: Ask) -> None:
    # Whose queue of connections is full drops all others without an answer.
    with ExitStack() as sockets:
        server = sockets.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(4):
            client = sockets.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(server.getsockname())
        port = server.getsockname()[1]
        async with asyncio.timeout(4):
            with pytest.raises(RegistryUnreachable, match="no answer within the deadline; check"):
                await ask("a.io", f'[host."http://127.0.0.1:{port}"]\ndial_timeout = "100ms"')


# In order.


@pytest.fixture
def find(tmp_path: Path, transport: Transport) -> Callable[[str, str], Places]:
    def run(domain: str, text: str) -> Places:
        directory = tmp_path / "certs.d" / domain
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "hosts.toml").write_text(text)
        config = RegistryConfig(host_directories=(tmp_path / "certs.d",))
        found = endpoints_of(config, domain)
        return Places(repositories(transport, found, domain, "app", None), f"{domain}/app:v1")

    return run


Find = Callable[[str, str], Places]


async def _manifest(places: Places, digest: str) -> str:
    found = await places.first(places.pulling, lambda place: place.manifest(digest), "manifest")
    return found.digest


async def test_one_after_the_other(
    find: Find, registry: ScriptedRegistry, other: ScriptedRegistry
) -> None:
    async with ScriptedRegistry() as gone:
        pass
    other.add(IMAGE, "app", "v1")
    places = find("a.io", f'server = "{other.url}"\n[host."{gone.url}"]\n[host."{registry.url}"]\n')
    assert await _manifest(places, IMAGE.digest) == IMAGE.digest
    assert len(registry.seen) == 1
    assert len(other.seen) == 1
    # Who failed is asked last from then on.
    assert [place.endpoint.root for place in places.pulling] == [
        f"{other.url}/v2", f"{gone.url}/v2", f"{registry.url}/v2",
    ]  # fmt: skip


async def test_a_mirror_that_lies(
    find: Find, registry: ScriptedRegistry, other: ScriptedRegistry
) -> None:
    registry.manifests[f"/v2/app/manifests/{IMAGE.digest}"] = (b"{}", IMAGE.media_type)
    other.add(IMAGE, "app", "v1")
    places = find("a.io", f'server = "{other.url}"\n[host."{registry.url}"]\n')
    assert await _manifest(places, IMAGE.digest) == IMAGE.digest


async def test_the_error_is_the_registrys_and_names_all(
    find: Find, registry: ScriptedRegistry, other: ScriptedRegistry
) -> None:
    async def refuse(request: web.Request) -> web.Response:
        return web.Response(status=403, body=b"not for you")

    registry.script = refuse
    places = find("a.io", f'server = "{other.url}"\n[host."{registry.url}"]\n')
    with pytest.raises(ImageNotFound, match=rf"NAME_UNKNOWN.*{registry.host}: .*not for you"):
        await _manifest(places, digest_bytes(b"x"))


async def test_failures_of_this_node_end_it(find: Find, registry: ScriptedRegistry) -> None:
    places = find("a.io", f'[host."{registry.url}"]\n')

    async def full(place: Repository) -> None:
        raise NoSpace("full")

    with pytest.raises(NoSpace):
        await places.first(places.pulling, full, "layer")


async def test_nobody_is_capable(find: Find, registry: ScriptedRegistry) -> None:
    places = find("a.io", f'server = "{registry.url}"\ncapabilities = ["push"]')
    with pytest.raises(ImageError, match="capabilities"):
        await _manifest(places, IMAGE.digest)
