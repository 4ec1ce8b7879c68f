"""batch/v1 CronJob."""

from __future__ import annotations

from typing import Any, Final

from controlplane.api.errors import Cause
from controlplane.api.metadata import required, unsupported, wrong
from controlplane.api.resource import Column, Object
from controlplane.kinds import cells
from controlplane.kinds.checks import check_not_negative, check_required_one_of
from controlplane.kinds.strategies.base import WithStatus, warn_of_name
from controlplane.kinds.strategies.batch.job import (
    check_job_spec,
    default_job_spec,
    warn_of_job,
)
from controlplane.kinds.strategies.batch.schedule import ScheduleError, check_schedule, check_zone

_POLICIES: Final = ("Allow", "Forbid", "Replace")
_MAX_NAME: Final = 52


class CronJob(WithStatus):
    """CronJobs."""

    columns = (
        Column("Schedule", description="When jobs are made."),
        Column("Timezone", description="Of the schedule."),
        Column("Suspend", "boolean", description="Whether no jobs are made for now."),
        Column("Active", "integer", description="How many of its jobs run."),
        Column("Last Schedule", description="How long ago a job was made."),
        *cells.CONTAINERS,
        cells.SELECTOR,
    )

    def default(self, value: Object) -> None:
        """Put in policy and limits, and the defaults of the job's template."""
        super().default(value)
        spec = value["spec"]
        spec["concurrencyPolicy"] = spec.get("concurrencyPolicy") or "Allow"
        spec.setdefault("suspend", False)
        spec.setdefault("successfulJobsHistoryLimit", 3)
        spec.setdefault("failedJobsHistoryLimit", 1)
        job = spec.setdefault("jobTemplate", {})
        job.setdefault("metadata", {})
        default_job_spec(job.setdefault("spec", {}))

    def validate(self, value: Object, old: Object | None) -> list[Cause]:
        """Return what is wrong with the schedule and the template."""
        spec, before = value["spec"], old["spec"] if old else {}
        causes = _check_schedule(spec, before)
        causes += check_not_negative(spec, "spec", "startingDeadlineSeconds")
        zone = spec.get("timeZone")
        if zone is not None and (old is None or zone != before.get("timeZone")):
            causes += _check_zone(zone)
        policy = spec["concurrencyPolicy"]
        causes += check_required_one_of(policy, "spec.concurrencyPolicy", _POLICIES)
        job = spec["jobTemplate"]["spec"]
        causes += check_job_spec(job, "spec.jobTemplate.spec")
        if "selector" in job:
            path, text = "spec.jobTemplate.spec.selector", "`selector` will be auto-generated"
            causes.append(wrong(path, job["selector"], text))
        if job.get("manualSelector"):
            path = "spec.jobTemplate.spec.manualSelector"
            causes.append(unsupported(path, "true", ["nil", "false"]))
        causes += check_not_negative(
            spec, "spec", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"
        )
        name = value["metadata"].get("name", "")
        if old is None and len(name) > _MAX_NAME:
            causes.append(wrong("metadata.name", name, f"must have at most {_MAX_NAME} characters"))
        return causes

    def warnings(self, value: Object) -> list[str]:
        """Return what a user should hear about the name and the template."""
        spec = value["spec"]["jobTemplate"]["spec"]
        return warn_of_name(value) + warn_of_job(spec, "spec.jobTemplate.spec")

    def row(self, value: Object) -> list[Any]:
        """Return the cells."""
        spec, status = value["spec"], value.get("status", {})
        job = spec["jobTemplate"]["spec"]
        return [
            spec.get("schedule", ""),
            cells.optional(spec.get("timeZone"), cells.NONE),
            str(spec["suspend"]) if "suspend" in spec else cells.UNSET,
            len(status.get("active", ())),
            cells.since(status.get("lastScheduleTime"), absent=cells.NONE),
            *cells.containers(job.get("template", {}).get("spec")),
            cells.selector(job.get("selector")) or cells.NONE,
        ]


def _check_schedule(spec: Object, before: Object) -> list[Cause]:
    schedule, path = spec.get("schedule", ""), "spec.schedule"
    if not schedule:
        return [required(path)]
    causes: list[Cause] = []
    try:
        check_schedule(schedule)
    except ScheduleError as error:
        causes.append(wrong(path, schedule, str(error)))
    if "TZ" in schedule:
        if "TZ" not in before.get("schedule", ""):
            text = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead"
            causes.append(wrong(path, schedule, text))
        elif "timeZone" in spec:
            text = "cannot use both timeZone field and TZ or CRON_TZ in schedule"
            causes.append(wrong(path, schedule, text))
    return causes


def _check_zone(zone: str) -> list[Cause]:
    path = "spec.timeZone"
    if not zone:
        return [wrong(path, zone, "timeZone must be nil or non-empty string")]
    causes: list[Cause] = []
    if zone.lower() == "local":
        text = "must be an explicit time zone as defined in https://www.iana.org/time-zones"
        causes.append(wrong(path, zone, text))
    if zone != "Local":
        try:
            check_zone(zone)
        except ScheduleError as error:
            causes.append(wrong(path, zone, str(error)))
    return causes
