"""Situations in which a pod is placed, for comparing schedulers: objects, and the pod.

Each is such that one outcome is right: one node, or no node for the same reasons.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from controlplane.engine.resources import (
    BUDGETS,
    CLAIMS,
    CSI_NODES,
    NAMESPACES,
    REPLICA_SETS,
    SERVICES,
    STORAGE_CLASSES,
    VOLUMES,
    Object,
    Resource,
)
from tests.support.hollow import node

HOST = "kubernetes.io/hostname"
ZONE = "topology.kubernetes.io/zone"
REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"


@dataclass
class Scenario:
    """One situation.

    Attributes:
        nodes: that are there.
        pod: that is placed.
        pods: that have nodes.
        objects: that are there besides.
    """

    nodes: list[Object]
    pod: Object
    pods: list[Object] = field(default_factory=list)
    objects: list[tuple[Resource, Object]] = field(default_factory=list)


def pod(
    name: str = "subject", *, on: str = "", labels: dict[str, str] | None = None,
    namespace: str = "default", owner: Object | None = None, started: str = "", **spec: Any,
) -> Object:  # fmt: skip
    """Return a pod; ``cpu``, ``memory``, ``more`` are requests, the rest goes into its spec."""
    requests = {
        key: spec.pop(key) for key in ("cpu", "memory") if key in spec
    } | spec.pop("more", {})  # fmt: skip
    container: Object = {"name": "main", "image": spec.pop("image", "example.test/app:1")}
    if requests:
        container["resources"] = {"requests": requests}
        limits = {key: value for key, value in requests.items() if "/" in key or "pages" in key}
        if limits:
            container["resources"]["limits"] = limits
    if "ports" in spec:
        container["ports"] = spec.pop("ports")
    if on:
        spec["nodeName"] = on
    meta: Object = {"name": name, "namespace": namespace, "labels": labels or {}}
    if owner is not None:
        meta["ownerReferences"] = [owner]
    made: Object = {
        "apiVersion": "v1", "kind": "Pod", "metadata": meta,
        "spec": {"terminationGracePeriodSeconds": 0, "containers": [container], **spec},
    }  # fmt: skip
    if started:
        made["status"] = {"phase": "Running", "startTime": started}
    return made


def nodes(*names: str, **more: Any) -> list[Object]:
    """Return equal nodes."""
    return [node(name, **more) for name in names]


def zoned(**zones: str) -> list[Object]:
    """Return nodes by their zones."""
    return [node(name, labels={ZONE: zone}) for name, zone in zones.items()]


def needs(*expressions: tuple[str, str, list[str]], field_name: str = "") -> Object:
    """Return required node affinity of one term."""
    term: Object = {
        "matchExpressions": [
            {"key": key, "operator": operator, **({"values": values} if values else {})}
            for key, operator, values in expressions
        ]
    }
    if field_name:
        named = {"key": "metadata.name", "operator": "In", "values": [field_name]}
        term = {"matchFields": [named]}
    return {"nodeAffinity": {REQUIRED: {"nodeSelectorTerms": [term]}}}


def term(app: str, topology: str = HOST, **more: Any) -> Object:
    """Return a term of pod affinity."""
    return {"labelSelector": {"matchLabels": {"app": app}}, "topologyKey": topology, **more}


def near(*terms: Object) -> Object:
    """Return required pod affinity."""
    return {"podAffinity": {REQUIRED: list(terms)}}


def far(*terms: Object) -> Object:
    """Return required pod anti-affinity."""
    return {"podAntiAffinity": {REQUIRED: list(terms)}}


def spread(app: str, topology: str = ZONE, skew: int = 1, hard: bool = True, **more: Any) -> Object:
    """Return a spread constraint."""
    return {
        "maxSkew": skew, "topologyKey": topology,
        "whenUnsatisfiable": "DoNotSchedule" if hard else "ScheduleAnyway",
        "labelSelector": {"matchLabels": {"app": app}}, **more,
    }  # fmt: skip


def claim(name: str, kind: str = "", volume: str = "", **more: Any) -> tuple[Resource, Object]:
    """Return a claim; with a volume it is bound."""
    annotations = {"pv.kubernetes.io/bind-completed": "yes"} if volume else {}
    annotations |= more.pop("annotations", {})
    spec: Object = {
        "accessModes": more.pop("modes", ["ReadWriteOnce"]), "storageClassName": kind,
        "resources": {"requests": {"storage": more.pop("size", "1Gi")}},
    }  # fmt: skip
    if volume:
        spec["volumeName"] = volume
    return CLAIMS, {
        "metadata": {"name": name, "namespace": "default", "annotations": annotations},
        "spec": spec, **more,
    }  # fmt: skip


def volume(
    name: str, kind: str = "", *, of: str = "", nodes: tuple[str, ...] = (), **more: Any
) -> tuple[Resource, Object]:
    """Return a volume; of a claim, and for nodes only."""
    spec: Object = {
        "capacity": {"storage": more.pop("size", "1Gi")}, "accessModes": ["ReadWriteOnce"],
        "storageClassName": kind, "persistentVolumeReclaimPolicy": "Retain",
    }  # fmt: skip
    spec |= more.pop("source", {"hostPath": {"path": f"/data/{name}"}})
    if nodes:
        expression = {"key": HOST, "operator": "In", "values": list(nodes)}
        terms = [{"matchExpressions": [expression]}]
        spec["nodeAffinity"] = {"required": {"nodeSelectorTerms": terms}}
    if of:
        spec["claimRef"] = {"namespace": "default", "name": of}
    made = {"metadata": {"name": name, "labels": more.pop("labels", {})}, "spec": spec}
    return VOLUMES, {**made, "status": {"phase": "Bound" if of else "Available"}}


def storage_class(name: str, waits: bool = True, **more: Any) -> tuple[Resource, Object]:
    """Return a storage class."""
    mode = "WaitForFirstConsumer" if waits else "Immediate"
    return STORAGE_CLASSES, {
        "metadata": {"name": name}, "provisioner": more.pop("provisioner", "example.test/disk"),
        "volumeBindingMode": mode, **more,
    }  # fmt: skip


def uses(*claims: str) -> list[Object]:
    """Return volumes of a pod."""
    return [
        {"name": f"v{index}", "persistentVolumeClaim": {"claimName": name}}
        for index, name in enumerate(claims)
    ]


def namespace(name: str, **labels: str) -> tuple[Resource, Object]:
    """Return a namespace."""
    return NAMESPACES, {"metadata": {"name": name, "labels": labels}}


def budget(app: str, allowed: int) -> tuple[Resource, Object]:
    """Return a disruption budget that allows so many."""
    return BUDGETS, {
        "metadata": {"name": f"budget-{app}", "namespace": "default"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": app}}},
        "status": {"disruptionsAllowed": allowed, "currentHealthy": 1, "desiredHealthy": 1,
                   "expectedPods": 1},
    }  # fmt: skip


SMALL = {"cpu": "1", "memory": "1Gi", "pods": "10"}
LARGE = {"cpu": "16", "memory": "64Gi", "pods": "10"}
TAINT = {"key": "dedicated", "value": "x", "effect": "NoSchedule"}
SOFT_TAINT = {"key": "dedicated", "value": "x", "effect": "PreferNoSchedule"}


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


def storage() -> Iterator[tuple[str, Scenario]]:
    """Yield situations about volumes."""
    two = nodes("a", "b")
    mine = pod(volumes=uses("data"))
    yield "no claim", Scenario(two, mine)
    yield (
        "unbound immediate claim",
        Scenario(two, mine, [], [storage_class("fast", waits=False), claim("data", "fast")]),
    )
    yield (
        "bound to a node",
        Scenario(two, mine, [], [volume("v", of="data", nodes=("b",)), claim("data", volume="v")]),
    )
    yield (
        "bound to a node that is not there",
        Scenario(two, mine, [], [volume("v", of="data", nodes=("z",)), claim("data", volume="v")]),
    )
    yield "volume gone", Scenario(two, mine, [], [claim("data", volume="v")])
    yield "ephemeral claim missing", Scenario(
        two,
        pod(volumes=[{"name": "e", "ephemeral": {"volumeClaimTemplate": {"spec": {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}}}]),
    )  # fmt: skip
    manual = storage_class("manual", provisioner="kubernetes.io/no-provisioner")
    yield "nothing to bind", Scenario(two, mine, [], [manual, claim("data", "manual")])
    yield (
        "nothing large enough to bind",
        Scenario(
            two, mine, [], [manual, claim("data", "manual", size="5Gi"), volume("v", "manual")]
        ),
    )
    yield "zone of a volume", Scenario(
        zoned(a="1", b="2"), mine, [],
        [volume("v", of="data", labels={ZONE: "2"}), claim("data", volume="v")],
    )  # fmt: skip
    yield "zone of a volume, full", Scenario(
        zoned(a="1", b="2"), pod(volumes=uses("data"), cpu="9"), [],
        [volume("v", of="data", labels={ZONE: "2"}), claim("data", volume="v")],
    )  # fmt: skip
    once = claim("data", volume="v", modes=["ReadWriteOncePod"])
    yield (
        "used by another pod",
        Scenario(
            two, mine, [pod("other", on="a", volumes=uses("data"))], [volume("v", of="data"), once]
        ),
    )
    topology = [{"matchLabelExpressions": [{"key": HOST, "values": ["z"]}]}]
    yield (
        "class for other nodes",
        Scenario(
            two,
            mine,
            [],
            [storage_class("fast", allowedTopologies=topology), claim("data", "fast")],
        ),
    )
    csi = {"csi": {"driver": "csi.example.test", "volumeHandle": "h1"}}
    more = {"csi": {"driver": "csi.example.test", "volumeHandle": "h2"}}
    limit = (CSI_NODES, {
        "metadata": {"name": "a"},
        "spec": {"drivers": [{"name": "csi.example.test", "nodeID": "a", "topologyKeys": [],
                              "allocatable": {"count": 1}}]},
    })  # fmt: skip
    yield "too many volumes", Scenario(
        nodes("a"), pod(volumes=uses("data")), [pod("other", on="a", volumes=uses("old"))],
        [limit, volume("v", of="data", source=csi), claim("data", volume="v"),
         volume("w", of="old", source=more), claim("old", volume="w")],
    )  # fmt: skip
    yield "the same volume again", Scenario(
        nodes("a"), pod(volumes=uses("data")), [pod("other", on="a", volumes=uses("data"))],
        [limit, volume("v", of="data", source=csi), claim("data", volume="v")],
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


GROUPS: tuple[Callable[[], Iterator[tuple[str, Scenario]]], ...] = (
    resources, places, others, spreading, storage, priorities,
)  # fmt: skip


def scenarios() -> dict[str, Scenario]:
    """Return all, by name."""
    return {name: one for group in GROUPS for name, one in group()}


CLASSES: tuple[tuple[str, int, Object], ...] = (
    ("urgent", 1000, {}),
    ("middle", 100, {}),
    ("patient", 1000, {"preemptionPolicy": "Never"}),
)
"""Priority classes: name, value, and what else they say."""
