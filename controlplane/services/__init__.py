"""Addresses of services: ClusterIPs, node ports, and the ``kubernetes`` Service."""

from __future__ import annotations

from functools import partial
from ipaddress import ip_network

from controlplane.options import Options, OptionsError
from controlplane.plane import Plane
from controlplane.services.apiserver import ApiserverService
from controlplane.services.claims import ServiceClaims
from controlplane.services.pools import AddressPool, PortPool

SERVICES = "/core/services/"
_LONGEST = {4: 30, 6: 126}


def install(plane: Plane) -> None:
    """Hook in what gives addresses and keeps the ``kubernetes`` Service.

    Raises:
        OptionsError: the ranges cannot be taken.
    """
    claims = ServiceClaims(address_pools(plane.options), PortPool(*plane.options.node_ports))
    plane.registry.claims[SERVICES] = claims
    kept = ApiserverService(plane)
    plane.starters += [partial(_load, plane, claims), kept.start]
    plane.background.append(kept.run)


def address_pools(options: Options) -> list[AddressPool]:
    """Return the pools of ClusterIPs, the primary one first.

    Raises:
        OptionsError: a range is none, too small, or of a family that another one has.
    """
    pools: list[AddressPool] = []
    for text in options.service_ranges:
        try:
            network = ip_network(text)
        except ValueError as error:
            raise OptionsError(f"--service-cluster-ip-range: {error}") from error
        if network.prefixlen > _LONGEST[network.version]:
            raise OptionsError(f"--service-cluster-ip-range: {text} has no room for services")
        pools.append(AddressPool(network))
    families = [pool.family for pool in pools]
    if not pools or len(set(families)) != len(families):
        listed = ", ".join(options.service_ranges)
        raise OptionsError(
            f"--service-cluster-ip-range: {listed!r} must be one range, or one of each family"
        )
    first, last = options.node_ports
    if not 0 < first <= last < 65536:
        raise OptionsError(f"--service-node-port-range: {first}-{last} is no range of ports")
    return pools


async def _load(plane: Plane, claims: ServiceClaims) -> None:
    claims.load(plane.store.read(SERVICES).items)
