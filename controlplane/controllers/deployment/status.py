"""Counts and conditions of a Deployment (pure).

Source: Kubernetes documentation, "Deployments": Deployment status, progress deadline.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

from controlplane.controllers.deployment.rollout import (
    bounds_of,
    declared,
    replicas_of,
    told,
)
from controlplane.engine.controller import moment_of, timestamp
from controlplane.engine.resources import Object

AVAILABLE: Final = "Available"
PROGRESSING: Final = "Progressing"
FAILURE: Final = "ReplicaFailure"
COMPLETE: Final = "NewReplicaSetAvailable"
TIMED_OUT: Final = "ProgressDeadlineExceeded"
PAUSED: Final = "DeploymentPaused"
RESUMED: Final = "DeploymentResumed"
_NO_DEADLINE: Final = 2**31 - 1

Conditions = list[Object]


def deadline_of(deployment: Object) -> int | None:
    """Return the seconds within which a rollout has to get on; None: it may take forever."""
    found: int | None = deployment["spec"].get("progressDeadlineSeconds")
    return None if found == _NO_DEADLINE else found


def condition(kind: str, status: str, reason: str, message: str, now: datetime) -> Object:
    """Return a condition that came to be now."""
    moment = timestamp(now)
    return {"type": kind, "status": status, "lastUpdateTime": moment, "lastTransitionTime": moment,
            "reason": reason, "message": message}  # fmt: skip


def find(conditions: Iterable[Object], kind: str) -> Object | None:
    """Return the condition of a type; None: it is not there."""
    return next((one for one in conditions if one["type"] == kind), None)


def without(conditions: Iterable[Object], kind: str) -> Conditions:
    """Return conditions but for that of a type."""
    return [one for one in conditions if one["type"] != kind]


def with_condition(conditions: Conditions, new: Object) -> Conditions:
    """Return conditions with a new one; one of the same status and reason stays as it is."""
    before = find(conditions, new["type"])
    if before is not None and before["status"] == new["status"]:
        if before["reason"] == new["reason"]:
            return conditions
        new = {**new, "lastTransitionTime": before["lastTransitionTime"]}
    return [*without(conditions, new["type"]), new]


def status_of(deployment: Object, new: Object | None, old: list[Object], now: datetime) -> Object:
    """Return the status, but for what it says of progress."""
    before = deployment.get("status") or {}
    newest = [new] if new is not None else []
    everything = [*old, *newest]
    available = told(everything, "availableReplicas")
    counts = {
        "observedGeneration": deployment["metadata"].get("generation", 0),
        "replicas": told(everything, "replicas"),
        "updatedReplicas": told(newest, "replicas"),
        "readyReplicas": told(everything, "readyReplicas"),
        "availableReplicas": available,
        "unavailableReplicas": max(declared(everything) - available, 0),
    }
    status: dict[str, Any] = {name: count for name, count in counts.items() if count}
    if "collisionCount" in before:
        status["collisionCount"] = before["collisionCount"]
    terminating = _terminating(everything)
    if terminating is not None:
        status["terminatingReplicas"] = terminating
    if available >= replicas_of(deployment) - bounds_of(deployment)[1]:
        text = "Deployment has minimum availability."
        shown = condition(AVAILABLE, "True", "MinimumReplicasAvailable", text, now)
    else:
        text = "Deployment does not have minimum availability."
        shown = condition(AVAILABLE, "False", "MinimumReplicasUnavailable", text, now)
    status["conditions"] = with_condition(list(before.get("conditions") or ()), shown)
    return status


def _terminating(sets: list[Object]) -> int | None:
    """Return how many pods are being deleted; None: a ReplicaSet's controller does not tell."""
    total = 0
    for one in sets:
        status = one.get("status") or {}
        if "terminatingReplicas" in status:
            total += status["terminatingReplicas"]
        elif status.get("observedGeneration"):
            return None
    return total


def is_complete(deployment: Object, status: Object) -> bool:
    """Whether all pods are of the newest template and available, and no others are there."""
    wanted = replicas_of(deployment)
    counts = ("updatedReplicas", "replicas", "availableReplicas")
    seen = status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
    return seen and all(status.get(name, 0) == wanted for name in counts)


