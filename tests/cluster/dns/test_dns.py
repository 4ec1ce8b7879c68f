"""The DNS of a cluster as a process beside an API server."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import dns.asyncquery
import dns.exception
import dns.message
import dns.rcode

from controlplane.engine.resources import SERVICES, SLICES, Object
from controlplane.options import Options
from controlplane.serving import serving
from kubeletpy_common.apiclient.client import ApiClient
from kubeletpy_common.apiclient.kubeconfig import read_kubeconfig
from kubeletpy_common.ports import free_ports

HOST = "127.0.0.1"


async def ask(port: int, name: str, kind: str = "A", seconds: float = 5) -> dns.message.Message:
    query = dns.message.make_query(f"{name}.cluster.local", kind)
    return await dns.asyncquery.udp(query, HOST, timeout=seconds, port=port)


def found(answer: dns.message.Message) -> list[str]:
    return sorted(str(one) for each in answer.answer for one in each)


@contextlib.asynccontextmanager
async def server(directory: Path, port: int = 0) -> AsyncIterator[ApiClient]:
    """Run an API server within the block."""
    async with serving(Options(data_dir=directory / "api", secure_port=port)):
        access = read_kubeconfig(directory / "api" / "admin.kubeconfig")
        async with ApiClient(access, rate=0) as client:
            yield client


async def until(port: int, name: str, wanted: list[str]) -> None:
    """Ask until that is the answer: a change comes by a watch, which cannot be awaited here."""
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(dns.exception.Timeout):
                if found(await ask(port, name, seconds=0.5)) == wanted:
                    return
            await asyncio.sleep(0.01)


async def make(client: ApiClient, resource: Any, value: Object) -> Object:
    body = {"apiVersion": resource.group_version, "kind": resource.kind, **value}
    return await client.create(resource.path("default"), body)


async def test_names_follow_the_cluster_and_stay_while_its_server_is_away(
    tmp_path: Path,
) -> None:
    api, port, health = free_ports(3)
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(server(tmp_path, api))
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "controlplane.dns", "--port", str(port)),
            *("--kubeconfig", str(tmp_path / "api" / "admin.kubeconfig"), "--forward", "none"),
            *("--healthz-port", str(health)),
        )
        try:
            kubernetes = await client.get(SERVICES.path("default", "kubernetes"))
            await until(port, "kubernetes.default.svc", [kubernetes["spec"]["clusterIP"]])
            ports = [{"name": "http", "port": 80}]
            web = await make(client, SERVICES, {
                "metadata": {"name": "web"},
                "spec": {"clusterIP": "None", "selector": {"a": "b"}, "ports": ports},
            })  # fmt: skip
            meta = {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}}
            endpoints = [
                {"addresses": ["10.0.0.1"], "hostname": "one", "conditions": {"ready": True}},
                {"addresses": ["10.0.0.2"], "conditions": {"ready": False}},
            ]
            slice_ = await make(client, SLICES, {
                "metadata": meta, "addressType": "IPv4", "endpoints": endpoints,
                "ports": [{"name": "http", "port": 80, "protocol": "TCP"}],
            })  # fmt: skip
            await until(port, "web.default.svc", ["10.0.0.1"])
            await until(port, "one.web.default.svc", ["10.0.0.1"])
            srv = await ask(port, "_http._tcp.web.default.svc", "SRV")
            assert found(srv) == ["0 100 80 one.web.default.svc.cluster.local."]
            slice_["endpoints"][1]["conditions"]["ready"] = True
            await client.update(SLICES.path_of(slice_), slice_)
            await until(port, "web.default.svc", ["10.0.0.1", "10.0.0.2"])
            await stack.aclose()
            # The server is away; what is known is said.
            assert found(await ask(port, "web.default.svc")) == ["10.0.0.1", "10.0.0.2"]
            async with aiohttp.ClientSession() as session:
                for path in ("ready", "health"):
                    async with session.get(f"http://{HOST}:{health}/{path}") as answer:
                        assert (answer.status, await answer.text()) == (200, "OK")
                async with session.get(f"http://{HOST}:{health}/metrics") as answer:
                    text = await answer.text()
            assert 'coredns_dns_responses_total{rcode="NOERROR"' in text
            assert "coredns_dns_request_duration_seconds_bucket" in text
            async with server(tmp_path, api) as again:
                await again.delete(SERVICES.path_of(web))
                await until(port, "web.default.svc", [])
                answer_ = await ask(port, "web.default.svc")
                assert answer_.rcode() == dns.rcode.NXDOMAIN
        finally:
            process.terminate()
            async with asyncio.timeout(10):
                assert await process.wait() == 0
