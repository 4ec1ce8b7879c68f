"""Histories of pods, namespaces and policies: the table is what the reference says, each time."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.model.portal import Family
from proxy.nftables.ledger import Changes, Contents
from proxy.policy.inputs import Kind, decoded
from proxy.policy.layout import SHARED_SETS
from proxy.policy.model import Model
from proxy.policy.objects import pod_of
from tests.support.circumstances import examples
from tests.support.policies import Json, Traffic, World, namespace, pod, policy
from tests.unit.proxy.policy.walk import Walk

NODE = "here"
FAMILIES = (Family.V4, Family.V6)
EXAMPLES = int(os.environ.get("KUBELETPY_POLICY_EXAMPLES") or examples(60))
_SPACES = ("x", "y")
_NUMBERS = range(1, 5)
_LABELS = st.dictionaries(st.sampled_from("ab"), st.sampled_from("12"), max_size=2)


def address(number: int, family: Family) -> str:
    return f"10.0.0.{number}" if family is Family.V4 else f"fd00::{number:x}"


_EXPRESSION = st.one_of(
    st.builds(
        lambda key, operator, values: {"key": key, "operator": operator, "values": values},
        st.sampled_from("ab"), st.sampled_from(("In", "NotIn")),
        st.lists(st.sampled_from("12"), min_size=1, unique=True),
    ),
    st.builds(
        lambda key, operator: {"key": key, "operator": operator},
        st.sampled_from("ab"), st.sampled_from(("Exists", "DoesNotExist")),
    ),
)  # fmt: skip
_SELECTOR = st.one_of(
    st.just({}),
    st.builds(lambda labels: {"matchLabels": labels}, _LABELS),
    st.builds(lambda one: {"matchExpressions": [one]}, _EXPRESSION),
)
_BLOCKS = st.sampled_from(
    [
        {"cidr": "0.0.0.0/0", "except": ["10.0.0.2/32", "10.0.0.128/25"]},
        {"cidr": "10.0.0.0/30"},
        {"cidr": "::/0"},
        {"cidr": "fd00::/126", "except": ["fd00::1/128"]},
    ]
)
_PEER = st.one_of(
    st.builds(lambda one: {"podSelector": one}, _SELECTOR),
    st.builds(lambda one: {"namespaceSelector": one}, _SELECTOR),
    st.builds(
        lambda pods, spaces: {"podSelector": pods, "namespaceSelector": spaces},
        _SELECTOR, _SELECTOR,
    ),
    st.builds(lambda one: {"ipBlock": one}, _BLOCKS),
)  # fmt: skip
_PORT = st.sampled_from(
    [
        {"port": 80}, {"port": 81}, {"port": 53, "protocol": "UDP"}, {"protocol": "UDP"},
        {"port": 80, "endPort": 90}, {"port": "web"}, {"port": "dns", "protocol": "UDP"},
        {"protocol": "SCTP", "port": 80},
    ]
)  # fmt: skip
_PORTS = st.lists(_PORT, max_size=3)
_PEERS = st.lists(_PEER, max_size=3)
_SPEC = st.fixed_dictionaries(
    {},
    optional={
        "policyTypes": st.lists(st.sampled_from(("Ingress", "Egress")), min_size=1, unique=True),
        "ingress": st.lists(
            st.fixed_dictionaries({}, optional={"from": _PEERS, "ports": _PORTS}), max_size=2
        ),
        "egress": st.lists(
            st.fixed_dictionaries({}, optional={"to": _PEERS, "ports": _PORTS}), max_size=2
        ),
    },
)
_NAMED = st.lists(
    st.sampled_from([("web", "TCP", 80), ("web", "TCP", 85), ("dns", "UDP", 53)]), max_size=2
)


@st.composite
def things(draw: st.DrawFn) -> Json:
    """A pod, a namespace or a policy; of few names, so that one follows another."""
    kind = draw(st.sampled_from(("pod", "pod", "policy", "policy", "namespace")))
    space = draw(st.sampled_from(_SPACES))
    if kind == "namespace":
        return namespace(space, **draw(_LABELS))
    name = f"{space}/{draw(st.sampled_from('pqr'))}"
    if kind == "policy":
        return policy(name, draw(_SELECTOR), **draw(_SPEC))
    number = draw(st.sampled_from(_NUMBERS))
    families = draw(st.sampled_from((FAMILIES, FAMILIES, FAMILIES[:1], ())))
    return pod(
        name, [address(number, each) for each in families],
        node=draw(st.sampled_from((NODE, NODE, "there"))), labels=draw(_LABELS),
        ports=draw(_NAMED), host_network=draw(st.integers(0, 9)) == 0,
        phase=draw(st.sampled_from(("Running", "Running", "Pending", "Succeeded"))),
        born=f"2026-01-01T00:00:{name_number(name):02}Z",
    )  # fmt: skip


def name_number(name: str) -> int:
    return _SPACES.index(name[0]) * 10 + "pqr".index(name[-1])


_TRAFFIC = [
    Traffic(address(source, family), address(destination, family), protocol, port)
    for family in FAMILIES
    for source in (*_NUMBERS, 200)
    for destination in (*_NUMBERS, 200)
    for protocol, port in (("TCP", 80), ("TCP", 85), ("UDP", 53), ("SCTP", 80))
]


def put(model: Model, thing: Json) -> None:
    kind = {"Pod": Kind.POD, "Namespace": Kind.NAMESPACE, "NetworkPolicy": Kind.POLICY}
    found: Any
    found, key = decoded(kind[thing["kind"]], json.dumps(thing).encode())
    if thing["kind"] == "Pod":
        one = pod_of(found, NODE)
        if one is None:
            model.drop_pod(key)
        else:
            model.put_pod(one)
    elif thing["kind"] == "Namespace":
        model.put_namespace(found.metadata.name, found.metadata.labels or {})
    else:
        model.put_policy(found)


def drop(model: Model, thing: Json) -> None:
    meta = thing["metadata"]
    if thing["kind"] == "Pod":
        model.drop_pod((meta["namespace"], meta["name"]))
    elif thing["kind"] == "Namespace":
        model.drop_namespace(meta["name"])
    else:
        model.drop_policy((meta["namespace"], meta["name"]))


class Table:
    """What is in the kernel: a table that changes are carried out on, to the letter."""

    def __init__(self) -> None:
        self.contents = Contents({name: [] for name in SHARED_SETS}, dict(SHARED_SETS))

    def carry_out(self, changes: Changes) -> None:
        held = self.contents
        for name, elements in changes.removed.items():
            for each in elements:
                held.elements[name].remove(each)
        for name in changes.gone_sets:
            del held.sets[name]
            held.elements.pop(name, None)
        for name in changes.gone_chains:
            del held.chains[name]
        for spec, fresh in changes.new_sets:
            assert spec.name not in held.sets
            held.sets[spec.name] = spec
            held.elements[spec.name] = list(fresh)
        for chain in changes.new_chains:
            assert chain.name not in held.chains
            held.chains[chain.name] = chain
        for chain in changes.other_chains:
            assert chain.name in held.chains
            held.chains[chain.name] = chain
        for name, elements in changes.added.items():
            into = held.elements.setdefault(name, [])
            keys = {each.key for each in into}
            for each in elements:
                assert each.key not in keys
                into.append(each)

    def plain(self) -> object:
        return plain(self.contents)


def plain(contents: Contents) -> object:
    elements = {name: sorted(contents.elements.get(name, ())) for name in contents.sets}
    return elements, contents.sets, contents.chains


def world_of(objects: Iterable[Json]) -> World:
    world = World(node=NODE)
    for each in objects:
        {"Pod": world.pods, "Namespace": world.namespaces, "NetworkPolicy": world.policies}[
            each["kind"]
        ].append(each)
    return world


def rivals(thing: Json, others: Iterable[Json]) -> list[Json]:
    """Return other pods that have an address of a pod."""
    if thing["kind"] != "Pod":
        return []
    own = {each["ip"] for each in thing["status"]["podIPs"]}
    return [
        each
        for each in others
        if each["kind"] == "Pod"
        and each["metadata"]["uid"] != thing["metadata"]["uid"]
        and own & {one["ip"] for one in each["status"]["podIPs"]}
    ]


@settings(max_examples=EXAMPLES, deadline=None, derandomize=EXAMPLES <= 60)
@given(
    first=st.lists(things(), max_size=8),
    history=st.lists(st.lists(st.tuples(st.booleans(), things()), min_size=1, max_size=4),
                     max_size=6),
)  # fmt: skip
def test_after_any_history_the_table_is_what_the_reference_says(
    first: list[Json], history: list[list[tuple[bool, Json]]]
) -> None:
    held: dict[tuple[str, str, str], Json] = {}

    def key_of(thing: Json) -> tuple[str, str, str]:
        meta = thing["metadata"]
        return thing["kind"], meta.get("namespace", ""), meta["name"]

    model = Model(FAMILIES)

    def take(thing: Json) -> None:
        for other in rivals(thing, held.values()):
            # The kubelet gives an address to another pod only after the one that had it ended.
            ended = other | {"status": other["status"] | {"phase": "Failed"}}
            put(model, ended)
            held[key_of(other)] = ended
        put(model, thing)
        held[key_of(thing)] = thing

    for each in first:
        take(each)
    model.begin()
    tables = {family: Table() for family in FAMILIES}
    for step in [[], *history]:
        for gone, each in step:
            if gone:
                drop(model, each)
                held.pop(key_of(each), None)
            else:
                take(each)
        for family in FAMILIES:
            tables[family].carry_out(model.take(family))
    anew = Model(FAMILIES)
    for each in held.values():
        put(anew, each)
    anew.begin()
    for family in FAMILIES:
        contents = anew.contents(family)
        assert tables[family].plain() == plain(contents)
        assert plain(model.contents(family)) == plain(contents)
    world = world_of(held.values())
    walks = {family: Walk(tables[family].contents, family) for family in FAMILIES}
    for traffic in _TRAFFIC:
        family = Family.V6 if ":" in traffic.source else Family.V4
        assert walks[family].passes(traffic) == world.allows(traffic), traffic


def test_a_pod_that_comes_costs_one_element_each() -> None:
    model = Model(FAMILIES)
    put(model, namespace("x"))
    put(
        model, policy("x/p", {}, ingress=[{"from": [{"podSelector": {"matchLabels": {"a": "1"}}}]}])
    )
    put(model, pod("x/p", [address(1, Family.V4)], node=NODE))
    model.begin()
    model.contents(Family.V4)
    put(model, pod("x/q", [address(2, Family.V4)], node=NODE, labels={"a": "1"}))
    changes = model.take(Family.V4)
    assert not changes.new_chains + changes.other_chains
    assert not changes.new_sets
    assert not changes.removed
    assert sorted(map(len, changes.added.values())) == [1, 1, 1]


def test_an_address_is_that_of_the_newest_pod_whatever_is_seen_first() -> None:
    """A pod that was killed may be seen to end after another got its address."""
    old = pod("x/old", [address(1, Family.V4)], node=NODE, labels={"a": "1"})
    new = pod("x/new", [address(1, Family.V4)], node=NODE, born="2026-01-02T00:00:00Z")
    model = Model(FAMILIES)
    put(model, policy("x/p", {"matchLabels": {"a": "1"}}))
    model.begin()
    traffic = Traffic(address(9, Family.V4), address(1, Family.V4), "TCP", 80)
    for thing, passes in ((old, False), (new, True)):
        put(model, thing)
        assert Walk(model.contents(Family.V4), Family.V4).passes(traffic) == passes
    drop(model, old)
    assert Walk(model.contents(Family.V4), Family.V4).passes(traffic)


def test_policies_without_a_pod_here_are_not_in_the_table() -> None:
    model = Model(FAMILIES)
    put(model, namespace("x"))
    put(model, policy("x/p", {}, ingress=[{"from": [{"podSelector": {}}]}]))
    put(model, pod("x/p", [address(1, Family.V4)], node="there"))
    model.begin()
    contents = model.contents(Family.V4)
    assert not contents.chains
    assert contents.sets == SHARED_SETS
