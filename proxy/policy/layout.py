"""The table of policies of one family: base chains, and what a policy is in it (pure).

A packet's way, by the chains' names; those that hook into the kernel come first::

    egress   @egress-pods: goto    egress-pods-5f...   by source, if its pod is isolated so
                                   jump egress-21...   a chain for each policy: accept
                                   drop
    ingress  @ingress-pods: goto   ingress-pods-...    the same by destination

Pods about which the same policies are share a chain, so that a pod costs an element of a map and
one of each set of peers that it is in. Peers of the same selectors share a set; a policy is a chain
of few rules. ``accept`` ends the one hook alone: what may leave must still be let in.

Packets pass here after the translation of destinations and before that of sources, so that peers
are seen as they are. Only forwarded packets do: what the node sends to its own pods, and they to
it, is not touched.
"""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from ..model.portal import Family
from ..nftables.fields import PROTOCOLS, Field, Key
from ..nftables.ruleset import Chain, Element, Hook, Rule, SetSpec, shortened
from ..nftables.statements import (
    InSet,
    KnownFlow,
    MessageType,
    OfProtocol,
    Statement,
    Verdict,
    VerdictMap,
)
from . import policies
from .policies import Direction, Pods, Policy, Port, intervals

TABLES: Final = ("kubeletpy-policies-a", "kubeletpy-policies-b")
"""One is in force; when all is made anew, the other is filled, and they are swapped at once."""
TABLE_COMMENT: Final = "network policies, by kubeletpy"
FIRST_HOOK: Final = Direction.EGRESS.lower
"""A base chain by which a table in force is known from one that is being filled."""

PORT_KEY: Final = Key((Field.PROTOCOL, Field.PORT))
NAMED_KEY: Final = Key((Field.DESTINATION, Field.PROTOCOL, Field.PORT))
PAIR_KEY: Final = Key((Field.SOURCE, Field.DESTINATION))
SIDE: Final = {Direction.INGRESS: Field.DESTINATION, Direction.EGRESS: Field.SOURCE}
"""Which address is that of the pod that policies are about."""
PEER: Final = {Direction.INGRESS: Field.SOURCE, Direction.EGRESS: Field.DESTINATION}

SELECTED: Final = {
    each: SetSpec(
        f"{each.lower}-pods", Key((SIDE[each],)), is_verdict_map=True,
        comment=f"pods of this node that policies of {each.lower} are about",
    )
    for each in Direction
}  # fmt: skip
THEMSELVES: Final = SetSpec("themselves", PAIR_KEY, comment="no policy keeps a pod from itself")
SHARED_SETS: Final = {each.name: each for each in (*SELECTED.values(), THEMSELVES)}

_ROUTER_AND_NEIGHBOUR: Final = MessageType(133, 137)
_LISTENERS: Final = (MessageType(130, 132), MessageType(143, 143))
_ACCEPT: Final = Verdict("accept")
_DROP: Final = Rule((Verdict("drop"),))


def base_chains(family: Family) -> tuple[Chain, ...]:
    """Return the chains by which packets enter.

    Neighbour discovery and multicast listeners pass (RFC 4861, RFC 3810): where a bridge's frames
    go through these hooks, nothing else would work without them.
    """
    found = []
    for place, direction in enumerate((Direction.EGRESS, Direction.INGRESS)):
        always: list[tuple[Statement, ...]] = [(KnownFlow(),)]
        if family is Family.V6:
            always += [(each,) for each in (_ROUTER_AND_NEIGHBOUR, *_LISTENERS)]
        always.append((InSet(PAIR_KEY, THEMSELVES.name),))
        selected = SELECTED[direction]
        rules = [Rule((*each, _ACCEPT)) for each in always]
        rules.append(Rule((VerdictMap(selected.key, selected.name),)))
        hook = Hook("filter", "forward", place)
        found.append(Chain(direction.lower, tuple(rules), hook))
    return tuple(found)


def pods_set(peer: Pods) -> SetSpec:
    """Return the set of the addresses of peers."""
    name = f"peers-{digest(repr(peer))}"
    return SetSpec(name, Key((Field.SOURCE,)), comment=shortened(str(peer)))


def named_set(name: str, protocol: str) -> SetSpec:
    """Return the set of the ports that pods call so, each with the pod's address."""
    return SetSpec(f"named-{protocol}-{name}", NAMED_KEY, comment="ports of this name")


