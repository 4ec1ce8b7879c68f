"""The table of policies on the kernel, and pods of one bridge, in network namespaces of our own."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from kubeletpy_common.linux.namespaces import in_namespace
from proxy.model.portal import Family
from proxy.nftables.layout import ADDRESS_KEY
from proxy.nftables.ruleset import Element, Encoder, SetSpec
from proxy.nftables.socket import RuleSocket
from proxy.policy import bridge
from proxy.policy.backend import PolicyTable, as_text
from proxy.policy.enforcer import Inputs
from proxy.policy.inputs import Kind, decoded
from proxy.policy.layout import TABLES
from proxy.policy.model import Model
from tests.root.proxy.policies import world
from tests.root.proxy.test_nftables import lines, nft
from tests.support.circumstances import patient
from tests.support.namespaces import in_new_network
from tests.support.policies import Json, namespace, pod, policy
from tests.support.proxylab.answers import Place, answering
from tests.support.proxylab.clients import ask
from tests.support.proxylab.topology import Namespace

pytestmark = pytest.mark.root
FAMILIES = (Family.V4, Family.V6)
PORT = 8080


def put(inputs: Inputs, *things: Json) -> None:
    for each in things:
        kind = {"Pod": Kind.POD, "Namespace": Kind.NAMESPACE, "NetworkPolicy": Kind.POLICY}[
            each["kind"]
        ]
        inputs.put(kind, decoded(kind, json.dumps(each).encode())[0])


def filled(*things: Json, node: str) -> tuple[Model, Inputs]:
    model = Model(FAMILIES)
    inputs = Inputs(model, node, lambda: None, lambda policy: None)
    put(inputs, *things)
    model.begin()
    return model, inputs


@contextmanager
def table(family: Family) -> Iterator[PolicyTable]:
    made = PolicyTable(family)
    try:
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_text_is_what_the_kernel_has(family: Family) -> None:
    """What is sent as bytes is read again by nft as what the text of the rules says."""
    declared = world()
    model, _ = filled(*declared.namespaces, *declared.pods, *declared.policies, node=declared.node)
    word = "ip" if family is Family.V4 else "ip6"

    def run() -> None:
        contents = model.contents(family)
        with table(family) as made:
            made.replace(contents)
            ours = nft("-n", "list", "table", word, TABLES[0])
            made.cleanup()
            assert nft("list", "tables") == ""
        nft("-f", "-", text=as_text(family, contents))
        assert lines(ours) == lines(nft("-n", "list", "table", word, TABLES[0]))

    in_new_network(run)


@pytest.mark.parametrize("chains_go", [True, False])
def test_a_history_on_the_kernel_ends_where_a_new_table_does(chains_go: bool) -> None:
    """Pods and policies come, change and go, each by one transaction; nothing is left over.

    Before Linux 6.2 chains stay, empty.
    """
    declared = world()
    model, inputs = filled(*declared.namespaces, node=declared.node)

    def run() -> None:
        def listed(number: int) -> list[str]:
            text = nft("-n", "list", "table", "ip", TABLES[number]).replace(TABLES[number], "t")
            if not chains_go:
                text = re.sub(r"\tchain \S+ \{\n(\t\tcomment .*\n)?\t\}\n", "", text)
            return [line for line in lines(text) if line]

        with table(Family.V4) as made:
            made._tables._chains_go = chains_go
            made.replace(model.contents(Family.V4))
            empty = listed(0)
            for each in (*declared.pods, *declared.policies):
                put(inputs, each)
                assert made.alter(model.take(Family.V4))
            stepwise = listed(0)
            made.replace(model.contents(Family.V4))
            assert stepwise == listed(1)
            assert re.search(r"table ip \S+-b", nft("list", "tables"))
            for each in (*declared.policies, *declared.pods):
                kind = Kind.POD if each["kind"] == "Pod" else Kind.POLICY
                meta = each["metadata"]
                inputs.drop(kind, (meta["namespace"], meta["name"]))
                assert made.alter(model.take(Family.V4))
            assert listed(1) == empty

    in_new_network(run)


def test_a_storm_of_others_rules_does_not_have_ours_written_anew() -> None:
    """A proxy that writes all of its rules beside us; both would go on like that for ever."""

    def run() -> None:
        with table(Family.V4) as made:
            model, _ = filled(node="n")
            made.replace(model.contents(Family.V4))
            lost, heard, go = threading.Event(), threading.Event(), threading.Event()

            def doubt(_: str) -> None:
                if not heard.is_set():
                    heard.set()
                    assert go.wait(patient(10))

            end = made.watch(doubt, lost.set)
            assert end is not None
            try:
                nft("add", "chain", "ip", TABLES[0], "odd")
                nft("delete", "chain", "ip", TABLES[0], "odd")
                assert heard.wait(patient(10))
                assert made.intact()
                spec, other = SetSpec("s", ADDRESS_KEY), Encoder("t", Family.V4)
                rules = RuleSocket()
                rules.commit([other.new_table("t"), other.new_set(spec)])
                # A small buffer is as full after a few changes as a large one after a proxy's.
                assert made._tables._watch is not None
                made._tables._watch._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                elements = [Element(each.to_bytes(4, "big")) for each in range(1000)]
                for _ in range(8):
                    rules.commit(list(other.add_elements(spec, elements)))
                    rules.commit(list(other.delete_elements(spec, elements)))
                rules.close()
                go.set()
                assert lost.wait(patient(10))
                assert made.intact()
                nft("delete", "table", "ip", TABLES[0])
                assert not made.intact()
            finally:
                end()

    in_new_network(run)


@contextmanager
def bridged() -> Iterator[tuple[Namespace, Namespace, Namespace]]:
    """A node and two pods on its bridge, which reach each other without the node's IP stack."""
    spaces = [Namespace() for _ in range(3)]
    node, *pods = spaces
    try:
        node.run(
            "ip link add br0 type bridge forward_delay 0; ip link set br0 up; "
            "ip addr add 10.9.0.1/24 dev br0; ip addr add fd09::1/64 dev br0 nodad"
        )
        for number, each in enumerate(pods, 2):
            each.run(
                f"ip link set lo up; ip link add eth0 type veth peer name p{number} netns "
                f"{node.path}; ip addr add 10.9.0.{number}/24 dev eth0; "
                f"ip addr add fd09::{number}/64 dev eth0 nodad; ip link set eth0 up"
            )
            node.run(f"ip link set p{number} master br0 up")
        yield node, pods[0], pods[1]
    finally:
        for each in spaces:
            each.close()


