"""Which address a Service gets (pure)."""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
CLASS: Final = "kubeletpy.io/pool"
"""``spec.loadBalancerClass`` of Services that are served, besides those that have none."""
WANTED: Final = "kubeletpy.io/load-balancer-ips"
"""Annotation that asks for addresses, with commas; ``spec.loadBalancerIP`` asks for one."""
_LARGEST: Final = 1 << 16


class PoolError(ValueError):
    """A pool that is none, or an address that it cannot give; the message says why."""


@dataclass(frozen=True, slots=True)
class Pool:
    """Ranges of addresses, each with its first and last one."""

    ranges: tuple[tuple[Address, Address], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Pool:
        """Return the pool that a text says: networks and ranges, with commas.

        Network and broadcast address of an IPv4 network larger than /31 are left out.

        Raises:
            PoolError: a word is neither.
        """
        return cls(tuple(_range(word.strip()) for word in text.split(",") if word.strip()))

    def __contains__(self, address: object) -> bool:
        return any(
            first.version == getattr(address, "version", 0) and first <= address <= last  # type: ignore[operator]
            for first, last in self.ranges
        )

    def free(self, version: int, taken: Collection[Address]) -> Address | None:
        """Return the first address of a family that is not taken, None if there is none."""
        for one in self._all(version):
            if one not in taken:
                return one
        return None

    def _all(self, version: int) -> Iterator[Address]:
        for first, last in self.ranges:
            if first.version == version:
                # A larger range never has more taken than are looked at.
                count = min(int(last) - int(first) + 1, _LARGEST)
                yield from (first + offset for offset in range(count))


def _range(word: str) -> tuple[Address, Address]:
    first, dash, last = word.partition("-")
    try:
        if dash:
            ends = ipaddress.ip_address(first.strip()), ipaddress.ip_address(last.strip())
            if ends[0].version != ends[1].version or int(ends[0]) > int(ends[1]):
                raise PoolError(f"{word!r}: the first address is after the last one")
            return ends
        network = ipaddress.ip_network(word)
    except ValueError as error:
        if isinstance(error, PoolError):
            raise
        raise PoolError(f"{word!r} is no network and no range of addresses: {error}") from None
    inner = network.version == 4 and network.num_addresses > 2
    return network[int(inner)], network[-1 - int(inner)]


def is_served(service: Mapping[str, Any]) -> bool:
    """Whether a Service is to have addresses of the pool."""
    spec = service["spec"]
    if spec.get("type") != "LoadBalancer" or "deletionTimestamp" in service["metadata"]:
        return False
    return spec.get("loadBalancerClass") in (None, CLASS)


def addresses_of(service: Mapping[str, Any]) -> list[Address]:
    """Return the addresses that a Service's status says, those that are none left out."""
    found = []
    status = (service.get("status") or {}).get("loadBalancer") or {}
    for one in status.get("ingress") or ():
        try:
            found.append(ipaddress.ip_address(one.get("ip") or ""))
        except ValueError:
            continue
    return found


def choose(service: Mapping[str, Any], pool: Pool, taken: Mapping[Address, str]) -> list[Address]:
    """Return the addresses that a Service gets; those that it has stay if they can.

    Args:
        service: that is served.
        pool: to choose from.
        taken: addresses of other Services, and who has them.

    Raises:
        PoolError: there is none, or not the one that is asked for.
    """
    wanted = _wanted(service)
    held = [one for one in addresses_of(service) if one in pool and one not in taken]
    chosen: list[Address] = []
    for family in service["spec"].get("ipFamilies") or ["IPv4"]:
        version = 6 if family == "IPv6" else 4
        asked = next((one for one in wanted if one.version == version), None)
        if asked is not None:
            chosen.append(_granted(asked, pool, taken))
            continue
        kept = next((one for one in held if one.version == version), None)
        found = kept if kept is not None else pool.free(version, taken)
        if found is not None:
            chosen.append(found)
        elif any(first.version == version for first, _ in pool.ranges):
            raise PoolError(f"no {family} address of the load balancer pool is free")
    if not chosen:
        raise PoolError("the load balancer pool has no address of a family of the Service")
    return chosen


def _wanted(service: Mapping[str, Any]) -> Sequence[Address]:
    annotations = service["metadata"].get("annotations") or {}
    text = annotations.get(WANTED) or service["spec"].get("loadBalancerIP") or ""
    try:
        return [ipaddress.ip_address(one.strip()) for one in text.split(",") if one.strip()]
    except ValueError as error:
        raise PoolError(f"the address that is asked for is none: {error}") from None


def _granted(asked: Address, pool: Pool, taken: Mapping[Address, str]) -> Address:
    if asked not in pool:
        raise PoolError(f"{asked} is not in the load balancer pool")
    if asked in taken:
        raise PoolError(f"{asked} is that of Service {taken[asked]}")
    return asked
