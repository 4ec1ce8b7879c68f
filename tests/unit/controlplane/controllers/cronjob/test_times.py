"""Schedules, and which of their times is due."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from controlplane.controllers.cronjob.schedule import Fields, ScheduleError, parse
from controlplane.controllers.cronjob.status import follow, job_for, name_for, too_old
from controlplane.controllers.cronjob.times import due_of, next_look
from controlplane.engine.controller import timestamp
from controlplane.engine.resources import Object


def at(text: str) -> datetime:
    return datetime.fromisoformat(text + "+00:00")


@pytest.mark.parametrize(
    ("text", "after", "wanted"),
    [
        ("* * * * *", "2026-01-01T00:00:00", "2026-01-01T00:01:00"),
        ("* * * * ?", "2026-01-01T00:00:30", "2026-01-01T00:01:00"),
        ("*/15 * * * *", "2026-01-01T00:15:00", "2026-01-01T00:30:00"),
        ("5/20 * * * *", "2026-01-01T00:06:00", "2026-01-01T00:25:00"),
        ("0-10/5,50 3 * * *", "2026-01-01T03:10:00", "2026-01-01T03:50:00"),
        ("0 0 1 JAN *", "2026-01-01T00:00:00", "2027-01-01T00:00:00"),
        ("0 0 * * Sun", "2026-01-01T00:00:00", "2026-01-04T00:00:00"),
        # Either day, unless one is a star; a star with a step is none.
        ("0 0 13 * Fri", "2026-02-01T00:00:00", "2026-02-06T00:00:00"),
        ("0 0 13 * *", "2026-02-01T00:00:00", "2026-02-13T00:00:00"),
        ("0 0 */10 * Mon", "2026-02-02T00:00:00", "2026-02-09T00:00:00"),
        ("0 0 31 * *", "2026-01-31T00:00:00", "2026-03-31T00:00:00"),
        ("0 0 29 2 *", "2026-01-31T00:00:00", "2028-02-29T00:00:00"),
        ("@yearly", "2026-03-01T00:00:00", "2027-01-01T00:00:00"),
        ("@monthly", "2026-03-01T00:00:00", "2026-04-01T00:00:00"),
        ("@weekly", "2026-01-01T00:00:00", "2026-01-04T00:00:00"),
        ("@midnight", "2026-01-01T00:00:00", "2026-01-02T00:00:00"),
        ("@hourly", "2026-01-01T00:00:01", "2026-01-01T01:00:00"),
        ("@every 1h30m", "2026-01-01T00:00:01", "2026-01-01T01:30:01"),
        ("@every 10ms", "2026-01-01T00:00:01", "2026-01-01T00:00:02"),
        ("TZ=Europe/Berlin 0 12 * * *", "2026-01-01T00:00:00", "2026-01-01T11:00:00"),
        ("CRON_TZ=Asia/Kolkata 0 0 * * *", "2026-01-01T00:00:00", "2026-01-01T18:30:00"),
    ],
)
def test_the_next_time(text: str, after: str, wanted: str) -> None:
    assert parse(text, "UTC").after(at(after)) == at(wanted)


# Berlin: on 29 March 2:00 becomes 3:00, on 25 October 3:00 becomes 2:00. Sao Paulo had no midnight
# on 4 November 2018. Lord Howe shifts by half an hour, Kyiv is as Berlin, one hour later.
@pytest.mark.parametrize(
    ("text", "zone", "after", "wanted"),
    [
        ("30 2 * * *", "Europe/Berlin", "2026-03-28T02:00:00",
         ["2026-03-30T00:30:00", "2026-03-31T00:30:00"]),
        ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00",
         ["2026-10-25T00:30:00", "2026-10-25T01:30:00", "2026-10-26T01:30:00"]),
        ("0 * * * *", "Europe/Berlin", "2026-03-29T00:30:00",
         ["2026-03-29T01:00:00", "2026-03-29T02:00:00"]),
        ("0 3 * * *", "Europe/Berlin", "2026-03-28T12:00:00", ["2026-03-29T01:00:00"]),
        ("0 0 * * *", "America/Sao_Paulo", "2018-11-03T12:00:00",
         ["2018-11-05T02:00:00"]),
        ("0 12 4 11 *", "America/Sao_Paulo", "2018-11-03T12:00:00", ["2018-11-04T14:00:00"]),
        ("0 0 1 * *", "Pacific/Kiritimati", "2026-01-15T00:00:00", ["2026-01-31T10:00:00"]),
    ],
)  # fmt: skip
def test_when_clocks_are_put_forward_or_back(
    text: str, zone: str, after: str, wanted: list[str]
) -> None:
    schedule, moment = parse(text, zone), at(after)
    for one in wanted:
        found = schedule.after(moment)
        assert found == at(one)
        moment = found


@pytest.mark.parametrize(
    "text",
    ["", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *",
     "* * * * 7", "*/0 * * * *", "5-1 * * * *", "1/2/3 * * * *", "a * * * *", "-1 * * * *",
     "1-2-3 * * * *", "@often", "@every soon", "TZ=Nowhere/City * * * * *"],
)  # fmt: skip
def test_what_is_no_schedule(text: str) -> None:
    with pytest.raises(ScheduleError):
        parse(text, "UTC")


def test_a_day_that_never_comes() -> None:
    assert parse("59 23 31 2 *", "UTC").after(at("2026-01-01T00:00:00")) is None


_ZONES = st.sampled_from(["UTC", "Europe/Berlin", "America/Sao_Paulo", "Australia/Lord_Howe",
                          "America/New_York", "Asia/Kolkata"])  # fmt: skip
_MOMENTS = st.integers(1_500_000_000, 1_800_000_000)
_SPANS = st.sampled_from(["*", "*/7", "0", "30", "1-3", "2", "0,12"])
_HOURS = st.sampled_from(["*", "*/7", "0", "23", "1-3", "2", "0,12"])


@given(_SPANS, _HOURS, st.sampled_from(["*", "1", "*/9"]), st.sampled_from(["*", "Mon"]), _ZONES,
       _MOMENTS)  # fmt: skip
@example("30", "2", "*", "*", "Europe/Berlin", 1_774_720_800)
def test_a_time_fits_and_none_was_left_out(
    minute: str, hour: str, day: str, weekday: str, zone: str, moment: int
) -> None:
    schedule = parse(f"{minute} {hour} {day} * {weekday}", zone)
    assert isinstance(schedule, Fields)
    start = datetime.fromtimestamp(moment, UTC)
    found = schedule.after(start)
    assert found is not None
    assert found > start

    def fits(time: datetime) -> bool:
        local = time.astimezone(schedule.zone)
        return (local.minute in schedule.minute.values and local.hour in schedule.hour.values
                and local.month in schedule.month.values and schedule._fits_day(local))  # fmt: skip

    assert fits(found)
    assert not found.second
    first = start.replace(second=0, microsecond=0) + timedelta(minutes=1)
    # A day and a half is enough to meet each change of the clock that matters.
    for number in range(min(int((found - first).total_seconds()) // 60, 2160)):
        assert not fits(first + timedelta(minutes=number))


def cron(schedule: str = "0 * * * *", last: str = "", **spec: Any) -> Object:
    status = {"lastScheduleTime": timestamp(at(last))} if last else {}
    return {
        "metadata": {"name": "c", "namespace": "d", "uid": "u",
                     "creationTimestamp": "2026-01-01T00:30:00Z"},
        "spec": {"schedule": schedule, "jobTemplate": {"spec": {}}, **spec}, "status": status,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("value", "now", "wanted", "missed"),
    [
        (cron(), "2026-01-01T00:59:59", None, 0),
        (cron(), "2026-01-01T01:00:00", "2026-01-01T01:00:00", 1),
        (cron(), "2026-01-01T03:10:00", "2026-01-01T03:00:00", 3),
        (cron(last="2026-01-01T03:00:00"), "2026-01-01T03:10:00", None, 0),
        (cron(), "2026-01-06T01:10:00", "2026-01-06T01:00:00", 121),
        (cron(startingDeadlineSeconds=600), "2026-01-06T01:05:00", "2026-01-06T01:00:00", 1),
        (cron(startingDeadlineSeconds=600), "2026-01-06T01:50:00", None, 0),
        # Set back: nothing is due until the clock is where it was.
        (cron(last="2026-01-09T03:00:00"), "2026-01-01T03:10:00", None, 0),
        # Far from even: the last time is found all the same.
        (cron("30 6-16/4 * * 1-5"), "2026-01-12T05:00:00", "2026-01-09T14:30:00", 66),
        (cron("0,1 0 * * *"), "2026-02-01T12:00:00", "2026-02-01T00:01:00", 43921),
        (cron("@every 45m"), "2026-01-01T03:10:00", "2026-01-01T02:45:00", 3),
    ],
)
def test_which_time_is_due(value: Object, now: str, wanted: str | None, missed: int) -> None:
    schedule = parse(value["spec"]["schedule"], "UTC")
    due = due_of(value, schedule, at(now), deadline=True)
    assert due.at == (at(wanted) if wanted else None)
    assert due.missed == missed


def test_what_is_never_due_is_said() -> None:
    with pytest.raises(ScheduleError):
        due_of(cron("59 23 31 2 *"), parse("59 23 31 2 *", "UTC"), at("2026-01-01T00:00:00"),
               deadline=True)  # fmt: skip


@pytest.mark.parametrize(
    ("value", "now", "seconds"),
    [
        (cron(), "2026-01-01T00:59:59", 1.1),
        (cron(), "2026-01-01T01:00:00", 3600.1),
        (cron(last="2026-01-01T03:00:00"), "2026-01-01T03:10:00", 3000.1),
        (cron("@every 45m", "2026-01-01T03:00:00"), "2026-01-01T03:10:00", 2100.1),
    ],
)
def test_when_to_look_again(value: Object, now: str, seconds: float) -> None:
    schedule = parse(value["spec"]["schedule"], "UTC")
    assert next_look(value, schedule, at(now)) == pytest.approx(seconds)


def made(time: str, *conditions: str, **meta: Any) -> Object:
    job = job_for(cron(), at(time))
    job["metadata"] |= {"uid": time, "resourceVersion": "1", **meta}
    stamp = timestamp(at(time))
    job["status"] = {"startTime": stamp, "completionTime": stamp, "conditions": [
        {"type": kind, "status": "True"} for kind in conditions]}  # fmt: skip
    return job


def test_a_job_for_a_time() -> None:
    value = cron(timeZone="Europe/Berlin")
    value["spec"]["jobTemplate"]["metadata"] = {"labels": {"a": "b"}, "annotations": {"c": "d"}}
    job = job_for(value, at("2026-07-01T10:00:00"))
    assert job["metadata"]["name"] == "c-29715000"
    assert job["metadata"]["labels"] == {"a": "b"}
    assert job["metadata"]["annotations"] == {
        "c": "d", "batch.kubernetes.io/cronjob-scheduled-timestamp": "2026-07-01T12:00:00+02:00",
    }  # fmt: skip
    plain = job_for(cron(), at("2026-07-01T10:00:00"))["metadata"]["annotations"]
    assert list(plain.values()) == ["2026-07-01T10:00:00Z"]


def test_a_job_that_the_status_does_not_know_is_taken_into_it() -> None:
    job = made("2026-01-01T05:00:00")
    followed = follow(cron(), [job])
    assert [one["name"] for one in followed.status["active"]] == [job["metadata"]["name"]]
    assert followed.status["lastScheduleTime"] == "2026-01-01T05:00:00Z"
    assert followed.unexpected == []
    done = follow(cron(), [made("2026-01-01T05:00:00", "Complete")])
    assert done.status == {"lastScheduleTime": "2026-01-01T05:00:00Z",
                           "lastSuccessfulTime": "2026-01-01T05:00:00Z"}  # fmt: skip


def test_a_job_made_by_hand_is_not_one_of_the_schedule() -> None:
    job = made("2026-01-01T05:00:00", name="by-hand")
    followed = follow(cron(), [job])
    assert followed.status == {}
    assert followed.unexpected == [job]


def test_the_status_follows_jobs_that_end_and_vanish() -> None:
    one, two = made("2026-01-01T05:00:00"), made("2026-01-01T06:00:00", "Failed")
    value = cron()
    value["status"] = follow(value, [one, made("2026-01-01T06:00:00")]).status
    assert len(value["status"]["active"]) == 2
    followed = follow(value, [two])
    assert followed.ended == [two]
    assert [each["uid"] for each in followed.missing] == [one["metadata"]["uid"]]
    assert "lastSuccessfulTime" not in followed.status


def test_the_oldest_of_the_history_go() -> None:
    jobs = [made(f"2026-01-01T0{number}:00:00", "Complete" if number % 2 else "Failed")
            for number in range(8)]  # fmt: skip
    jobs.append(made("2026-01-01T09:00:00"))
    value = cron(successfulJobsHistoryLimit=3, failedJobsHistoryLimit=1)
    gone = [job["metadata"]["uid"][11:13] for job in too_old(value, jobs[::-1])]
    assert gone == ["01", "00", "02", "04"]
    assert too_old(cron(), jobs) == []
    assert name_for(value, at("1970-01-01T01:00:30")) == "c-60"
