"""What happens to flows: endpoints go and come, the proxy restarts, a Deployment rolls."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack, ExitStack

import pytest

from tests.support.proxylab.clients import PATIENCE, Steady, ask, hold
from tests.support.proxylab.flows import flows
from tests.support.proxylab.lab import Lab
from tests.support.proxylab.objects import (
    LOCAL,
    OTHER_PORT,
    PORT,
    REMOTE,
    Backend,
    Json,
    Port,
    ending,
    service,
    slices,
)
from tests.support.proxylab.proxies import Proxy
from tests.support.proxylab.topology import FAMILIES, public_address, wire_address

from .services import externals, ingress

pytestmark = pytest.mark.root
DATAGRAMS = [Port(53, protocol="UDP", name="udp"), Port(99, protocol="SCTP", name="sctp")]


async def changed(lab: Lab, *objects: Json) -> None:
    """Put objects and wait for the rules, while the test's own clients go on."""
    await asyncio.to_thread(lab.change, *objects)


async def test_a_client_of_an_endpoint_that_goes_moves_on(lab: Lab, proxied: Proxy) -> None:
    # The peer clears UDP alone; an SCTP client of its is left with an endpoint that is gone.
    protocols = ("UDP",) if proxied.settings.peer else ("UDP", "SCTP")
    ports = {"UDP": 53, "SCTP": 99}
    going, staying = service("going", DATAGRAMS), service("staying", DATAGRAMS)
    await changed(
        lab, going, *slices("going", LOCAL[:1], DATAGRAMS),
        staying, *slices("staying", LOCAL[:3], DATAGRAMS),
    )  # fmt: skip
    with ExitStack() as stack:

        def clients(thing: Json, count: int) -> list[Steady]:
            return [
                stack.enter_context(Steady(lab.hosts["pod"], address, ports[protocol], protocol))
                for address in thing["spec"]["clusterIPs"]
                for protocol in protocols
                for _ in range(count)
            ]

        movers, others = clients(going, 1), clients(staying, 4)
        first = await asyncio.gather(*(each.ask() for each in (*movers, *others)))
        assert all(answer.source for answer in first), first
        going_one = {LOCAL[0].answers(family) for family in FAMILIES}
        assert {answer.who for answer in first[: len(movers)]} == going_one
        before = flows(lab.hosts["node"])

        await changed(lab, *slices("going", REMOTE[:1], DATAGRAMS))

        taking_over = {REMOTE[0].answers(family) for family in FAMILIES}
        later = await asyncio.gather(
            *(
                lab.eventually(each.ask, lambda answer: answer.who in taking_over)
                for each in movers
            )
        )  # fmt: skip
        assert len(later) == len(movers)
        # Nobody else's flow was touched, not even one to the same endpoint by another Service.
        after = {flow.number for flow in flows(lab.hosts["node"])}
        datagrams = {flow for flow in before if flow.protocol in ("UDP", "SCTP")}
        aims = set(going["spec"]["clusterIPs"])
        lost = {flow for flow in datagrams if flow.number not in after}
        assert {flow.destination.rpartition(":")[0] for flow in lost} == aims, lost
        assert await asyncio.gather(*(each.ask() for each in others)) == first[len(movers) :]


