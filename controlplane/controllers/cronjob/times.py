"""Which time of a schedule is due, and when the next one is (pure)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from controlplane.engine.controller import moment_of
from controlplane.engine.resources import Object

from .schedule import Every, Schedule, ScheduleError

MANY: Final = 100
"""Times missed beyond which an event says that something is wrong."""
_PADDING: Final = 0.1
"""Seconds that a look comes late, so that a clock that is being corrected has reached the time."""


@dataclass(frozen=True, slots=True)
class Due:
    """The last time of a schedule that is not later than now.

    Attributes:
        since: times before it do not matter.
        at: that time; None: there was none since.
        missed: how many there were about, with it.
    """

    since: datetime
    at: datetime | None
    missed: int


def due_of(cron: Object, schedule: Schedule, now: datetime, *, deadline: bool) -> Due:
    """Return which time is due.

    Args:
        cron: the CronJob.
        schedule: of it.
        now: when.
        deadline: whether times do not count that are too long ago to be made up for.

    Raises:
        ScheduleError: no time ever comes.
    """
    last = (cron.get("status") or {}).get("lastScheduleTime")
    since = moment_of(last or cron["metadata"]["creationTimestamp"])
    seconds = cron["spec"].get("startingDeadlineSeconds")
    if deadline and seconds is not None:
        since = max(since, now - timedelta(seconds=seconds))
    first = schedule.after(since)
    if first is None:
        raise ScheduleError("time difference between two schedules is less than 1 second")
    if now < first:
        return Due(since, None, 0)
    second = schedule.after(first)
    if second is None or now < second:
        return Due(since, first, 1)
    gap = max(round((second - first).total_seconds()), 1)
    missed = int((now - first).total_seconds()) // gap + 1
    return Due(since, _latest(schedule, first, now), missed)


def _latest(schedule: Schedule, first: datetime, now: datetime) -> datetime:
    """Return the last time that is not later than now; ``first`` is one of them."""
    if isinstance(schedule, Every):
        return first + timedelta(
            seconds=int((now - first).total_seconds()) // schedule.seconds * schedule.seconds
        )
    # Of all seconds since, the last after which a time comes that is not later than now.
    low, high = 0, int((now - first).total_seconds()) + 1
    found = first
    while low < high:
        middle = (low + high) // 2
        time = schedule.after(first + timedelta(seconds=middle))
        if time is not None and time <= now:
            low, found = middle + 1, time
        else:
            high = middle
    return found


def next_look(cron: Object, schedule: Schedule, now: datetime) -> float | None:
    """Return the seconds until the next time; None: there is none."""
    due = due_of(cron, schedule, now, deadline=False)
    time = schedule.after(due.at or due.since)
    return (time - now).total_seconds() + _PADDING if time is not None else None
