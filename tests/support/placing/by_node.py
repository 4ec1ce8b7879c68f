"""Situations about single nodes: what they have, what they are, whom they take."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from controlplane.engine.resources import Object
from tests.support.hollow import node

from .objects import (
    LARGE,
    PREFERRED,
    SMALL,
    SOFT_TAINT,
    TAINT,
    ZONE,
    Scenario,
    far,
    namespace,
    near,
    needs,
    nodes,
    pod,
    term,
    zoned,
)


def resources() -> Iterator[tuple[str, Scenario]]:
    """Yield situations about resources."""
    yield "no node", Scenario([], pod())
    yield "cpu", Scenario([*nodes("a", capacity=SMALL), node("b")], pod(cpu="4"))
    yield "too large for all", Scenario(nodes("a", "b", capacity=SMALL), pod(cpu="4", memory="9Gi"))
    yield (
        "taken",
        Scenario(nodes("a", capacity=SMALL), pod(cpu="600m"), [pod("other", on="a", cpu="600m")]),
    )
    yield (
        "too many pods",
        Scenario(nodes("a", capacity={**SMALL, "pods": "1"}), pod(), [pod("other", on="a")]),
    )
    yield (
        "too many and too large",
        Scenario(nodes("a", capacity={**SMALL, "pods": "1"}), pod(cpu="2"), [pod("other", on="a")]),
    )
    gpu = {**SMALL, "example.test/gpu": "2"}
    yield (
        "extended resource",
        Scenario(
            [*nodes("a", capacity=SMALL), node("b", capacity=gpu)],
            pod(more={"example.test/gpu": "1"}),
        ),
    )
    yield (
        "extended resource taken",
        Scenario(
            [*nodes("a", capacity=SMALL), node("b", capacity=gpu)],
            pod(more={"example.test/gpu": "2"}),
            [pod("other", on="b", more={"example.test/gpu": "1"})],
        ),
    )
    yield (
        "huge pages",
        Scenario(
            nodes("a", capacity={**SMALL, "hugepages-2Mi": "4Mi"}),
            pod(cpu="100m", more={"hugepages-2Mi": "8Mi"}),
        ),
    )
    yield (
        "ephemeral storage",
        Scenario(
            nodes("a", capacity={**SMALL, "ephemeral-storage": "1Gi"}),
            pod(more={"ephemeral-storage": "2Gi"}),
        ),
    )

    def extra(requests: Object, **more: Any) -> Object:
        return {"name": "first", "image": "example.test/app:1",
                "resources": {"requests": requests}, **more}  # fmt: skip

    yield (
        "init container",
        Scenario(nodes("a", capacity=SMALL), pod(cpu="100m", initContainers=[extra({"cpu": "2"})])),
    )
    yield (
        "sidecar",
        Scenario(
            nodes("a", capacity=SMALL),
            pod(cpu="600m", initContainers=[extra({"cpu": "600m"}, restartPolicy="Always")]),
        ),
    )
    yield (
        "pod-level resources",
        Scenario(nodes("a", capacity=SMALL), pod(cpu="100m", resources={"requests": {"cpu": "2"}})),
    )
    yield (
        "least allocated",
        Scenario(
            nodes("a", "b"),
            pod(cpu="1", memory="1Gi"),
            [pod("other", on="a", cpu="2", memory="2Gi")],
        ),
    )
    yield (
        "larger node",
        Scenario([node("a"), node("b", capacity=LARGE)], pod(cpu="1", memory="1Gi")),
    )
    yield (
        "unasked counts a little",
        Scenario(nodes("a", "b"), pod(), [pod("other", on="b"), pod("another", on="b")]),
    )
    ten = {"cpu": "10", "memory": "10Gi", "pods": "10"}
    yield "balanced", Scenario(
        nodes("a", "b", capacity=ten), pod(cpu="3", memory="128Mi"),
        [pod("p", on="a", cpu="1", memory="6Gi"), pod("q", on="b", cpu="6", memory="1Gi")],
    )  # fmt: skip


def places() -> Iterator[tuple[str, Scenario]]:
    """Yield situations about nodes: labels, taints, ports, images."""
    disk = [node("a", labels={"disk": "ssd", "size": "5"}), node("b", labels={"disk": "hdd"})]
    yield "node selector", Scenario(disk, pod(nodeSelector={"disk": "ssd"}))
    yield "node selector of none", Scenario(disk, pod(nodeSelector={"disk": "tape"}))
    yield "affinity in", Scenario(disk, pod(affinity=needs(("disk", "In", ["hdd", "x"]))))
    yield "affinity greater", Scenario(disk, pod(affinity=needs(("size", "Gt", ["4"]))))
    yield "affinity less", Scenario(disk, pod(affinity=needs(("size", "Lt", ["4"]))))
    yield "affinity not in", Scenario(disk, pod(affinity=needs(("disk", "NotIn", ["ssd"]))))
    yield "affinity exists", Scenario(disk, pod(affinity=needs(("size", "Exists", []))))
    yield "affinity by name", Scenario(disk, pod(affinity=needs(field_name="b")))
    yield (
        "affinity by a name that is not there",
        Scenario(disk, pod(affinity=needs(field_name="z"))),
    )
    yield (
        "affinity by name, too large",
        Scenario(disk, pod(affinity=needs(field_name="b"), cpu="99")),
    )
    terms = [{"weight": 10, "preference": {"matchExpressions": [
        {"key": "disk", "operator": "In", "values": ["hdd"]}]}}]  # fmt: skip
    yield "preferred affinity", Scenario(
        disk, pod(affinity={"nodeAffinity": {PREFERRED: terms}}, cpu="100m"),
    )  # fmt: skip
    yield "taint", Scenario([node("a", taints=[TAINT]), node("b")], pod())
    yield "taint everywhere", Scenario(nodes("a", "b", taints=[TAINT]), pod())
    yield (
        "tolerated",
        Scenario(
            [node("a", taints=[TAINT]), node("b", capacity=SMALL)],
            pod(cpu="4", tolerations=[{"key": "dedicated", "operator": "Exists"}]),
        ),
    )
    yield (
        "wrong toleration",
        Scenario(
            [node("a", taints=[TAINT])],
            pod(tolerations=[{"key": "dedicated", "operator": "Equal", "value": "y"}]),
        ),
    )
    yield "soft taint", Scenario([node("a", taints=[SOFT_TAINT]), node("b")], pod())
    yield "cordoned", Scenario([node("a", unschedulable=True), node("b", capacity=SMALL)],
                               pod(cpu="2"))  # fmt: skip
    port = [{"containerPort": 80, "hostPort": 8080}]
    local = [{"containerPort": 80, "hostPort": 8080, "hostIP": "127.0.0.1"}]
    other = [{"containerPort": 80, "hostPort": 8080, "hostIP": "127.0.0.2"}]
    yield "port", Scenario(nodes("a", "b"), pod(ports=port), [pod("other", on="a", ports=port)])
    yield "port everywhere", Scenario(nodes("a"), pod(ports=local),
                                      [pod("other", on="a", ports=port)])  # fmt: skip
    yield "port of another address", Scenario(nodes("a"), pod(ports=other),
                                              [pod("other", on="a", ports=local)])  # fmt: skip
    images = [{"names": ["example.test/app:1"], "sizeBytes": 900 << 20}]
    with_image = node("b")
    with_image["status"]["images"] = images
    yield "image", Scenario([node("a"), with_image], pod())
    yield "several reasons", Scenario(
        [node("a", taints=[TAINT]), node("b", unschedulable=True), *nodes("c", capacity=SMALL),
         node("d")],
        pod(cpu="2", nodeSelector={"kubernetes.io/os": "linux", "x": "y"}),
    )  # fmt: skip


def others() -> Iterator[tuple[str, Scenario]]:
    """Yield situations about other pods."""
    web = pod("web", on="a", labels={"app": "web"})
    yield "near", Scenario(nodes("a", "b"), pod(affinity=near(term("web"))), [web])
    yield "near nobody", Scenario(nodes("a", "b"), pod(affinity=near(term("web"))))
    yield (
        "near itself",
        Scenario(nodes("a"), pod(affinity=near(term("web")), labels={"app": "web"})),
    )
    yield (
        "near by a label that no node has",
        Scenario(nodes("a"), pod(affinity=near(term("web", "rack"))), [web]),
    )
    yield "near in the zone", Scenario(
        zoned(a="1", b="1", c="2"), pod(affinity=near(term("web", ZONE)), cpu="7"),
        [pod("web", on="a", labels={"app": "web"}, cpu="6")],
    )  # fmt: skip
    yield "near in another namespace", Scenario(
        nodes("a", "b"), pod(affinity=near(term("web", namespaces=["shop"]))),
        [pod("web", on="b", labels={"app": "web"}, namespace="shop"), web],
        [namespace("shop")],
    )  # fmt: skip
    yield (
        "near by namespace labels",
        Scenario(
            nodes("a", "b"),
            pod(affinity=near(term("web", namespaceSelector={"matchLabels": {"team": "x"}}))),
            [pod("web", on="b", labels={"app": "web"}, namespace="shop"), web],
            [namespace("shop", team="x")],
        ),
    )
    yield "near in all namespaces", Scenario(
        nodes("a", "b"), pod(affinity=near(term("web", namespaceSelector={}))),
        [pod("web", on="b", labels={"app": "web"}, namespace="shop")], [namespace("shop")],
    )  # fmt: skip
    yield "near two at once", Scenario(
        nodes("a", "b"), pod(affinity=near(term("web"), term("db"))),
        [web, pod("db", on="b", labels={"app": "db"})],
    )  # fmt: skip
    yield "far", Scenario(nodes("a", "b"), pod(affinity=far(term("web"))), [web])
    yield "far, but everywhere", Scenario(nodes("a"), pod(affinity=far(term("web"))), [web])
    guard = pod("guard", on="a", affinity=far(term("web")))
    yield "unwanted", Scenario(nodes("a", "b"), pod(labels={"app": "web"}), [guard])
    yield "unwanted everywhere", Scenario(nodes("a"), pod(labels={"app": "web"}), [guard])
    yield "unwanted in the zone", Scenario(
        zoned(a="1", b="1", c="2"), pod(labels={"app": "web"}),
        [pod("guard", on="a", affinity=far(term("web", ZONE)))],
    )  # fmt: skip
    weighed = [{"weight": 50, "podAffinityTerm": term("web")}]
    yield (
        "liked",
        Scenario(nodes("a", "b"), pod(affinity={"podAffinity": {PREFERRED: weighed}}), [web]),
    )
    yield "avoided", Scenario(
        nodes("a", "b"), pod(affinity={"podAntiAffinity": {PREFERRED: weighed}}, cpu="100m"),
        [web, pod("x", on="b", cpu="200m")],
    )  # fmt: skip
    yield "likes the pod", Scenario(
        nodes("a", "b"), pod(labels={"app": "web"}),
        [pod("fan", on="b", affinity={"podAffinity": {PREFERRED: weighed}})],
    )  # fmt: skip
    yield "needs the pod", Scenario(
        nodes("a", "b"), pod(labels={"app": "web"}, memory="1Gi"),
        [pod("fan", on="b", labels={"app": "web"}, affinity=near(term("web")))],
    )  # fmt: skip
