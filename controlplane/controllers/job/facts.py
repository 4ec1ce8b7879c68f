"""What the pods of a Job say (pure)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from controlplane.controllers.pods import condition_of, has_ended, is_ready, phase_of, ready_since
from controlplane.engine.controller import moment_of
from controlplane.engine.resources import Object, is_deleting

FINALIZER: Final = "batch.kubernetes.io/job-tracking"
"""Keeps a pod until it is counted."""
INDEX: Final = "batch.kubernetes.io/job-completion-index"
"""Annotation and label of a pod: which of the completions it is to be."""
FAILURES: Final = "batch.kubernetes.io/job-index-failure-count"
IGNORED_FAILURES: Final = "batch.kubernetes.io/job-index-ignored-failure-count"
CONTROLLER: Final = "kubernetes.io/job-controller"
"""Value of ``managedBy`` that means this controller."""
_MOST: Final = (1 << 31) - 1
_ORDER: Final = {"Pending": 0, "Unknown": 1, "Running": 2}
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def is_indexed(job: Object) -> bool:
    """Whether each completion has a number."""
    return bool(job["spec"].get("completionMode") == "Indexed")


def is_per_index(job: Object) -> bool:
    """Whether each index has failures of its own."""
    return is_indexed(job) and job["spec"].get("backoffLimitPerIndex") is not None


def is_suspended(job: Object) -> bool:
    """Whether no pod of it is to run."""
    return bool(job["spec"].get("suspend"))


def is_foreign(job: Object) -> bool:
    """Whether another controller manages it."""
    return job["spec"].get("managedBy") not in (None, CONTROLLER)


def finished_condition(job: Object) -> dict[str, Any] | None:
    """Return the condition that says that a Job has ended for good."""
    for kind in ("Complete", "Failed"):
        found = condition_of(job, kind)
        if found is not None and found["status"] == "True":
            return found
    return None


def replaces_only_failed(job: Object) -> bool:
    """Whether a pod is replaced only when it ended, not as soon as it is being deleted."""
    spec = job["spec"]
    return spec.get("podReplacementPolicy") == "Failed" or spec.get("podFailurePolicy") is not None


def is_tracked(pod: Object) -> bool:
    """Whether it waits to be counted."""
    return FINALIZER in (pod["metadata"].get("finalizers") or ())


def index_of(pod: Object) -> int | None:
    """Return the completion index of a pod; None: it has none, or a wrong one."""
    text = (pod["metadata"].get("annotations") or {}).get(INDEX, "")
    return int(text) if text.isascii() and text.isdecimal() else None


def count_in(pod: Object, annotation: str) -> int:
    """Return the number in an annotation; 0 for what is none."""
    text = (pod["metadata"].get("annotations") or {}).get(annotation, "")
    if not (text.isascii() and text.isdecimal()):
        return 0
    return int(text) if int(text) <= _MOST else 0


def failures_of(pod: Object) -> int:
    """Return how many pods of its index failed before it, counted or not."""
    return count_in(pod, FAILURES) + count_in(pod, IGNORED_FAILURES)


def is_failed(pod: Object, job: Object) -> bool:
    """Whether a pod counts as failed."""
    if phase_of(pod) == "Failed":
        return True
    if replaces_only_failed(job):
        return False
    # One whose node is gone may never say that it failed.
    return is_deleting(pod) and phase_of(pod) != "Succeeded"


def ended_at(pod: Object) -> datetime:
    """Return when a pod ended, as well as can be known."""
    found = _containers_ended(pod) or _unready_since(pod) or _deleted_at(pod)
    return found or moment_of(pod["metadata"]["creationTimestamp"])


def _containers_ended(pod: Object) -> datetime | None:
    status = pod.get("status") or {}
    sidecars = {
        one["name"]
        for one in pod["spec"].get("initContainers") or ()
        if one.get("restartPolicy") == "Always"
    }
    main = _latest(status.get("containerStatuses") or [])
    beside = [one for one in status.get("initContainerStatuses") or () if one["name"] in sidecars]
    if not beside:
        return main
    last = _latest(beside)
    return max(main, last) if main is not None and last is not None else None


def _latest(statuses: list[dict[str, Any]]) -> datetime | None:
    """Return when the last one ended; None if one of them still runs, or none is told of."""
    found: list[datetime] = []
    for one in statuses:
        moment = ((one.get("state") or {}).get("terminated") or {}).get("finishedAt")
        if not moment:
            return None
        found.append(moment_of(moment))
    return max(found, default=None)


def _unready_since(pod: Object) -> datetime | None:
    found = condition_of(pod, "Ready")
    if found is None or found["status"] != "False" or not found.get("lastTransitionTime"):
        return None
    return moment_of(found["lastTransitionTime"])


def _deleted_at(pod: Object) -> datetime | None:
    meta = pod["metadata"]
    if "deletionTimestamp" not in meta:
        return None
    grace = timedelta(seconds=meta.get("deletionGracePeriodSeconds") or 0)
    return moment_of(meta["deletionTimestamp"]) - grace


def dispensability(pod: Object) -> tuple[bool, int, bool, float, int, float]:
    """Return a key that sorts pods so that those whose end costs least come first.

    Not bound before bound, pending before running, not ready before ready, ready for a short time
    before ready for long, restarted often before seldom, young before old.
    """
    restarts = max(
        (one.get("restartCount", 0) for one in
         (pod.get("status") or {}).get("containerStatuses") or ()), default=0,
    )  # fmt: skip
    since = ready_since(pod)
    made = moment_of(pod["metadata"]["creationTimestamp"])
    return (
        bool(pod["spec"].get("nodeName")),
        _ORDER.get(phase_of(pod), 2),
        is_ready(pod),
        -(since - _EPOCH).total_seconds() if since is not None else float("-inf"),
        -restarts,
        -(made - _EPOCH).total_seconds(),
    )


def restarts_of(pod: Object) -> int:
    """Return how often containers of a pod that runs were restarted."""
    if has_ended(pod):
        return 0
    status = pod.get("status") or {}
    both = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
    return sum(one.get("restartCount", 0) for one in both)
