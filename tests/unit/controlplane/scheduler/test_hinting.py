"""Which events make a pod worth another attempt, plugin by plugin."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.engine.resources import Object
from controlplane.scheduler import events, hinting
from controlplane.scheduler.events import ADD, ALLOCATABLE, DELETE, LABEL, OTHER, SCALE_DOWN, TAINT
from controlplane.scheduler.pods import PodInfo
from tests.support.hollow import node
from tests.support.placing.objects import (
    HOST,
    SMALL,
    ZONE,
    claim,
    far,
    near,
    pod,
    spread,
    storage_class,
    term,
    uses,
    volume,
)
from tests.support.placing.objects import (
    TAINT as DEDICATED,
)


def info(name: str = "other", **more: Any) -> PodInfo:
    made = pod(name, **more)
    made["metadata"]["uid"] = name
    return PodInfo(made)


def value(pair: tuple[Any, Object]) -> Object:
    return pair[1]


WEB: dict[str, Any] = {"labels": {"app": "web"}}
PORT = [{"containerPort": 1, "hostPort": 80}]
OTHER_PORT = [{"containerPort": 1, "hostPort": 81}]
HARD = [spread("web")]
LARGER = {"cpu": "8", "memory": "1Gi", "pods": "10"}

ROWS: list[tuple[str, events.Hints, dict[str, Any], str, int, Any, Any, bool]] = [
    ("uncordoned", hinting.NODE_UNSCHEDULABLE, {}, events.NODE, TAINT,
     node("a", unschedulable=True), node("a"), True),
    ("a new node that is cordoned", hinting.NODE_UNSCHEDULABLE, {}, events.NODE, ADD,
     None, node("a", unschedulable=True), False),
    ("a taint is gone", hinting.TAINT_TOLERATION, {}, events.NODE, TAINT,
     node("a", taints=[DEDICATED]), node("a"), True),
    ("a taint came", hinting.TAINT_TOLERATION, {}, events.NODE, TAINT,
     node("a"), node("a", taints=[DEDICATED]), False),
    ("a new node with the label", hinting.NODE_AFFINITY, {"nodeSelector": {"x": "y"}},
     events.NODE, ADD, None, node("a", labels={"x": "y"}), True),
    ("another label", hinting.NODE_AFFINITY, {"nodeSelector": {"x": "y"}},
     events.NODE, LABEL, node("a"), node("a", labels={"z": "y"}), False),
    ("the label came", hinting.NODE_AFFINITY, {"nodeSelector": {"x": "y"}},
     events.NODE, LABEL, node("a"), node("a", labels={"x": "y"}), True),
    ("the port is free", hinting.NODE_PORTS, {"ports": PORT}, events.POD, DELETE,
     info(on="a", ports=PORT), None, True),
    ("another port is free", hinting.NODE_PORTS, {"ports": PORT}, events.POD, DELETE,
     info(on="a", ports=OTHER_PORT), None, False),
    ("a pod ended", hinting.NODE_RESOURCES_FIT, {"cpu": "1"}, events.POD, DELETE,
     info(on="a"), None, True),
    ("a pod without a node is gone", hinting.NODE_RESOURCES_FIT, {"cpu": "1"}, events.POD, DELETE,
     info(), None, False),
    ("a pod shrank", hinting.NODE_RESOURCES_FIT, {"cpu": "1"}, events.POD, SCALE_DOWN,
     info(on="a", cpu="2"), info(on="a", cpu="1"), True),
    ("a pod shrank in memory", hinting.NODE_RESOURCES_FIT, {"cpu": "1"}, events.POD, SCALE_DOWN,
     info(on="a", memory="2Gi"), info(on="a", memory="1Gi"), False),
    ("a node grew", hinting.NODE_RESOURCES_FIT, {"cpu": "4"}, events.NODE, ALLOCATABLE,
     node("a", capacity=SMALL), node("a", capacity=LARGER), True),
    ("a new node that is too small", hinting.NODE_RESOURCES_FIT, {"cpu": "4"}, events.NODE, ADD,
     None, node("a", capacity=SMALL), False),
    ("a pod that is wanted came", hinting.INTER_POD_AFFINITY, {"affinity": near(term("web"))},
     events.POD, ADD, None, info(on="a", **WEB), True),
    ("a pod that is not wanted came", hinting.INTER_POD_AFFINITY, {"affinity": near(term("web"))},
     events.POD, ADD, None, info(on="a"), False),
    ("a pod that is avoided went", hinting.INTER_POD_AFFINITY, {"affinity": far(term("web"))},
     events.POD, DELETE, info(on="a", **WEB), None, True),
    ("a pod that avoids went", hinting.INTER_POD_AFFINITY, WEB, events.POD, DELETE,
     info(on="a", affinity=far(term("web"))), None, True),
    ("any pod went", hinting.INTER_POD_AFFINITY, {"affinity": far(term("web"))}, events.POD,
     DELETE, info(on="a"), None, False),
    ("its topology came", hinting.INTER_POD_AFFINITY, {"affinity": near(term("web", ZONE))},
     events.NODE, LABEL, node("a"), node("a", labels={ZONE: "1"}), True),
    ("another pod of the namespace came", hinting.POD_TOPOLOGY_SPREAD,
     {"topologySpreadConstraints": HARD}, events.POD, ADD, None, info(on="a", **WEB), True),
    ("a pod of another namespace came", hinting.POD_TOPOLOGY_SPREAD,
     {"topologySpreadConstraints": HARD}, events.POD, ADD, None,
     info(on="a", namespace="shop", **WEB), False),
    ("a new zone", hinting.POD_TOPOLOGY_SPREAD, {"topologySpreadConstraints": HARD},
     events.NODE, ADD, None, node("a", labels={ZONE: "9"}), True),
    ("a node without a zone", hinting.POD_TOPOLOGY_SPREAD, {"topologySpreadConstraints": HARD},
     events.NODE, ADD, None, node("a"), False),
    ("a zone is gone", hinting.POD_TOPOLOGY_SPREAD, {"topologySpreadConstraints": HARD},
     events.NODE, DELETE, node("a", labels={ZONE: "9"}), None, True),
    ("its claim came", hinting.VOLUME_BINDING, {"volumes": uses("data")}, events.CLAIM, ADD,
     None, value(claim("data")), True),
    ("another claim changed", hinting.VOLUME_BINDING, {"volumes": uses("data")}, events.CLAIM,
     OTHER, value(claim("x")), value(claim("x")), False),
    ("a volume came", hinting.VOLUME_BINDING, {"volumes": uses("data")}, events.VOLUME, ADD,
     None, value(volume("v")), True),
    ("a class changed in nothing that matters", hinting.VOLUME_BINDING, {}, events.CLASS, OTHER,
     value(storage_class("x")), value(storage_class("x")), False),
    ("the pod that used its claim went", hinting.VOLUME_RESTRICTIONS, {"volumes": uses("data")},
     events.POD, DELETE, info(on="a", volumes=uses("data")), None, True),
    ("a pod with another claim went", hinting.VOLUME_RESTRICTIONS, {"volumes": uses("data")},
     events.POD, DELETE, info(on="a", volumes=uses("x")), None, False),
    ("a pod with volumes went", hinting.NODE_VOLUME_LIMITS, {"volumes": uses("data")},
     events.POD, DELETE, info(on="a", volumes=uses("x")), None, True),
    ("an event of another kind", hinting.NODE_NAME, {}, events.POD, DELETE, info(on="a"), None,
     False),
]  # fmt: skip


@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_hints(row: tuple[Any, ...]) -> None:
    _, table, spec, resource, action, before, after, worth = row
    waiting = info("waiting", **spec)
    assert hinting.is_worth(waiting, [table], resource, action, before, after) is worth
    if worth:
        assert hinting.may_be_worth([table], resource, action)


def test_a_pod_that_no_plugin_spoke_against_is_woken_by_anything() -> None:
    assert hinting.is_worth(info(), [], events.NODE, ADD, None, node("a"))


def test_what_changed_of_a_node() -> None:
    before = node("a")
    assert list(events.of_node(before, node("a"))) == []
    assert list(events.of_node(before, node("a", labels={HOST: "b"}))) == [LABEL]
    assert list(events.of_node(before, node("a", taints=[DEDICATED]))) == [TAINT]
    assert list(events.of_node(before, node("a", capacity=SMALL))) == [ALLOCATABLE]
