"""Whatever comes, no node gets more than it has, and no required condition is broken."""

from __future__ import annotations

import copy
import os
from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.engine.resources import NODES, PODS, Object
from controlplane.scheduler.cluster import Cluster
from tests.support.bench_scheduler import Bench
from tests.support.circumstances import examples
from tests.support.hollow import node
from tests.support.placing.objects import HOST, TAINT, ZONE, far, near, pod, spread, term

EXAMPLES = int(os.environ.get("KUBELETPY_SCHEDULER_EXAMPLES") or examples(40))
APPS = ("x", "y")


@st.composite
def some_nodes(draw: st.DrawFn) -> list[Object]:
    return [
        node(
            f"n{index}",
            labels={ZONE: draw(st.sampled_from(("1", "2")))},
            capacity={"cpu": draw(st.sampled_from(("1", "2", "3"))), "memory": "4Gi",
                      "pods": draw(st.sampled_from(("2", "5")))},
            taints=draw(st.sampled_from(([], [], [TAINT]))),
        )
        for index in range(draw(st.integers(1, 4)))
    ]  # fmt: skip


@st.composite
def some_pod(draw: st.DrawFn) -> Object:
    app, other = draw(st.sampled_from(APPS)), draw(st.sampled_from(APPS))
    topology = draw(st.sampled_from((HOST, ZONE)))
    more: dict[str, Any] = draw(st.sampled_from((
        {}, {"affinity": far(term(other, topology))}, {"affinity": near(term(other, topology))},
        {"topologySpreadConstraints": [spread(app, topology)]}, {"nodeSelector": {ZONE: "1"}},
        {"tolerations": [{"operator": "Exists"}]},
        {"ports": [{"containerPort": 1, "hostPort": draw(st.sampled_from((80, 81)))}]},
    )))  # fmt: skip
    made = pod(labels={"app": app}, cpu=draw(st.sampled_from(("0", "300m", "700m", "1500m"))),
               **copy.deepcopy(more))  # fmt: skip
    made["spec"]["priority"] = draw(st.sampled_from((0, 0, 10)))
    return made


def matches(one: Object, pods: list[Object]) -> list[Object]:
    wanted = one["labelSelector"]["matchLabels"].items()
    return [each for each in pods if wanted <= each["metadata"]["labels"].items()]


def check(subject: Object, at: Object, nodes: dict[str, Object], pods: list[Object]) -> None:
    """Assert that a pod may be on a node beside others, by the plainest reading of the rules."""
    spec, labels = subject["spec"], at["metadata"]["labels"]
    name = at["metadata"]["name"]

    def of(value: Object) -> Object:
        labels: Object = nodes[value["spec"]["nodeName"]]["metadata"]["labels"]
        return labels

    here = [each for each in pods if each["spec"]["nodeName"] == name]
    all_here = [*here, subject]
    cpu = sum(milli(each) for each in all_here)
    assert cpu <= 1000 * int(at["status"]["allocatable"]["cpu"])
    assert len(all_here) <= int(at["status"]["allocatable"]["pods"])
    ports = Counter(port for each in all_here for port in host_ports(each))
    assert all(count == 1 for count in ports.values())
    assert spec.get("nodeSelector", {}).items() <= labels.items()
    assert not at["spec"]["taints"] or spec.get("tolerations")
    for term_ in terms(subject, "podAntiAffinity"):
        key = term_["topologyKey"]
        assert all(of(each)[key] != labels[key] for each in matches(term_, pods))
    for each in pods:
        for term_ in terms(each, "podAntiAffinity"):
            key = term_["topologyKey"]
            assert of(each)[key] != labels[key] or not matches(term_, [subject])
    for term_ in terms(subject, "podAffinity"):
        key = term_["topologyKey"]
        found = matches(term_, pods)
        alone = not found and matches(term_, [subject])
        assert alone or any(of(each)[key] == labels[key] for each in found)
    for one in spec.get("topologySpreadConstraints", ()):
        key = one["topologyKey"]
        counts = {each["metadata"]["labels"][key]: 0 for each in nodes.values()}
        for each in matches(one, pods):
            counts[of(each)[key]] += 1
        assert counts[labels[key]] + 1 - min(counts.values()) <= one["maxSkew"]


def milli(value: Object) -> int:
    text = value["spec"]["containers"][0]["resources"]["requests"]["cpu"]
    return int(text.removesuffix("m")) if text.endswith("m") else 1000 * int(text)


def host_ports(value: Object) -> list[int]:
    return [one["hostPort"] for one in value["spec"]["containers"][0].get("ports", ())]