def is_progressing(before: Object, status: Object) -> bool:
    """Whether there are more new pods than before, fewer old ones, or more that are ready."""

    def old(one: Object) -> int:
        count: int = one.get("replicas", 0) - one.get("updatedReplicas", 0)
        return count

    names = ("updatedReplicas", "readyReplicas", "availableReplicas")
    more = any(status.get(name, 0) > before.get(name, 0) for name in names)
    return more or old(status) < old(before)


def has_timed_out(deployment: Object, conditions: Conditions, now: datetime) -> bool:
    """Whether nothing got on for as long as the deadline says."""
    found, deadline = find(conditions, PROGRESSING), deadline_of(deployment)
    if deadline is None or found is None or found["reason"] == COMPLETE:
        return False
    return found["reason"] == TIMED_OUT or _elapsed(found, now) > deadline


def _elapsed(found: Object, now: datetime) -> float:
    return (now - moment_of(found["lastUpdateTime"])).total_seconds()


def rollout_status(
    deployment: Object, new: Object | None, old: list[Object], now: datetime
) -> Object:
    """Return the status of a Deployment in a rollout, or after it."""
    status = status_of(deployment, new, old, now)
    conditions = _progress(deployment, status, new, now)
    failure = _failure(new, old)
    if failure is not None:
        conditions = with_condition(conditions, failure)
    else:
        conditions = without(conditions, FAILURE)
    status["conditions"] = conditions
    return status


def _progress(deployment: Object, status: Object, new: Object | None, now: datetime) -> Conditions:
    """Return the conditions with what there is to say of progress."""
    conditions: Conditions = status["conditions"]
    before = deployment.get("status") or {}
    if deadline_of(deployment) is None:
        return without(conditions, PROGRESSING)
    known = find(conditions, PROGRESSING)
    done = known is not None and known["reason"] == COMPLETE
    if done and status.get("replicas", 0) == status.get("updatedReplicas", 0):
        return conditions
    name = deployment["metadata"]["name"] if new is None else new["metadata"]["name"]
    who = f'{"Deployment" if new is None else "ReplicaSet"} "{name}"'
    if is_complete(deployment, status):
        text = f"{who} has successfully progressed."
        return with_condition(conditions, condition(PROGRESSING, "True", COMPLETE, text, now))
    if is_progressing(before, status):
        text = f"{who} is progressing."
        shown = condition(PROGRESSING, "True", "ReplicaSetUpdated", text, now)
        if known is not None and known["status"] == "True":
            shown["lastTransitionTime"] = known["lastTransitionTime"]
        # Also where only the time is new: the deadline counts from there.
        return [*without(conditions, PROGRESSING), shown]
    if has_timed_out(deployment, conditions, now):
        text = f"{who} has timed out progressing."
        return with_condition(conditions, condition(PROGRESSING, "False", TIMED_OUT, text, now))
    return conditions


def _failure(new: Object | None, old: list[Object]) -> Object | None:
    """Return why a ReplicaSet cannot make or delete pods, the new one first."""
    for one in [*([new] if new is not None else []), *old]:
        found = find((one.get("status") or {}).get("conditions") or (), FAILURE)
        if found is not None:
            return {**found, "lastUpdateTime": found["lastTransitionTime"]}
    return None


def seconds_to_deadline(deployment: Object, now: datetime) -> float | None:
    """Return after how many seconds to look whether the rollout has got on; None: no need to."""
    status = deployment.get("status") or {}
    found, deadline = find(status.get("conditions") or (), PROGRESSING), deadline_of(deployment)
    if deadline is None or found is None or found["reason"] in (TIMED_OUT, COMPLETE):
        return None
    if is_complete(deployment, status):
        return None
    # Beyond it, not at it.
    return max(deadline - _elapsed(found, now), 0.0) + 0.1


def pause_change(deployment: Object, now: datetime) -> Conditions | None:
    """Return the conditions of a Deployment that was paused or resumed; None: it was not."""
    if deadline_of(deployment) is None:
        return None
    conditions: Conditions = (deployment.get("status") or {}).get("conditions") or []
    found = find(conditions, PROGRESSING)
    reason = found["reason"] if found is not None else ""
    paused = bool(deployment["spec"].get("paused"))
    if reason == TIMED_OUT or paused == (reason == PAUSED):
        return None
    why, text = (PAUSED, "Deployment is paused") if paused else (RESUMED, "Deployment is resumed")
    return with_condition(conditions, condition(PROGRESSING, "Unknown", why, text, now))
