"""A packet meets few rules on the way to its own, however many there are."""

from __future__ import annotations

import random

import pytest

from proxy.iptables import names
from proxy.iptables.dispatch import LEAF, Entry, Space
from proxy.model.portal import Family, Protocol

from .interpreter import Packet, Rules

V4 = Space.of(Family.V4, names.CLUSTER)
V6 = Space.of(Family.V6, names.CLUSTER)
PORTS = Space(0, names.EXTERNAL)

Destination = tuple[str, Protocol, int]


def entry(space: Space, destination: Destination) -> Entry:
    """A rule that translates to the destination itself."""
    address, protocol, port = destination
    where = f"-d {address} " if address else ""
    target = f"-j DNAT --to-destination {address}|{port}|{protocol.lower}"
    rule = f"{where}-p {protocol.lower} -m {protocol.lower} --dport {port} {target}"
    return Entry(space.key(address, protocol, port), str(destination), rule)


def tables(tree: dict[str, list[str]]) -> Rules:
    """The tree as rules."""
    lines = ["*nat", *(f":{chain} - [0:0]" for chain in tree)]
    lines += [f"-A {chain} {rule}" for chain, rules in tree.items() for rule in rules]
    return Rules("\n".join(lines))


def met(rules: Rules, destination: Destination) -> int:
    """Count the rules that a packet meets until it is translated; fail if it is not, or wrongly."""
    address, protocol, port = destination
    packet = Packet("10.1.1.1", address or "192.0.2.1", protocol.lower, port)
    before = rules.met
    fate = rules.walk("nat", "ROOT", packet)
    assert fate == {(f"{address}|{port}|{protocol.lower}", False): 1.0}
    return rules.met - before


def some(kind: str) -> tuple[Space, list[Destination]]:
    """A space and many destinations in it, the same in each run."""
    chance = random.Random(6)
    ports = chance.sample(range(30000, 32768), 600)
    match kind:
        case "sparse":
            numbers = chance.sample(range(1 << 20), 1000)
            addresses = [f"10.{96 + (n >> 16)}.{n >> 8 & 255}.{n & 255}" for n in numbers]
            return V4, [(address, Protocol.TCP, 80) for address in addresses]
        case "dense":
            return V4, [(f"10.96.{n >> 8}.{n & 255}", Protocol.UDP, 53) for n in range(1000)]
        case "apart":
            near = [(f"10.96.0.{n}", Protocol.TCP, 80) for n in range(200)]
            return V4, [*near, *((f"203.0.113.{n}", Protocol.TCP, 80) for n in range(200))]
        case "ipv6":
            numbers = chance.sample(range(1 << 20), 500)
            texts = [f"fd00:10:96::{n >> 16:x}:{n & 0xFFFF or 1:x}" for n in numbers]
            return V6, [(text.replace("::0:", "::"), Protocol.TCP, 80) for text in texts]
        case "one-address":
            return V4, [
                ("10.96.0.10", protocol, port) for protocol in Protocol for port in range(1, 400)
            ]
        case _:
            return PORTS, [("", Protocol.TCP, port) for port in ports] + [
                ("", Protocol.UDP, port) for port in ports[:100]
            ]


@pytest.mark.parametrize("kind", ["sparse", "dense", "apart", "ipv6", "one-address", "node-ports"])
def test_few_rules_are_met_by_a_packet(kind: str) -> None:
    space, destinations = some(kind)
    tree = space.tree("ROOT", [entry(space, each) for each in destinations])
    rules = tables(tree)
    for destination in random.Random(7).sample(destinations, 100):
        assert met(rules, destination) <= 16 * 3 + LEAF
    assert all(len(rules) <= LEAF for rules in tree.values())
    assert all(len(chain) <= names.MAX_LENGTH for chain in tree)
    assert len(tree) < len(destinations) / 2


def test_up_to_a_leaf_the_list_is_flat() -> None:
    entries = [entry(V4, (f"10.96.0.{n}", Protocol.TCP, 80)) for n in range(LEAF)]
    assert V4.tree("ROOT", entries) == {"ROOT": [each.rule for each in entries]}


def test_chains_are_named_by_what_they_hold() -> None:
    entries = [entry(V4, (f"10.96.{n >> 6}.{n & 63}", Protocol.TCP, 80)) for n in range(256)]
    tree = V4.tree("ROOT", entries)
    assert tree["ROOT"][0] == "-d 10.96.0.0/26 -j KUBE-SVC-10.96.0.0/26"
    assert tree["KUBE-SVC-10.96.0.0/26"][1] == "-d 10.96.0.8/29 -j KUBE-SVC-10.96.0.8/29"
    ports = PORTS.tree("ROOT", [entry(PORTS, ("", Protocol.TCP, 30000 + n)) for n in range(64)])
    assert ports["ROOT"][0] == "-p tcp -m tcp --dport 30000:30015 -j KUBE-EXT-tcp-30000-30015"


def test_of_two_that_claim_the_same_the_first_by_name_wins() -> None:
    key = V4.key("10.96.0.1", Protocol.TCP, 80)
    second, first = Entry(key, "b/b", "second"), Entry(key, "a/a", "first")
    assert V4.tree("ROOT", [second, first])["ROOT"] == ["first", "second"]


def test_one_destination_claimed_by_thousands_ends() -> None:
    key = V4.key("10.96.0.1", Protocol.TCP, 80)
    tree = V4.tree("ROOT", [Entry(key, f"{n:04}", "rule") for n in range(3000)])
    assert list(tree) == ["ROOT"]


def test_an_address_of_the_other_family_is_refused() -> None:
    with pytest.raises(OSError, match="illegal IP address"):
        V4.key("fd00::1", Protocol.TCP, 80)
