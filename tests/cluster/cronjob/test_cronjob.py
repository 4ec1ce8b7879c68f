"""CronJobs and what becomes of their Jobs, against a real API server; the clock is the tests'."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from controlplane.controllers.cronjob.controller import CronJobController
from controlplane.controllers.ttl.controller import TtlController
from controlplane.engine.controller import Context, timestamp
from controlplane.engine.host import Host, Make
from controlplane.engine.resources import CRON_JOBS, JOBS, QUOTAS, Object, Resource
from kubeletpy_common.apiclient.client import MERGE_PATCH
from tests.support.cluster import Cluster, cluster

EVENTS = Resource("v1", "events", "Event")
_POD = {"restartPolicy": "Never", "containers": [{"name": "c", "image": "example.test/app:1"}]}
JOB = {"template": {"spec": _POD}}


class Clock:
    """Stands until it is set; what waits for a time is told, as by the kernel."""

    def __init__(self) -> None:
        # CronJobs are made by the server's clock.
        self.now = datetime.now(UTC).replace(minute=30, second=0, microsecond=0)
        self.now += timedelta(hours=1)
        self.hosts: list[Host] = []

    def make(self, kind: type[CronJobController] | type[TtlController]) -> Make:
        def made(context: Context) -> CronJobController | TtlController:
            context.clock = lambda: self.now
            return kind(context)

        return made

    def set(self, moment: datetime) -> None:
        self.now = moment
        for host in self.hosts:
            host.clock_changed()

    def next_hour(self, hours: int = 1) -> datetime:
        """Set it to when an hour is full."""
        self.set(self.now.replace(minute=0) + timedelta(hours=hours))
        return self.now


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster(tmp_path) as made:
        yield made


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def start(server: Cluster, clock: Clock) -> Host:
    host = await server.start_parts([clock.make(CronJobController)])
    clock.hosts = [host]
    return host


def cron(last: datetime, **spec: Any) -> Object:
    """Return a CronJob of each full hour, up to ``last`` looked at."""
    return {
        "metadata": {"name": "c"}, "status": {"lastScheduleTime": timestamp(last)},
        "spec": {"schedule": "0 * * * *", "timeZone": "Etc/UTC", "jobTemplate": {"spec": JOB},
                 **spec},
    }  # fmt: skip


async def create(server: Cluster, clock: Clock, **spec: Any) -> Object:
    """Create a CronJob whose last time was half an hour ago."""
    value = cron(clock.now.replace(minute=0), **spec)
    made = await server.create(CRON_JOBS, value)
    made["status"] = value["status"]
    return await server.client.update(CRON_JOBS.path_of(made, "status"), made)


async def until_jobs(server: Cluster, *times: datetime) -> list[Object]:
    """Wait until exactly the Jobs of these times are there."""
    names = {f"c-{int(time.timestamp()) // 60}" for time in times}
    return await server.until(JOBS, lambda jobs: {job["metadata"]["name"] for job in jobs} == names)


async def until_status(server: Cluster, time: datetime, active: int) -> Object:
    """Wait until the status says so."""

    def fits(found: list[Object]) -> bool:
        status = found[0].get("status", {})
        same = status.get("lastScheduleTime") == timestamp(time)
        return same and len(status.get("active", ())) == active

    return (await server.until(CRON_JOBS, fits))[0]


async def until_event(server: Cluster, reason: str) -> str:
    def fitting(found: list[Object]) -> list[Object]:
        return [one for one in found if one["reason"] == reason]

    return str(fitting(await server.until(EVENTS, fitting))[0]["message"])


async def finish(server: Cluster, job: Object, kind: str = "Complete") -> None:
    """Say that a Job has ended."""
    stamp = timestamp(datetime.now(UTC))
    before = "SuccessCriteriaMet" if kind == "Complete" else "FailureTarget"
    conditions = [{"type": one, "status": "True", "lastTransitionTime": stamp, "reason": "Test"}
                  for one in (before, kind)]  # fmt: skip
    status: dict[str, Any] = {"startTime": stamp, "conditions": conditions}
    if kind == "Complete":
        status |= {"completionTime": stamp, "succeeded": 1}
    await server.client.patch(JOBS.path_of(job, "status"), {"status": status}, kind=MERGE_PATCH)


async def test_a_job_is_made_when_it_is_time_and_followed(server: Cluster, clock: Clock) -> None:
    await create(server, clock)
    await start(server, clock)
    time = clock.next_hour()
    job = (await until_jobs(server, time))[0]
    assert job["metadata"]["ownerReferences"][0]["name"] == "c"
    status = (await until_status(server, time, 1))["status"]
    assert status["active"][0]["uid"] == job["metadata"]["uid"]
    assert await until_event(server, "SuccessfulCreate") == f"Created job {job['metadata']['name']}"
    await finish(server, job)
    status = (await until_status(server, time, 0))["status"]
    assert "lastSuccessfulTime" in status
    assert await until_event(server, "SawCompletedJob") == (
        f"Saw completed job: {job['metadata']['name']}, condition: Complete"
    )


@pytest.mark.parametrize(("policy", "left"), [("Allow", 2), ("Forbid", 1), ("Replace", 1)])
async def test_what_becomes_of_a_job_that_still_runs(
    server: Cluster, clock: Clock, policy: str, left: int
) -> None:
    await create(server, clock, concurrencyPolicy=policy)
    await start(server, clock)
    first = clock.next_hour()
    job = (await until_jobs(server, first))[0]
    await until_status(server, first, 1)
    second = clock.next_hour()
    if policy == "Forbid":
        assert await until_event(server, "JobAlreadyActive")
        await until_jobs(server, first)
        await finish(server, job)
        # It was only put off.
        await until_jobs(server, first, second)
    elif policy == "Allow":
        await until_jobs(server, first, second)
    else:
        await until_jobs(server, second)
    await until_status(server, second, left)


async def test_a_clock_that_is_put_forward_makes_one_job_for_all_times_missed(
    server: Cluster, clock: Clock
) -> None:
    await create(server, clock)
    await start(server, clock)
    time = clock.next_hour(150)
    await until_jobs(server, time)
    await until_status(server, time, 1)
    assert "too many missed start times" in await until_event(server, "TooManyMissedTimes")
    # Put back, nothing is due until that time comes again.
    clock.set(clock.now - timedelta(hours=20))
    clock.set(clock.now + timedelta(hours=1))
    clock.set(time)
    later = clock.next_hour()
    await until_jobs(server, time, later)


async def test_what_is_too_late_is_left_out(server: Cluster, clock: Clock) -> None:
    await create(server, clock, startingDeadlineSeconds=60)
    await start(server, clock)
    clock.set(clock.now.replace(minute=0) + timedelta(hours=1, minutes=10))
    time = clock.next_hour()
    await until_jobs(server, time)


async def test_the_history_is_kept_short(server: Cluster, clock: Clock) -> None:
    await create(server, clock, successfulJobsHistoryLimit=1, failedJobsHistoryLimit=0)
    await start(server, clock)
    kept = clock.next_hour()
    await finish(server, (await until_jobs(server, kept))[0])
    await until_status(server, kept, 0)
    failed = clock.next_hour()
    jobs = await until_jobs(server, kept, failed)
    await finish(server, max(jobs, key=lambda job: str(job["metadata"]["name"])), "Failed")
    await until_jobs(server, kept)
    await until_status(server, failed, 0)


async def test_a_suspended_one_waits(server: Cluster, clock: Clock) -> None:
    made = await create(server, clock, suspend=True)
    host = await start(server, clock)
    clock.next_hour()
    queue = host.parts[0].queue  # type: ignore[attr-defined]
    looked = queue.counts.done
    queue.add("default/c")
    async with asyncio.timeout(10):
        while queue.counts.done == looked:  # noqa: ASYNC110 - counters of a queue
            await asyncio.sleep(0.01)
    assert await server.listed(JOBS) == []
    await server.client.patch(CRON_JOBS.path_of(made), {"spec": {"suspend": False}},
                              kind=MERGE_PATCH)  # fmt: skip
    await until_jobs(server, clock.now)


async def test_no_time_is_met_twice_wherever_the_controller_is_killed(
    server: Cluster, clock: Clock
) -> None:
    dice = random.Random(7)
    await create(server, clock, successfulJobsHistoryLimit=0)
    seen: Counter[str] = Counter()
    times: set[str] = set()

    def created(before: Object | None, job: Object | None) -> None:
        if before is None and job is not None:
            seen[job["metadata"]["name"]] += 1

    (await server.watch(JOBS)).listen(created)
    for _ in range(20):
        host = await start(server, clock)
        times.add(f"c-{int(clock.next_hour().timestamp()) // 60}")
        await asyncio.sleep(dice.random() * 0.03)
        for job in await server.listed(JOBS):
            if not job["status"].get("conditions") and dice.random() < 0.5:
                await finish(server, job)
        await server.stop(host)
    await start(server, clock)
    await until_status(server, clock.now, len([
        job for job in await server.listed(JOBS) if not job["status"].get("conditions")
    ]))  # fmt: skip
    assert set(seen) <= times
    assert set(seen.values()) == {1}
    assert len(seen) > 3


async def test_a_job_that_is_refused_is_told_of_and_made_later(
    server: Cluster, clock: Clock
) -> None:
    hard = {"hard": {"count/jobs.batch": "0"}}
    quota = await server.create(QUOTAS, {"metadata": {"name": "none"}, "spec": hard})
    await server.until(QUOTAS, lambda found: bool(found[0].get("status", {}).get("hard")))
    await create(server, clock)
    host = await start(server, clock)
    time = clock.next_hour()
    assert "exceeded quota: none" in await until_event(server, "FailedCreate")
    await server.client.delete(QUOTAS.path_of(quota))
    await until_jobs(server, time)
    assert host.parts[0].queue.counts.retried < 20  # type: ignore[attr-defined]


async def test_a_job_goes_when_its_time_is_over(server: Cluster) -> None:
    clock = Clock()
    clock.now = datetime.now(UTC)
    made = await server.create(
        JOBS, {"metadata": {"name": "j"}, "spec": {**JOB, "ttlSecondsAfterFinished": 3600}}
    )
    keep = await server.create(JOBS, {"metadata": {"name": "keep"}, "spec": JOB})
    host = await server.start_parts([clock.make(TtlController)])
    clock.hosts = [host]
    await finish(server, made)
    await finish(server, keep)
    queue = host.parts[0].queue  # type: ignore[attr-defined]
    async with asyncio.timeout(10):
        while not queue.counts.done:  # noqa: ASYNC110 - counters of a queue
            await asyncio.sleep(0.01)
    assert len(await server.listed(JOBS)) == 2
    clock.set(clock.now + timedelta(hours=1, seconds=2))
    left = await server.until(JOBS, lambda jobs: len(jobs) == 1)
    assert left[0]["metadata"]["name"] == "keep"
