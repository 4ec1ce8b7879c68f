"""Reading policies: what is said, what is defaulted, and what cannot be read lets nobody pass."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from proxy.model.portal import Family
from proxy.policy import bridge
from proxy.policy.events import event_of
from proxy.policy.inputs import Kind, decoded
from proxy.policy.objects import pod_of
from proxy.policy.policies import Block, Direction, Pods, Policy, Port, Rule, intervals, policy_of
from proxy.policy.selectors import Selector
from tests.support.policies import policy

INGRESS, EGRESS = Direction.INGRESS, Direction.EGRESS
ALL = Selector()


def read(**spec: Any) -> Policy:
    return policy_of(policy("x/p", {}, **spec))


@pytest.mark.parametrize(
    ("spec", "directions"),
    [
        ({}, {INGRESS}),
        ({"egress": []}, {INGRESS}),
        ({"egress": [{}]}, {INGRESS, EGRESS}),
        ({"policyTypes": []}, {INGRESS}),
        ({"policyTypes": ["Egress"]}, {EGRESS}),
        ({"policyTypes": ["Egress", "Ingress"]}, {INGRESS, EGRESS}),
        ({"policyTypes": ["Ingress"], "egress": [{}]}, {INGRESS}),
    ],
)
def test_directions(spec: dict[str, Any], directions: set[Direction]) -> None:
    found = read(**spec)
    assert set(found.rules) == directions
    assert not found.problems


EVERYTHING = Rule(everyone=True, any_port=True)
NOBODY = Rule()


@pytest.mark.parametrize(
    ("rule", "expected", "problem"),
    [
        ({}, EVERYTHING, ""),
        ({"from": [], "ports": None}, EVERYTHING, ""),
        ({"from": [{"podSelector": {}}]}, Rule(pods=(Pods("x", None, ALL),), any_port=True), ""),
        (
            {"from": [{"namespaceSelector": {}}]},
            Rule(pods=(Pods("", ALL, ALL),), any_port=True), "",
        ),
        ({"from": [{}]}, Rule(any_port=True), "from[0]: an empty peer"),
        ({"from": [{"dns": "a"}]}, Rule(any_port=True), "from[0]: unknown field 'dns'"),
        (
            {"from": [{"podSelector": {"wish": 1}}]}, Rule(any_port=True),
            "unknown field 'wish' of a selector",
        ),
        (
            {"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}, "podSelector": {}}]},
            Rule(any_port=True), "ipBlock beside a selector",
        ),
        (
            {"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/9"]}}]},
            Rule(any_port=True), "except '11.0.0.0/9' is not within",
        ),
        ({"from": [{"ipBlock": {"cidr": "10.0.0"}}]}, Rule(any_port=True), "is no CIDR"),
        ({"from": "all"}, Rule(any_port=True), "from: is no list"),
        ({"ports": [{"port": 80}]}, Rule(everyone=True, ports=(Port("tcp", 80, 80),)), ""),
        ({"ports": [{}]}, Rule(everyone=True, ports=(Port("tcp"),)), ""),
        ({"ports": [{"port": "a-b"}]}, Rule(everyone=True, ports=(Port("tcp", name="a-b"),)), ""),
        (
            {"ports": [{"port": 1, "endPort": 9, "protocol": "UDP"}]},
            Rule(everyone=True, ports=(Port("udp", 1, 9),)), "",
        ),
        ({"ports": [{"port": 9, "endPort": 1}]}, Rule(everyone=True), "no range of ports"),
        ({"ports": [{"port": "a", "endPort": 9}]}, Rule(everyone=True), "endPort without a port"),
        ({"ports": [{"endPort": 9}]}, Rule(everyone=True), "endPort without a port"),
        ({"ports": [{"port": 0}]}, Rule(everyone=True), "no range of ports"),
        ({"ports": [{"port": True}]}, Rule(everyone=True), "True is no port"),
        ({"ports": [{"port": 'a"; drop'}]}, Rule(everyone=True), "no name of a port"),
        ({"ports": [{"protocol": "ICMP"}]}, Rule(everyone=True), "'ICMP' is no protocol"),
        ({"ports": [{"icmp": 1}]}, Rule(everyone=True), "unknown field 'icmp'"),
    ],
)  # fmt: skip
def test_rules(rule: dict[str, Any], expected: Rule, problem: str) -> None:
    found = read(ingress=[rule])
    assert found.rules[INGRESS] == (expected,)
    assert bool(found.problems) == bool(problem)
    assert all(problem in each for each in found.problems)


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ({"podSelector": {"matchExpressions": [{"key": "a", "operator": "Gt"}]}}, "'Gt'"),
        ({"podSelector": {"matchExpressions": [{"key": "a", "operator": "In"}]}}, "without values"),
        ({"podSelector": {"matchLabels": {"a": 1}}}, "no map of texts"),
        ({"podSelector": 5}, "a selector is an object"),
        ({"policyTypes": ["Sideways"]}, "'Sideways' is no policy type"),
    ],
)
def test_a_policy_whose_pods_are_not_known_counts_for_none(
    spec: dict[str, Any], problem: str
) -> None:
    found = policy_of({"metadata": {"namespace": "x", "name": "p"}, "spec": spec})
    assert found.selector is None
    assert not found.rules
    assert problem in found.problems[0]
    event = event_of(found, "node", datetime(2026, 1, 2, tzinfo=UTC))
    assert event["message"].startswith("It counts for no pod: ")
    assert event["firstTimestamp"] == "2026-01-02T00:00:00Z"


def test_a_rule_that_says_more_than_is_known_is_none() -> None:
    found = read(ingress=[{"from": [], "when": "night"}, {}], wish=1)
    assert found.rules[INGRESS] == (EVERYTHING,)
    assert [each.partition(":")[0] for each in found.problems] == ["spec.wish", "spec.ingress[0]"]


@pytest.mark.parametrize(
    ("blocks", "expected"),
    [
        ([(0, 100, ())], [(0, 100)]),
        ([(0, 100, ((10, 20), (21, 30)))], [(0, 9), (31, 100)]),
        ([(0, 100, ((0, 100),))], []),
        ([(0, 100, ((10, 40), (20, 30)))], [(0, 9), (41, 100)]),
        ([(0, 10, ()), (11, 20, ()), (15, 30, ())], [(0, 30)]),
        ([(0, 10, ((5, 6),)), (5, 6, ())], [(0, 10)]),
    ],
)
def test_intervals(
    blocks: list[tuple[int, int, tuple[tuple[int, int], ...]]], expected: list[tuple[int, int]]
) -> None:
    found = [Block(Family.V4, *each) for each in blocks] + [Block(Family.V6, 1, 2)]
    assert intervals(found, Family.V4) == tuple(expected)


def test_what_counts_of_a_pod() -> None:
    one, key = decoded(
        Kind.POD,
        b"""{"metadata": {"namespace": "x", "name": "p", "labels": {"a": "1"}},
        "spec": {"nodeName": "n", "containers": [{"ports": [{"containerPort": 1, "name": "w"},
        {"containerPort": 2, "name": "w"}, {"containerPort": 3}]}], "initContainers": [
        {"restartPolicy": "Always", "ports": [{"containerPort": 4, "name": "s",
        "protocol": "UDP"}]}, {"ports": [{"containerPort": 5, "name": "i"}]}]},
        "status": {"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"},
        {"ip": "fd00::1"}]}}""",
    )
    assert key == ("x", "p")
    pod = pod_of(one, "n")
    assert pod is not None
    assert pod.ports == (("w", "tcp", 1), ("s", "udp", 4))
    assert pod.addresses[Family.V4] == bytes((10, 0, 0, 1))
    assert pod.local
    one.status.phase = "Failed"
    assert pod_of(one, "n") is None


def test_bridges_are_made_to_filter(tmp_path: Path) -> None:
    for name in bridge.NAMES:
        (tmp_path / name).write_text("0\n")
    assert not bridge.prepare(tmp_path)
    assert [(tmp_path / name).read_text() for name in bridge.NAMES] == ["1", "1"]
    (tmp_path / bridge.NAMES[0]).unlink()
    assert bridge.NAMES[0] in bridge.prepare(tmp_path)[0]
