"""Requests that go on to a kubelet, over HTTP and TLS on loopback."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from controlplane.auth.authorization.attributes import Attributes
from controlplane.proxying import part, targets
from tests.support.kubelet import Kubelet, kubelet, node_status
from tests.unit.controlplane.server.client import PODS, Api, running_api
from tests.unit.runtime.streaming.test_server import CERTIFICATE as OTHER_CERTIFICATE

_SECONDS = 20
_SPDY = {"Connection": "Upgrade", "Upgrade": "SPDY/3.1"}


@asynccontextmanager
async def running(directory: Path, **options: Any) -> AsyncIterator[tuple[Api, Kubelet]]:
    """A server with a node, and on it the pod ``web`` with the container ``server``."""
    both = directory / "both.pem"
    async with (
        asyncio.timeout(_SECONDS),
        kubelet(directory) as beside,
        running_api(
            directory,
            strategies={},
            parts=[part.install],
            settings={
                "kubelet_certificate_authority": directory / "ca.pem",
                "kubelet_client_certificate": both,
                "kubelet_client_key": both,
                "kubelet_preferred_address_types": ("InternalIP",),
                **options,
            },
        ) as api,
    ):
        await api.make("edge", "/api/v1/nodes")
        await _set_status(api, "/api/v1/nodes/edge", node_status(beside.port))
        await _make_pod(api, "web", ["server"], "edge")
        yield api, beside


async def _set_status(api: Api, path: str, status: Any) -> None:
    code, value = await api.call(
        "PATCH", f"{path}/status", {"status": status}, kind="application/merge-patch+json"
    )
    assert code == 200, value


async def _make_pod(api: Api, name: str, containers: list[str], node: str) -> None:
    listed = [{"name": each, "image": "none"} for each in containers]
    await api.make(name, PODS, spec={"containers": listed, "nodeName": node})


async def test_logs(tmp_path: Path) -> None:
    async with running(tmp_path) as (api, beside):
        answer = await api.send("GET", f"{PODS}/web/log?tailLines=2&previous=1")
        assert (answer.status, answer.content_type) == (200, "text/plain")
        assert await answer.read() == b"two\nthree\n"
        assert beside.asked[-1][:2] == (
            "GET",
            "/containerLogs/default/web/server?previous=true&tailLines=2&stream=All",
        )
        assert beside.clients == ["client"], "the certificate that is for kubelets was shown"


async def test_a_followed_log_comes_as_it_grows_and_ends_with_its_reader(tmp_path: Path) -> None:
    async with running(tmp_path) as (api, beside):
        answer = await api.send("GET", f"{PODS}/web/log?follow=true")
        assert await answer.content.readuntil(b"three\n") == b"one\ntwo\nthree\n"
        beside.more.set()
        assert await answer.content.read() == b"more\n"
        beside.more.clear()
        left = await api.send("GET", f"{PODS}/web/log?follow=true")
        await left.content.readuntil(b"three\n")
        left.close()
        await beside.idle.wait()


@pytest.mark.parametrize(
    ("path", "code", "message"),
    [
        ("web/log?container=other", 400, "container other is not valid for pod web"),
        ("web/log?tailLines=-1", 422, "tailLines: Invalid value"),
        ("none/log", 404, 'pods "none" not found'),
        ("waiting/log?container=waiting", 400, "container is waiting to start"),
        ("waiting/log", 400, "choose one of: [waiting other]"),
        ("lost/log", 404, 'nodes "gone" not found'),
        ("web/exec?command=true&stdout=1", 400, "Upgrade request required"),
        ("new/exec?command=true", 400, "pod new does not have a host assigned"),
        ("new/portforward", 400, "pod new does not have a host assigned"),
    ],
)
async def test_refusals(tmp_path: Path, path: str, code: int, message: str) -> None:
    async with running(tmp_path) as (api, _):
        await _make_pod(api, "waiting", ["waiting", "other"], "edge")
        await _make_pod(api, "lost", ["server"], "gone")
        await _make_pod(api, "new", ["server"], "")
        status, value = await api.call("GET", f"{PODS}/{path}")
        assert (status, value["kind"]) == (code, "Status")
        assert message in value["message"]


async def test_a_pod_that_is_nowhere_has_said_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as (api, _):
        await _make_pod(api, "new", ["server"], "")
        assert (await api.send("GET", f"{PODS}/new/log")).status == 204


async def test_a_kubelet_that_is_not_there_is_named(tmp_path: Path) -> None:
    async with running(tmp_path) as (api, _):
        await _set_status(api, "/api/v1/nodes/edge", node_status(1))
        status, value = await api.call("GET", f"{PODS}/web/log")
        assert (status, value["reason"]) == (500, "InternalError")
        assert "127.0.0.1:1/containerLogs/default/web/server" in value["message"]
        status, value = await api.call("POST", f"{PODS}/web/attach?stdout=1", headers=_SPDY)
        assert status == 500
        assert "error dialing backend: 127.0.0.1:1: " in value["message"]


async def test_a_kubelet_that_the_authority_does_not_know_is_not_talked_to(tmp_path: Path) -> None:
    other = tmp_path / "other.pem"
    other.write_text(OTHER_CERTIFICATE)
    async with running(tmp_path, kubelet_certificate_authority=other) as (api, beside):
        status, value = await api.call("GET", f"{PODS}/web/log")
        assert status == 500
        assert "certificate verify failed" in value["message"]
        assert beside.asked == []
        answer = await api.send("GET", f"{PODS}/web/log?insecureSkipTLSVerifyBackend=true")
        assert answer.status == 200, "as the user asks for it"


async def test_without_an_authority_kubelets_are_not_checked(tmp_path: Path) -> None:
    async with running(tmp_path, kubelet_certificate_authority=None) as (api, _):
        assert (await api.send("GET", f"{PODS}/web/log")).status == 200


async def test_exec_by_websocket(tmp_path: Path) -> None:
    async with running(tmp_path) as (api, beside):
        url = f"{PODS}/web/exec?command=cat&stdin=true&stdout=true"
        protocols = ("v5.channel.k8s.io", "base64url.bearer.authorization.k8s.io.c2VjcmV0")
        async with api.http.ws_connect(url, protocols=protocols) as stream:
            assert stream.protocol == "v5.channel.k8s.io"
            await stream.send_bytes(b"\x00" + b"x" * 100_000)
            await stream.send_bytes(b"\xff\x00")
            seen = dict.fromkeys(range(5), b"")
            async for message in stream:
                seen[message.data[0]] += message.data[1:]
        assert seen[1] == b"x" * 100_000
        assert json.loads(seen[3])["status"] == "Success"
        method, path, headers = beside.asked[-1]
        assert (method, path) == ("GET", "/exec/default/web/server?input=1&output=1&command=cat")
        assert headers["Sec-WebSocket-Protocol"] == "v5.channel.k8s.io", "without the token"


async def test_both_ends_close_when_the_client_goes(tmp_path: Path) -> None:
    async with running(tmp_path) as (api, beside):
        url = f"{PODS}/web/exec?command=cat&stdin=true&stdout=true"
        stream = await api.http.ws_connect(url, protocols=("v4.channel.k8s.io",))
        await stream.send_bytes(b"\x00hello")
        async for message in stream:
            if message.data == b"\x01hello":
                break
        assert beside.open == 1
        connection = stream._response.connection
        assert connection is not None
        assert connection.transport is not None
        connection.transport.abort()
        await beside.idle.wait()
        stream._response.close()


async def test_spdy_goes_through_as_it_is(tmp_path: Path) -> None:
    async with running(tmp_path) as (api, beside):
        port = api.http.server.port
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(
            f"POST {PODS}/web/portforward HTTP/1.1\r\nHost: api\r\nConnection: Upgrade\r\n"
            "Upgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: portforward.k8s.io\r\n"
            "Content-Length: 0\r\n\r\n".encode()
        )
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
        assert b"X-Stream-Protocol-Version: portforward.k8s.io" in head
        # PING, number 1: SPDY/3.1, section 2.6.5; the peer sends it back as it is.
        ping = b"\x80\x03\x00\x06\x00\x00\x00\x04\x00\x00\x00\x01"
        writer.write(ping)
        while await reader.readexactly(12) != ping:
            pass
        writer.close()
        assert beside.asked[-1][0] == "POST"


async def test_what_a_kubelet_answers_instead_of_an_upgrade_comes_back(tmp_path: Path) -> None:
    async with running(tmp_path) as (api, _):
        headers = {**_SPDY, "X-Stream-Protocol-Version": "v9.channel.k8s.io"}
        answer = await api.send("POST", f"{PODS}/web/attach?stdout=1", headers=headers)
        assert answer.status == 403
        assert "no common protocol" in await answer.text()


async def test_proxies_do_not_lead_to_loopback(tmp_path: Path) -> None:
    async with running(tmp_path) as (api, beside):
        await _set_status(api, f"{PODS}/web", {"podIP": "127.0.0.1"})
        for path in ("/api/v1/nodes/edge/proxy/metrics", "/api/v1/nodes/edge:80/proxy/",
                     f"{PODS}/web:{beside.port}/proxy/"):  # fmt: skip
            status, value = await api.call("GET", path)
            assert (status, value["message"]) == (400, "address not allowed"), path
        assert beside.asked == []


async def test_proxies_pass_on_what_they_get(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(targets, "require_reachable", lambda address: None)
    async with running(tmp_path) as (api, _):
        node = "/api/v1/nodes/edge/proxy"
        answer = await api.send("PUT", f"{node}//a%2Fb/?x=%20", b"body", kind="text/plain")
        assert await answer.json() == {"method": "PUT", "path": "//a%2Fb/?x=%20", "body": "body"}
        assert answer.headers["X-Of-Backend"] == "yes"
        moved = await api.send("GET", f"{node}?a=b", allow_redirects=False)
        assert (moved.status, moved.headers["Location"]) == (301, f"{node}/?a=b")
        away = await api.send("GET", f"{node}/away", allow_redirects=False)
        assert (away.status, away.headers["Location"]) == (302, f"{node}/here?a=b")
        await _set_status(api, f"{PODS}/web", {"podIP": "127.0.0.1"})
        status, value = await api.call("GET", f"{PODS}/web:1/proxy/")
        assert (status, value["reason"]) == (503, "ServiceUnavailable")
        assert "error trying to reach service: " in value["message"]


class OnlyReaders:
    """Lets everybody read, and nobody write."""

    def authorize(self, wanted: Attributes) -> tuple[bool, str]:
        return wanted.verb == "get", "only to read"


async def test_who_may_only_read_may_not_open_streams(tmp_path: Path) -> None:
    async with running(tmp_path) as (api, beside):
        api.plane.authorizer = OnlyReaders()
        for name in ("exec", "attach", "portforward"):
            status, value = await api.call("GET", f"{PODS}/web/{name}?command=id&stdout=1")
            assert (status, value["reason"]) == (403, "Forbidden")
            assert f'cannot create resource "pods/{name}"' in value["message"]
        assert beside.asked == []
        assert (await api.send("GET", f"{PODS}/web/log")).status == 200
