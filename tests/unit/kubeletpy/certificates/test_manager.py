"""Asking for certificates, against a server that signs."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from kubeletpy.certificates import manager as manager_module
from kubeletpy.certificates.manager import CertificateManager
from kubeletpy.certificates.pairs import CLIENT_SIGNER, Template
from kubeletpy.certificates.store import CertificateStore
from kubeletpy_common.apiclient.client import ApiClient
from kubeletpy_common.apiclient.kubeconfig import Access

from .authority import pair, sign

PATH = "/apis/certificates.k8s.io/v1/certificatesigningrequests"


class Signer:
    """An API server that has nothing but requests, and signs them."""

    def __init__(self) -> None:
        self.requests: dict[str, dict[str, Any]] = {}
        self.refuse = 0
        self.deny = 0

    async def create(self, request: web.Request) -> web.Response:
        body = await request.json()
        if self.refuse:
            self.refuse -= 1
            return self._status(503, "ServiceUnavailable")
        name = body["metadata"].get("name") or f"csr-{len(self.requests)}"
        if name in self.requests:
            return self._status(409, "AlreadyExists")
        body["metadata"] = {"name": name, "resourceVersion": "1"}
        if self.deny:
            self.deny -= 1
            body["status"] = {"conditions": [{"type": "Denied", "reason": "No", "message": "m"}]}
        else:
            signed = sign(base64.b64decode(body["spec"]["request"]))
            body["status"] = {"certificate": base64.b64encode(signed).decode()}
        self.requests[name] = body
        return web.json_response(body, status=201)

    async def get(self, request: web.Request) -> web.Response:
        return web.json_response(self.requests[request.match_info["name"]])

    async def list(self, request: web.Request) -> web.Response:
        name = request.query["fieldSelector"].removeprefix("metadata.name=")
        found = [self.requests[name]] if name in self.requests else []
        body = {"kind": "List", "metadata": {"resourceVersion": "1"}, "items": found}
        return web.json_response(body)

    @staticmethod
    def _status(code: int, reason: str) -> web.Response:
        body = {"kind": "Status", "code": code, "reason": reason, "message": reason}
        return web.json_response(body, status=code)


@pytest.fixture
async def signer() -> AsyncIterator[tuple[Signer, str]]:
    one = Signer()
    application = web.Application()
    application.router.add_post(PATH, one.create)
    application.router.add_get(PATH, one.list)
    application.router.add_get(PATH + "/{name}", one.get)
    async with TestServer(application) as server:
        yield one, str(server.make_url("")).rstrip("/")


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manager_module, "FIRST_PAUSE", 0.0)


def managed(
    store: CertificateStore, url: str, renewed: asyncio.Event, **options: Any
) -> CertificateManager:
    @asynccontextmanager
    async def requester() -> AsyncIterator[ApiClient]:
        async with ApiClient(Access(server=url)) as client:
            yield client

    async def tell() -> None:
        renewed.set()

    template = Template(node="n1")
    return CertificateManager(store, CLIENT_SIGNER, lambda: template, requester, tell, **options)


async def test_a_first_certificate(tmp_path: Path, signer: tuple[Signer, str]) -> None:
    server, url = signer
    server.refuse, server.deny = 1, 1
    store, renewed = CertificateStore(tmp_path / "pki", "kubelet-client"), asyncio.Event()
    async with asyncio.timeout(20):
        await managed(store, url, renewed).run(once=True)
    assert renewed.is_set()
    current = store.current()
    assert current is not None
    assert current.common_name == "system:node:n1"
    assert not store.pending_key.exists()
    # One was denied; the one after it had another key and so another name.
    assert len(server.requests) == 2
    assert all(name.startswith("node-csr-") for name in server.requests)
    spec = next(iter(server.requests.values()))["spec"]
    assert spec["usages"] == ["digital signature", "client auth"]


async def test_a_request_of_before_a_restart_is_found(
    tmp_path: Path, signer: tuple[Signer, str]
) -> None:
    server, url = signer
    for _ in range(2):
        store = CertificateStore(tmp_path, "kubelet-client")
        async with asyncio.timeout(20):
            await managed(store, url, asyncio.Event()).run(once=True)
        # As if it had been killed before the certificate was written.
        key = store.path.read_bytes().partition(b"-----BEGIN EC")
        store.pending_key.write_bytes(key[1] + key[2])
        store.path.unlink()
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("age", "requests"), [(timedelta(minutes=30), 0), (timedelta(minutes=55), 1)]
)
async def test_renewal_in_time(
    tmp_path: Path, signer: tuple[Signer, str], age: timedelta, requests: int
) -> None:
    server, url = signer
    store, renewed = CertificateStore(tmp_path, "kubelet-client"), asyncio.Event()
    store.update(*pair(Template(node="n1"), begin=datetime.now(UTC) - age, hours=1))
    async with asyncio.timeout(20):
        await managed(store, url, renewed).run(once=True)
    assert (len(server.requests), renewed.is_set()) == (requests, bool(requests))


async def test_a_certificate_is_replaced_at_once_if_asked_for(
    tmp_path: Path, signer: tuple[Signer, str]
) -> None:
    server, url = signer
    store = CertificateStore(tmp_path, "kubelet-client")
    before = store.update(*pair(Template(node="n1")))
    async with asyncio.timeout(20):
        await managed(store, url, asyncio.Event(), force=True).run(once=True)
    assert store.current() != before
    assert list(server.requests) == ["csr-0"]
