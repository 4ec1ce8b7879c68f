"""What is decided for nodes and the pods on them, from plain data."""

from __future__ import annotations

import ipaddress
import json
from datetime import UTC, datetime
from typing import Any

import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from controlplane.controllers.nodeipam.ranges import Pieces, pieces_of
from controlplane.controllers.nodelifecycle.flags import node_flags
from controlplane.controllers.nodelifecycle.health import Health, silent_conditions
from controlplane.controllers.nodelifecycle.taints import (
    NOT_READY,
    UNREACHABLE,
    wanted_labels,
    wanted_taints,
)
from controlplane.controllers.nodelifecycle.zones import Rates, State, Zones, rate_of, state_of
from controlplane.controllers.nodes import zone_of
from controlplane.controllers.podgc.controller import oldest, should_go
from controlplane.controllers.tainteviction.tolerations import FOREVER, patience, tolerates
from controlplane.engine.controller import timestamp
from controlplane.engine.resources import Object

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
STAMP = timestamp(NOW)


def node(
    name: str = "n", ready: str = "True", zone: str = "", *, taints: list[Object] | None = None,
    **conditions: str,
) -> Object:  # fmt: skip
    labels = {"topology.kubernetes.io/zone": zone} if zone else {}
    found = [{"type": kind, "status": status} for kind, status in
             ({"Ready": ready, **conditions} if ready else conditions).items()]  # fmt: skip
    return {
        "metadata": {"name": name, "labels": labels, "creationTimestamp": STAMP},
        "spec": {"taints": taints or []}, "status": {"conditions": found},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("ready", "lost", "state"),
    [
        (0, 0, State.NORMAL), (0, 1, State.FULL), (0, 9, State.FULL), (1, 1, State.NORMAL),
        (1, 2, State.NORMAL), (2, 3, State.PARTIAL), (3, 3, State.NORMAL), (9, 11, State.PARTIAL),
    ],
)  # fmt: skip
def test_the_state_of_a_zone(ready: int, lost: int, state: State) -> None:
    assert state_of(ready, lost, Rates()) is state


@pytest.mark.parametrize(
    ("state", "size", "rate"),
    [(State.NORMAL, 5, 0.1), (State.FULL, 5, 0.1), (State.PARTIAL, 50, 0.0),
     (State.PARTIAL, 51, 0.01)],
)  # fmt: skip
def test_how_fast_nodes_are_emptied(state: State, size: int, rate: float) -> None:
    assert rate_of(state, size, Rates()) == rate


def test_nodes_of_a_zone_are_emptied_one_after_the_other() -> None:
    zones = Zones(Rates())
    a, b = node("a", "Unknown", "x"), node("b", "Unknown", "x")
    other = node("c", "Unknown", "y")
    for one in (a, b, other, node("d", zone="x"), node("e", zone="y")):
        zones.set(one["metadata"]["name"], one)
    assert zones.wait(a, 100.0) == 0
    zones.emptied(a, 100.0)
    assert zones.wait(b, 104.0) == 6
    assert zones.wait(other, 104.0) == 0
    assert not zones.all_lost
    for name in "de":
        zones.set(name, node(name, "False", "x"))
    assert zones.all_lost
    assert zones.states() == {":x": State.FULL, ":y": State.FULL}
    assert zones.lost_beside(a) == ["a", "b", "d", "e"]


def test_a_node_that_is_left_out_of_zones_is_not_counted() -> None:
    zones = Zones(Rates())
    one = node("a", "Unknown")
    one["metadata"]["labels"]["node.kubernetes.io/exclude-disruption"] = ""
    zones.set("a", one)
    assert not zones.all_lost
    zones.set("b", node("b", "Unknown"))
    assert zones.all_lost
    zones.set("b", None)
    assert not zones.all_lost


def test_the_zone_of_a_node() -> None:
    assert zone_of(node()) == ""
    one = node(zone="z")
    one["metadata"]["labels"]["failure-domain.beta.kubernetes.io/region"] = "r"
    assert zone_of(one) == "r:z"


def _taint(key: str, effect: str = "NoSchedule", **more: str) -> Object:
    return {"key": key, "effect": effect, **more}


_MINE = _taint("mine", value="x")
_PREFIX = "node.kubernetes.io/"


