"""CronJobs: a Job is made at each time of a schedule, once."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, ClassVar, Final

from controlplane.controllers.job.facts import finished_condition
from controlplane.controllers.podcontrol import is_namespace_ending
from controlplane.controllers.pods import BY_OWNER
from controlplane.engine.controller import Context, Controller, moment_of, timestamp
from controlplane.engine.informer import of_owner
from controlplane.engine.measures import Spread, exponential
from controlplane.engine.ownership import controller_of, is_controlled_by
from controlplane.engine.resources import CRON_JOBS, JOBS, Object, is_deleting, key_of
from controlplane.engine.writes import BACKGROUND
from kubeletpy_common.apiclient.errors import ApiError

from .schedule import Schedule, ScheduleError, parse, zone_of
from .status import Followed, follow, job_for, name_for, reference_of, set_active, too_old
from .times import MANY, due_of, next_look

_RFC1123: Final = "%a, %d %b %Y %H:%M:%S +0000"


class CronJobController(Controller):
    """Makes Jobs at the times that CronJobs say."""

    name: ClassVar[str] = "cronjob-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._recorder = context.recorder.of(self.name)
        self._crons = context.informers.of(CRON_JOBS)
        self._jobs = context.informers.of(JOBS)
        self._jobs.index(BY_OWNER, of_owner)
        self._told: dict[str, dict[str, str]] = {}
        self._skew = Spread(
            "cronjob_controller_job_creation_skew_duration_seconds",
            "From the time of a schedule until its Job was made.", exponential(1, 2, 10),
        )  # fmt: skip
        self.measures.append(self._skew)
        self._crons.listen(self._cron_changed)
        self._jobs.listen(self._job_changed)

    def _cron_changed(self, before: Object | None, cron: Object | None) -> None:
        if before is None or cron is None or _schedule_of(before) == _schedule_of(cron):
            self.enqueue(before, cron)
            return
        # The new schedule is for times to come, not for those that it had before it was said.
        try:
            schedule = parse(*_schedule_of(cron))
            pause = next_look(cron, schedule, self.context.clock())
        except ScheduleError:
            pause = 0.0
        if pause is not None:
            self.queue.add_after(key_of(cron), pause)

    def _job_changed(self, before: Object | None, job: Object | None) -> None:
        for value in (before, job):
            reference = controller_of(value) if value is not None else None
            if value is not None and reference is not None and reference["kind"] == CRON_JOBS.kind:
                cron = self._crons.find(value["metadata"]["namespace"], reference["name"])
                if cron is not None and cron["metadata"]["uid"] == reference["uid"]:
                    self.queue.add(key_of(cron))

    async def sync(self, key: str) -> float | None:
        """Follow the Jobs of a CronJob, and make the one that is due."""
        cron = self._crons.get(key)
        if cron is None:
            self._told.pop(key, None)
            return None
        jobs = self._jobs.indexed(BY_OWNER, cron["metadata"]["uid"])
        followed = follow(cron, jobs)
        await self._tell(cron, followed)
        status = followed.status
        try:
            pause = None if is_deleting(cron) else await self._start_due(cron, status)
        except ApiError:
            await self._write(cron, status)
            raise
        # Before Jobs that ended are deleted: they say which times are over.
        await self._write(cron, status)
        for job in too_old(cron, self._jobs.indexed(BY_OWNER, cron["metadata"]["uid"])):
            await self._delete(cron, job)
        return pause

    async def _write(self, cron: Object, status: dict[str, Any]) -> None:
        if status != (cron.get("status") or {}):
            await self.context.writer.update(CRON_JOBS, {**cron, "status": status}, "status")

    async def _tell(self, cron: Object, followed: Followed) -> None:
        for job in followed.unexpected:
            name = job["metadata"]["name"]
            text = f"Saw a job that the controller did not create or forgot: {name}"
            self._warn_once(cron, "UnexpectedJob", job["metadata"]["uid"], text)
        for job in followed.ended:
            condition = finished_condition(job)
            assert condition is not None
            self._recorder.normal(
                cron, "SawCompletedJob",
                f"Saw completed job: {job['metadata']['name']}, condition: {condition['type']}",
            )  # fmt: skip
        for one in followed.missing:
            if await self._exists(one):
                continue
            self._recorder.normal(cron, "MissingJob", f"Active job went missing: {one['name']}")
            active = followed.status.get("active") or []
            set_active(followed.status, [each for each in active if each["uid"] != one["uid"]])

    async def _exists(self, reference: dict[str, Any]) -> bool:
        """Ask the server: memory may not know yet."""
        try:
            job = await self.context.writer.read(JOBS, {"metadata": reference})
        except ApiError as error:
            if error.not_found:
                return False
            raise
        return bool(job["metadata"]["uid"] == reference["uid"])

    def _warn_once(self, cron: Object, reason: str, what: str, message: str) -> None:
        """Record a warning, but not each time that the CronJob is looked at."""
        told = self._told.setdefault(key_of(cron), {})
        if told.get(reason) != what:
            told[reason] = what
            self._recorder.warning(cron, reason, message)

    async def _start_due(self, cron: Object, status: dict[str, Any]) -> float | None:
        """Make the Job that is due, if any; returns the seconds until the next."""
        schedule = self._schedule(cron)
        if schedule is None or cron["spec"].get("suspend"):
            return None
        now = self.context.clock()
        current = {**cron, "status": status}
        try:
            due = due_of(current, schedule, now, deadline=True)
        except ScheduleError as error:
            text = cron["spec"]["schedule"]
            self._warn_once(cron, "InvalidSchedule", text, f"invalid schedule: {text} : {error}")
            return None
        if due.missed > MANY:
            self._warn_once(
                cron, "TooManyMissedTimes", timestamp(due.since), "too many missed start times. "
                "Set or decrease .spec.startingDeadlineSeconds or check clock skew",
            )  # fmt: skip
        if due.at is not None and self._may_start(cron, status, due.at, now):
            await self._start(cron, status, due.at)
        return next_look({**cron, "status": status}, schedule, now)

    def _schedule(self, cron: Object) -> Schedule | None:
        text, zone = _schedule_of(cron)
        if zone is not None:
            try:
                zone_of(zone)
            except ScheduleError as error:
                self._warn_once(
                    cron, "UnknownTimeZone", zone, f'invalid timeZone: "{zone}": {error}'
                )
                return None
        if "TZ" in text:
            self._warn_once(
                cron, "UnsupportedSchedule", text,
                f'CRON_TZ or TZ used in schedule "{text}" is not officially supported, see '
                "https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/ for more "
                "details",
            )  # fmt: skip
        try:
            return parse(text, zone)
        except ScheduleError as error:
            self._warn_once(
                cron, "UnparseableSchedule", text, f'unparseable schedule: "{text}" : {error}'
            )
            return None

    def _may_start(
        self, cron: Object, status: dict[str, Any], time: datetime, now: datetime
    ) -> bool:
        seconds = cron["spec"].get("startingDeadlineSeconds")
        if seconds is not None and time + timedelta(seconds=seconds) < now:
            text = f"Missed scheduled time to start a job: {time.strftime(_RFC1123)}"
            self._warn_once(cron, "MissSchedule", timestamp(time), text)
            return False
        active = status.get("active") or []
        if any(one["name"] == name_for(cron, time) for one in active):
            return False
        if status.get("lastScheduleTime") == timestamp(time):
            return False
        if cron["spec"].get("concurrencyPolicy") == "Forbid" and active:
            text = ("Not starting job because prior execution is running and concurrency policy is "
                    "Forbid")  # fmt: skip
            self._recorder.normal(cron, "JobAlreadyActive", text)
            return False
        return True

    async def _start(self, cron: Object, status: dict[str, Any], time: datetime) -> None:
        """Make the Job for a time, unless it is there, and say so in ``status``."""
        if cron["spec"].get("concurrencyPolicy") == "Replace":
            await self._delete_active(cron, status)
        wanted = job_for(cron, time)
        try:
            job = await self.context.writer.create(JOBS, wanted)
            made = moment_of(job["metadata"]["creationTimestamp"])
            self._skew.add((made - time).total_seconds())
        except ApiError as error:
            if error.reason == "AlreadyExists":
                job = await self.context.writer.read(JOBS, wanted)
                if not is_controlled_by(job, cron):
                    return
            elif is_namespace_ending(error):
                return
            else:
                self._recorder.warning(cron, "FailedCreate", f"Error creating job: {error}")
                raise
        else:
            self._recorder.normal(
                cron, "SuccessfulCreate", f"Created job {job['metadata']['name']}"
            )
        set_active(status, [*(status.get("active") or []), reference_of(job)])
        status["lastScheduleTime"] = timestamp(time)

    async def _delete_active(self, cron: Object, status: dict[str, Any]) -> None:
        for one in list(status.get("active") or []):
            job = self._jobs.find(one["namespace"], one["name"])
            if job is not None and job["metadata"]["uid"] == one["uid"]:
                await self._delete(cron, job)
            active = [each for each in status["active"] if each["uid"] != one["uid"]]
            set_active(status, active)

    async def _delete(self, cron: Object, job: Object) -> None:
        try:
            was_there = await self.context.writer.delete(JOBS, job, policy=BACKGROUND)
        except ApiError as error:
            self._recorder.warning(cron, "FailedDelete", f"Deleted job: {error}")
            raise
        if was_there:
            self._recorder.normal(
                cron, "SuccessfulDelete", f"Deleted job {job['metadata']['name']}"
            )


def _schedule_of(cron: Object) -> tuple[str, str | None]:
    spec = cron["spec"]
    return spec["schedule"], spec.get("timeZone")
