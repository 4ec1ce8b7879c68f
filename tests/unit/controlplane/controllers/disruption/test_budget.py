"""What a PodDisruptionBudget allows and tells."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from controlplane.controllers.disruption import budget as budgets
from controlplane.engine.controller import timestamp
from controlplane.engine.resources import Object

NOW = datetime(2026, 1, 1, tzinfo=UTC)
NOBODY = budgets.Disrupted({}, (), None)


def ago(seconds: float) -> str:
    return timestamp(NOW - timedelta(seconds=seconds))


def pod(name: str, *, ready: bool = True, deleting: bool = False, **status: Any) -> Object:
    meta: Object = {"name": name, "generation": 1}
    if deleting:
        meta["deletionTimestamp"] = ago(1)
    condition = {"type": "Ready", "status": str(ready)}
    return {"metadata": meta, "status": {"phase": "Running", "conditions": [condition], **status}}


@pytest.mark.parametrize(
    ("spec", "expected", "wanted", "scaled"),
    [
        ({"minAvailable": 2}, 5, 2, False),
        ({"minAvailable": "50%"}, 5, 3, True),
        ({"minAvailable": "0%"}, 5, 0, True),
        ({"minAvailable": "100%"}, 3, 3, True),
        ({"maxUnavailable": 1}, 5, 4, True),
        ({"maxUnavailable": 9}, 5, 0, True),
        ({"maxUnavailable": "30%"}, 5, 3, True),
        ({"maxUnavailable": 0}, 5, 5, True),
        ({}, 5, 0, False),
    ],
)
def test_desired(spec: Object, expected: int, wanted: int, scaled: bool) -> None:
    assert budgets.desired(spec, expected) == wanted
    assert budgets.needs_scale(spec) is scaled


def test_a_share_that_is_none_is_told() -> None:
    with pytest.raises(ValueError, match="neither a number nor a percentage"):
        budgets.desired({"minAvailable": "many"}, 3)


def test_pods_whose_eviction_was_allowed() -> None:
    pods = [pod("new"), pod("later"), pod("late"), pod("going", deleting=True), pod("other")]
    told = {"new": ago(20), "later": ago(10), "late": ago(121), "going": ago(5), "gone": ago(5)}
    found = budgets.disrupted({"disruptedPods": told}, pods, NOW)
    assert found.pods == {"new": told["new"], "later": told["later"]}
    assert [one["metadata"]["name"] for one in found.late] == ["late"]
    assert found.recheck == 100.0
    # "late" stays after all, and "other" was never meant.
    assert budgets.healthy(pods, found) == 2
    assert budgets.healthy([*pods, pod("bad", ready=False)], found) == 2
    assert budgets.disrupted({}, pods, NOW) == NOBODY
    # The clock was put back by an hour.
    assert budgets.disrupted({"disruptedPods": {"new": ago(-3600)}}, pods, NOW).recheck == 120.0


@pytest.mark.parametrize(
    ("counts", "allowed"),
    [((3, 2, 3), 1), ((2, 2, 3), 0), ((1, 2, 3), 0), ((3, 0, 0), 0), ((3, 0, 3), 3)],
)
def test_status(counts: tuple[int, int, int], allowed: int) -> None:
    made: Object = {"metadata": {"generation": 7}}
    status = budgets.status_of(made, *counts, NOBODY, NOW)
    assert status == {
        "currentHealthy": counts[0], "desiredHealthy": counts[1], "expectedPods": counts[2],
        "disruptionsAllowed": allowed, "observedGeneration": 7,
        "conditions": [{
            "type": "DisruptionAllowed", "status": "True" if allowed else "False", "message": "",
            "reason": "SufficientPods" if allowed else "InsufficientPods",
            "observedGeneration": 7, "lastTransitionTime": timestamp(NOW),
        }],
    }  # fmt: skip
    later = budgets.status_of({**made, "status": status}, *counts, NOBODY,
                              NOW + timedelta(hours=1))  # fmt: skip
    assert later == status
    assert budgets.is_told({"status": {**status, "disruptedPods": {}}}, later)


def test_what_cannot_be_worked_out_allows_nothing() -> None:
    made: Object = {"metadata": {"generation": 7}}
    status = budgets.status_of(made, 3, 2, 3, NOBODY, NOW)
    failed = budgets.failed_status({**made, "status": status}, "why", NOW + timedelta(seconds=5))
    assert failed["disruptionsAllowed"] == 0
    assert failed["currentHealthy"] == 3
    [condition] = failed["conditions"]
    assert (condition["reason"], condition["message"]) == ("SyncFailed", "why")
    assert condition["lastTransitionTime"] == timestamp(NOW + timedelta(seconds=5))
    again = budgets.status_of({**made, "status": failed}, 3, 2, 3, NOBODY, NOW)
    assert again["conditions"][0]["message"] == ""
    assert not budgets.is_told({"status": failed}, again)


def _target(seconds: float, status: str = "True", reason: str = "EvictionByEvictionAPI") -> Object:
    return {"conditions": [{"type": "DisruptionTarget", "status": status, "reason": reason,
                            "message": "m", "lastTransitionTime": ago(seconds)}]}  # fmt: skip


@pytest.mark.parametrize(
    ("there", "left"),
    [
        (pod("a"), None),
        (pod("a", **_target(20)), 100.0),
        (pod("a", **_target(500)), 0.0),
        pytest.param(pod("a", **_target(-3600)), 120.0, id="the clock was put back"),
        (pod("a", **_target(500, "False")), None),
        (pod("a", **_target(500, reason="TerminationByKubelet")), None),
        (pod("a", deleting=True, **_target(500)), None),
        (pod("a", phase="Failed", **_target(500)), None),
    ],
)
def test_stale_conditions(there: Object, left: float | None) -> None:
    assert budgets.stale_in(there, NOW) == left
    changed = budgets.without_target(there, NOW)
    if left != 0.0:
        assert changed is None
        return
    assert changed is not None
    assert changed["status"]["conditions"] == [{
        "type": "DisruptionTarget", "status": "False", "observedGeneration": 1,
        "lastTransitionTime": timestamp(NOW),
    }]  # fmt: skip
    assert budgets.without_target(changed, NOW) is None


def test_selectors_are_shown_as_go_does() -> None:
    requirement = {"key": "k", "operator": "In", "values": ["x", "y"]}
    selector = {"matchLabels": {"b": "2", "a": "1"}, "matchExpressions": [requirement]}
    assert budgets.selector_text(selector) == (
        "&LabelSelector{MatchLabels:map[string]string{a: 1,b: 2,},MatchExpressions:"
        "[]LabelSelectorRequirement{LabelSelectorRequirement{Key:k,Operator:In,Values:[x y],},},}"
    )
