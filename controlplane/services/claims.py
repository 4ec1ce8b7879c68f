"""Which addresses and node ports a service gets, and gives back.

What is taken is known from the services that are stored, and is held in memory: a write takes what
it needs before it is stored, and what it does not need any more is free when it is durable.

Source: Kubernetes documentation, "IPv4/IPv6 dual-stack", "Service ClusterIP allocation".
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field

from controlplane.api import codec
from controlplane.api.errors import ApiError, invalid
from controlplane.api.metadata import wrong
from controlplane.api.resource import Context, Object
from controlplane.kinds.strategies.core.addresses import parse_ip
from controlplane.kinds.strategies.core.service_checks import is_headless
from controlplane.kinds.strategies.core.services import has_health_check, has_node_ports
from controlplane.services.families import settle_families
from controlplane.services.pools import AddressPool, FullError, NotFreeError, Pool, PortPool
from controlplane.store.model import Item
from kubeletpy_common import logs

_log = logging.getLogger(__name__)


@dataclass(slots=True)
class ServiceClaim:
    """Numbers that were taken for a write, and those that it makes free."""

    taken: list[tuple[Pool, int]] = field(default_factory=list)
    given_back: list[tuple[Pool, int]] = field(default_factory=list)

    def take(self, pool: Pool, number: int) -> None:
        """Take a number that is free."""
        pool.used.add(number)
        self.taken.append((pool, number))

    def keep(self) -> None:
        """The write is durable."""
        for pool, number in self.given_back:
            pool.used.discard(number)

    def drop(self) -> None:
        """The write was not done."""
        for pool, number in self.taken:
            pool.used.discard(number)


class ServiceClaims:
    """Takes addresses and ports for services.

    Args:
        pools: of addresses, the primary family first.
        ports: of nodes.
    """

    def __init__(self, pools: list[AddressPool], ports: PortPool) -> None:
        self._pools = {pool.family: pool for pool in pools}
        self._ports = ports

    def load(self, items: Iterable[Item]) -> None:
        """Take what stored services have."""
        for item in items:
            value = codec.decode(item)
            for pool, number in self._held(value):
                if number in pool.used:
                    logs.event(
                        _log, logging.ERROR, "two services have the same address or node port",
                        service=item.key, number=number,
                    )  # fmt: skip
                pool.used.add(number)

    def claim(self, value: Object, old: Object | None, context: Context) -> ServiceClaim:
        """Give a service what it needs.

        Raises:
            ApiError: what it asks for cannot be had.
        """
        claim = ServiceClaim()
        held = set(self._held(old)) if old is not None else set()
        try:
            before = old["spec"] if old is not None else None
            if before is not None:
                _keep_values(value["spec"], before)
            _settle_addresses(value["spec"], before)
            causes = settle_families(value["spec"], before, list(self._pools))
            if causes:
                raise invalid("Service", "", value["metadata"]["name"], causes)
            self._take_addresses(value, before, held, claim)
            self._take_ports(value, held, claim)
        except BaseException:
            claim.drop()
            raise
        claim.given_back = list(held - set(self._held(value)))
        return claim

    def release(self, old: Object) -> None:
        """Free all that a service had."""
        for pool, number in self._held(old):
            pool.used.discard(number)

    def _held(self, value: Object) -> list[tuple[Pool, int]]:
        spec = value["spec"]
        held: list[tuple[Pool, int]] = []
        if spec["type"] != "ExternalName" and not is_headless(spec):
            for text in spec.get("clusterIPs", []):
                address = parse_ip(text)
                pool = self._pools.get(f"IPv{address.version}") if address else None
                if pool is not None and address is not None:
                    held.append((pool, int(address)))
        if has_node_ports(spec):
            numbers = {port.get("nodePort", 0) for port in spec.get("ports", [])} - {0}
            held += [(self._ports, number) for number in sorted(numbers)]
        if has_health_check(spec) and spec.get("healthCheckNodePort"):
            held.append((self._ports, spec["healthCheckNodePort"]))
        return held

    def _take_addresses(
        self, value: Object, before: Object | None, held: set[tuple[Pool, int]], claim: ServiceClaim
    ) -> None:
        spec = value["spec"]
        if spec["type"] == "ExternalName" or spec.get("clusterIP") == "None":
            return
        if before is not None and is_headless(before):
            return
        ips = list(spec.get("clusterIPs", []))
        for index, family in enumerate(spec.get("ipFamilies", [])):
            pool = self._pools[family]
            text = ips[index] if index < len(ips) else ""
            if not text:
                number = self._next(pool, value, "failed to allocate a serviceIP for Service ")
                ips[index:] = [str(pool.address(number))]
                claim.take(pool, number)
                continue
            address = parse_ip(text)
            if address is None or (pool, int(address)) in held:
                continue
            try:
                claim.take(pool, pool.check(address))
            except NotFreeError as error:
                cause = wrong("spec.clusterIPs", ips, f"failed to allocate IP {text}: {error}")
                raise invalid("Service", "", value["metadata"]["name"], [cause]) from None
        if ips:
            spec["clusterIPs"], spec["clusterIP"] = ips, ips[0]

    def _take_ports(self, value: Object, held: set[tuple[Pool, int]], claim: ServiceClaim) -> None:
        spec = value["spec"]
        free = {number for pool, number in held if pool is self._ports}
        if has_node_ports(spec):
            self._take_node_ports(value, free, claim)
        if not has_health_check(spec):
            return
        number = spec.get("healthCheckNodePort", 0)
        if number and number not in free:
            try:
                claim.take(self._ports, self._ports.check(number))
            except NotFreeError as error:
                text = f"failed to allocate requested HealthCheck NodePort {number}: {error}"
                raise ApiError("InternalError", f"Internal error occurred: {text}") from None
        elif not number:
            number = self._next(self._ports, value, "failed to allocate a HealthCheck NodePort for")
            claim.take(self._ports, number)
            spec["healthCheckNodePort"] = number

    def _take_node_ports(self, value: Object, free: set[int], claim: ServiceClaim) -> None:
        spec = value["spec"]
        wants_all = spec["type"] == "NodePort" or spec.get("allocateLoadBalancerNodePorts", True)
        ports = spec.get("ports", [])
        asked = {port.get("port"): port["nodePort"] for port in ports if port.get("nodePort")}
        for index, port in enumerate(ports):
            number = port.get("nodePort", 0)
            if not number and not wants_all:
                continue
            # The same port of TCP and of UDP is the same one on nodes, unless asked otherwise.
            number = number or (asked.get(port.get("port"), 0) if not free else 0)
            if not number:
                number = self._next(self._ports, value, "failed to allocate a nodePort for ")
                claim.take(self._ports, number)
                if not free:
                    asked[port.get("port")] = number
            elif number not in free and (self._ports, number) not in claim.taken:
                try:
                    claim.take(self._ports, self._ports.check(number))
                except NotFreeError as error:
                    cause = wrong(f"spec.ports[{index}].nodePort", number, str(error))
                    raise invalid("Service", "", value["metadata"]["name"], [cause]) from None
            port["nodePort"] = number

    def _next(self, pool: Pool, value: Object, what: str) -> int:
        try:
            return pool.next_free()
        except FullError as error:
            name = value["metadata"]["name"]
            text = f'Internal error occurred: {what}"{name}": {error}'
            raise ApiError("InternalError", text) from None


def _keep_values(new: Object, before: Object) -> None:
    """Put back what was given to the service, where an update does not tell it."""
    if "ExternalName" not in (new["type"], before["type"]):
        for key in ("clusterIP", "clusterIPs"):
            if not new.get(key) and before.get(key):
                value = before[key]
                new[key] = list(value) if isinstance(value, list) else value
    if _needs_node_ports(new) and _needs_node_ports(before):
        told = {port.get("nodePort", 0) for port in new.get("ports", [])}
        known = {port.get("name", ""): port.get("nodePort", 0) for port in before.get("ports", [])}
        for port in new.get("ports", []):
            number = known.get(port.get("name", ""), 0)
            if not port.get("nodePort") and number and number not in told:
                port["nodePort"] = number
    if has_health_check(new) and has_health_check(before):
        number = before.get("healthCheckNodePort", 0)
        if number and not new.get("healthCheckNodePort"):
            new["healthCheckNodePort"] = number


def _settle_addresses(new: Object, before: Object | None) -> None:
    """Let ``clusterIPs`` follow ``clusterIP``, for clients that know only the latter."""
    first = new.get("clusterIP", "")
    if before is None:
        if first and not new.get("clusterIPs"):
            new["clusterIPs"] = [first]
        return
    old = before.get("clusterIP", "")
    if first != old and new.get("clusterIPs") == before.get("clusterIPs"):
        if old and not first:
            new.pop("clusterIPs", None)
        elif first:
            new["clusterIPs"] = [first]


def _needs_node_ports(spec: Object) -> bool:
    if spec["type"] == "LoadBalancer":
        return bool(spec.get("allocateLoadBalancerNodePorts", True))
    return bool(spec["type"] == "NodePort")
