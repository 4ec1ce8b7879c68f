"""Portals for tests, from few words."""

from __future__ import annotations

from typing import Any

from proxy.model.portal import Endpoint, Family, Portal, PortalName, Protocol


def portal(
    name: str = "shop/cart:http",
    cluster: tuple[str, ...] = ("10.1.0.1", "10.1.1.1"),
    local: tuple[str, ...] = (),
    **other: Any,
) -> Portal:
    """Return a portal with endpoints at port 8080 of addresses; ``other`` as in `Portal`."""
    protocol = other.pop("protocol", Protocol.TCP)
    family = other.pop("family", Family.V4)
    service, _, port = name.partition(":")
    namespace, _, service = service.partition("/")
    fields: dict[str, Any] = {
        "cluster_ip": "10.96.0.10" if family is Family.V4 else "fd00:96::a",
        "port": 80,
        "cluster_endpoints": tuple(sorted(Endpoint(ip, 8080, ip in local) for ip in cluster)),
        "local_endpoints": tuple(sorted(Endpoint(ip, 8080, True) for ip in local)),
        "has_endpoints": bool(cluster or local),
    }
    return Portal(
        name=PortalName(namespace, service, port, protocol.value),
        family=family,
        protocol=protocol,
        **(fields | other),
    )


def by_name(*portals: Portal) -> dict[PortalName, Portal]:
    """Return what `proxy.backend.Wanted` wants."""
    return {each.name: each for each in portals}
