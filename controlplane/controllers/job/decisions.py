"""Whether a Job is to end, and which of its pods are made or go (pure)."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from controlplane.controllers.pods import condition_of, is_terminating
from controlplane.engine.controller import moment_of
from controlplane.engine.resources import Object

from .backoff import remaining_of_index
from .facts import (
    dispensability,
    index_of,
    is_failed,
    is_indexed,
    is_per_index,
    is_suspended,
    is_tracked,
    replaces_only_failed,
    restarts_of,
)
from .indexes import NOTHING, of_numbers
from .policies import enough, meaning_of
from .situation import Situation

MOST_AT_ONCE: Final = 500
"""Pods made, deleted or counted in one go, so that a big Job leaves room for others."""


@dataclass(frozen=True, slots=True)
class End:
    """Why a Job ends.

    Attributes:
        kind: type of the condition: ``FailureTarget`` or ``SuccessCriteriaMet`` for what was found
            now, ``Failed`` for a ``FailureTarget`` that the status has already.
        reason, message: of the condition.
    """

    kind: str
    reason: str
    message: str

    @property
    def is_success(self) -> bool:
        """Whether it succeeded."""
        return self.kind == "SuccessCriteriaMet"


COMPLETIONS_REACHED: Final = End(
    "SuccessCriteriaMet", "CompletionsReached", "Reached expected number of succeeded pods"
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is done for a Job that goes on.

    Attributes:
        delete: pods that go, uncounted.
        create: completion index of each new pod; None where it has none.
        wait: seconds until more may be made; None: nothing waits.
    """

    delete: list[Object] = field(default_factory=list)
    create: list[int | None] = field(default_factory=list)
    wait: float | None = None


def end_of(found: Situation) -> End | None:
    """Return why a Job ends now; None: it goes on. The first reason that holds is the one."""
    job = found.job
    met = _true(job, "SuccessCriteriaMet")
    if met is not None:
        return End("SuccessCriteriaMet", met.get("reason", ""), met.get("message", ""))
    target = _true(job, "FailureTarget")
    if target is not None:
        return End("Failed", target.get("reason", ""), target.get("message", ""))
    return _failure(found) or _index_failure(found) or _success(found)


def _true(job: Object, kind: str) -> dict[str, Any] | None:
    found = condition_of(job, kind)
    return found if found is not None and found["status"] == "True" else None


def _failure(found: Situation) -> End | None:
    job, spec = found.job, found.job["spec"]
    if spec.get("podFailurePolicy"):
        for pod in found.pods:
            message = meaning_of(job, pod).message if is_failed(pod, job) else ""
            if message:
                return End("FailureTarget", "PodFailurePolicy", message)
    if found.failed > spec["backoffLimit"] or _restarted_too_often(found):
        return End("FailureTarget", "BackoffLimitExceeded",
                   "Job has reached the specified backoff limit")  # fmt: skip
    if deadline_in(job, found.now) == 0.0:
        return End("FailureTarget", "DeadlineExceeded",
                   "Job was active longer than specified deadline")  # fmt: skip
    return None


def _restarted_too_often(found: Situation) -> bool:
    spec = found.job["spec"]
    if spec["template"]["spec"].get("restartPolicy") != "OnFailure":
        return False
    restarts = sum(restarts_of(pod) for pod in found.pods)
    return bool(restarts >= max(spec["backoffLimit"], 1))


def deadline_in(job: Object, now: datetime) -> float | None:
    """Return the seconds until a Job has been active for too long; None: it may go on."""
    seconds = job["spec"].get("activeDeadlineSeconds")
    start = (job.get("status") or {}).get("startTime")
    if seconds is None or start is None or is_suspended(job):
        return None
    return max((moment_of(start) + timedelta(seconds=seconds) - now).total_seconds(), 0.0)


def _index_failure(found: Situation) -> End | None:
    spec, failed = found.job["spec"], found.failed_indexes
    if not failed:
        return None
    most = spec.get("maxFailedIndexes")
    if most is not None and len(failed) > most:
        return End("FailureTarget", "MaxFailedIndexesExceeded",
                   "Job has exceeded the specified maximal number of failed indexes")  # fmt: skip
    if len(failed) + len(found.completed) >= spec["completions"]:
        return End("FailureTarget", "FailedIndexes", "Job has failed indexes")
    return None


def _success(found: Situation) -> End | None:
    message = enough(found.job, found.completed) if is_indexed(found.job) else ""
    return End("SuccessCriteriaMet", "SuccessPolicy", message) if message else None


def is_complete(found: Situation, active: int) -> bool:
    """Whether enough succeeded; ``active`` pods are left after what was done."""
    completions = found.job["spec"].get("completions")
    if active:
        return False
    return found.succeeded > 0 if completions is None else found.succeeded >= completions


def plan_of(found: Situation) -> Plan:
    """Return what to do for a Job that goes on."""
    job = found.job
    if is_suspended(job):
        return Plan(delete=list(found.active))
    wanted = _wanted(found)
    surplus = _surplus(found, max(len(found.active) - wanted, 0))[:MOST_AT_ONCE]
    if surplus:
        return Plan(delete=surplus)
    leaving = found.terminating if replaces_only_failed(job) else 0
    count = min(wanted - leaving - len(found.active), MOST_AT_ONCE)
    if count <= 0:
        return Plan()
    if is_per_index(job):
        return _plan_of_indexes(found, count)
    wait = found.record.remaining(found.now)
    if wait > 0:
        return Plan(wait=wait)
    if is_indexed(job):
        return Plan(create=list(_pending(found, count)))
    return Plan(create=[None] * count)


def _wanted(found: Situation) -> int:
    """Return how many pods shall run."""
    parallelism: int = found.job["spec"]["parallelism"]
    completions = found.job["spec"].get("completions")
    if completions is None:
        # A first success says that there is nothing left to begin.
        return len(found.active) if found.succeeded > 0 else parallelism
    return max(min(int(completions) - found.succeeded, parallelism), 0)


def _surplus(found: Situation, least: int) -> list[Object]:
    """Return the pods that go: those that cannot count, and of the others as many as needed."""
    gone = [pod for pod in found.active if not is_tracked(pod)]
    left = [pod for pod in found.active if is_tracked(pod)]
    if is_indexed(found.job):
        chosen: dict[int, Object] = {}
        for pod in sorted(left, key=dispensability):
            index = found.valid_index(pod)
            if index is not None and index in chosen:
                gone.append(chosen[index])
            if index is None:
                gone.append(pod)
            else:
                chosen[index] = pod
        left = list(chosen.values())
    more = max(least - len(gone), 0)
    return gone + sorted(left, key=dispensability)[:more]


def _pending(found: Situation, count: int) -> list[int]:
    """Return the lowest indexes that nothing runs for and that did not end."""
    taken = [index_of(pod) for pod in found.active]
    if replaces_only_failed(found.job):
        taken += [index_of(pod) for pod in found.pods if is_terminating(pod)]
    busy = of_numbers(index for index in taken if index is not None)
    over = found.completed | busy | (found.failed_indexes or NOTHING)
    return over.missing(count, found.job["spec"]["completions"])


def _plan_of_indexes(found: Situation, count: int) -> Plan:
    waits = {
        index: remaining_of_index(found.delayed.get(index), found.now)
        for index in _pending(found, count)
    }
    return Plan(
        create=[index for index, wait in waits.items() if wait == 0],
        wait=min((wait for wait in waits.values() if wait > 0), default=None),
    )