@pytest.mark.parametrize(
    ("value", "execute", "wanted"),
    [
        (node(), [], []),
        (node("n", "False"), [], [_taint(NOT_READY, timeAdded=STAMP)]),
        (node("n", "Unknown"), [UNREACHABLE],
         [_taint(UNREACHABLE, timeAdded=STAMP),
          _taint(UNREACHABLE, "NoExecute", timeAdded=STAMP)]),
        (node(taints=[_MINE, _taint(NOT_READY, timeAdded="t")]), [], [_MINE]),
        # What is there already keeps its time.
        (node("n", "False", taints=[_taint(NOT_READY, timeAdded="t"), _MINE]), [],
         [_taint(NOT_READY, timeAdded="t"), _MINE]),
        (node("n", "False", taints=[_taint(UNREACHABLE, "NoExecute")]), [NOT_READY],
         [_taint(NOT_READY, timeAdded=STAMP), _taint(NOT_READY, "NoExecute", timeAdded=STAMP)]),
        (node(MemoryPressure="True", DiskPressure="True", PIDPressure="True",
              NetworkUnavailable="True"), [],
         [_taint(_PREFIX + key, timeAdded=STAMP) for key in
          ("memory-pressure", "disk-pressure", "pid-pressure", "network-unavailable")]),
        (node(MemoryPressure="Unknown"), [], []),
        (node(taints=[_taint(_PREFIX + "out-of-service", "NoExecute")]), [],
         [_taint(_PREFIX + "out-of-service", "NoExecute")]),
    ],
)  # fmt: skip
def test_the_taints_of_a_node(value: Object, execute: list[str], wanted: list[Object]) -> None:
    assert wanted_taints(value, execute, NOW) == wanted


def test_a_node_that_takes_no_pods() -> None:
    value = node()
    value["spec"]["unschedulable"] = True
    assert wanted_taints(value, [], NOW) == [
        _taint("node.kubernetes.io/unschedulable", timeAdded=STAMP)
    ]


def test_labels_have_their_old_names_too() -> None:
    value = node()
    value["metadata"]["labels"] = {"kubernetes.io/os": "linux", "kubernetes.io/arch": "arm64",
                                   "beta.kubernetes.io/arch": "arm64"}  # fmt: skip
    assert wanted_labels(value) == {"beta.kubernetes.io/os": "linux"}


def test_a_node_is_heard_of_by_its_status_and_its_lease() -> None:
    health = Health(0.0)
    value = node()
    health.note_node(value, 1.0)
    assert health.heard == 0.0
    value["status"]["conditions"][0]["lastHeartbeatTime"] = "t1"
    health.note_node(value, 2.0)
    health.note_node(value, 3.0)
    assert health.heard == 2.0
    for moment, renewed in ((4.0, "a"), (5.0, "a"), (6.0, "b")):
        health.note_lease({"spec": {"renewTime": renewed}}, moment)
    assert health.heard == 6.0


def test_what_is_said_of_a_silent_node() -> None:
    value = node(MemoryPressure="False", NetworkUnavailable="False")
    found = silent_conditions(value, NOW)
    assert found is not None
    assert {one["type"]: (one["status"], one.get("reason")) for one in found} == {
        "Ready": ("Unknown", "NodeStatusUnknown"),
        "MemoryPressure": ("Unknown", "NodeStatusUnknown"),
        "NetworkUnavailable": ("False", None),
        "DiskPressure": ("Unknown", "NodeStatusNeverUpdated"),
        "PIDPressure": ("Unknown", "NodeStatusNeverUpdated"),
    }
    assert silent_conditions(node("n", "Unknown"), NOW) is None
    assert value["status"]["conditions"][0]["status"] == "True"


_TAINT = _taint("k", "NoExecute", value="v")


@pytest.mark.parametrize(
    ("toleration", "fits"),
    [
        ({"operator": "Exists"}, True), ({"key": "k", "operator": "Exists"}, True),
        ({"key": "k", "value": "v"}, True), ({"key": "k", "value": "w"}, False),
        ({"key": "j", "operator": "Exists"}, False),
        ({"key": "k", "operator": "Exists", "effect": "NoSchedule"}, False),
        ({"key": "k", "operator": "Exists", "effect": "NoExecute"}, True),
    ],
)  # fmt: skip
def test_what_a_toleration_is_for(toleration: Object, fits: bool) -> None:
    assert tolerates(toleration, _TAINT) == fits


@pytest.mark.parametrize(
    ("taints", "tolerations", "seconds"),
    [
        ([], [], FOREVER),
        ([_TAINT], [], 0),
        ([_TAINT], [{"operator": "Exists"}], FOREVER),
        ([_TAINT], [{"operator": "Exists", "tolerationSeconds": 9}], 9),
        ([_TAINT], [{"operator": "Exists", "tolerationSeconds": -1}], 0),
        ([_TAINT], [{"key": "k", "operator": "Exists"},
                    {"operator": "Exists", "tolerationSeconds": 9}], FOREVER),
        ([_TAINT, _taint("l", "NoExecute")], [{"key": "k", "operator": "Exists"}], 0),
        ([_TAINT, _taint("l", "NoExecute")],
         [{"key": "k", "operator": "Exists", "tolerationSeconds": 9},
          {"key": "l", "operator": "Exists", "tolerationSeconds": 5}], 5),
    ],
)  # fmt: skip
def test_how_long_a_pod_stays(
    taints: list[Object], tolerations: list[Object], seconds: float
) -> None:
    assert patience(taints, tolerations) == seconds


def pod(name: str, phase: str = "Running", **more: Any) -> Object:
    meta = {"name": name, "creationTimestamp": more.pop("made", STAMP)}
    if more.pop("deleting", False):
        meta["deletionTimestamp"] = STAMP
    return {"metadata": meta, "spec": {"nodeName": more.pop("node", "n")},
            "status": {"phase": phase, **more}}  # fmt: skip


