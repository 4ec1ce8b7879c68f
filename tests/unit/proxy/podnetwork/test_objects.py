"""Nodes as they come, settings, and what is told."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from proxy.errors import StartError
from proxy.model.objects import Unreadable, decode
from proxy.podnetwork import filters
from proxy.podnetwork.entries import Entries
from proxy.podnetwork.inputs import Members
from proxy.podnetwork.objects import ANNOTATION, Member, NodeObject, annotation_of, member_of
from proxy.podnetwork.plan import Plan, Problem
from proxy.podnetwork.settings import Mode, settings_of
from proxy.podnetwork.telling import event_of, write_node_file
from tests.unit.proxy.podnetwork.nodes import member, settings


def _member(spec: Any = None, status: Any = None, annotation: str = "") -> Member:
    node = {
        "metadata": {
            "name": "n", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z",
            "annotations": {ANNOTATION: annotation} if annotation else None,
        },
        "spec": spec or {}, "status": status or {},
    }  # fmt: skip
    return member_of(decode(NodeObject, json.dumps(node).encode()))


@pytest.mark.parametrize(
    ("spec", "cidrs", "problem"),
    [
        ({}, [], ""),
        ({"podCIDR": "10.1.0.0/24"}, ["10.1.0.0/24"], ""),
        ({"podCIDR": "10.1.0.0/24", "podCIDRs": ["10.1.0.0/24", "fd00::/64"]},
         ["10.1.0.0/24", "fd00::/64"], ""),
        ({"podCIDRs": ["10.1.0.1/24"]}, [], "has host bits set"),
        ({"podCIDRs": ["x" * 500, "10.1.0.0/24"]}, ["10.1.0.0/24"], "does not appear"),
    ],
)  # fmt: skip
def test_pod_cidrs(spec: Any, cidrs: list[str], problem: str) -> None:
    one = _member(spec)
    assert [str(each) for each in one.cidrs] == cidrs
    assert bool(one.problems) == bool(problem)
    assert problem in "".join(one.problems)
    assert len("".join(one.problems)) < 300 or "x" not in problem


def test_addresses_and_conditions() -> None:
    status = {
        "addresses": [
            {"type": "Hostname", "address": "n"}, {"type": "ExternalIP", "address": "192.0.2.1"},
            {"type": "InternalIP", "address": "10.0.0.1"},
            {"type": "InternalIP", "address": "nonsense"},
            {"type": "InternalIP", "address": "fd00::1"},
        ],
        "conditions": [{"type": "NetworkUnavailable", "status": "True", "reason": "Why"}],
    }  # fmt: skip
    one = _member(status=status)
    assert one.addresses == (ip_address("10.0.0.1"), ip_address("fd00::1"))
    assert one.unavailable == ("True", "Why")
    assert len(one.problems) == 1


def test_what_a_node_says_of_itself_is_read_as_it_was_written() -> None:
    said = annotation_of(settings(Mode.VXLAN, vni=7, addresses=(ip_address("192.0.2.9"),)))
    one = _member(status={"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]},
                  annotation=said)  # fmt: skip
    assert one.announced is not None
    assert (one.announced.mode, one.announced.vni, one.announced.port) == (Mode.VXLAN, 7, 8472)
    assert one.addresses == (ip_address("192.0.2.9"),)


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"mode": "x", "vni": 1, "port": 1}', '{"mode": "auto", "vni": "1", "port": 1}',
     '{"mode": "auto", "vni": 1, "port": 1, "addresses": [1]}', "x" * 5000],
)  # fmt: skip
def test_an_annotation_that_cannot_be_read_is_left_out(text: str) -> None:
    one = _member(status={"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]},
                  annotation=text)  # fmt: skip
    assert one.announced is None
    assert one.addresses == (ip_address("10.0.0.1"),)
    assert ANNOTATION in one.problems[0]


def test_a_node_of_wrong_types_cannot_be_read() -> None:
    with pytest.raises(Unreadable):
        _member({"podCIDRs": 7})


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"cluster_cidrs": []}, "--cluster-cidr is needed"),
        ({"cluster_cidrs": ["10.244.0.1/16"]}, "has host bits set"),
        ({"vni": 0}, "--vxlan-vni 0 is not within 1 and 16777215"),
        ({"port": 70000}, "--vxlan-port 70000"),
        ({"mtu": 500}, "--mtu 500 is not 0 or within 1280 and 65535"),
        ({"device": "a/b"}, "--vxlan-device"),
        ({"addresses": ["x"]}, "pod network: 'x'"),
        ({"mode": "ipip"}, "'ipip' is not a valid Mode"),
    ],
)
def test_settings_that_cannot_be(change: dict[str, Any], text: str) -> None:
    given: dict[str, Any] = {"mode": "auto", "cluster_cidrs": ["10.244.0.0/16"], **change}
    with pytest.raises(StartError, match=text):
        settings_of(**given)


def test_members_tell_of_what_counts_once_a_list_is_whole() -> None:
    told: list[int] = []
    members = Members(lambda: told.append(len(members.all)))
    members.put(member(1))
    members.put(member(2))
    assert told == []
    members.keep({"n1", "n2"})
    assert told == [2]
    members.put(member(2))  # a heart-beat
    assert told == [2]
    members.put(member(2, addresses=("192.168.77.22",)))
    members.keep({"n1"})
    members.drop("n9")
    assert told == [2, 2, 1]


def test_the_runtime_is_told_the_mtu(tmp_path: Path) -> None:
    path = tmp_path / "network" / "node.json"
    chosen = settings(Mode.VXLAN, node_file=path)
    write_node_file(chosen, Plan(Entries(), 1450))
    assert json.loads(path.read_text()) == {"mode": "vxlan", "mtu": 1450}
    before = path.stat().st_ino
    write_node_file(chosen, Plan(Entries(), 1450))
    assert path.stat().st_ino == before
    write_node_file(chosen, Plan(Entries(), 1400))
    assert json.loads(path.read_text())["mtu"] == 1400


def test_an_event_names_the_node() -> None:
    problem = Problem("n3", "OverlappingPodCIDR", "x" * 5000)
    made = event_of(problem, "uid-3", datetime(2026, 1, 2, tzinfo=UTC))
    assert made["involvedObject"] == {
        "apiVersion": "v1", "kind": "Node", "name": "n3", "uid": "uid-3",
    }  # fmt: skip
    assert (made["reason"], made["type"]) == ("OverlappingPodCIDR", "Warning")
    assert len(made["message"]) == 1024
    assert made["firstTimestamp"] == "2026-01-02T00:00:00Z"


def test_what_is_let_through_is_for_pods_alone() -> None:
    for rule in filters.rules(settings().cluster):
        words = rule.split()
        assert words[2] in ("-s", "-d")
        assert words[3] in ("10.244.0.0/16", "fd44::/32")
