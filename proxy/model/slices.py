"""What an EndpointSlice says, in few bytes, and the endpoints of a port merged over slices (pure).

A cluster of 10,000 Services has as many slices or more, and 50,000 endpoints: everything that
repeats (node names, zones, sets of ports) is kept once.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import msgspec

from .addresses import endpoint_problem, parse
from .objects import LABEL_SERVICE_NAME, EndpointSlice, Hints
from .portal import Family

_FAMILIES = {"IPv4": Family.V4, "IPv6": Family.V6}
_MANY = 10
"""Problems of one slice that are told one by one."""


class Place(msgspec.Struct, frozen=True, gc=False):
    """An endpoint of a slice, without a port.

    Attributes:
        ip: canonical.
        is_local: on this node.
        ready, serving, terminating: as EndpointConditions, defaults applied.
        zones: of hints; None: no hint.
        for_this_node: whether the hint for nodes names this one; None: no hint.
    """

    ip: str
    is_local: bool = False
    ready: bool = True
    serving: bool = True
    terminating: bool = False
    zones: tuple[str, ...] | None = None
    for_this_node: bool | None = None

    @property
    def fallback(self) -> bool:
        """Whether it may be used if nothing is ready: KEP-1669."""
        return self.serving and self.terminating


@dataclass(frozen=True, slots=True)
class Slice:
    """One EndpointSlice.

    Attributes:
        family: of its addresses.
        ports: numbers by name and protocol of the Service's port.
        places: its endpoints.
        problems: what of it cannot be used and why.
    """

    family: Family
    ports: Mapping[tuple[str, str], tuple[int, ...]]
    places: tuple[Place, ...]
    problems: tuple[str, ...] = ()


def service_of(one: EndpointSlice) -> tuple[str, str] | None:
    """Return namespace and name of the Service that a slice belongs to, None if to none."""
    name = (one.metadata.labels or {}).get(LABEL_SERVICE_NAME, "")
    if not name or not one.metadata.namespace or not one.metadata.name:
        return None
    return one.metadata.namespace, name


class SliceReader:
    """Turns EndpointSlices into `Slice`; remembers what repeats.

    Args:
        node_name: of this node.
    """

    def __init__(self, node_name: str) -> None:
        self._node = node_name
        self._ports: dict[
            tuple[tuple[str, str, int], ...], Mapping[tuple[str, str], tuple[int, ...]]
        ]
        self._ports = {}
        self._zones: dict[tuple[str, ...], tuple[str, ...]] = {}

    def read(self, one: EndpointSlice) -> Slice | None:
        """Return what a slice says; None if its kind of addresses is not for a proxy (FQDN)."""
        family = _FAMILIES.get(one.address_type)
        if family is None:
            return None
        problems: list[str] = []
        ports = self._shared(tuple(_ports(one, problems)))
        places = tuple(self._places(one, family, problems))
        return Slice(family, ports, places, _few(problems))

    def _shared(
        self, ports: tuple[tuple[str, str, int], ...]
    ) -> Mapping[tuple[str, str], tuple[int, ...]]:
        if (known := self._ports.get(ports)) is not None:
            return known
        found: dict[tuple[str, str], tuple[int, ...]] = {}
        for name, protocol, number in ports:
            before = found.get((name, protocol), ())
            if number not in before:
                found[name, protocol] = (*before, number)
        if len(self._ports) > 4096:
            # What is in use stays with its slices; only sharing begins anew.
            self._ports.clear()
        return self._ports.setdefault(ports, found)

    def _places(self, one: EndpointSlice, family: Family, problems: list[str]) -> Iterator[Place]:
        for number, each in enumerate(one.endpoints or ()):
            if not each.addresses:
                problems.append(f"endpoints[{number}]: without an address")
                continue
            text = each.addresses[0]
            parsed = parse(text)
            if parsed is None:
                problems.append(f"endpoints[{number}]: {text!r} is no IP address")
                continue
            if parsed[0] is not family:
                problems.append(f"endpoints[{number}]: {text} in a slice of {one.address_type}")
                continue
            if reason := endpoint_problem(parsed[1]):
                problems.append(f"endpoints[{number}]: {text} is {reason}")
                continue
            state = each.conditions
            zones, for_this_node = self._hints(each.hints)
            yield Place(
                parsed[1],
                bool(self._node) and each.node_name == self._node,
                state is None or state.ready is not False,
                state is None or state.serving is not False,
                state is not None and state.terminating is True,
                zones,
                for_this_node,
            )

    def _hints(self, hints: Hints | None) -> tuple[tuple[str, ...] | None, bool | None]:
        if hints is None:
            return None, None
        zones: tuple[str, ...] | None = None
        if hints.for_zones:
            names = tuple(sorted({sys.intern(each.name) for each in hints.for_zones}))
            zones = self._zones.setdefault(names, names) if len(self._zones) < 4096 else names
        if not hints.for_nodes:
            return zones, None
        return zones, any(each.name == self._node for each in hints.for_nodes)


def _ports(one: EndpointSlice, problems: list[str]) -> Iterator[tuple[str, str, int]]:
    for number, each in enumerate(one.ports or ()):
        if each.name is None:
            problems.append(f"ports[{number}]: without a name")
        elif each.port is None:
            problems.append(f"ports[{number}]: {each.name!r} without a number")
        elif not 0 < each.port < 65_536:
            problems.append(f"ports[{number}]: {each.name!r}: {each.port} is no port")
        else:
            yield each.name, each.protocol or "TCP", each.port


def _few(problems: list[str]) -> tuple[str, ...]:
    if len(problems) <= _MANY:
        return tuple(problems)
    return (*problems[:_MANY], f"and {len(problems) - _MANY} more")


def merged(
    slices: Iterable[Slice], family: Family, port: str, protocol: str
) -> dict[tuple[str, int], Place]:
    """Return the endpoints of one port, by address and port number, over all slices of a Service.

    An endpoint that moves from one slice to another is in both for a while, and an address may be
    given to a new pod while its last one still ends: the one that does not end counts, and of two
    such the ready one. So the order of the slices does not matter.
    """
    found: dict[tuple[str, int], Place] = {}
    for each in slices:
        if each.family is not family:
            continue
        for number in each.ports.get((port, protocol), ()):
            for place in each.places:
                before = found.get(key := (place.ip, number))
                if before is None or _rank(place) > _rank(before):
                    found[key] = place
    return found


def _rank(place: Place) -> tuple[bool, bool, bool, bool, bool, bool, tuple[str, ...]]:
    return (
        not place.terminating, place.ready, place.serving, place.is_local,
        place.zones is not None, bool(place.for_this_node), place.zones or (),
    )  # fmt: skip
