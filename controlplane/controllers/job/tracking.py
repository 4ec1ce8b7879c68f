"""What the status of a Job counts, in steps that survive a crash between any two (pure).

A pod that ended is counted in three writes, so that whoever begins again after any of them counts
it once:

1. its uid is written to ``status.uncountedTerminatedPods`` (an index to ``completedIndexes``);
2. its finalizer is taken away: until then it cannot vanish;
3. the uid is taken out of the status, and a counter grows, in one write.

Source: KEP-2307, "Job tracking without lingering Pods".
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from controlplane.controllers.pods import phase_of
from controlplane.engine.controller import timestamp
from controlplane.engine.resources import Object, is_deleting

from .decisions import MOST_AT_ONCE, End
from .facts import index_of, is_failed, is_indexed, is_suspended, is_tracked
from .indexes import of_numbers
from .policies import meaning_of
from .situation import Situation

Status = dict[str, Any]
_COUNTERS: Final = ("active", "succeeded", "failed")


@dataclass(slots=True)
class Marked:
    """Pods that were written down.

    Attributes:
        status: that says so.
        release: pods whose finalizer goes once the status is written.
        all_seen: whether there are no more; else the Job cannot have ended yet.
    """

    status: Status
    release: list[Object] = field(default_factory=list)
    all_seen: bool = True


def with_condition(
    status: Status, kind: str, value: str, reason: str, message: str, now: datetime
) -> bool:
    """Set a condition of a status in place; returns whether that changed anything.

    One that is not there is not added to say that it is false.
    """
    conditions: list[dict[str, Any]] = status.setdefault("conditions", [])
    stamp = timestamp(now)
    made = {"type": kind, "status": value, "lastProbeTime": stamp, "lastTransitionTime": stamp,
            "reason": reason, "message": message}  # fmt: skip
    for place, one in enumerate(conditions):
        if one["type"] == kind:
            same = all(one.get(key, "") == made[key] for key in ("status", "reason", "message"))
            if not same:
                conditions[place] = made
            return not same
    if value == "False":
        return False
    conditions.append(made)
    return True


def started(job: Object, now: datetime) -> Status:
    """Return a copy of the status, with when the Job began if it begins now."""
    status: Status = copy.deepcopy(job.get("status") or {})
    status.setdefault("uncountedTerminatedPods", {})
    if "startTime" not in status and not is_suspended(job):
        status["startTime"] = timestamp(now)
    return status


def follow_suspension(job: Object, status: Status, now: datetime) -> str:
    """Say in a status whether the Job is suspended; returns the reason of the event about it."""
    if is_suspended(job):
        if with_condition(status, "Suspended", "True", "JobSuspended", "Job suspended", now):
            status.pop("startTime", None)
            return "Suspended"
    elif with_condition(status, "Suspended", "False", "JobResumed", "Job resumed", now):
        # Its deadline counts from now on.
        status["startTime"] = timestamp(now)
        return "Resumed"
    return ""


def counted(status: Status, active: int, ready: int, terminating: int) -> None:
    """Write how many pods there are into a status, in place."""
    status["active"] = active
    status["ready"] = ready
    status["terminating"] = terminating


def tidy(status: Status) -> Status:
    """Return a status as it is stored: without counters that are zero and lists that are empty."""
    made = {key: value for key, value in status.items() if value or key not in _COUNTERS}
    if not made.get("conditions"):
        made.pop("conditions", None)
    if not made.get("completedIndexes"):
        made.pop("completedIndexes", None)
    uncounted = made.get("uncountedTerminatedPods")
    if uncounted is not None:
        made["uncountedTerminatedPods"] = {key: uids for key, uids in uncounted.items() if uids}
    return made


def mark(found: Situation, status: Status, end: End | None) -> Marked:
    """Write down the pods that ended, in a status; step 1.

    Args:
        found: what is.
        status: changed in place.
        end: why the Job ends, None if it does not.
    """
    made = Marked(status)
    settle(status, {pod["metadata"]["uid"] for pod in found.pods if is_tracked(pod)})
    uncounted = status["uncountedTerminatedPods"]
    good, bad = uncounted.setdefault("succeeded", []), uncounted.setdefault("failed", [])
    pods: Iterable[Object] = found.pods
    indexes: list[int] = []
    if is_indexed(found.job):
        pods = sorted(found.pods, key=lambda pod: index_of(pod) or 0)
    for pod in pods:
        if not is_tracked(pod) or not _may_go(found, pod, end):
            continue
        made.release.append(pod)
        uid = pod["metadata"]["uid"]
        if phase_of(pod) == "Succeeded" and uid not in found.counted_failed:
            _mark_success(found, pod, good, indexes)
        elif is_failed(pod, found.job) or (end is not None and not end.is_success):
            # Once a Job has failed, all that did not end have failed with it.
            _mark_failure(found, pod, bad)
        if len(indexes) + len(good) + len(bad) >= MOST_AT_ONCE:
            made.all_seen = False
            break
    if is_indexed(found.job):
        _write_indexes(found, status, indexes)
    return made


def _may_go(found: Situation, pod: Object, end: End | None) -> bool:
    """Whether a pod is not needed any more once it is written down."""
    if is_deleting(found.job) or end is not None or phase_of(pod) == "Succeeded":
        return True
    if not is_failed(pod, found.job):
        return False
    waiting = found.delayed.get(index) if (index := index_of(pod)) is not None else None
    return waiting is None or waiting["metadata"]["uid"] != pod["metadata"]["uid"]


def _mark_success(found: Situation, pod: Object, good: list[str], indexes: list[int]) -> None:
    uid = pod["metadata"]["uid"]
    if not is_indexed(found.job):
        if uid not in found.counted_succeeded:
            good.append(uid)
        return
    index = found.valid_index(pod)
    if index is not None and index not in found.before:
        indexes.append(index)


def _mark_failure(found: Situation, pod: Object, bad: list[str]) -> None:
    uid = pod["metadata"]["uid"]
    if uid in found.counted_failed:
        return
    if is_indexed(found.job) and found.valid_index(pod) is None:
        return
    if meaning_of(found.job, pod).counts:
        bad.append(uid)


def _write_indexes(found: Situation, status: Status, indexes: list[int]) -> None:
    completed = found.before | of_numbers(indexes)
    status["succeeded"] = len(completed)
    status["completedIndexes"] = str(completed)
    if found.failed_indexes is not None:
        status["failedIndexes"] = str(found.failed_indexes)
    else:
        status.pop("failedIndexes", None)


def settle(status: Status, tracked: set[str]) -> None:
    """Count those of the uids in a status whose pods have no finalizer any more; step 3.

    Args:
        status: changed in place.
        tracked: uids of the pods that still have it.
    """
    uncounted = status["uncountedTerminatedPods"]
    for key in ("succeeded", "failed"):
        uids = uncounted.get(key) or []
        left = [uid for uid in uids if uid in tracked]
        status[key] = status.get(key, 0) + len(uids) - len(left)
        uncounted[key] = left


def announce(status: Status, end: End | None, now: datetime) -> None:
    """Say in a status, before pods lose their finalizers, why the Job ends."""
    if end is not None and end.kind != "Failed":
        with_condition(status, end.kind, "True", end.reason, end.message, now)


def finish(status: Status, end: End, now: datetime) -> bool:
    """Say in a status that the Job has ended, unless pods are left; returns whether it has."""
    uncounted = status["uncountedTerminatedPods"]
    if any(uncounted.values()) or status["terminating"]:
        return False
    kind = "Complete" if end.is_success else "Failed"
    with_condition(status, kind, "True", end.reason, end.message, now)
    if end.is_success:
        status["completionTime"] = timestamp(now)
    return True
