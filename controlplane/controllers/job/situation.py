"""A Job and its pods at one moment, counted (pure)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime

from controlplane.controllers.pods import is_active, is_ready, is_terminating, phase_of
from controlplane.engine.resources import Object

from .backoff import Record
from .facts import (
    FAILURES,
    count_in,
    ended_at,
    failures_of,
    index_of,
    is_failed,
    is_indexed,
    is_per_index,
    is_tracked,
)
from .indexes import NOTHING, Indexes, of_numbers, parsed
from .policies import meaning_of


@dataclass(slots=True)
class Situation:
    """What is.

    Attributes:
        job: as it is known.
        pods: that it controls.
        now: when.
        active: pods that neither ended nor are being deleted.
        terminating: pods that are being deleted and may still run; None: replaced whatever runs.
        ready: active ones that are ready.
        counted_succeeded, counted_failed: uids that the status has already written down as ended.
        succeeded, failed: pods, or indexes, that ended so far.
        before, completed: indexes that the status has, and with those that succeeded since.
        failed_indexes: that failed for good; None: indexes have no limits of their own.
        delayed: pods that failed and whose replacement needs what they know, by index.
        record: of failures, with those seen now.
    """

    job: Object
    pods: list[Object]
    now: datetime
    active: list[Object]
    terminating: int
    ready: int
    counted_succeeded: set[str]
    counted_failed: set[str]
    succeeded: int
    failed: int
    before: Indexes = NOTHING
    completed: Indexes = NOTHING
    failed_indexes: Indexes | None = None
    delayed: dict[int, Object] = field(default_factory=dict)
    record: Record = field(default_factory=Record)

    def valid_index(self, pod: Object) -> int | None:
        """Return the index of a pod, None if it is none of the Job's."""
        index = index_of(pod)
        return index if index is not None and index < self.job["spec"]["completions"] else None


def observe(job: Object, pods: list[Object], record: Record, now: datetime) -> Situation:
    """Count what is there.

    Args:
        job: as it is known.
        pods: that it controls.
        record: of earlier failures.
        now: when.
    """
    status = job.get("status") or {}
    uncounted = status.get("uncountedTerminatedPods") or {}
    active = [pod for pod in pods if is_active(pod)]
    found = Situation(
        job, pods, now, active,
        terminating=sum(is_terminating(pod) for pod in pods),
        ready=sum(is_ready(pod) for pod in active),
        counted_succeeded=set(uncounted.get("succeeded") or ()),
        counted_failed=set(uncounted.get("failed") or ()),
        succeeded=0, failed=0,
    )  # fmt: skip
    good = _new(found, found.counted_succeeded, lambda pod: phase_of(pod) == "Succeeded")
    bad = _new(found, found.counted_failed, lambda pod: is_failed(pod, job))
    found.record = record.after(good, bad)
    found.failed = status.get("failed", 0) + len(found.counted_failed) + sum(
        meaning_of(job, pod).counts for pod in bad)  # fmt: skip
    found.succeeded = status.get("succeeded", 0) + len(found.counted_succeeded) + len(good)
    if is_indexed(job):
        _observe_indexes(found, good)
    return found


def _new(
    found: Situation, counted: set[str], check: Callable[[Object], bool]
) -> list[Object]:  # fmt: skip
    """Return the pods that ended so and are not in the status yet."""
    return [
        pod
        for pod in found.pods
        if is_tracked(pod)
        and pod["metadata"]["uid"] not in counted
        and (not is_indexed(found.job) or found.valid_index(pod) is not None)
        and check(pod)
    ]


def _observe_indexes(found: Situation, good: Iterable[Object]) -> None:
    job, below = found.job, found.job["spec"]["completions"]
    status = job.get("status") or {}
    found.before = parsed(status.get("completedIndexes"), below)
    found.completed = found.before | of_numbers(
        index
        for pod in found.pods
        if phase_of(pod) == "Succeeded" and is_tracked(pod)
        and (index := found.valid_index(pod)) is not None
    )  # fmt: skip
    found.succeeded = len(found.completed)
    if is_per_index(job):
        found.failed_indexes = parsed(status.get("failedIndexes"), below) | of_numbers(
            index
            for pod in found.pods
            if is_tracked(pod) and (index := found.valid_index(pod)) is not None
            and _ends_index(job, pod)
        )  # fmt: skip
        found.delayed = _delayed(found)


def _ends_index(job: Object, pod: Object) -> bool:
    """Whether the failure of a pod is the last that its index may have."""
    if not is_failed(pod, job):
        return False
    meaning = meaning_of(job, pod)
    if meaning.action == "FailIndex":
        return True
    limit: int = job["spec"]["backoffLimitPerIndex"]
    return meaning.counts and count_in(pod, FAILURES) >= limit


def _delayed(found: Situation) -> dict[int, Object]:
    """Return the failed pods that stay until their replacements took over what they count."""
    assert found.failed_indexes is not None
    running = {index_of(pod) for pod in found.active}
    chosen: dict[int, Object] = {}
    for pod in _new(found, set(), lambda pod: is_failed(pod, found.job)):
        index = found.valid_index(pod)
        if index is None or index in running or index in found.completed:
            continue
        if index in found.failed_indexes:
            continue
        other = chosen.get(index)
        if other is None or (
            failures_of(other) <= failures_of(pod) and ended_at(pod) >= ended_at(other)
        ):
            chosen[index] = pod
    return chosen
