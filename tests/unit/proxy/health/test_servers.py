"""The servers, asked over loopback."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from kubeletpy_common.ports import free_port
from proxy.backend import Synced
from proxy.conntrack.flows import Removed
from proxy.errors import StartError
from proxy.health import servers
from proxy.health.metrics import Metrics
from proxy.health.services import ServiceHealth
from proxy.health.state import Health
from proxy.model.portal import Family
from proxy.model.portals import Model
from proxy.settings.settings import settings_of
from proxy.syncing import Outcome
from tests.unit.proxy.fakes import endpoint, endpoint_slice, service

WEB, API = ("default", "web"), ("default", "api")


@contextlib.asynccontextmanager
async def served(app: web.Application) -> AsyncIterator[str]:
    port = free_port()
    task = asyncio.create_task(servers.serve(app, f"127.0.0.1:{port}", "test", hard=True))
    try:
        await _reachable(port, task)
        yield f"http://127.0.0.1:{port}"
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def _reachable(port: int, task: asyncio.Task[None]) -> None:
    async with asyncio.timeout(30):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                assert not task.done()
                await asyncio.sleep(0)
            else:
                writer.close()
                return


async def ask(url: str) -> tuple[int, str, Any]:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status, await answer.text(), answer.headers


def metrics_of(model: Model | None = None, mode: str = "iptables") -> Metrics:
    return Metrics(mode, model or Model("here"), (Family.V4, Family.V6))


async def test_healthz_and_livez() -> None:
    health, metrics, nodes = Health(60, lambda: 0.0), metrics_of(), [True]
    async with served(servers.healthz_app(health, metrics, lambda: nodes[0])) as url:
        status, text, headers = await ask(url + "/healthz")
        assert (status, json.loads(text)["nodeEligible"]) == (200, True)
        assert headers["Content-Type"] == "application/json"
        assert headers["X-Content-Type-Options"] == "nosniff"
        nodes[0] = False
        assert (await ask(url + "/healthz"))[0] == 503
        assert (await ask(url + "/livez"))[0] == 200
        assert (await ask(url + "/metrics"))[0] == 404
    text = metrics.text().decode()
    assert 'kubeproxy_proxy_healthz_total{code="200"} 1.0' in text
    assert 'kubeproxy_proxy_healthz_total{code="503"} 1.0' in text
    assert 'kubeproxy_proxy_livez_total{code="200"} 1.0' in text


async def test_the_server_of_metrics() -> None:
    one = settings_of({"mode": "nftables"}, {}).configuration
    async with served(servers.metrics_app(one, metrics_of(mode="nftables"))) as url:
        assert (await ask(url + "/proxyMode"))[:2] == (200, "nftables")
        assert (await ask(url + "/healthz"))[:2] == (200, "ok")
        configured = json.loads((await ask(url + "/configz"))[1])["kubeproxy.config.k8s.io"]
        assert (configured["kind"], configured["mode"]) == ("KubeProxyConfiguration", "nftables")
        status, text, headers = await ask(url + "/metrics")
        assert status == 200
        assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
        assert "kubeproxy_sync_proxy_rules_nftables_sync_failures_total" in text
        assert "process_resident_memory_bytes" in text


async def test_an_address_that_is_taken() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(StartError, match=f"test cannot listen on {address}"):
            await servers.serve(web.Application(), address, "test", hard=True)


async def test_an_address_that_is_taken_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "RETRY_SECONDS", 0.01)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        task = asyncio.create_task(
            servers.serve(web.Application(), f"127.0.0.1:{port}", "test", hard=False)
        )
        await asyncio.sleep(0)
    await _reachable(port, task)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_health_checks_of_services() -> None:
    healthy, port, other = [True], free_port(), free_port()
    health = ServiceHealth(lambda: healthy[0], lambda: ("127.0.0.1",))
    try:
        await health.update({WEB: (port, 2), API: (other, 0)})
        status, text, headers = await ask(f"http://127.0.0.1:{port}/anything")
        assert status == 200
        assert json.loads(text) == {
            "service": {"namespace": "default", "name": "web"}, "localEndpoints": 2,
            "serviceProxyHealthy": True,
        }  # fmt: skip
        assert headers["X-Load-Balancing-Endpoint-Weight"] == "2"
        assert (await ask(f"http://127.0.0.1:{other}/"))[0] == 503
        healthy[0] = False
        assert (await ask(f"http://127.0.0.1:{port}/"))[0] == 503
        healthy[0] = True
        await health.update({API: (other, 1)})
        assert (await ask(f"http://127.0.0.1:{other}/"))[0] == 200
        with pytest.raises(aiohttp.ClientConnectionError):
            await ask(f"http://127.0.0.1:{port}/")
        await health.update({API: (port, 1)})
        assert (await ask(f"http://127.0.0.1:{port}/"))[0] == 200
    finally:
        await health.close()


async def test_a_health_check_whose_port_is_taken(caplog: pytest.LogCaptureFixture) -> None:
    health = ServiceHealth(lambda: True, lambda: ("127.0.0.1",))
    try:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            await health.update({WEB: (port, 1)})
            await health.update({WEB: (port, 1)})
        assert len(caplog.records) == 1
        await health.update({API: (port, 1), WEB: (port, 1)})
        assert len(caplog.records) == 2
        assert json.loads((await ask(f"http://127.0.0.1:{port}/"))[1])["service"]["name"] == "api"
        await health.update({WEB: (port, 1)})
        assert json.loads((await ask(f"http://127.0.0.1:{port}/"))[1])["service"]["name"] == "web"
    finally:
        await health.close()


def test_metrics_of_syncs() -> None:
    model = Model("here")
    metrics = metrics_of(model)
    model.put_service(service(internalTrafficPolicy="Local"))
    model.put_slice(endpoint_slice(endpoint("10.1.0.1")))
    text = metrics.text().decode()
    assert "kubeproxy_sync_proxy_rules_service_changes_pending 1.0" in text
    assert "kubeproxy_sync_proxy_rules_endpoint_changes_total 1.0" in text
    model.take(Family.V4)
    metrics.queued(Family.V4)
    metrics.ended(Family.V4, Outcome(0.5, Synced(True, 1, 1, {"nat": 7}), (1.0,), True))
    metrics.ended(Family.V4, Outcome(0.5, None, (), False))
    metrics.forgot(Family.V4, Removed(3, 7, 0.1))
    metrics.asked("10.0.0.1:6443", "GET", 200)
    text = metrics.text().decode()
    for line in (
        'rest_client_requests_total{code="200",host="10.0.0.1:6443",method="GET"} 1.0',
        'kubeproxy_conntrack_reconciler_deleted_entries_total{ip_family="IPv4"} 3.0',
        'kubeproxy_conntrack_reconciler_sync_duration_seconds_count{ip_family="IPv4"} 1.0',
        'kubeproxy_sync_proxy_rules_duration_seconds_count{ip_family="IPv4"} 2.0',
        'kubeproxy_sync_full_proxy_rules_duration_seconds_count{ip_family="IPv4"} 1.0',
        'kubeproxy_sync_partial_proxy_rules_duration_seconds_count{ip_family="IPv4"} 1.0',
        'kubeproxy_network_programming_duration_seconds_count{ip_family="IPv4"} 1.0',
        'kubeproxy_sync_proxy_rules_iptables_total{ip_family="IPv4",table="nat"} 7.0',
        'kubeproxy_sync_proxy_rules_iptables_restore_failures_total{ip_family="IPv4"} 1.0',
        'kubeproxy_sync_proxy_rules_iptables_restore_failures_total{ip_family="IPv6"} 0.0',
        'kubeproxy_sync_proxy_rules_iptables_partial_restore_failures_total{ip_family="IPv4"} 1.0',
        'kubeproxy_sync_proxy_rules_no_local_endpoints_total{ip_family="IPv4",'
        'traffic_policy="internal"} 1.0',
        'kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds{ip_family="IPv4"}',
        'kubeproxy_sync_proxy_rules_last_timestamp_seconds{ip_family="IPv4"}',
    ):
        assert line in text
