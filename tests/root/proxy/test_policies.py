"""NetworkPolicies on real packets: every kind of peer and port, both families, and every change."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator

import pytest

from kubeletpy_common.linux.namespaces import in_namespace
from tests.root.proxy.policies import (
    CLIENTS,
    NODE,
    SERVERS,
    Enforced,
    both,
    command,
    daemon,
    questions,
    world,
    wrong,
)
from tests.support.circumstances import patient
from tests.support.machine import Allowances
from tests.support.policies import pod, policy
from tests.support.proxylab.clients import ask, hold
from tests.support.proxylab.lab import Lab
from tests.support.proxylab.objects import ITSELF, LOCAL, PORT, Port, service, slices
from tests.support.proxylab.proxies import Settings
from tests.support.proxylab.topology import (
    FAMILIES,
    pod_address,
    service_address,
    wire_address,
)

pytestmark = pytest.mark.root
SETTINGS = Settings("nftables", arguments=("--enforce-network-policies",))
NODE_PORT = 30_777


@pytest.fixture(scope="module")
def enforced(lab: Lab, machine_allowances: Allowances) -> Iterator[Enforced]:
    """The lab's world, with a proxy that enforces its policies too."""
    for part in ("-m proxy", "-m\\x00proxy"):
        machine_allowances.allow("processes", part)
    lab.reset()
    with lab.proxy(SETTINGS) as proxy:
        found = Enforced(lab)
        found.declare(world())
        yield found
        assert proxy.alive(), proxy.tail()


def test_a_daemon_of_its_own_takes_over_without_a_gap(lab: Lab) -> None:
    """Killed and started again with a client that knocks all the time; then it cleans up.

    It is the first test, since the module's own proxy is not there yet.
    """
    lab.wipe()
    lab.reset()
    enforced = Enforced(lab)
    closed = pod_address("local", 4, SERVERS["closed"])
    host = lab.hosts["pod"]
    with daemon(lab) as first:
        enforced.declare(world())
        lab.hosts["node"].run("nft add table ip others")

        async def knock(ended: asyncio.Event) -> int:
            opened = 0
            while not ended.is_set():
                opened += bool((await ask(host, closed, PORT, patience=0.05)).source)
            return opened

        async def run() -> None:
            ended = asyncio.Event()
            knocking = asyncio.create_task(knock(ended))
            await asyncio.to_thread(first.process.kill)
            await asyncio.to_thread(first.process.wait, 10)
            with daemon(lab):
                await asyncio.to_thread(enforced.settle)
                ended.set()
                assert await knocking == 0

        asyncio.run(run())
    words, settings = command(lab, "--cleanup")
    with in_namespace(lab.hosts["node"].path):
        done = subprocess.run(
            words, capture_output=True, text=True, timeout=patient(30), **settings
        )
    assert done.returncode == 0, done.stderr
    rules = lab.hosts["node"].run("nft list tables")
    assert "kubeletpy" not in rules
    assert "others" in rules
    lab.wipe()


def test_who_may_speak_with_whom(enforced: Enforced) -> None:
    """Some two thousand questions; the reference knows each answer."""
    asked = list(questions())
    expected = [world().allows(each.traffic) for each in asked]
    assert 0.2 < sum(expected) / len(expected) < 0.8
    problems = asyncio.run(wrong(enforced.lab, asked, world()))
    assert not problems, f"{len(problems)} of {len(asked)} wrong:\n" + "\n".join(problems[:40])