_OUT = [_taint("node.kubernetes.io/out-of-service", "NoExecute")]


@pytest.mark.parametrize(
    ("value", "place", "goes"),
    [
        (pod("p"), None, False), (pod("p", deleting=True, node=""), None, True),
        (pod("p", node=""), None, False), (pod("p", deleting=True), None, False),
        (pod("p", deleting=True), node("n", "Unknown"), False),
        (pod("p", deleting=True), node("n", "Unknown", taints=_OUT), True),
        (pod("p", deleting=True), node("n", taints=_OUT), False),
        (pod("p"), node("n", "Unknown", taints=_OUT), False),
    ],
)  # fmt: skip
def test_who_goes_at_once(value: Object, place: Object | None, goes: bool) -> None:
    assert should_go(value, place) == goes


def test_those_that_were_evicted_go_first_then_the_oldest() -> None:
    pods = [pod("new", "Failed", made="2026-02-01T00:00:00Z"),
            pod("b", "Succeeded", made="2026-01-01T00:00:00Z"),
            pod("a", "Failed", made="2026-01-01T00:00:00Z"),
            pod("evicted", "Failed", reason="Evicted")]  # fmt: skip
    assert [one["metadata"]["name"] for one in oldest(pods, 3)] == ["evicted", "a", "b"]
    assert oldest(pods, -1) == []


def test_parts_of_a_range_are_given_in_turn() -> None:
    pieces = Pieces(ipaddress.ip_network("10.0.0.0/22"), 24)
    pieces.take(ipaddress.ip_network("10.0.1.128/25"))
    given: list[str] = []
    for _ in range(3):
        found = pieces.next()
        assert found is not None
        pieces.take(found)
        given.append(str(found))
    assert given == ["10.0.0.0/24", "10.0.2.0/24", "10.0.3.0/24"]
    assert pieces.next() is None
    pieces.give(ipaddress.ip_network("10.0.2.0/24"))
    assert str(pieces.next()) == "10.0.2.0/24"
    pieces.take(ipaddress.ip_network("0.0.0.0/0"))
    assert pieces.next() is None


@given(st.lists(st.tuples(st.integers(0, 15), st.booleans()), max_size=40))
def test_no_part_is_given_twice(steps: list[tuple[int, bool]]) -> None:
    pieces = Pieces(ipaddress.ip_network("fd00::/60"), 64)
    taken: list[str] = []
    for number, gives in steps:
        if gives and taken:
            pieces.give(ipaddress.ip_network(taken.pop(number % len(taken))))
            continue
        found = pieces.next()
        assert (found is None) == (len(taken) == 16)
        if found is not None:
            assert str(found) not in taken
            taken.append(str(found))
            pieces.take(found)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"cluster_cidr": "10.0.0.0/16"}, ["10.0.0.0/24"]),
        ({"cluster_cidr": "10.0.0.0/16,fd00::/56"}, ["10.0.0.0/24", "fd00::/64"]),
        ({"cluster_cidr": "fd00::/112", "node_cidr_mask_size": 120}, ["fd00::/120"]),
        ({"cluster_cidr": "10.0.0.0/16", "node_cidr_mask_size_ipv4": 26}, ["10.0.0.0/26"]),
        ({"cluster_cidr": "10.0.0.0/16", "service_cluster_ip_range": "10.0.0.0/20"},
         ["10.0.16.0/24"]),
    ],
)  # fmt: skip
def test_ranges_as_flags_say(options: Object, wanted: list[str]) -> None:
    assert [str(each.next()) for each in pieces_of(options)] == wanted


@pytest.mark.parametrize(
    "options",
    [
        {}, {"cluster_cidr": "x"}, {"cluster_cidr": "10.0.0.0/28"},
        {"cluster_cidr": "fd00::/40"}, {"cluster_cidr": "10.0.0.0/16,10.1.0.0/16"},
        {"cluster_cidr": "10.0.0.0/16,fd00::/56", "node_cidr_mask_size": 24},
    ],
)  # fmt: skip
def test_flags_that_contradict_each_other(options: Object) -> None:
    with pytest.raises(ValueError, match=r"."):
        pieces_of(options)


def test_the_flags_of_nodes_are_those_of_the_peer() -> None:
    @click.command()
    @node_flags
    def command(**given: object) -> None:
        click.echo(json.dumps(given))

    words = [
        "--node-monitor-grace-period=20s",
        "--allocate-node-cidrs",
        "--cluster-cidr=10.0.0.0/8",
    ]
    answer = CliRunner().invoke(command, words)
    given = json.loads(answer.output)
    assert given["node_monitor_grace_period"] == 20.0
    assert given["node_startup_grace_period"] == 60.0
    assert (given["node_eviction_rate"], given["secondary_node_eviction_rate"]) == (0.1, 0.01)
    assert (given["large_cluster_size_threshold"], given["unhealthy_zone_threshold"]) == (50, 0.55)
    assert given["terminated_pod_gc_threshold"] == 12500
    assert [str(each.next()) for each in pieces_of(given)] == ["10.0.0.0/24"]