def test_pods_of_one_bridge_are_kept_apart_too() -> None:
    """And find each other, in IPv6, by neighbour discovery that passes the same hooks."""
    label = {"matchLabels": {"may": "yes"}}
    things = [
        namespace("x"),
        pod("x/asker", ["10.9.0.2", "fd09::2"], node="n"),
        pod("x/asked", ["10.9.0.3", "fd09::3"], node="n", labels={"is": "asked"}),
        policy("x/p", {"matchLabels": {"is": "asked"}}, egress=[{}],
               ingress=[{"from": [{"podSelector": label}]}]),
    ]  # fmt: skip
    model, inputs = filled(*things, node="n")
    with bridged() as (node, asker, asked):
        node.run(
            "for each in /proc/sys/net/bridge/bridge-nf-call-ip*tables; "
            "do ! test -e $each || echo 0 > $each; done"
        )
        with in_namespace(node.path):
            assert not bridge.prepare()
            made = [PolicyTable(each) for each in FAMILIES]
        try:
            for each in made:
                each.replace(model.contents(each.family))
            with answering([Place(str(asked.path), ("10.9.0.3", "fd09::3"), (PORT,))]):
                for allowed in (False, True):
                    for address in ("10.9.0.3", "fd09::3"):
                        asker.run("ip -6 neigh flush dev eth0; ip neigh flush dev eth0")
                        asked.run("ip -6 neigh flush dev eth0; ip neigh flush dev eth0")
                        answer = asyncio.run(
                            ask(asker, address, PORT, patience=6 if allowed else 0.7)
                        )
                        assert bool(answer.source) == allowed, f"{address}: {answer}"
                    put(inputs, pod("x/asker", ["10.9.0.2", "fd09::2"], node="n",
                                    labels={"may": "yes"}))  # fmt: skip
                    for each in made:
                        assert each.alter(model.take(each.family))
        finally:
            for each in made:
                each.close()