@pytest.mark.parametrize("family", FAMILIES)
def test_services_lead_to_pods_by_the_same_rules(enforced: Enforced, family: int) -> None:
    """By cluster IP and node port: peers are seen as they are, whatever address they asked."""
    lab, index = enforced.lab, SERVERS["several"]
    ports = [Port(80, PORT, node_port=NODE_PORT)]
    lab.change(service("web", ports, type="NodePort", number=3), *slices(
        "web", LOCAL[index : index + 1], ports))  # fmt: skip
    address = service_address(3, family)
    for name, allowed in (("x/front", True), ("x/back", False), ("z/front", False)):
        host, place = CLIENTS[name]
        if host == "far":
            continue
        source = pod_address(host, family, place)
        answer = asyncio.run(ask(lab.hosts[host], address, 80, source=source,
                                 patience=6 if allowed else 0.7))  # fmt: skip
        assert bool(answer.source) == allowed, f"{name}: {answer}"
    node = wire_address("node", family)
    refused = asyncio.run(ask(lab.hosts["outside"], node, NODE_PORT, patience=0.7))
    assert refused.who == "silence"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_pod_reaches_itself_by_its_service_whatever_is_forbidden(
    enforced: Enforced, family: int
) -> None:
    lab, ports = enforced.lab, [Port(80, PORT)]
    lab.change(service("itself", ports, number=4), *slices("itself", [ITSELF], ports))
    enforced.put(
        pod("x/self", both("self"), node=NODE, labels={"case": "self"}),
        policy("x/self", {"matchLabels": {"case": "self"}}, policyTypes=["Ingress", "Egress"]),
    )
    host = lab.hosts["self"]
    assert asyncio.run(ask(host, service_address(4, family), 80)).source
    other = pod_address("remote", family)
    assert asyncio.run(ask(host, other, PORT, patience=0.7)).who == "silence"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_connection_that_was_allowed_goes_on(enforced: Enforced, family: int) -> None:
    """As the peers have it: a policy is asked when a connection begins."""
    lab = enforced.lab
    host, target = lab.hosts["pod"], pod_address("local", family, SERVERS["open"])
    closing = policy("x/late", {"matchLabels": {"case": "open"}}, policyTypes=["Ingress"])

    async def run() -> None:
        async with hold(host, target, PORT) as held:
            enforced.put(closing)
            assert await held.works()
            assert (await ask(host, target, PORT, patience=0.7)).who == "silence"
        lab.api.delete(closing)
        enforced.settle()
        assert (await ask(host, target, PORT)).source

    asyncio.run(run())


def test_an_ended_pod_gives_its_address_back(enforced: Enforced) -> None:
    """The next pod of the address is another one."""
    lab, declared = enforced.lab, world()
    target = pod_address("local", 4, SERVERS["pods"])
    [front] = [each for each in declared.pods if each["metadata"]["name"] == "front"
               and each["metadata"]["namespace"] == "x"]  # fmt: skip
    host = lab.hosts["pod"]

    async def answered(patience: float) -> bool:
        return bool(
            (await ask(host, target, PORT, source=both("pod")[0], patience=patience)).source
        )

    assert asyncio.run(answered(6))
    enforced.put({**front, "status": {**front["status"], "phase": "Succeeded"}})
    assert not asyncio.run(answered(0.7))
    enforced.put(front)
    assert asyncio.run(answered(6))


def test_a_bad_policy_is_told_of_and_spoils_no_other(enforced: Enforced) -> None:
    lab = enforced.lab
    bad = policy(
        "x/bad", {"matchLabels": {"case": "open"}},
        ingress=[{"from": [{"ipBlock": {"cidr": "10.0.0.0/33"}}, {"wish": {}}]}],
    )  # fmt: skip
    unreadable = policy("x/unreadable", {"matchExpressions": [{"key": "case", "operator": "Like"}]})
    try:
        enforced.put(bad, unreadable)
        sources = [(CLIENTS["x/back"], SERVERS["open"], False), (CLIENTS["x/front"],
                   SERVERS["pods"], True)]  # fmt: skip
        for (host, place), index, allowed in sources:
            answer = asyncio.run(
                ask(lab.hosts[host], pod_address("local", 4, index), PORT,
                    source=pod_address(host, 4, place), patience=6 if allowed else 0.7)
            )  # fmt: skip
            assert bool(answer.source) == allowed
        told = {each["involvedObject"]["name"]: each["message"] for each in lab.api.events
                if each["reason"] == "InvalidPolicy"}  # fmt: skip
        assert "'10.0.0.0/33' is no CIDR" in told["bad"]
        assert "unknown field 'wish'" in told["bad"]
        assert "'Like' is no operator" in told["unreadable"]
    finally:
        lab.api.delete(bad, unreadable)


def test_rules_that_somebody_removed_come_back(enforced: Enforced) -> None:
    node = enforced.lab.hosts["node"]
    before = enforced.table()
    for family in ("ip", "ip6"):
        name = "a" if f"table {family} kubeletpy-policies-a" in before else "b"
        node.run(f"nft flush table {family} kubeletpy-policies-{name}")
    enforced.settle()
    closed = pod_address("local", 4, SERVERS["closed"])
    assert asyncio.run(ask(enforced.lab.hosts["pod"], closed, PORT, patience=0.7)).who == "silence"


def test_nobody_without_policies_is_touched(enforced: Enforced) -> None:
    """The table names no pod that no policy is about."""
    isolated = [each for each in enforced.table().splitlines() if ": goto " in each]
    assert pod_address("local", 4, SERVERS["closed"]) in "".join(isolated)
    assert pod_address("local", 4, SERVERS["open"]) not in "".join(isolated)
