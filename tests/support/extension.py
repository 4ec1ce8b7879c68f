"""A small extension server: what stands behind an APIService."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from controlplane.addresses import advertised
from controlplane.auth.trust.authority import SERVER_AUTH, Subject, open_authority
from controlplane.engine.resources import SERVICES, SLICES, Object, Resource
from controlplane.options import Options
from tests.support.cluster import Cluster

GROUP = "sample.example.com"
API_SERVICES = Resource("apiregistration.k8s.io/v1", "apiservices", "APIService", namespaced=False)
RESOURCES = {
    "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": f"{GROUP}/v1",
    "resources": [
        {"name": "flunders", "singularName": "flunder", "namespaced": True, "kind": "Flunder",
         "verbs": ["get", "list", "watch", "create"], "shortNames": ["fl"]},
        {"name": "flunders/status", "singularName": "", "namespaced": True, "kind": "Flunder",
         "verbs": ["get"]},
    ],
}  # fmt: skip


def own_address() -> str:
    """Return an address of this machine that may be an endpoint: not that of loopback."""
    found = advertised(Options(bind_address="0.0.0.0"))
    assert not found.startswith("127."), "this test needs an address besides that of loopback"
    return found


@dataclass
class Extension:
    """The server; ``asked`` are the requests that came: path, headers, subject of the client.

    Attributes:
        healthy: it answers; otherwise by 500.
        answers: by path; they go before all others.
    """

    port: int
    bundle: bytes
    asked: list[tuple[str, list[tuple[str, str]], str]] = field(default_factory=list)
    healthy: bool = True
    answers: dict[str, Any] = field(default_factory=dict)
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer a request."""
        assert request.transport is not None
        certificate = request.transport.get_extra_info("peercert") or {}
        names = [value for part in certificate.get("subject", ()) for _, value in part]
        self.asked.append((request.path_qs, list(request.headers.items()), ",".join(names)))
        if not self.healthy:
            return web.Response(status=500)
        if request.path in self.answers:
            return web.json_response(self.answers[request.path])
        if request.path == f"/apis/{GROUP}/v1":
            return web.json_response(RESOURCES)
        if request.path.endswith("/moved"):
            raise web.HTTPFound("https://example.test/")
        if request.query.get("watch"):
            return await self._watch(request)
        if request.method == "POST":
            return web.json_response(await request.json(), status=201)
        return web.json_response({"kind": "FlunderList", "apiVersion": f"{GROUP}/v1", "items": []})

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for number in (1, 2):
            thing = {"kind": "Flunder", "metadata": {"name": f"f{number}"}}
            await response.write(json.dumps({"type": "ADDED", "object": thing}).encode() + b"\n")
            await self.gate.wait()
        return response


@contextlib.asynccontextmanager
async def extension(directory: Path, trusted: str, name: str) -> AsyncIterator[Extension]:
    """Serve within the block.

    Args:
        directory: for its keys.
        trusted: PEM of the authorities of its clients.
        name: of its certificate.
    """
    authority = open_authority(directory, "extension-ca", "extension")
    pair = authority.issue(Subject(name), usages=(SERVER_AUTH,), names=[name])
    (directory / "tls.pem").write_bytes(pair.certificate + pair.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(directory / "tls.pem")
    context.load_verify_locations(cadata=trusted)
    context.verify_mode = ssl.CERT_OPTIONAL
    made = Extension(0, authority.pem)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", made.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, own_address(), 0, ssl_context=context).start()
        made.port = runner.addresses[0][1]
        yield made
    finally:
        await runner.cleanup()


async def register(
    cluster: Cluster, port: int, bundle: bytes, *, group: str = GROUP, version: str = "v1",
    service: str = "sample", **spec: Any,
) -> Object:  # fmt: skip
    """Make an APIService, its Service and its slice, in the namespace ``default``."""
    await cluster.create(
        SERVICES,
        {"metadata": {"name": service}, "spec": {"ports": [{"port": 443, "name": "https"}]}},
    )
    await make_slice(cluster, port, service)
    wanted = {
        "group": group, "version": version, "groupPriorityMinimum": 1500, "versionPriority": 10,
        "service": {"namespace": "default", "name": service},
        "caBundle": base64.b64encode(bundle).decode(), **spec,
    }  # fmt: skip
    return await cluster.create(
        API_SERVICES, {"metadata": {"name": f"{version}.{group}"}, "spec": wanted}
    )


async def make_slice(cluster: Cluster, port: int, service: str = "sample") -> Object:
    """Make the slice of the service."""
    return await cluster.create(SLICES, {
        "metadata": {"name": service, "labels": {"kubernetes.io/service-name": service}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [own_address()], "conditions": {"ready": True}}],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    })  # fmt: skip


def condition(value: Object) -> tuple[str, str]:
    """Return status and reason of the condition of an APIService."""
    for one in value.get("status", {}).get("conditions") or ():
        if one["type"] == "Available":
            return one["status"], one["reason"]
    return "", ""


async def reason(cluster: Cluster, name: str, wanted: str) -> Object:
    """Wait until an APIService's condition has a reason; return the APIService."""

    def of(found: list[Object]) -> list[Object]:
        return [one for one in found if one["metadata"]["name"] == name]

    found = await cluster.until(
        API_SERVICES, lambda all: any(condition(one)[1] == wanted for one in of(all))
    )
    return of(found)[0]
