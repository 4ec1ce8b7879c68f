"""Portals for tests of rule sets: one of each kind, and random ones."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from proxy.model.portal import Endpoint, Family, Portal, PortalName, Protocol

Portals = dict[PortalName, Portal]

_PREFIX = {Family.V4: "10.{}.0.{}", Family.V6: "fd00:{}::{}"}


def address(family: Family, network: int, host: int) -> str:
    """Return an address: network 96 has cluster IPs, 128 pods, 50 the outside."""
    return _PREFIX[family].format(network, f"{host:x}" if family is Family.V6 else host)


def network(family: Family, number: int) -> str:
    """Return the network of `address`."""
    return f"10.{number}.0.0/24" if family is Family.V4 else f"fd00:{number}::/64"


def endpoint(family: Family, host: int, *, local: bool = False) -> Endpoint:
    """Return an endpoint, at port 8080."""
    return Endpoint(address(family, 128, host), 8080, local)


def portal(
    family: Family, number: int, endpoints: int = 2, protocol: Protocol = Protocol.TCP
) -> Portal:
    """Return a portal with a cluster IP and endpoints."""
    return Portal(
        PortalName("default", f"svc-{number}", "http", protocol.value),
        family,
        protocol,
        address(family, 96, number),
        80,
        cluster_endpoints=tuple(endpoint(family, number * 8 + each) for each in range(endpoints)),
        has_endpoints=bool(endpoints),
    )


def one_of_each(family: Family) -> Portals:
    """Return a portal of each kind that rules treat in their own way."""

    def outside(host: int) -> tuple[str, ...]:
        return (address(family, 50, host),)

    near = (endpoint(family, 200, local=True), endpoint(family, 201, local=True))
    far = endpoint(family, 202)
    found = [
        portal(family, 1),
        portal(family, 2, 0),
        replace(portal(family, 3, 3), node_port=30003, load_balancer_ips=outside(3)),
        replace(
            portal(family, 4),
            node_port=30004,
            external_ips=outside(4),
            external_local=True,
            cluster_endpoints=(*near, far),
            local_endpoints=near,
        ),
        replace(
            portal(family, 5, 3, Protocol.UDP),
            node_port=30005,
            load_balancer_ips=outside(5),
            external_local=True,
        ),
        replace(portal(family, 6, 0), node_port=30006, external_ips=outside(6)),
        replace(portal(family, 7), internal_local=True, local_endpoints=near[:1]),
        replace(portal(family, 8), internal_local=True),
        replace(portal(family, 9), affinity_seconds=10800, node_port=30009),
        replace(
            portal(family, 10),
            affinity_seconds=60,
            external_local=True,
            internal_local=True,
            node_port=30010,
            external_ips=outside(10),
            cluster_endpoints=(*near, far),
            local_endpoints=near,
        ),
        replace(
            portal(family, 11),
            load_balancer_ips=(*outside(11), *outside(111)),
            restricted=True,
            source_ranges=(network(family, 60), network(family, 61), network(family, 70)),
        ),
        replace(portal(family, 12), load_balancer_ips=outside(12), restricted=True),
        portal(family, 13, 1, Protocol.SCTP),
        # Wants what number 3 has.
        replace(portal(family, 14), node_port=30003, load_balancer_ips=outside(3)),
    ]
    return {each.name: each for each in found}


def _endpoints(family: Family, hosts: list[int]) -> tuple[Endpoint, ...]:
    return tuple(sorted(endpoint(family, host, local=host < 6) for host in hosts))


@st.composite
def any_portal(draw: st.DrawFn, family: Family, number: int) -> Portal:
    """A random portal, consistent in itself, that may want what others have."""
    hosts = sorted(draw(st.sets(st.integers(1, 12), max_size=5)))
    local = [host for host in hosts if host < 6]
    internal_local, external_local = draw(st.booleans()), draw(st.booleans())
    outside = st.lists(st.integers(1, 4), max_size=2, unique=True)
    ranges = draw(st.lists(st.integers(60, 63), max_size=3, unique=True))
    name = PortalName("default", f"svc-{number}", "", "TCP")
    return Portal(
        name,
        family,
        Protocol.TCP,
        address(family, 96, draw(st.integers(1, 4))),
        80 + number,
        node_port=draw(st.sampled_from((0, 30001, 30002))),
        external_ips=tuple(address(family, 50, each) for each in draw(outside)),
        load_balancer_ips=tuple(address(family, 51, each) for each in draw(outside)),
        source_ranges=tuple(network(family, each) for each in ranges),
        restricted=bool(ranges),
        affinity_seconds=draw(st.sampled_from((0, 0, 0, 60, 10800))),
        internal_local=internal_local,
        external_local=external_local,
        cluster_endpoints=_endpoints(family, hosts),
        local_endpoints=_endpoints(family, local) if internal_local or external_local else (),
        has_endpoints=bool(hosts),
    )


def histories(family: Family, steps: int = 4) -> SearchStrategy[list[Portals]]:
    """Random states of a cluster, one after the other."""
    numbers = range(1, 6)

    def state(portals: list[Portal | None]) -> Portals:
        return {each.name: each for each in portals if each is not None}

    one = st.tuples(*(st.one_of(st.none(), any_portal(family, number)) for number in numbers)).map(
        lambda found: state(list(found))
    )
    return st.lists(one, min_size=2, max_size=steps)
