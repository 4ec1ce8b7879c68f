"""Stale flows in the kernel's table, each test in a network namespace of its own."""

from __future__ import annotations

import socket
import subprocess
from dataclasses import replace

import pytest

from proxy.backend import RuleOptions
from proxy.conntrack import flows
from proxy.conntrack.netlink import _dump, _filter, _open
from proxy.model.portal import Family, Portal, Protocol
from tests.support.flows import SCTP, TCP, UDP, Made, count, make
from tests.support.namespaces import in_new_network
from tests.support.portals import address, endpoint, portal

pytestmark = pytest.mark.root

_MANY = 20_000


def served(family: Family, number: int, *hosts: int, protocol: Protocol = Protocol.UDP) -> Portal:
    ends = tuple(endpoint(family, host) for host in hosts)
    return replace(
        portal(family, number, 0, protocol),
        cluster_endpoints=ends,
        serving_endpoints=ends,
        has_endpoints=bool(ends),
    )


def there(family: Family, protocol: int) -> set[tuple[str, int]]:
    """Return where flows of a protocol go to."""
    kind = socket.AF_INET if family is Family.V4 else socket.AF_INET6
    with _open() as reading:
        return {
            (socket.inet_ntop(kind, each.asked), int.from_bytes(each.asked_port, "big"))
            for each in _dump(reading, family, _filter(family, protocol))
            if each
        }


@pytest.mark.parametrize("family", Family)
def test_exactly_the_stale_flows_go(family: Family) -> None:
    def run() -> None:
        client = address(family, 1, 1)
        own, other = address(family, 96, 1), address(family, 96, 2)
        node, outside = address(family, 10, 1), address(family, 50, 9)
        ends = [address(family, 128, host) for host in (1, 2)]
        length = "24" if family is Family.V4 else "64"
        words = f"ip address add {node}/{length} dev lo".split()
        subprocess.run(words, check=True)
        made = {
            "healthy": Made(UDP, (client, 1), (own, 80), (ends[0], 8080)),
            "gone": Made(UDP, (client, 2), (own, 80), (ends[1], 8080)),
            "gone by node port": Made(UDP, (client, 3), (node, 30001), (ends[1], 8080)),
            "port of another host": Made(UDP, (client, 4), (outside, 30001), (outside, 30001)),
            "of another Service": Made(UDP, (client, 5), (other, 80), (ends[1], 8080)),
            "TCP": Made(TCP, (client, 6), (own, 80), (ends[1], 8080)),
            "SCTP": Made(SCTP, (client, 7), (own, 80), (ends[1], 8080)),
        }
        make(made.values(), family)
        before = replace(served(family, 1, 1, 2), node_port=30001)
        after = replace(served(family, 1, 1), node_port=30001)
        stale = flows.stale({before.name: before}, {after.name: after}, RuleOptions(family))
        done = flows.remove(stale)
        assert done.removed == 2
        # The kernel left out other protocols, addresses and ports by itself.
        assert done.seen == (4 if family is Family.V4 else 5)
        assert count() == len(made) - 2
        assert there(family, UDP) == {(own, 80), (outside, 30001), (other, 80)}
        sctp = served(family, 1, 1, protocol=Protocol.SCTP)
        again = flows.remove(flows.stale({}, {sctp.name: sctp}, RuleOptions(family)))
        assert (again.removed, count()) == (1, len(made) - 3)
        assert flows.remove(stale).removed == 0

    in_new_network(run)


def test_a_restarted_proxy_breaks_no_healthy_flow_of_many() -> None:
    def run() -> None:
        family = Family.V4
        wanted = {each.name: each for each in (served(family, n, 1, 2) for n in range(1, 21))}
        make(
            Made(
                UDP,
                (f"10.1.{number >> 8}.{number & 255}", 1000),
                (address(family, 96, 1 + number % 20), 80),
                (address(family, 128, 3 if number % 100 == 7 else 1 + number % 2), 8080),
            )
            for number in range(_MANY)
        )
        assert count() == _MANY
        done = flows.remove(flows.stale({}, wanted, RuleOptions(family)))
        assert (done.removed, done.seen) == (_MANY // 100, _MANY)
        assert count() == _MANY - _MANY // 100

    in_new_network(run)
