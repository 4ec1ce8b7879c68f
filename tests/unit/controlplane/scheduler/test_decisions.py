"""The same pods on the same nodes, and the same words, as with kube-scheduler 1.36.2."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from controlplane.engine.resources import PODS, REPLICA_SETS, Object
from tests.support.bench_scheduler import Bench
from tests.support.placing.by_neighbours import CLASSES
from tests.support.placing.objects import Scenario
from tests.support.placing.scenarios import scenarios

SCENARIOS = scenarios()
DECISIONS: dict[str, Any] = json.loads((Path(__file__).parent / "decisions.json").read_text())
"""Made by ``python -m tests.support.peer_scheduler``."""


def admitted(pod: Object) -> Object:
    """Return a pod with what the API server adds to it."""
    made = copy.deepcopy(pod)
    classes = {name: (value, more) for name, value, more in CLASSES}
    value, more = classes.get(made["spec"].get("priorityClassName", ""), (0, {}))
    made["spec"] |= {"priority": value, **more}
    for constraint in made["spec"].get("topologySpreadConstraints", ()):
        _merge_keys(constraint, made)
    return made


def _merge_keys(constraint: Object, pod: Object) -> None:
    labels = pod["metadata"]["labels"]
    for key in constraint.get("matchLabelKeys", ()):
        wanted = {"key": key, "operator": "In", "values": [labels[key]]}
        constraint["labelSelector"].setdefault("matchExpressions", []).append(wanted)


def decided(one: Scenario) -> dict[str, Any]:
    """Return what our scheduler decides."""
    bench = Bench()
    bench.nodes(*one.nodes)
    owner = ""
    for resource, value in one.objects:
        made = bench.put(resource, value)
        owner = made["metadata"]["uid"] if resource is REPLICA_SETS else owner
    for pod in one.pods:
        bench.put(PODS, admitted(pod))
    subject = admitted(one.pod)
    for reference in subject["metadata"].get("ownerReferences", ()):
        reference["uid"] = owner
    bench.put(PODS, subject)
    bench.place()
    if bench.given:
        return {"node": bench.given["subject"]}
    [(name, message)] = bench.told
    assert name == "subject"
    if bench.victims:
        return {"message": message, "victims": bench.victims}
    return {"message": message, "reason": "Unschedulable"}


@pytest.mark.parametrize("name", SCENARIOS)
def test_the_decision_is_that_of_the_peer(name: str) -> None:
    # Ties are broken at random: what is right once is right every time.
    for _ in range(5):
        assert decided(SCENARIOS[name]) == DECISIONS[name]


def test_each_situation_was_shown_to_the_peer() -> None:
    assert SCENARIOS.keys() == DECISIONS.keys()