def policy_chain(key: tuple[str, str], direction: Direction) -> str:
    """Return the name of the chain of a policy."""
    return f"{direction.lower}-{digest('/'.join(key))}"


@functools.lru_cache(4096)
def pods_chain(keys: frozenset[tuple[str, str]], direction: Direction) -> Chain:
    """Return the chain of the pods that these policies are about."""
    ordered = sorted(keys)
    rules = [Rule((Verdict("jump", policy_chain(key, direction)),)) for key in ordered]
    text = "\n".join("/".join(key) for key in ordered)
    return Chain(f"{direction.lower}-pods-{digest(text)}", (*rules, _DROP))


@dataclass(frozen=True, slots=True)
class Parts:
    """What a policy is in one direction and family.

    Attributes:
        chain: that accepts.
        pods: peers whose sets it uses.
        named: names of ports, with protocols, whose sets it uses.
        sets: that say all by themselves; policies that say the same have the same.
    """

    chain: Chain
    pods: frozenset[Pods] = frozenset()
    named: frozenset[tuple[str, str]] = frozenset()
    sets: dict[str, tuple[SetSpec, tuple[Element, ...]]] = field(default_factory=dict)


def parts_of(policy: Policy, direction: Direction, family: Family) -> Parts:
    """Return what a policy is in one direction and family."""
    sets: dict[str, tuple[SetSpec, tuple[Element, ...]]] = {}
    rules: list[Rule] = []
    for each in policy.rules.get(direction, ()):
        ways = list(_port_matches(each, sets))
        for peers in _peer_matches(each, direction, family, sets):
            rules += [Rule((*peers, *ports, _ACCEPT)) for ports in ways]
    name = policy_chain(policy.key, direction)
    said = policy.rules.get(direction, ())
    return Parts(
        Chain(name, tuple(dict.fromkeys(rules)), comment=shortened("/".join(policy.key))),
        frozenset(peer for rule in said for peer in rule.pods if not rule.everyone),
        frozenset((port.name, port.protocol) for rule in said for port in rule.ports if port.name),
        sets,
    )


def _peer_matches(
    rule: policies.Rule,
    direction: Direction,
    family: Family,
    sets: dict[str, tuple[SetSpec, tuple[Element, ...]]],
) -> Iterator[tuple[Statement, ...]]:
    if rule.everyone:
        yield ()
        return
    key = Key((PEER[direction],))
    for peer in rule.pods:
        yield (InSet(key, pods_set(peer).name),)
    found = intervals(rule.blocks, family)
    if found:
        spec = SetSpec(f"blocks-{digest(repr(found))}", Key((Field.SOURCE,)), interval=True)
        sets[spec.name] = (spec, tuple(_bounds(found, family)))
        yield (InSet(key, spec.name),)


def _bounds(found: tuple[tuple[int, int], ...], family: Family) -> Iterator[Element]:
    width = 4 if family is Family.V4 else 16
    for first, last in found:
        yield Element(first.to_bytes(width, "big"))
        if last + 1 < 1 << (8 * width):
            yield Element((last + 1).to_bytes(width, "big"), interval_end=True)


def _port_matches(
    rule: policies.Rule, sets: dict[str, tuple[SetSpec, tuple[Element, ...]]]
) -> Iterator[tuple[Statement, ...]]:
    if rule.any_port:
        yield ()
        return
    single = sorted({each for each in rule.ports if each.last and each.first == each.last},
                    key=lambda each: (each.protocol, each.first))  # fmt: skip
    if len(single) > 1:
        keys = tuple(port_key(each.protocol, each.first) for each in single)
        spec = SetSpec(f"ports-{digest(repr(keys))}", PORT_KEY)
        sets[spec.name] = (spec, tuple(map(Element, keys)))
        yield (InSet(PORT_KEY, spec.name),)
    for each in rule.ports:
        if each.name:
            yield (InSet(NAMED_KEY, named_set(each.name, each.protocol).name),)
        elif len(single) <= 1 or each not in single:
            yield (_range(each),)


def _range(port: Port) -> OfProtocol:
    return OfProtocol(port.protocol, port.first, port.last)


def port_key(protocol: str, number: int) -> bytes:
    """Return a protocol and a port as they are in the key of a set."""
    return bytes((PROTOCOLS[protocol], 0, 0, 0)) + number.to_bytes(2, "big") + bytes(2)


def digest(text: str) -> str:
    """Return a short name for a text; two of one name are not to be expected."""
    return hashlib.sha256(text.encode()).hexdigest()[:20]
