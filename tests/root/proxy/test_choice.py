"""Which endpoint a connection gets: evenly, or always the same; what load balancers are told."""

from __future__ import annotations

import asyncio
import json
import urllib.error
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest

from tests.support.proxylab.clients import ask
from tests.support.proxylab.lab import Lab
from tests.support.proxylab.objects import LOCAL, REMOTE, Json, Port, node, service, slices
from tests.support.proxylab.proxies import HEALTH_PORT, Proxy, deadline
from tests.support.proxylab.topology import FAMILIES, pod_address, wire_address

from .services import ingress

pytestmark = pytest.mark.root
CONNECTIONS = 2000
# Chi-square that 4 and 3 degrees of freedom exceed once in ten million tries.
_LIMITS = {5: 39.0, 4: 36.8}


async def test_connections_are_spread_evenly(lab: Lab, proxied: Proxy) -> None:
    backends = [*LOCAL[:3], *REMOTE[:2]]
    made = service("even", [Port(80)])
    await asyncio.to_thread(lab.change, made, *slices("even", backends))
    for index, family in enumerate(FAMILIES):
        address, counts = made["spec"]["clusterIPs"][index], Counter[str]()
        width = asyncio.Semaphore(50)

        async def one(address: str = address, width: asyncio.Semaphore = width) -> str:
            async with width:
                return (await ask(lab.hosts["pod"], address, 80)).who

        counts.update(await asyncio.gather(*(one() for _ in range(CONNECTIONS))))
        assert set(counts) == {each.answers(family) for each in backends}
        mean = CONNECTIONS / len(backends)
        chi_square = sum((count - mean) ** 2 / mean for count in counts.values())
        assert chi_square < _LIMITS[len(backends)], counts


async def test_affinity_lasts_until_its_time_is_over(lab: Lab, proxied: Proxy) -> None:
    def sticky(seconds: int) -> dict[str, Any]:
        config = {"clientIP": {"timeoutSeconds": seconds}}
        return {"sessionAffinity": "ClientIP", "sessionAffinityConfig": config}

    ports = [Port(80, name="tcp"), Port(53, protocol="UDP", name="udp")]
    long, short = service("sticky", ports, **sticky(600)), service("hasty", ports, **sticky(1))
    backends = [*LOCAL[:12], *REMOTE[:12]]
    await asyncio.to_thread(
        lab.change, long, *slices("sticky", backends, ports),
        short, *slices("hasty", backends, ports),
    )  # fmt: skip

    async def asked(thing: Json, index: int, protocol: str, count: int) -> list[str]:
        """Return who answered each of the pod's addresses, most often one."""
        family, port = FAMILIES[index], {"TCP": 80, "UDP": 53}[protocol]
        address = thing["spec"]["clusterIPs"][index]
        who = []
        for source in (pod_address("pod", family, number) for number in range(3)):
            answers = [
                (await ask(lab.hosts["pod"], address, port, protocol, source=source)).who
                for _ in range(count)
            ]
            assert len(set(answers)) == 1, answers
            who.append(answers[0])
        return who

    # UDP of one family: of the other it is the same.
    for index, protocol in ((0, "TCP"), (0, "UDP"), (1, "TCP")):
        first = await asked(long, index, protocol, 8)
        hasty = await asked(short, index, protocol, 2)
        for _ in range(3):
            # What is waited for is the end of the time-out: one second, and no event tells it.
            await asyncio.sleep(1.2)
            later = await asked(short, index, protocol, 1)
            if later != hasty:
                break
        # Three clients, 24 endpoints: the same ones again are 1 in 10,000, each time.
        assert later != hasty
        assert await asked(long, index, protocol, 1) == first
    gone = [each for each in backends if each.answers(6) not in first]
    await asyncio.to_thread(lab.change, *slices("sticky", gone, ports))
    moved = await asked(long, 1, "TCP", 4)
    assert set(moved).isdisjoint(first)


def test_health_of_services_and_of_the_node(lab: Lab, proxied: Proxy) -> None:
    for name, backends, port in (("here", LOCAL[:2], 31900), ("away", REMOTE[:2], 31901)):
        made = service(
            name, [Port(80, node_port=port - 1000)], ingress=ingress(port - 31790),
            externalTrafficPolicy="Local", healthCheckNodePort=port,
        )  # fmt: skip
        lab.change(made, *slices(name, backends))

    def answer(port: int, path: str) -> tuple[int, str]:
        try:
            return 200, proxied.fetch(path, port, wire_address("node", 4))
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except urllib.error.URLError as error:
            return 0, str(error)

    def until(code: int, what: str) -> None:
        with deadline(10, what) as turn:
            while (got := answer(HEALTH_PORT, "/healthz"))[0] != code:
                turn(got)

    for port, code, count, name in ((31900, 200, 2, "here"), (31901, 503, 0, "away")):
        with deadline(10, "the health check answers") as turn:
            while not (said := answer(port, "/"))[0]:
                turn(said)
        got, body = said
        assert (got, json.loads(body)["localEndpoints"]) == (code, count), body
        assert json.loads(body)["service"] == {"namespace": "lab", "name": name}
    assert answer(HEALTH_PORT, "/healthz")[0] == 200
    assert answer(HEALTH_PORT, "/livez")[0] == 200

    taint = {"key": "ToBeDeletedByClusterAutoscaler", "effect": "NoSchedule"}
    lab.api.put(node("node", taints=[taint]))
    until(503, "a node to be deleted is no place for load balancers")
    # It is alive all the same.
    assert answer(HEALTH_PORT, "/livez")[0] == 200
    lab.api.put(node("node"))
    until(200, "the node is eligible again")


def test_what_it_tells_of_itself(lab: Lab, proxied: Proxy) -> None:
    told = slices("told", LOCAL[:1])
    for each in told:
        now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
        each["metadata"]["annotations"] = {"endpoints.kubernetes.io/last-change-trigger-time": now}
    lab.change(service("told"), *told)
    assert proxied.fetch("/proxyMode") == proxied.settings.mode
    assert "kubeproxy.config.k8s.io" in json.loads(proxied.fetch("/configz"))
    assert proxied.metric("kubeproxy_sync_proxy_rules_duration_seconds_count") > 0
    queued = proxied.metric("kubeproxy_sync_proxy_rules_last_queued_timestamp_seconds")
    applied = proxied.metric("kubeproxy_sync_proxy_rules_last_timestamp_seconds")
    assert 0 < queued <= applied
    assert proxied.metric("kubeproxy_network_programming_duration_seconds_count") >= 1
    if proxied.settings.mode == "iptables":
        assert proxied.metric("kubeproxy_sync_proxy_rules_iptables_total", 'table="nat"') > 0
