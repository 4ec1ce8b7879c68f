"""Which flows are stale."""

from __future__ import annotations

import socket
import struct
from dataclasses import replace

import pytest

from proxy.backend import RuleOptions
from proxy.conntrack import flows, netlink
from proxy.conntrack.flows import Flow
from proxy.model.portal import Endpoint, Family, Portal, PortalName, Protocol

OPTIONS = RuleOptions(Family.V4)
NODE = "192.0.2.1"
CLUSTER_IP, EXTERNAL_IP, BALANCER = "10.96.0.1", "10.50.0.1", "10.50.0.2"
A, B, C = (f"10.128.0.{host}" for host in (1, 2, 3))


def packed(ip: str) -> bytes:
    return socket.inet_pton(socket.AF_INET, ip)


def flow(asked: str, port: int, answers: str, answers_port: int, protocol: int = 17) -> Flow:
    return Flow(
        protocol,
        packed(asked),
        struct.pack(">H", port),
        packed(answers),
        struct.pack(">H", answers_port),
    )


def portal(*serving: str, protocol: Protocol = Protocol.UDP, node_port: int = 0) -> Portal:
    ends = tuple(Endpoint(ip, 53) for ip in serving)
    return Portal(
        PortalName("default", "dns", "", protocol.value),
        Family.V4,
        protocol,
        CLUSTER_IP,
        80,
        node_port=node_port,
        external_ips=(EXTERNAL_IP,),
        load_balancer_ips=(BALANCER,),
        # What new flows may use is less than what old ones may keep.
        cluster_endpoints=ends[:1],
        has_endpoints=bool(ends),
        serving_endpoints=ends,
    )


def decide(before: Portal | None, after: Portal | None, *found: Flow) -> list[bool]:
    """Return for each flow whether it goes."""
    old = {before.name: before} if before else {}
    new = {after.name: after} if after else {}
    stale = flows.stale(old, new, OPTIONS)
    return [stale.holds(each, frozenset((packed(NODE),))) for each in found]


TO_A, TO_B = flow(CLUSTER_IP, 80, A, 53), flow(CLUSTER_IP, 80, B, 53)
BYPASSED = flow(CLUSTER_IP, 80, CLUSTER_IP, 80)
ELSEWHERE = flow("10.96.0.9", 80, B, 53)

CASES: list[tuple[str, Portal | None, Portal | None, list[tuple[Flow, bool]]]] = [
    (
        "an endpoint went",
        portal(A, B),
        portal(A),
        [(TO_A, False), (TO_B, True), (ELSEWHERE, False)],
    ),
    (
        "an endpoint went, and its flows by other addresses too",
        portal(A, B),
        portal(A),
        [
            (flow(EXTERNAL_IP, 80, B, 53), True),
            (flow(BALANCER, 80, B, 53), True),
            (flow(BALANCER, 80, A, 53), False),
            (flow(CLUSTER_IP, 81, B, 53), False),
        ],
    ),
    ("the last endpoint went", portal(A), portal(), [(TO_A, True), (BYPASSED, False)]),
    ("the first endpoint came", portal(), portal(A), [(BYPASSED, True), (TO_A, False)]),
    ("a second endpoint came", portal(A), portal(A, B), [(TO_A, False), (BYPASSED, False)]),
    (
        "nothing is known of before",
        None,
        portal(A),
        [(TO_A, False), (TO_B, True), (BYPASSED, True)],
    ),
    (
        "nothing is known of before, and nobody is there",
        None,
        portal(),
        [(TO_A, True), (BYPASSED, False)],
    ),
    ("the Service went", portal(A), None, [(TO_A, False)]),
    (
        "an address came",
        replace(portal(A), external_ips=()),
        portal(A),
        [(flow(EXTERNAL_IP, 80, EXTERNAL_IP, 80), True), (BYPASSED, False)],
    ),
    (
        "an endpoint is left out of new flows, yet serves",
        replace(portal(A, B), cluster_endpoints=(Endpoint(B, 53),)),
        portal(A, B),
        [(TO_B, False)],
    ),
    (
        "a node port, at the node's addresses alone",
        portal(A, B, node_port=30053),
        portal(A, node_port=30053),
        [
            (flow(NODE, 30053, B, 53), True),
            (flow(NODE, 30053, A, 53), False),
            (flow("198.51.100.7", 30053, "198.51.100.7", 30053), False),
        ],
    ),
    (
        "the port of an endpoint changed",
        portal(A),
        replace(portal(A), serving_endpoints=(Endpoint(A, 54),)),
        [(TO_A, True), (flow(CLUSTER_IP, 80, A, 54), False)],
    ),
    (
        "SCTP",
        portal(A, B, protocol=Protocol.SCTP),
        portal(A, protocol=Protocol.SCTP),
        [(TO_B._replace(protocol=132), True), (TO_B, False)],
    ),
    (
        "TCP takes care of itself",
        portal(A, B, protocol=Protocol.TCP),
        portal(A, protocol=Protocol.TCP),
        [(TO_B._replace(protocol=6), False), (TO_B, False)],
    ),
]


