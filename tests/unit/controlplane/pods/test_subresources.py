"""Binding and evicting pods, over HTTP."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from controlplane import pods
from controlplane.api.errors import ApiError
from controlplane.kinds.strategies.pods import PODS as STRATEGY
from controlplane.pods.eviction import decide
from tests.unit.controlplane.server.client import PODS, Api, running_api

BUDGETS = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"
SPEC = {"containers": [{"name": "a", "image": "b"}]}


@pytest.fixture
async def api(tmp_path: Path) -> AsyncIterator[Api]:
    async with running_api(tmp_path, strategies=STRATEGY, parts=[pods.install]) as running:
        yield running


def _binding(name: str, node: str = "n1", **meta: Any) -> dict[str, Any]:
    target = {"apiVersion": "v1", "kind": "Node", "name": node}
    return {"metadata": {"name": name, **meta}, "target": target}


async def test_a_pod_is_bound_once(api: Api) -> None:
    await api.make("p", PODS, spec=SPEC)
    body = _binding("p", annotations={"a": "b"}, labels={"zone": "z"})
    status, answer = await api.call("POST", f"{PODS}/p/binding", body)
    assert (status, answer["status"]) == (201, "Success")
    _, pod = await api.call("GET", f"{PODS}/p")
    assert pod["spec"]["nodeName"] == "n1"
    assert (pod["metadata"]["annotations"], pod["metadata"]["labels"]) == (
        {"a": "b"},
        {"zone": "z"},
    )
    assert [(c["type"], c["status"]) for c in pod["status"]["conditions"]] == [
        ("PodScheduled", "True")
    ]
    status, answer = await api.call(
        "POST", "/api/v1/namespaces/default/bindings", _binding("p", "n2")
    )
    assert (status, answer["details"]["kind"]) == (409, "pods/binding")
    assert answer["message"].endswith('pod p is already assigned to node "n1"')


async def test_a_gated_pod_is_not_bound(api: Api) -> None:
    await api.make("p", PODS, spec={**SPEC, "schedulingGates": [{"name": "g"}]})
    status, answer = await api.call("POST", f"{PODS}/p/binding", _binding("p"))
    assert (status, answer["reason"]) == (409, "Conflict")
    status, _ = await api.call("POST", f"{PODS}/p/binding", {"target": {"kind": "Pod"}})
    assert status == 400


async def _running(api: Api, name: str) -> None:
    await api.make(name, PODS, spec={**SPEC, "nodeName": "n1"}, metadata={"labels": {"a": "b"}})
    state = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    status, pod = await api.call(
        "PATCH", f"{PODS}/{name}/status", {"status": state}, kind="application/merge-patch+json"
    )
    assert status == 200, pod


async def test_a_budget_is_spent_by_evictions(api: Api) -> None:
    for name in ("p", "q"):
        await _running(api, name)
    selector = {"matchLabels": {"a": "b"}}
    await api.make("budget", BUDGETS, spec={"selector": selector, "minAvailable": 1})
    counts = {"disruptionsAllowed": 1, "currentHealthy": 2, "desiredHealthy": 1,
              "expectedPods": 2, "observedGeneration": 1}  # fmt: skip
    status, budget = await api.call(
        "PATCH", f"{BUDGETS}/budget/status", {"status": counts}, kind="application/merge-patch+json"
    )
    assert status == 200, budget
    eviction = {"metadata": {"name": "p"}}
    assert (await api.call("POST", f"{PODS}/p/eviction?dryRun=All", eviction))[0] == 201
    status, answer = await api.call("POST", f"{PODS}/p/eviction", eviction)
    assert status == 201, answer
    _, pod = await api.call("GET", f"{PODS}/p")
    assert pod["metadata"]["deletionGracePeriodSeconds"] == 30
    assert pod["status"]["conditions"][-1]["reason"] == "EvictionByEvictionAPI"
    _, budget = await api.call("GET", f"{BUDGETS}/budget")
    assert budget["status"]["disruptionsAllowed"] == 0
    assert list(budget["status"]["disruptedPods"]) == ["p"]
    status, answer = await api.call("POST", f"{PODS}/q/eviction", {})
    assert (status, answer["reason"]) == (429, "TooManyRequests")
    assert answer["details"]["causes"][0]["reason"] == "DisruptionBudget"


async def test_a_pod_that_does_not_run_is_deleted_at_once(api: Api) -> None:
    await api.make("p", PODS, spec=SPEC)
    assert (await api.call("POST", f"{PODS}/p/eviction", {}))[0] == 201
    assert (await api.call("GET", f"{PODS}/p"))[0] == 404


POD = {
    "metadata": {"name": "p", "resourceVersion": "1"},
    "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
}
UNREADY = {**POD, "status": {"phase": "Running"}}


def _budget(policy: str = "", generation: int = 1, **status: Any) -> dict[str, Any]:
    spec = {"unhealthyPodEvictionPolicy": policy} if policy else {}
    counts = {"observedGeneration": 1, **status}
    return {"metadata": {"name": "b", "generation": generation}, "spec": spec, "status": counts}


@pytest.mark.parametrize(
    ("pod", "budgets", "reason"),
    [
        (POD, [], ""),
        (POD, [_budget(disruptionsAllowed=1)], ""),
        (POD, [_budget(disruptionsAllowed=0)], "TooManyRequests"),
        (POD, [_budget(disruptionsAllowed=1, generation=2)], "TooManyRequests"),
        (POD, [_budget(disruptionsAllowed=-1)], "Forbidden"),
        (POD, [_budget(disruptionsAllowed=1), _budget(disruptionsAllowed=1)], "InternalError"),
        (UNREADY, [_budget(disruptionsAllowed=0)], "TooManyRequests"),
        (UNREADY, [_budget("AlwaysAllow", disruptionsAllowed=0)], ""),
        (UNREADY, [_budget(disruptionsAllowed=0, currentHealthy=1, desiredHealthy=1)], ""),
    ],
)
def test_what_budgets_allow(
    pod: dict[str, Any], budgets: list[dict[str, Any]], reason: str
) -> None:
    if not reason:
        decide(copy.deepcopy(pod), budgets)
        return
    with pytest.raises(ApiError) as caught:
        decide(copy.deepcopy(pod), budgets)
    assert caught.value.reason == reason