async def test_the_first_endpoint_takes_the_flows_that_found_none(lab: Lab, proxied: Proxy) -> None:
    # Before there is a Service, the node forwards what a client sends there, and remembers it.
    aims = [public_address(100, family) for family in FAMILIES]
    with ExitStack() as stack:
        clients = [
            stack.enter_context(Steady(lab.hosts["outside"], address, 53)) for address in aims
        ]
        early = await asyncio.gather(*(each.ask(1.0) for each in clients))
        assert not any(answer.source for answer in early)
        made = service("first", DATAGRAMS, externalIPs=externals(100))
        await changed(lab, made)
        await changed(lab, *slices("first", LOCAL[:1], DATAGRAMS))
        for each in clients:
            await lab.eventually(each.ask, lambda answer: bool(answer.source))


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_a_restart_breaks_no_flow(lab: Lab, proxied: Proxy, how: signal.Signals) -> None:
    ports = [
        Port(80, node_port=30800, name="tcp"),
        Port(53, protocol="UDP", node_port=30801, name="udp"),
    ]
    made = service("restart", ports, number=120, ingress=ingress(101))
    await changed(lab, made, *slices("restart", (*LOCAL[:2], *REMOTE[:2]), ports))
    ways = [
        (host, address)
        for index, family in enumerate(FAMILIES)
        for host, address in (
            ("pod", made["spec"]["clusterIPs"][index]),
            ("node", made["spec"]["clusterIPs"][index]),
            ("outside", public_address(101, family)),
        )
    ]
    async with AsyncExitStack() as stack:
        held = [
            await stack.enter_async_context(hold(lab.hosts[host], address, 80))
            for host, address in ways
            for _ in range(3)
        ]
        steady = [
            stack.enter_context(Steady(lab.hosts[host], address, 53)) for host, address in ways
        ]
        first = await asyncio.gather(*(each.ask() for each in steady))
        assert all(answer.source for answer in first), first

        await asyncio.to_thread(proxied.stop, how)
        meanwhile = await asyncio.gather(*(ask(lab.hosts[h], a, 80) for h, a in ways))
        assert all(answer.source for answer in meanwhile), meanwhile
        again = lab.start(proxied.settings)
        proxied.process = again.process
        proxied.log = again.log
        lab.forget(again)
        await asyncio.to_thread(lab.settle)

        assert all(await asyncio.gather(*(each.works() for each in held)))
        assert await asyncio.gather(*(each.ask() for each in steady)) == first


async def test_a_rolling_update_under_load(lab: Lab, proxied: Proxy) -> None:
    """20 endpoints are replaced; nothing is reset, and nothing reaches those that have ended."""
    old, new = [Port(80, node_port=30900)], [Port(80, OTHER_PORT)]
    made = service("rolling", old, ingress=ingress(102), externalTrafficPolicy="Local")
    await changed(
        lab, made, *slices("rolling", LOCAL[:20], old), *slices("rolling", (), new, part="-new")
    )
    load = Load(lab)
    async with AsyncExitStack() as stack:
        held = [
            await stack.enter_async_context(
                hold(lab.hosts["outside"], public_address(102, family), 80)
            )
            for family in FAMILIES
            for _ in range(30)
        ]
        working = [asyncio.create_task(load.work(family)) for family in FAMILIES * 4]
        for count in range(4, 21, 4):
            # Four more of the new are ready, four of the old terminate, four have ended.
            states = [ending(each) for each in LOCAL[max(0, count - 4) : count]] + list(
                LOCAL[count:20]
            )
            await changed(
                lab, *slices("rolling", LOCAL[:count], new, part="-new"),
                *slices("rolling", states, old),
            )  # fmt: skip
            load.gone(LOCAL[: max(0, count - 4)], PORT)
        await changed(lab, *slices("rolling", (), old))
        load.gone(LOCAL[:20], PORT)
        load.enough = True
        done = await asyncio.gather(*working)
        assert sum(done) > 200, done
        assert load.wrong == []
        assert all(await asyncio.gather(*(each.works() for each in held)))
        outside = {wire_address("outside", family) for family in FAMILIES}
        assert {each.answer.source for each in held} == outside


class Load:
    """Connections, one after the other, and what was wrong with them."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.enough = False
        self.wrong: list[str] = []
        self._gone: dict[str, float] = {}

    def gone(self, backends: Sequence[Backend], port: int) -> None:
        """Count answers of these, to connections made from now on, as lost."""
        for each in backends:
            for family in FAMILIES:
                who = f"{each.address(family)}:{port}"
                self._gone.setdefault(who, time.monotonic())

    async def work(self, family: int) -> int:
        """Connect until it is enough; return how often."""
        count = 0
        while not self.enough:
            begun = time.monotonic()
            answer = await ask(
                self.lab.hosts["outside"], public_address(102, family), 80, patience=PATIENCE
            )
            count += 1
            if not answer.source:
                self.wrong.append(f"IPv{family}: {answer}")
            elif self._gone.get(answer.who, begun) < begun:
                self.wrong.append(f"IPv{family}: {answer} has ended")
            elif time.monotonic() - begun > 0.9:
                self.wrong.append(f"IPv{family}: {answer} after {time.monotonic() - begun:.1f} s")
            await asyncio.sleep(0.005)  # a load that leaves the machine to others too
        return count