def terms(value: Object, kind: str) -> list[Object]:
    found: Object = value["spec"].get("affinity", {}).get(kind, {})
    required: list[Object] = found.get("requiredDuringSchedulingIgnoredDuringExecution", [])
    return required


@settings(max_examples=EXAMPLES, deadline=None, derandomize=EXAMPLES <= 60)
@given(some_nodes(), st.lists(some_pod(), max_size=12), st.data())
def test_every_pod_is_where_it_may_be(
    nodes: list[Object], pods: list[Object], data: st.DataObject
) -> None:
    bench = Bench()
    bench.nodes(*nodes)
    named = {one["metadata"]["name"]: one for one in nodes}
    placed: dict[str, Object] = {}
    for index, value in enumerate(pods):
        name = f"p{index}"
        value["metadata"]["name"] = name
        bench.put(PODS, value)
        before = dict(bench.given)
        bench.place()
        # One at a time: each may be compared with what was there when its turn was.
        new = bench.given.keys() - before.keys()
        for each in sorted(new):
            one = copy.deepcopy(pods[int(each[1:])])
            one["spec"]["nodeName"] = bench.given[each]
            if len(new) == 1:
                check(one, named[bench.given[each]], named, list(placed.values()))
            placed[each] = one
        if data.draw(st.booleans()):
            bench.confirm()
        if placed and data.draw(st.integers(0, 3)) == 0:
            gone = data.draw(st.sampled_from(sorted(placed)))
            bench.remove(PODS, gone)
            del placed[gone]
    sums: Counter[str] = Counter()
    for one in placed.values():
        sums[one["spec"]["nodeName"]] += milli(one)
    for name, total in sums.items():
        assert total <= 1000 * int(named[name]["status"]["allocatable"]["cpu"])


_APART = ("node", "pods", "others")


def state(cluster: Cluster) -> Any:
    """Return all that is counted of a cluster."""
    return [
        {name: getattr(info, name) for name in info.__slots__ if name not in _APART}
        | {"pods": sorted(info.pods), "others": {k: v for k, v in info.others.items() if v}}
        for info in sorted(cluster.nodes, key=lambda info: info.name)
    ] + [
        {kind: {id(one): dict(counts) for one, counts in cluster.terms(kind).items()}
         for kind in ("affinity", "anti", "preferred", "avoided")},
        dict(cluster.images),
    ]  # fmt: skip


@settings(max_examples=EXAMPLES, deadline=None, derandomize=EXAMPLES <= 60)
@given(some_nodes(), st.lists(some_pod(), min_size=1, max_size=8), st.data())
def test_what_is_counted_along_the_way_is_what_a_new_scheduler_counts(
    nodes: list[Object], pods: list[Object], data: st.DataObject
) -> None:
    bench = Bench()
    for step in range(12):
        kind = data.draw(st.sampled_from(("node", "no node", "pod", "pod", "no pod", "place")))
        if kind == "node":
            bench.put(NODES, data.draw(st.sampled_from(nodes)))
        elif kind == "no node":
            bench.remove(NODES, data.draw(st.sampled_from(nodes))["metadata"]["name"])
        elif kind == "pod":
            value = copy.deepcopy(data.draw(st.sampled_from(pods)))
            value["metadata"]["name"] = f"p{step}"
            bench.put(PODS, value)
        elif kind == "no pod":
            bench.remove(PODS, f"p{data.draw(st.integers(0, 11))}")
        else:
            bench.place()
            bench.confirm()
    bench.place()
    bench.confirm()
    fresh = Bench()
    for resource in (NODES, PODS):
        for value in bench.informer(resource):
            fresh.put(resource, value)
    assert state(bench.scheduler.cluster) == state(fresh.scheduler.cluster)


@settings(max_examples=EXAMPLES, deadline=None, derandomize=EXAMPLES <= 60)
@given(some_nodes(), st.lists(some_pod(), min_size=2, max_size=8))
def test_looking_whom_to_preempt_changes_nothing(nodes: list[Object], pods: list[Object]) -> None:
    bench = Bench()
    bench.nodes(*nodes)
    for index, value in enumerate(pods):
        value["metadata"]["name"] = f"p{index}"
        bench.put(PODS, value)
    bench.place()
    bench.confirm()
    before = state(bench.scheduler.cluster)
    urgent = {**copy.deepcopy(pods[0]), "metadata": {"name": "urgent", "labels": {"app": "x"}}}
    urgent["spec"]["priority"] = 1000
    bench.put(PODS, urgent)
    bench.place()
    if "urgent" not in bench.given:
        assert state(bench.scheduler.cluster) == before
