"""Situations about who runs where: spreading, and who makes way for whom."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from controlplane.engine.resources import REPLICA_SETS, SERVICES, Object
from tests.support.hollow import node

from .objects import (
    HOST,
    SMALL,
    TAINT,
    ZONE,
    Scenario,
    budget,
    far,
    nodes,
    pod,
    spread,
    term,
    zoned,
)


def spreading() -> Iterator[tuple[str, Scenario]]:
    """Yield situations about spreading."""
    three = zoned(a="1", b="1", c="2")

    def web(name: str, on: str) -> Object:
        return pod(name, on=on, labels={"app": "web"})

    mine: dict[str, Any] = {"labels": {"app": "web"}}
    yield (
        "spread",
        Scenario(three, pod(topologySpreadConstraints=[spread("web")], **mine), [web("x", "a")]),
    )
    yield "spread, but full", Scenario(
        three, pod(topologySpreadConstraints=[spread("web")], cpu="6", **mine),
        [web("x", "a"), pod("full", on="c", cpu="6")],
    )  # fmt: skip
    yield (
        "spread by a label that some lack",
        Scenario(
            [*zoned(a="1"), node("b")],
            pod(topologySpreadConstraints=[spread("web")], cpu="6", **mine),
            [pod("full", on="a", cpu="6")],
        ),
    )
    yield "spread over more domains than there are", Scenario(
        three, pod(topologySpreadConstraints=[spread("web", minDomains=3)], **mine),
        [web("x", "a"), web("y", "c")],
    )  # fmt: skip
    tainted = [*zoned(a="1"), node("b", labels={ZONE: "2"}, taints=[TAINT])]
    yield (
        "spread with tainted nodes",
        Scenario(tainted, pod(topologySpreadConstraints=[spread("web")], **mine), [web("x", "a")]),
    )
    honor = spread("web", nodeTaintsPolicy="Honor")
    yield (
        "spread without tainted nodes",
        Scenario(tainted, pod(topologySpreadConstraints=[honor], **mine), [web("x", "a")]),
    )
    selecting: dict[str, Any] = {"nodeSelector": {HOST: "a"}, **mine}
    yield (
        "spread over what the selector allows",
        Scenario(
            three, pod(topologySpreadConstraints=[spread("web")], **selecting), [web("x", "a")]
        ),
    )
    ignoring = spread("web", nodeAffinityPolicy="Ignore")
    yield (
        "spread over all",
        Scenario(three, pod(topologySpreadConstraints=[ignoring], **selecting), [web("x", "a")]),
    )
    versioned = spread("web", matchLabelKeys=["version"])
    yield "spread of one version", Scenario(
        three,
        pod(topologySpreadConstraints=[versioned], labels={"app": "web", "version": "2"},
            nodeSelector={ZONE: "1"}),
        [pod("x", on="a", labels={"app": "web", "version": "1"})],
    )  # fmt: skip
    yield "soft spread", Scenario(
        three, pod(topologySpreadConstraints=[spread("web", hard=False)], **mine),
        [web("x", "a"), web("y", "b")],
    )  # fmt: skip
    yield (
        "soft spread over hosts",
        Scenario(
            nodes("a", "b", "c"),
            pod(topologySpreadConstraints=[spread("web", HOST, hard=False)], **mine),
            [web("x", "a"), web("y", "b")],
        ),
    )
    service = (SERVICES, {
        "metadata": {"name": "web", "namespace": "default"},
        "spec": {"selector": {"app": "web"}, "ports": [{"port": 80}]},
    })  # fmt: skip
    full: dict[str, Any] = {"cpu": "100m", "memory": "200Mi"}
    yield "spread by a service", Scenario(
        nodes("a", "b"), pod(**full, **mine),
        [pod("x", on="a", labels={"app": "web"}, **full), pod("y", on="b", **full),
         pod("z", on="b", **full)],
        [service],
    )  # fmt: skip
    replicas = (REPLICA_SETS, {
        "metadata": {"name": "rs", "namespace": "default"},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "web"}},
                 "template": {"metadata": {"labels": {"app": "web"}},
                              "spec": {"containers": [{"name": "m", "image": "x"}]}}},
    })  # fmt: skip
    owner = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "rs", "uid": "OWNER",
             "controller": True}  # fmt: skip
    yield "spread by a replica set", Scenario(
        zoned(a="1", b="2"), pod(owner=owner, **full, **mine),
        [pod("x", on="a", labels={"app": "web"}, **full), pod("y", on="b", **full),
         pod("z", on="b", **full)],
        [replicas],
    )  # fmt: skip


def priorities() -> Iterator[tuple[str, Scenario]]:
    """Yield situations about priorities; the classes are there."""
    one = nodes("a", capacity=SMALL)
    urgent: dict[str, Any] = {"cpu": "800m", "priorityClassName": "urgent"}
    full = pod("victim", on="a", cpu="800m")
    yield "preempts", Scenario(one, pod(**urgent), [full])
    yield (
        "preempts nobody more important",
        Scenario(
            one, pod(**urgent), [pod("other", on="a", cpu="800m", priorityClassName="urgent")]
        ),
    )
    yield "preempts never", Scenario(one, pod(cpu="800m", priorityClassName="patient"), [full])
    yield (
        "preemption does not help",
        Scenario(nodes("a", capacity=SMALL), pod(cpu="4", priorityClassName="urgent"), [full]),
    )
    yield "preempts as few as it can", Scenario(
        nodes("a", capacity={"cpu": "3", "memory": "8Gi", "pods": "10"}),
        pod(cpu="1", priorityClassName="urgent"),
        [pod("x", on="a", cpu="1", started="2026-01-01T00:00:00Z"),
         pod("y", on="a", cpu="1", started="2026-01-02T00:00:00Z"),
         pod("z", on="a", cpu="1", priorityClassName="middle")],
    )  # fmt: skip
    yield "preempts the less important", Scenario(
        nodes("a", "b", capacity=SMALL), pod(**urgent),
        [pod("x", on="a", cpu="800m", priorityClassName="middle"), pod("y", on="b", cpu="800m")],
    )  # fmt: skip
    yield "preempts where a budget allows it", Scenario(
        nodes("a", "b", capacity=SMALL), pod(**urgent),
        [pod("x", on="a", cpu="800m", labels={"app": "kept"}), pod("y", on="b", cpu="800m")],
        [budget("kept", 0)],
    )  # fmt: skip
    yield "preempts against a budget", Scenario(
        one, pod(**urgent), [pod("x", on="a", cpu="800m", labels={"app": "kept"})],
        [budget("kept", 0)],
    )  # fmt: skip
    yield "preempts what is in the way", Scenario(
        nodes("a"), pod(priorityClassName="urgent", affinity=far(term("web"))),
        [pod("web", on="a", labels={"app": "web"})],
    )  # fmt: skip
    yield "preempts for spreading", Scenario(
        zoned(a="1", b="2"),
        pod(priorityClassName="urgent", labels={"app": "web"}, nodeSelector={ZONE: "1"},
            topologySpreadConstraints=[spread("web", nodeAffinityPolicy="Ignore")]),
        [pod("x", on="a", labels={"app": "web"})],
    )  # fmt: skip


CLASSES: tuple[tuple[str, int, Object], ...] = (
    ("urgent", 1000, {}),
    ("middle", 100, {}),
    ("patient", 1000, {"preemptionPolicy": "Never"}),
)
"""Priority classes: name, value, and what else they say."""
