"""What is counted of Jobs, under the names that the Go peer has."""

from __future__ import annotations

from typing import Any, Final

from controlplane.engine.measures import Measure, Spread, Tally, exponential
from controlplane.engine.resources import Object

from .facts import is_indexed, is_per_index
from .indexes import parsed
from .situation import Situation

TRACKING: Final = "tracking"
CREATED: Final = "pods_created"
DELETED: Final = "pods_deleted"
SUCCEEDED: Final = "succeeded"
FAILED: Final = "failed"
_PREFIX: Final = "job_controller_"


class Counts:
    """What happened so far."""

    def __init__(self) -> None:
        of_sync = ("completion_mode", "result", "action")
        self._seconds = Spread(
            f"{_PREFIX}job_sync_duration_seconds", "How long looks at Jobs took.",
            exponential(0.004, 2, 15), *of_sync,
        )  # fmt: skip
        self._syncs = Tally(f"{_PREFIX}job_syncs", "Looks at Jobs.", *of_sync)
        self._ended = Tally(
            f"{_PREFIX}jobs_finished", "Jobs that ended.", "completion_mode", "result", "reason"
        )
        self._pods = Tally(
            f"{_PREFIX}job_pods_finished", "Pods that ended and were counted.",
            "completion_mode", "result",
        )  # fmt: skip
        self._indexes = Tally(
            f"{_PREFIX}job_finished_indexes", "Indexes that ended.", "status", "backoffLimit"
        )
        self._made = Tally(f"{_PREFIX}job_pods_creation", "Pods made.", "reason", "status")

    @property
    def all(self) -> list[Measure]:
        """All of them."""
        return [
            self._seconds, self._syncs, self._ended, self._pods, self._indexes, self._made
        ]  # fmt: skip

    def synced(self, job: Object, action: str, seconds: float, *, well: bool) -> None:
        """A Job was looked at: ``action`` is what was done to its pods."""
        labels = (mode_of(job), "success" if well else "error", action)
        self._syncs.add(*labels)
        self._seconds.add(seconds, *labels)

    def ended(self, job: Object, reason: str, *, well: bool) -> None:
        """A Job ended."""
        self._ended.add(mode_of(job), SUCCEEDED if well else FAILED, reason)

    def created(self, found: Situation, made: int, failed: int) -> None:
        """Pods were made for a Job, or could not be."""
        reason = "new"
        if found.failed and found.job["spec"].get("podReplacementPolicy") == "Failed":
            reason = "recreate_failed"
        elif found.failed or found.terminating:
            reason = "recreate_terminating_or_failed"
        self._made.add(reason, SUCCEEDED, count=made)
        self._made.add(reason, FAILED, count=failed)

    def counted(self, job: Object, before: dict[str, Any], after: dict[str, Any]) -> None:
        """The status of a Job was written."""
        for key in (SUCCEEDED, FAILED):
            more = after.get(key, 0) - before.get(key, 0)
            self._pods.add(mode_of(job), key, count=max(more, 0))
        if not is_indexed(job):
            return
        limit = "perIndex" if is_per_index(job) else "global"
        for key, name in ((SUCCEEDED, "completedIndexes"), (FAILED, "failedIndexes")):
            old, new = (
                parsed(one.get(name), job["spec"]["completions"]) for one in (before, after)
            )
            self._indexes.add(key, limit, count=max(len(new) - len(old), 0))


def mode_of(job: Object) -> str:
    """Return the completion mode of a Job (pure)."""
    return "Indexed" if is_indexed(job) else "NonIndexed"
