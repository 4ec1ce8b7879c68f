"""Jobs that ended are deleted after as long as they say (KEP-592)."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import ClassVar

from controlplane.controllers.job.facts import finished_condition
from controlplane.engine.controller import Context, Controller, moment_of
from controlplane.engine.measures import Spread, exponential
from controlplane.engine.resources import JOBS, Object, is_deleting, key_of
from controlplane.engine.writes import FOREGROUND
from kubeletpy_common.apiclient.errors import ApiError


def left_of(job: Object, now: datetime) -> float | None:
    """Return the seconds until a Job is to be deleted, not above 0 if it is; None: never (pure)."""
    seconds = job["spec"].get("ttlSecondsAfterFinished")
    condition = finished_condition(job)
    if seconds is None or condition is None or is_deleting(job):
        return None
    end = moment_of(condition["lastTransitionTime"]) + timedelta(seconds=seconds)
    return (end - now).total_seconds()


class TtlController(Controller):
    """Deletes Jobs, and with them their pods."""

    name: ClassVar[str] = "ttl-after-finished-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._jobs = context.informers.of(JOBS)
        self._late = Spread(
            "ttl_after_finished_controller_job_deletion_duration_seconds",
            "From the end of a Job's time until it was deleted.", exponential(0.1, 2, 14),
        )  # fmt: skip
        self.measures.append(self._late)
        self._jobs.listen(self._changed)

    def _changed(self, before: Object | None, job: Object | None) -> None:
        if job is not None and left_of(job, self.context.clock()) is not None:
            self.queue.add(key_of(job))

    async def sync(self, key: str) -> float | None:
        """Delete a Job whose time is over."""
        job = self._jobs.get(key)
        left = left_of(job, self.context.clock()) if job is not None else None
        if job is None or left is None or left > 0:
            return left
        # Its time may have been made longer a moment ago.
        try:
            job = await self.context.writer.read(JOBS, job)
        except ApiError as error:
            if error.not_found:
                return None
            raise
        left = left_of(job, self.context.clock())
        if left is not None and left <= 0:
            await self.context.writer.delete(JOBS, job, policy=FOREGROUND)
            self._late.add(-left)
            return None
        return left