@pytest.mark.parametrize(
    ("before", "after", "expected"), [pytest.param(*case[1:], id=case[0]) for case in CASES]
)
def test_which_flows_go(
    before: Portal | None, after: Portal | None, expected: list[tuple[Flow, bool]]
) -> None:
    assert decide(before, after, *(each for each, _ in expected)) == [goes for _, goes in expected]


def test_nothing_is_looked_at_where_nothing_can_be_stale() -> None:
    one, more = portal(A), portal(A, B)
    assert not flows.stale({one.name: one}, {more.name: more}, OPTIONS)
    assert not flows.stale({one.name: one}, {}, OPTIONS)
    assert flows.stale({more.name: more}, {one.name: one}, OPTIONS)


@pytest.mark.parametrize(("count", "questions"), [(1, 1), (8, 8), (9, 1)])
def test_the_kernel_is_asked_for_few_addresses_one_by_one(count: int, questions: int) -> None:
    after: dict[PortalName, Portal] = {}
    for number in range(count):
        name = PortalName("default", f"s-{number}", "", "UDP")
        ip = f"10.96.0.{number}"
        after[name] = replace(
            portal(A), name=name, cluster_ip=ip, external_ips=(), load_balancer_ips=()
        )
    found = flows.stale({}, after, OPTIONS)
    assert found.protocols == {17}
    assert len(list(netlink._questions(found))) == questions


# The kernel's words for a flow of UDP: 10.1.0.1:1000 asked 10.96.0.1:80, 10.128.0.3:8080 answers.
ORIGINAL = (
    "3400018014000180080001000a010001080002000a6000011c0002800500010011000000"
    "0600020003e800000600030000500000"
)
REPLY = (
    "3400028014000180080001000a800003080002000a0100011c0002800500010011000000"
    "060002001f900000"
    "0600030003e80000"
)
ID = "08000c007b50aea2"


def test_a_flow_is_read_fast_and_carefully_alike() -> None:
    expected = flow(CLUSTER_IP, 80, A[:-1] + "3", 8080)
    usual = bytes.fromhex(ORIGINAL + REPLY + ID)
    unusual = bytes.fromhex(ID + REPLY + ORIGINAL)
    for data in (usual, unusual):
        found = netlink.parse_flow(data, Family.V4)
        assert found == expected._replace(attributes=data)
        assert netlink.parse_carefully(data, Family.V4) == found
        # A flow that came in its place has another number.
        assert netlink._handle(data) == bytes.fromhex(ORIGINAL + ID)


@pytest.mark.parametrize("cut", range(0, 112, 7))
def test_half_a_flow_is_none(cut: int) -> None:
    data = bytes.fromhex(ORIGINAL + REPLY + ID)[:cut]
    found = netlink.parse_flow(data, Family.V4)
    assert found is None or cut >= len(bytes.fromhex(ORIGINAL + REPLY)) - 8
