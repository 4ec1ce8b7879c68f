"""Binding and evicting pods, over HTTP."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controlplane import pods
from controlplane.api.deletion import DeleteOptions
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
    status, answer = await api.call("POST", f"{PODS}/q/eviction", {"metadata": {"name": "q"}})
    assert (status, answer["reason"]) == (429, "TooManyRequests")
    assert answer["message"] == "Cannot evict pod as it would violate the pod's disruption budget."
    assert answer["details"] == {"causes": [{
        "reason": "DisruptionBudget",
        "message": "The disruption budget budget does not allow evicting pods currently",
    }]}  # fmt: skip


async def test_a_pod_that_does_not_run_is_deleted_at_once(api: Api) -> None:
    await api.make("p", PODS, spec=SPEC)
    assert (await api.call("POST", f"{PODS}/p/eviction", {"metadata": {"name": "p"}}))[0] == 201
    assert (await api.call("GET", f"{PODS}/p"))[0] == 404


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ({}, "name in URL does not match name in Eviction object"),
        ({"name": "q"}, "name in URL does not match name in Eviction object"),
        ({"name": "p", "namespace": "other"},
         "the namespace of the provided object does not match the namespace sent on the request"),
    ],
)  # fmt: skip
async def test_an_eviction_names_its_pod(api: Api, meta: dict[str, Any], message: str) -> None:
    await _running(api, "p")
    status, answer = await api.call("POST", f"{PODS}/p/eviction", {"metadata": meta})
    assert (status, answer["message"]) == (400, message)


async def test_two_budgets_are_an_error_without_a_reason(api: Api) -> None:
    await _running(api, "p")
    for name in ("one", "two"):
        await api.make(name, BUDGETS, spec={"selector": {}, "minAvailable": 1})
    status, answer = await api.call("POST", f"{PODS}/p/eviction", {"metadata": {"name": "p"}})
    assert status == 500
    assert answer == {
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": 500,
        "message": "This pod has more than one PodDisruptionBudget, which the eviction subresource "
        "does not support.",
    }  # fmt: skip


async def test_a_pod_that_was_unhealthy_when_it_was_looked_at(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _running(api, "p")
    changes = {"status": {"conditions": [{"type": "Ready", "status": "False"}]}}
    await api.call("PATCH", f"{PODS}/p/status", changes, kind="application/merge-patch+json")
    spec = {"selector": {}, "minAvailable": 1, "unhealthyPodEvictionPolicy": "AlwaysAllow"}
    await api.make("budget", BUDGETS, spec=spec)

    def changed(options: DeleteOptions, *_: object) -> DeleteOptions:
        return replace(options, revision="1")

    monkeypatch.setattr("controlplane.pods.eviction._exact", changed)
    status, answer = await api.call("POST", f"{PODS}/p/eviction", {"metadata": {"name": "p"}})
    assert (status, answer["details"]["retryAfterSeconds"]) == (429, 10)
    assert (await api.call("GET", f"{PODS}/p"))[0] == 200


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
    ("pod", "budgets", "code"),
    [
        (POD, [], 0),
        (POD, [_budget(disruptionsAllowed=1)], 0),
        (POD, [_budget(disruptionsAllowed=0)], 429),
        (POD, [_budget(disruptionsAllowed=1, generation=2)], 429),
        (POD, [_budget(disruptionsAllowed=-1)], 403),
        (POD, [_budget(disruptionsAllowed=1), _budget(disruptionsAllowed=1)], 500),
        (UNREADY, [_budget(disruptionsAllowed=0)], 429),
        (UNREADY, [_budget("AlwaysAllow", disruptionsAllowed=0)], 0),
        (UNREADY, [_budget(disruptionsAllowed=0, currentHealthy=1, desiredHealthy=1)], 0),
    ],
)
def test_what_budgets_allow(pod: dict[str, Any], budgets: list[dict[str, Any]], code: int) -> None:
    if not code:
        decide(copy.deepcopy(pod), budgets)
        return
    with pytest.raises(ApiError) as caught:
        decide(copy.deepcopy(pod), budgets)
    assert caught.value.code == code
