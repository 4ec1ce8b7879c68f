"""What a PodDisruptionBudget allows and tells (pure).

Source: Kubernetes documentation, "Specifying a Disruption Budget for your Application", API
reference of PodDisruptionBudgetStatus; KEP-3329 (condition DisruptionTarget).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from controlplane.controllers.amounts import scaled
from controlplane.controllers.pods import condition_of, has_ended, is_ready
from controlplane.engine.controller import moment_of, timestamp
from controlplane.engine.resources import Object, is_deleting

DELETION_SECONDS: Final = 120
"""Within which a pod whose eviction was allowed is seen to be deleted, or will not be."""
STALE_SECONDS: Final = 120
"""After which a pod that says it is about to be disrupted, and is not deleted, says so no more."""
ALLOWED: Final = "DisruptionAllowed"
TARGET: Final = "DisruptionTarget"


@dataclass(frozen=True, slots=True)
class Disrupted:
    """Pods whose eviction was allowed.

    Attributes:
        pods: by name, when; those that are still to be deleted.
        late: that should have been deleted and were not.
        recheck: seconds until the next one is late; None: none will be.
    """

    pods: dict[str, str]
    late: tuple[Object, ...]
    recheck: float | None


def needs_scale(spec: Object) -> bool:
    """Whether a budget says how many pods by what those who made them want."""
    if spec.get("maxUnavailable") is not None:
        return True
    return isinstance(spec.get("minAvailable"), str)


def desired(spec: Object, expected: int) -> int:
    """Return how many pods must be healthy.

    Args:
        spec: of the budget.
        expected: how many pods there should be.

    Raises:
        ValueError: the budget says neither a number nor a percentage.
    """
    if spec.get("maxUnavailable") is not None:
        return max(expected - scaled(spec["maxUnavailable"], expected, up=True), 0)
    return scaled(spec.get("minAvailable"), expected, up=True)


def disrupted(status: Object, pods: Sequence[Object], now: datetime) -> Disrupted:
    """Return which of the pods whose eviction was allowed are still to be deleted.

    Args:
        status: of the budget.
        pods: that it is about.
        now: what time it is.
    """
    told: dict[str, str] = status.get("disruptedPods") or {}
    waiting: dict[str, str] = {}
    late = []
    recheck: float | None = None
    for pod in pods if told else ():
        name = pod["metadata"]["name"]
        if name not in told or is_deleting(pod):
            continue
        left = (moment_of(told[name]) + timedelta(seconds=DELETION_SECONDS) - now).total_seconds()
        if left < 0:
            late.append(pod)
        else:
            waiting[name] = told[name]
            # The clock may have been put back since.
            recheck = min(left, float(DELETION_SECONDS), recheck or left)
    return Disrupted(waiting, tuple(late), recheck)


def healthy(pods: Sequence[Object], gone: Disrupted) -> int:
    """Return how many pods are ready and stay."""
    return sum(
        is_ready(pod) and not is_deleting(pod) and pod["metadata"]["name"] not in gone.pods
        for pod in pods
    )


def status_of(
    budget: Object, current: int, wanted: int, expected: int, gone: Disrupted, now: datetime
) -> Object:
    """Return the status of a budget.

    Args:
        budget: as it is.
        current, wanted, expected: pods that are healthy, must be, and should be there.
        gone: whose eviction was allowed.
        now: what time it is.
    """
    allowed = max(current - wanted, 0) if expected > 0 else 0
    generation = budget["metadata"].get("generation", 0)
    condition = {
        "type": ALLOWED, "status": "True" if allowed else "False",
        "reason": "SufficientPods" if allowed else "InsufficientPods", "message": "",
        "observedGeneration": generation,
    }  # fmt: skip
    before = budget.get("status") or {}
    made: Object = {
        "currentHealthy": current,
        "desiredHealthy": wanted,
        "expectedPods": expected,
        "disruptionsAllowed": allowed,
        "observedGeneration": generation,
        "conditions": _with(before.get("conditions") or [], condition, now),
    }
    if gone.pods:
        made["disruptedPods"] = gone.pods
    return made


def failed_status(budget: Object, why: str, now: datetime) -> Object:
    """Return the status of a budget that cannot be worked out: it allows nothing."""
    before = budget.get("status") or {}
    condition = {
        "type": ALLOWED, "status": "False", "reason": "SyncFailed", "message": why,
        "observedGeneration": before.get("observedGeneration", 0),
    }  # fmt: skip
    conditions = _with(before.get("conditions") or [], condition, now)
    return {**before, "disruptionsAllowed": 0, "conditions": conditions}


def is_told(budget: Object, status: Object) -> bool:
    """Whether a budget tells a status already; how a server writes what is empty is no matter."""
    before = budget.get("status") or {}
    names = status.keys() | before.keys()
    return all((before.get(name) or None) == (status.get(name) or None) for name in names)


def stale_in(pod: Object, now: datetime) -> float | None:
    """Return the seconds until what a pod says of its disruption is stale; None: it never is."""
    if is_deleting(pod) or has_ended(pod):
        return None
    found = condition_of(pod, TARGET)
    # What the kubelet told comes true, however long it takes.
    if found is None or found["status"] != "True" or found.get("reason") == "TerminationByKubelet":
        return None
    if not found.get("lastTransitionTime"):
        return 0.0
    left = moment_of(found["lastTransitionTime"]) + timedelta(seconds=STALE_SECONDS) - now
    return min(max(left.total_seconds(), 0.0), float(STALE_SECONDS))


def without_target(pod: Object, now: datetime) -> Object | None:
    """Change a pod so that it does not say any more that it is disrupted; None: it does not."""
    if stale_in(pod, now) != 0.0:
        return None
    found = condition_of(pod, TARGET)
    assert found is not None
    found |= {"status": "False", "lastTransitionTime": timestamp(now)}
    found["observedGeneration"] = pod["metadata"].get("generation", 0)
    for name in ("reason", "message", "lastProbeTime"):
        found.pop(name, None)
    return pod


def selector_text(selector: Object | None) -> str:
    """Return a selector as the messages of Go show it."""
    labels = sorted(((selector or {}).get("matchLabels") or {}).items())
    shown = "".join(f"{key}: {value}," for key, value in labels)
    requirements = "".join(
        "LabelSelectorRequirement{Key:%s,Operator:%s,Values:[%s],},"  # noqa: UP031 - braces
        % (one["key"], one["operator"], " ".join(one.get("values") or ()))
        for one in (selector or {}).get("matchExpressions") or ()
    )
    return (
        f"&LabelSelector{{MatchLabels:map[string]string{{{shown}}},"
        f"MatchExpressions:[]LabelSelectorRequirement{{{requirements}}},}}"
    )


def _with(conditions: list[Any], made: Object, now: datetime) -> list[Any]:
    """Return conditions with one of them new; its time stays if its state does."""
    rest = list(conditions)
    for number, one in enumerate(rest):
        if one["type"] == made["type"]:
            same = one["status"] == made["status"] and one.get("lastTransitionTime")
            rest[number] = {**one, **made, "lastTransitionTime":
                            one["lastTransitionTime"] if same else timestamp(now)}  # fmt: skip
            return rest
    return [*rest, {**made, "lastTransitionTime": timestamp(now)}]
