"""The model: Services, EndpointSlices and the Node in, portals out, recomputed where they changed.

A change of one Service or slice marks the names of its portals; `Model.take` computes those and
no others, and says which came out differently. So a cluster of 10,000 Services costs nothing
while one endpoint moves.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

from . import topology
from .complaints import Complaints
from .objects import ANNOTATION_TRIGGER_TIME, EndpointSlice, Service
from .portal import Family, Portal, PortalName
from .services import NOTHING, Asked, asked_of
from .slices import Slice, SliceReader, merged, service_of
from .times import seconds_of

Key = tuple[str, str]
"""Namespace and name."""
_Claim = tuple[str, int, str]
"""An address ("" for the node's own), a port and a protocol: what only one portal may have."""
_MOST_TRIGGERS = 10_000


@dataclass(slots=True)
class Taken:
    """What changed in one family since the last `Model.take`.

    Attributes:
        changed: names of portals that are new, other or gone.
        triggers: when what caused it happened (seconds since the epoch), as controllers say.
    """

    changed: set[PortalName] = field(default_factory=set)
    triggers: list[float] = field(default_factory=list)


@dataclass(slots=True)
class _Family:
    """All of one address family."""

    portals: dict[PortalName, Portal] = field(default_factory=dict)
    bases: dict[PortalName, Portal] = field(default_factory=dict)
    claims: dict[_Claim, PortalName | tuple[PortalName, ...]] = field(default_factory=dict)
    dirty: set[PortalName] = field(default_factory=set)
    triggers: dict[Key, list[float]] = field(default_factory=dict)


class Model:
    """What Services mean on this node. Not safe for threads.

    Args:
        node_name: of this node.
        external_ips: whether ``spec.externalIPs`` of Services count.
        started: seconds since the epoch; what happened before is no latency of this proxy.
    """

    def __init__(self, node_name: str, *, external_ips: bool = True, started: float = 0.0) -> None:
        self._reader = SliceReader(node_name)
        self._external_ips = external_ips
        self._started = started
        self._zone = ""
        self._asked: dict[Key, Asked] = {}
        self._slices: dict[Key, tuple[str, Slice]] = {}
        self._of_service: dict[Key, tuple[str, ...]] = {}
        self._families = {family: _Family() for family in Family}
        self._health_ports: dict[Key, int] = {}
        self.complaints = Complaints()
        self.service_changes: set[Key] = set()
        self.endpoint_changes: set[Key] = set()
        """Of which Services themselves, or endpoints, something changed; the runner clears them."""
        self.service_events = 0
        self.endpoint_events = 0
        """How often something was said of a Service, or slice."""

    def portals(self, family: Family) -> Mapping[PortalName, Portal]:
        """Return all portals of a family as of the last `take`."""
        return self._families[family].portals

    @property
    def zone(self) -> str:
        """Zone of this node, for hints."""
        return self._zone

    @zone.setter
    def zone(self, zone: str) -> None:
        if zone != self._zone:
            self._zone = zone
            for key in self._of_service:
                self._mark(key)

    def put_service(self, service: Service) -> None:
        """Take a Service as it is now."""
        self.service_events += 1
        key = (service.metadata.namespace, service.metadata.name)
        asked = asked_of(service, external_ips=self._external_ips)
        self.complaints.tell("Service", key, asked.problems)
        self._set_service(key, asked)

    def drop_service(self, key: Key) -> None:
        """Forget a Service."""
        self.service_events += 1
        self.complaints.forget("Service", key)
        self._set_service(key, NOTHING)

    def keep_services(self, keys: Collection[Key]) -> None:
        """Forget all Services but these."""
        for key in [key for key in self._asked if key not in keys]:
            self.drop_service(key)

    def put_slice(self, one: EndpointSlice) -> None:
        """Take an EndpointSlice as it is now."""
        self.endpoint_events += 1
        key = (one.metadata.namespace, one.metadata.name)
        service = service_of(one)
        read = self._reader.read(one) if service is not None else None
        if service is None or read is None:
            self.drop_slice(key)
            return
        self.complaints.tell("EndpointSlice", key, read.problems)
        before = self._slices.get(key)
        if before == (service[1], read):
            return
        if before is not None and before[0] != service[1]:
            self.drop_slice(key)
        self._slices[key] = (service[1], read)
        names = self._of_service.get(service, ())
        if key[1] not in names:
            self._of_service[service] = (*names, key[1])
        self._mark(service)
        self.endpoint_changes.add(service)
        self._triggered(service, read.family, one)

    def drop_slice(self, key: Key) -> None:
        """Forget an EndpointSlice."""
        self.complaints.forget("EndpointSlice", key)
        before = self._slices.pop(key, None)
        if before is None:
            return
        self.endpoint_events += 1
        service = (key[0], before[0])
        left = tuple(name for name in self._of_service[service] if name != key[1])
        if left:
            self._of_service[service] = left
        else:
            del self._of_service[service]
        self._mark(service)
        self.endpoint_changes.add(service)
        # When an endpoint that is gone was changed last says nothing about its going.
        self._families[before[1].family].triggers.pop(service, None)

    def keep_slices(self, keys: Collection[Key]) -> None:
        """Forget all EndpointSlices but these."""
        for key in [key for key in self._slices if key not in keys]:
            self.drop_slice(key)

    def take(self, family: Family) -> Taken:
        """Compute what was marked and return what came out differently."""
        one = self._families[family]
        taken = Taken()
        for name in one.dirty:
            portal = self._compute(one, family, name)
            before = one.portals.get(name)
            if portal == before:
                continue
            taken.changed.add(name)
            if portal is None:
                del one.portals[name]
            else:
                one.portals[name] = portal
        one.dirty.clear()
        for times in one.triggers.values():
            taken.triggers += times
        one.triggers.clear()
        return taken

    def pending(self, family: Family) -> bool:
        """Return whether there is something for `take`."""
        return bool(self._families[family].dirty)

    def health_checks(self) -> dict[Key, tuple[int, int]]:
        """Return, by Service, its health-check port and how many ready endpoints are here."""
        return {
            key: (port, self._ready_here(key)) for key, port in sorted(self._health_ports.items())
        }

    def _ready_here(self, service: Key) -> int:
        found: dict[Family, set[str]] = {family: set() for family in Family}
        for each in self._slices_of(service):
            found[each.family].update(
                place.ip for place in each.places if place.is_local and place.ready
            )
        # The pods of a dual-stack Service have an address in both.
        return max(map(len, found.values()))

    def _slices_of(self, service: Key) -> Iterator[Slice]:
        for name in self._of_service.get(service, ()):
            yield self._slices[service[0], name][1]

    def _mark(self, service: Key) -> None:
        asked = self._asked.get(service)
        if asked is not None:
            for family, portals in asked.portals.items():
                self._families[family].dirty.update(each.name for each in portals)

    def _triggered(self, service: Key, family: Family, one: EndpointSlice) -> None:
        text = (one.metadata.annotations or {}).get(ANNOTATION_TRIGGER_TIME, "")
        at = seconds_of(text)
        triggers = self._families[family].triggers
        if at is not None and at > self._started and len(triggers) < _MOST_TRIGGERS:
            triggers.setdefault(service, []).append(at)

    def _set_service(self, key: Key, asked: Asked) -> None:
        before = self._asked.get(key, NOTHING)
        if before == asked:
            return
        self.service_changes.add(key)
        # Ranks depend on the age: all claims are given back before any is made.
        for family in Family:
            for portal in before.portals.get(family, ()):
                self._release(self._families[family], portal)
        if asked.portals:
            self._asked[key] = asked
        else:
            self._asked.pop(key, None)
        for family in Family:
            for portal in asked.portals.get(family, ()):
                self._claim(self._families[family], portal)
        if asked.health_check_node_port:
            self._health_ports[key] = asked.health_check_node_port
        else:
            self._health_ports.pop(key, None)

    def _claim(self, one: _Family, portal: Portal) -> None:
        one.bases[portal.name] = portal
        one.dirty.add(portal.name)
        for claim in _claims(portal):
            before = one.claims.get(claim)
            if before is None:
                one.claims[claim] = portal.name
                continue
            holders = before if isinstance(before, tuple) else (before,)
            one.dirty.update(holders)
            holders = (*holders, portal.name)
            one.claims[claim] = tuple(
                sorted(holders, key=lambda name: self._rank(one, claim, name))
            )

    def _release(self, one: _Family, portal: Portal) -> None:
        del one.bases[portal.name]
        one.dirty.add(portal.name)
        for claim in _claims(portal):
            before = one.claims[claim]
            if not isinstance(before, tuple):
                del one.claims[claim]
                continue
            left = tuple(name for name in before if name != portal.name)
            one.dirty.update(left)
            one.claims[claim] = left[0] if len(left) == 1 else left

    def _rank(self, one: _Family, claim: _Claim, name: PortalName) -> tuple[int, str, PortalName]:
        """Return what decides who has a claim: the smallest wins.

        The address of a Service itself goes before one of a load balancer, and that before
        externalIPs, which anybody may write (CVE-2020-8554); then the older Service, then the name.
        """
        portal = one.bases[name]
        kind = 2
        if claim[0] in ("", portal.cluster_ip):
            kind = 0
        elif claim[0] in portal.load_balancer_ips:
            kind = 1
        created = self._asked[name.namespace, name.service].created
        return kind, created or "~", name

    def _compute(self, one: _Family, family: Family, name: PortalName) -> Portal | None:
        base = one.bases.get(name)
        if base is None:
            self.complaints.forget("Port", name)
            return None
        portal = self._without_lost(one, base)
        if portal is None:
            return None
        slices = self._slices_of((name.namespace, name.service))
        places = merged(slices, family, name.port, name.protocol)
        return topology.choose(portal, places, self._zone)

    def _without_lost(self, one: _Family, base: Portal) -> Portal | None:
        """Return a portal without what another one has; None if that is its own address."""
        lost: dict[_Claim, PortalName] = {}
        for claim in _claims(base):
            holder = one.claims[claim]
            if isinstance(holder, tuple) and holder[0] != base.name:
                lost[claim] = holder[0]
        self.complaints.tell(
            "Port", base.name, tuple(_lost_text(claim, name) for claim, name in lost.items())
        )
        if not lost:
            return base
        addresses = {claim[0] for claim in lost}
        if base.cluster_ip in addresses:
            return None
        return dataclasses.replace(
            base,
            node_port=0 if "" in addresses else base.node_port,
            external_ips=tuple(ip for ip in base.external_ips if ip not in addresses),
            load_balancer_ips=tuple(ip for ip in base.load_balancer_ips if ip not in addresses),
        )


def _claims(portal: Portal) -> Iterator[_Claim]:
    protocol = portal.protocol.value
    for ip in (portal.cluster_ip, *portal.external_ips, *portal.load_balancer_ips):
        yield ip, portal.port, protocol
    if portal.node_port:
        yield "", portal.node_port, protocol


def _lost_text(claim: _Claim, holder: PortalName) -> str:
    where = f"{claim[0]} port" if claim[0] else "node port"
    return f"{where} {claim[1]}/{claim[2]} is that of {holder} already; not programmed for this one"
