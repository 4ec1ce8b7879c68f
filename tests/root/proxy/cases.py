"""What a case is, and how a whole table of them is tried at once."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.support.proxylab.clients import PATIENCE, REFUSED, SILENCE, SILENT, Answer, ask
from tests.support.proxylab.lab import Lab
from tests.support.proxylab.objects import PORT, Backend, Json, Port, service, slices
from tests.support.proxylab.proxies import Settings
from tests.support.proxylab.topology import FAMILIES, service_address, wire_address

KEPT, MASQUERADED = "kept", "masqueraded"
_TRIES = 90
"""Connections after which an endpoint of three counts as never used: chance 1 in 10^15."""
_AT_ONCE = {"TCP": 2, "UDP": 1, "SCTP": 1}
"""To which packet a refusal comes, thus at once, however slow the client is to hear it.

To the second one of TCP at the latest: an ICMP error that comes back while connect(2) still holds
the lock of the socket is lost, by any rule that rejects on the same machine (tcp_v6_err,
``LockDroppedIcmps``).
"""
_WIDTH = 40

Where = Callable[[int], str]
"""Gives the address, of a family, that a client asks."""
When = Callable[[Settings, int], bool]


@dataclass(frozen=True)
class Case:
    """Somebody asks somewhere; this is to come of it.

    Attributes:
        name: what is looked at.
        client: the host that asks.
        where: the address that it asks.
        port: and the port.
        expected: the endpoints, each of which has to answer in the end, or what happens instead.
        source: what endpoints see: the client's own address (`KEPT`) or one of the node's.
        protocol: TCP, UDP or SCTP.
        target: the endpoints' port.
        own: the address that the client uses; "" for its first.
        when: whether it applies, by settings and family.
    """

    name: str
    client: str
    where: Where
    port: int
    expected: tuple[Backend, ...] | Answer
    source: str = KEPT
    protocol: str = "TCP"
    target: int = PORT
    own: Where | None = None
    when: When = lambda settings, family: True

    async def tried(self, lab: Lab, family: int, width: asyncio.Semaphore) -> str:
        """Try it; return what is wrong, "" for nothing."""
        if isinstance(self.expected, Answer):
            return await self._tried_without(self.expected, lab, family)
        missing = {each.answers(family, self.target) for each in self.expected}
        right, number = set(missing), 0
        while missing and number < _TRIES:
            async with width:
                answers = await asyncio.gather(*(self._ask(lab, family) for _ in range(6)))
            for answer in answers:
                if answer.who not in right:
                    return f"{answer}, not one of {sorted(right)}"
                if answer.source not in self._sources(lab, family, answer):
                    return f"{answer}: the source is to be {self.source}"
                missing.discard(answer.who)
            number += len(answers)
        return f"never answered: {sorted(missing)}" if missing else ""

    async def _tried_without(self, expected: Answer, lab: Lab, family: int) -> str:
        for _ in range(1 if expected == SILENT else 2):
            answer = await self._ask(lab, family, SILENCE if expected == SILENT else PATIENCE)
            if answer != expected:
                return f"{answer}, not {expected}"
            # What is unreachable is so by the router, which tells it a few times a second only.
            if expected == REFUSED and answer.packets > _AT_ONCE[self.protocol]:
                return f"{answer}, but only when packet {answer.packets} came"
        return ""

    async def _ask(self, lab: Lab, family: int, patience: float = PATIENCE) -> Answer:
        own = self.own(family) if self.own else ""
        return await ask(
            lab.hosts[self.client], self.where(family), self.port, self.protocol,
            source=own, patience=patience,
        )  # fmt: skip

    def _sources(self, lab: Lab, family: int, answer: Answer) -> set[str]:
        if self.source == MASQUERADED:
            return lab.hosts.node_addresses(family)
        if self.own:
            return {self.own(family)}
        return own_addresses(self.client, family)


def own_addresses(host: str, family: int) -> set[str]:
    """Return what a host's packets may bear as their source, on the wire or as a pod."""
    from tests.support.proxylab.topology import pod_address

    if host in ("pod", "self", "far"):
        return {pod_address(host, family)}
    return {wire_address(host, family)}


@dataclass
class Scenario:
    """Objects, and what is to be seen when a proxy has taken them in."""

    objects: list[Json] = field(default_factory=list)
    cases: list[Case] = field(default_factory=list)

    def add(
        self, name: str, backends: Sequence[Backend], ports: Sequence[Port] = (Port(),), **spec: Any
    ) -> Where:
        """Have a Service and its slices; return where it is."""
        made = service(name, ports, **spec)
        families = [int(each[-1]) for each in made["spec"]["ipFamilies"]]
        self.objects += [made, *slices(name, backends, ports, families=families)]
        addresses = dict(zip(families, made["spec"]["clusterIPs"], strict=True))
        return lambda family: str(addresses[family])

    def expect(
        self, name: str, clients: str, where: Where, port: int,
        expected: Sequence[Backend] | Answer, source: str = KEPT, **more: Any,
    ) -> None:  # fmt: skip
        """Add a case for each of ``clients`` (words)."""
        for client in clients.split():
            wanted = expected if isinstance(expected, Answer) else tuple(expected)
            self.cases.append(
                Case(f"{name}, asked from {client}", client, where, port, wanted, source, **more)
            )

    def applicable(self, settings: Settings) -> list[tuple[Case, int]]:
        """Return the cases with the families in which they apply."""
        pairs = itertools.product(self.cases, FAMILIES)
        return [(case, family) for case, family in pairs if case.when(settings, family)]


def try_all(lab: Lab, cases: Sequence[tuple[Case, int]]) -> list[str]:
    """Try all cases, each in its family, at once; return what is wrong."""

    async def run() -> list[str]:
        width = asyncio.Semaphore(_WIDTH)
        return await asyncio.gather(*(case.tried(lab, family, width) for case, family in cases))

    found = zip(cases, asyncio.run(run()), strict=True)
    return [f"IPv{family}: {case.name}: {wrong}" for (case, family), wrong in found if wrong]


def check(lab: Lab, scenario: Scenario, settings: Settings) -> None:
    """Try all cases of a scenario that apply; AssertionError names each that is not as expected."""
    cases = scenario.applicable(settings)
    assert cases
    wrong = try_all(lab, cases)
    assert not wrong, f"{len(wrong)} of {len(cases)} cases:\n" + "\n".join(wrong)


def nodes_own(family: int) -> str:
    """Where the node is, for node ports."""
    return wire_address("node", family)


def elsewhere(number: int) -> Where:
    """Where no Service is."""
    return lambda family: service_address(number, family)
