"""What the status of a CronJob says of its Jobs (pure)."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from controlplane.controllers.job.facts import finished_condition
from controlplane.engine.controller import moment_of, timestamp
from controlplane.engine.ownership import reference_to
from controlplane.engine.resources import CRON_JOBS, JOBS, Object

from .schedule import zone_of

SCHEDULED: Final = "batch.kubernetes.io/cronjob-scheduled-timestamp"
"""Annotation of a Job: the time that it was made for."""
Status = dict[str, Any]


@dataclass(slots=True)
class Followed:
    """A status that knows how Jobs went.

    Attributes:
        status: to be written.
        ended: Jobs that were active and have ended.
        unexpected: that nobody here made.
        missing: references to Jobs that are not known any more.
    """

    status: Status
    ended: list[Object] = field(default_factory=list)
    unexpected: list[Object] = field(default_factory=list)
    missing: list[dict[str, Any]] = field(default_factory=list)


def follow(cron: Object, jobs: list[Object]) -> Followed:
    """Compare a status with the Jobs that there are.

    A Job that was made right before the controller was killed, and so is not in the status, is
    taken into it: its time is not due again, and it counts where only one may run.
    """
    status: Status = copy.deepcopy(cron.get("status") or {})
    made = Followed(status)
    active: list[dict[str, Any]] = status.get("active") or []
    for job in jobs:
        uid = job["metadata"]["uid"]
        known = any(one["uid"] == uid for one in active)
        time = made_for(cron, job)
        if time is not None:
            _note_time(status, time)
        condition = finished_condition(job)
        if condition is not None:
            if known:
                made.ended.append(job)
                active = [one for one in active if one["uid"] != uid]
            if condition["type"] == "Complete":
                _note_success(status, job)
        elif not known and time is not None:
            active = [*active, reference_of(job)]
        elif not known:
            made.unexpected.append(job)
    there = {job["metadata"]["uid"] for job in jobs}
    made.missing = [one for one in active if one["uid"] not in there]
    set_active(status, active)
    return made


def set_active(status: Status, active: list[dict[str, Any]]) -> None:
    """Say which Jobs are active."""
    if active:
        status["active"] = active
    else:
        status.pop("active", None)


def _note_time(status: Status, time: datetime) -> None:
    last = status.get("lastScheduleTime")
    if last is None or moment_of(last) < time:
        status["lastScheduleTime"] = timestamp(time)


def _note_success(status: Status, job: Object) -> None:
    done = (job.get("status") or {}).get("completionTime")
    last = status.get("lastSuccessfulTime")
    if done and (last is None or moment_of(last) < moment_of(done)):
        status["lastSuccessfulTime"] = done


def name_for(cron: Object, time: datetime) -> str:
    """Return the name of the Job for a time: it cannot be made twice."""
    return f"{cron['metadata']['name']}-{int(time.timestamp()) // 60}"


def made_for(cron: Object, job: Object) -> datetime | None:
    """Return the time for which this controller made a Job; None: someone else made it."""
    text = (job["metadata"].get("annotations") or {}).get(SCHEDULED, "")
    try:
        time = moment_of(text)
    except ValueError:
        return None
    return time if job["metadata"]["name"] == name_for(cron, time) else None


def job_for(cron: Object, time: datetime) -> Object:
    """Return the Job for a time."""
    template = cron["spec"]["jobTemplate"]
    meta = template.get("metadata") or {}
    local = time.astimezone(zone_of(cron["spec"].get("timeZone") or "UTC"))
    stamp = local.isoformat(timespec="seconds").replace("+00:00", "Z")
    return {
        "metadata": {
            "namespace": cron["metadata"]["namespace"],
            "name": name_for(cron, time),
            "labels": dict(meta.get("labels") or {}),
            "annotations": {**(meta.get("annotations") or {}), SCHEDULED: stamp},
            "ownerReferences": [reference_to(cron, CRON_JOBS)],
        },
        "spec": template["spec"],
    }


def reference_of(job: Object) -> dict[str, Any]:
    """Return how a status refers to a Job."""
    meta = job["metadata"]
    return {"apiVersion": JOBS.group_version, "kind": JOBS.kind, "name": meta["name"],
            "namespace": meta["namespace"], "uid": meta["uid"],
            "resourceVersion": meta["resourceVersion"]}  # fmt: skip


def too_old(cron: Object, jobs: list[Object]) -> list[Object]:
    """Return the Jobs that ended and are more than the history may have, oldest first."""
    found: list[Object] = []
    for kind, key in (("Complete", "successfulJobsHistoryLimit"),
                      ("Failed", "failedJobsHistoryLimit")):  # fmt: skip
        limit = cron["spec"].get(key)
        if limit is None:
            continue
        ended = [
            job for job in jobs
            if (condition := finished_condition(job)) is not None and condition["type"] == kind
        ]  # fmt: skip
        found += sorted(ended, key=_age)[: max(len(ended) - limit, 0)]
    return found


def _age(job: Object) -> tuple[bool, str, str]:
    start = (job.get("status") or {}).get("startTime", "")
    return (not start, start, job["metadata"]["name"])
