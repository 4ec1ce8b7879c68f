"""Ingresses served by a real nginx on loopback."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import signal
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from controlplane.engine.resources import (
    INGRESS_CLASSES,
    INGRESSES,
    SECRETS,
    SERVICES,
    SLICES,
)
from controlplane.ingress import backends
from controlplane.ingress.certificates import make_default
from controlplane.ingress.controller import IngressController
from kubeletpy_common.apiclient.client import MERGE_PATCH
from kubeletpy_common.ports import free_port
from tests.support.cluster import Cluster, cluster
from tests.unit.controlplane.ingress.objects import ingress, rule


@dataclass
class Bench:
    cluster: Cluster
    directory: Path
    http: int = field(default_factory=free_port)
    https: int = field(default_factory=free_port)
    backends: dict[str, int] = field(default_factory=dict)
    session: aiohttp.ClientSession = field(default_factory=lambda: aiohttp.ClientSession())

    async def backend(self, name: str, handler: Callable[..., Any] | None = None) -> None:
        """Serve a headless Service; it says who it is and what it was asked."""

        async def tell(request: web.Request) -> web.Response:
            return web.json_response(
                {"who": name, "path": request.path_qs, "headers": dict(request.headers)}
            )

        runner = web.AppRunner(app := web.Application())
        app.router.add_route("*", "/{path:.*}", handler or tell)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.2", 0).start()
        port = runner.addresses[0][1]
        self.backends[name] = port
        await self.cluster.create(SERVICES, {"metadata": {"name": name}, "spec": {
            "clusterIP": "None", "ports": [{"name": "http", "port": 80}]}})  # fmt: skip
        await self.cluster.create(SLICES, endpoint_slice(name, port))

    async def start(self, **options: Any) -> IngressController:
        host = await self.cluster.start_parts(
            [IngressController], ingress_addresses=("127.0.0.1",), ingress_http_port=self.http,
            ingress_https_port=self.https, ingress_directory=self.directory,
            ingress_user="www-data" if os.geteuid() == 0 else "",
            ingress_publish_addresses=("192.0.2.7",), **options,
        )  # fmt: skip
        part = host.parts[0]
        assert isinstance(part, IngressController)
        return part

    async def ask(
        self, host: str, path: str = "/", *, tls: bool = False, **more: Any
    ) -> tuple[int, Any]:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        scheme, port = ("https", self.https) if tls else ("http", self.http)
        headers = {"Host": host, **more.pop("headers", {})}
        async with self.session.get(
            f"{scheme}://127.0.0.1:{port}{path}", headers=headers, ssl=context,
            allow_redirects=False, server_hostname=host if tls else None, **more,
        ) as answer:  # fmt: skip
            body = await answer.read()
            told = await answer.json() if answer.content_type == "application/json" else body
            return answer.status, told

    async def until(self, host: str, path: str, status: int, **more: Any) -> Any:
        """Ask until the answer is as wanted: a reload takes a moment."""
        async with asyncio.timeout(15):
            while True:
                with contextlib.suppress(aiohttp.ClientConnectionError):
                    found, told = await self.ask(host, path, **more)
                    if found == status:
                        return told
                await asyncio.sleep(0.02)


def endpoint_slice(name: str, *ports: int, ready: bool = True) -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": ports[0], "protocol": "TCP"}],
        "endpoints": [{"addresses": ["10.0.0.2"], "conditions": {"ready": ready}}],
    }


@pytest.fixture
async def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    # The API takes no endpoints on loopback, and here is nothing else.
    monkeypatch.setattr(backends, "_joined", lambda _, port: f"127.0.0.2:{port}")
    async with cluster(tmp_path) as made:
        directory = tmp_path / "nginx"
        # Workers of another user come in here.
        for folder in (tmp_path, *tmp_path.parents):
            if folder != Path("/") and folder.stat().st_mode & 0o777 == 0o700:
                folder.chmod(0o711)
        one = Bench(made, directory)
        await one.backend("one")
        await one.backend("two")
        yield one
        await one.session.close()


async def test_hosts_and_paths_to_the_letter(bench: Bench) -> None:
    await bench.start()
    rules = [
        rule("a.test", Prefix_foo="one", Exact_bar="two", Prefix_foo_deep="two"),
        rule("*.w.test", Prefix_="one"),
        rule("x.w.test", Prefix_="two"),
        rule("", Exact_only="one"),
    ]
    await bench.cluster.create(INGRESSES, ingress("main", *rules))
    await bench.until("a.test", "/foo", 200)
    table = [
        ("a.test", "/foo", "one"), ("a.test", "/foo/", "one"), ("a.test", "/foo/bar?x=1", "one"),
        ("a.test", "/foobar", 404), ("a.test", "/FOO", 404), ("a.test", "/", 404),
        ("a.test", "/bar", "two"), ("a.test", "/bar/", 404), ("a.test", "/bar/x", 404),
        ("a.test", "/foo/deep", "two"), ("a.test", "/foo/deep/er", "two"),
        ("a.test", "/foo/deeper", "one"), ("a.test", "/foo/../bar", "two"),
        ("b.w.test", "/x", "one"), ("x.w.test", "/x", "two"), ("c.b.w.test", "/x", 404),
        ("w.test", "/x", 404), ("other.test", "/only", "one"), ("other.test", "/x", 404),
        ("A.TEST", "/foo", "one"),
    ]  # fmt: skip
    found = []
    for host, path, _ in table:
        status, told = await bench.ask(host, path)
        found.append((host, path, told["who"] if status == 200 else status))
    assert found == table
    status, told = await bench.ask(
        "a.test", "/foo/bar?x=1", headers={"X-Forwarded-For": "1.2.3.4", "X-Real-IP": "1.2.3.4"}
    )
    assert (status, told["path"]) == (200, "/foo/bar?x=1")
    assert told["headers"]["Host"] == "a.test"
    assert told["headers"]["X-Forwarded-For"] == told["headers"]["X-Real-IP"] == "127.0.0.1"
    classes = await bench.cluster.listed(INGRESS_CLASSES)
    assert [one["metadata"]["name"] for one in classes] == ["kubeletpy"]
    await bench.cluster.until(INGRESSES, lambda all_: all_[0].get("status", {}).get(
        "loadBalancer") == {"ingress": [{"ip": "192.0.2.7"}]})  # fmt: skip


async def test_tls_by_name_and_redirection(bench: Bench) -> None:
    await bench.start()
    own = make_default()
    await bench.cluster.create(SECRETS, {
        "metadata": {"name": "cert"}, "type": "kubernetes.io/tls",
        "data": {"tls.crt": base64.b64encode(own.chain).decode(),
                 "tls.key": base64.b64encode(own.key).decode()},
    })  # fmt: skip
    await bench.cluster.create(INGRESSES, ingress(
        "secure", rule("s.test", Prefix_="one"), rule("t.test", Prefix_="two"),
        tls=[{"hosts": ["s.test"], "secretName": "cert"}, {"hosts": ["t.test"]}]))  # fmt: skip
    assert (await bench.until("s.test", "/", 200, tls=True))["who"] == "one"
    assert (await bench.until("t.test", "/", 200, tls=True))["who"] == "two"

    def shown(name: str) -> str:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with socket.create_connection(("127.0.0.1", bench.https)) as raw, \
                context.wrap_socket(raw, server_hostname=name) as wrapped:  # fmt: skip
            return ssl.DER_cert_to_PEM_cert(wrapped.getpeercert(True) or b"")

    ours = await asyncio.to_thread(shown, "s.test")
    other = await asyncio.to_thread(shown, "t.test")
    assert ours.encode() == own.chain
    assert other.encode() != own.chain
    assert (await bench.ask("s.test", "/x"))[0] == 308
    keys = bench.directory / "certificates"
    assert {path.stat().st_mode & 0o777 for path in keys.iterdir()} == {0o600}
    # The key goes as soon as nothing uses it.
    assert len(list(keys.iterdir())) == 4
    await bench.cluster.client.delete(INGRESSES.path("default", "secure"))
    await bench.until("s.test", "/", 404, tls=True)
    async with asyncio.timeout(30):
        while len(list(keys.iterdir())) > 2:  # noqa: ASYNC110 - files
            await asyncio.sleep(0.02)


async def test_guards(bench: Bench) -> None:
    await bench.start()
    # "secret", by openssl passwd -apr1
    users = base64.b64encode(b"ann:$apr1$salt$VEpBc9VHGUKwI9.yg13Iu0\n").decode()
    await bench.cluster.create(SECRETS, {"metadata": {"name": "users"}, "data": {"auth": users}})
    basic = {"auth-type": "basic", "auth-secret": "users"}
    for name, said in (
        ("auth", basic),
        # By the minute: by the second, a slow machine earns itself another request.
        ("limit", {"limit-rpm": "1", "limit-burst-multiplier": "2"}),
        ("range", {"whitelist-source-range": "10.0.0.0/8"}),
        ("deny", {"denylist-source-range": "127.0.0.0/8"}),
        ("rewrite", {"rewrite-target": "/new"}),
        ("broken", {"auth-type": "basic", "auth-secret": "gone"}),
    ):
        host = rule(f"{name}.test", Prefix_="one")
        await bench.cluster.create(INGRESSES, ingress(name, host, annotations=said))
    await bench.until("broken.test", "/", 503)
    await bench.until("auth.test", "/", 401)
    for password, status in (("secret", 200), ("other", 401)):
        headers = {"Authorization": aiohttp.encode_basic_auth("ann", password)}
        assert (await bench.ask("auth.test", headers=headers))[0] == status
    statuses = [(await bench.ask("limit.test"))[0] for _ in range(6)]
    assert statuses == [200, 200, 200, 429, 429, 429]
    assert (await bench.ask("range.test"))[0] == 403
    assert (await bench.ask("deny.test"))[0] == 403
    assert (await bench.ask("rewrite.test", "/old/x"))[1]["path"] == "/new"


async def test_endpoints_follow_and_no_request_fails_over_reloads(bench: Bench) -> None:
    part = await bench.start()
    await bench.cluster.create(INGRESSES, ingress("main", rule("a.test", Prefix_="one")))
    await bench.until("a.test", "/", 200)
    statuses: list[int] = []
    done = asyncio.Event()

    async def load() -> None:
        while not done.is_set():
            # Each its own connection: one that idles may be closed at any time, by any server.
            statuses.append((await bench.ask("a.test", headers={"Connection": "close"}))[0])

    loads = [asyncio.create_task(load()) for _ in range(4)]
    for number in range(3):
        name = f"more{number}"
        await bench.cluster.create(INGRESSES, ingress(name, rule(f"{name}.test", Prefix_="two")))
        await bench.until(f"{name}.test", "/", 200)
    path = SLICES.path("default", "one")
    await bench.cluster.client.patch(
        path, {"ports": endpoint_slice("one", bench.backends["two"])["ports"]}, kind=MERGE_PATCH
    )
    async with asyncio.timeout(10):
        while (await bench.ask("a.test"))[1]["who"] != "two":  # noqa: ASYNC110 - asked by HTTP
            await asyncio.sleep(0.02)
    done.set()
    await asyncio.gather(*loads)
    assert len(statuses) > 20
    assert set(statuses) == {200}
    pid = part.nginx.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(10):
        while part.nginx.pid in (None, pid):  # noqa: ASYNC110 - a process
            await asyncio.sleep(0.02)
    await bench.until("a.test", "/", 200)


async def test_what_is_wrong_is_told_and_the_rest_is_served(bench: Bench) -> None:
    await bench.start()
    # Of two of the same second the first by name counts as the older one.
    await bench.cluster.create(INGRESSES, ingress("a-good", rule("a.test", Prefix_x="one")))
    await bench.until("a.test", "/x", 200)
    await bench.cluster.create(INGRESSES, ingress(
        "bad", rule("a.test", Prefix_x="two", Prefix_y="gone"),
        annotations={"server-snippet": "return 200;"}))  # fmt: skip
    await bench.until("a.test", "/y", 503)
    assert (await bench.ask("a.test", "/x"))[1]["who"] == "one"
    async with asyncio.timeout(10):
        while True:
            events = (await bench.cluster.client.get("/api/v1/namespaces/default/events"))["items"]
            reasons = {one["reason"] for one in events if one["involvedObject"]["name"] == "bad"}
            if reasons >= {"Conflict", "Backend", "Annotation"}:
                break
            await asyncio.sleep(0.05)
