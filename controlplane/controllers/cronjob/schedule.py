"""The times that the schedule of a CronJob means (pure, but for the database of time zones).

Own code, since what counts is what happens when clocks are put forward or back, and libraries for
Python (croniter, cronsim) have other rules there than Kubernetes: its times are those of
robfig/cron (Go), version 3. It looks for the first moment whose fields in the time zone all fit,
going on by whole months, days, hours and minutes. So a time that does not exist on a day is
left out on that day, and one that exists twice is met twice.
"""

from __future__ import annotations

import re
import zoneinfo
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from controlplane.operation.durations import parse_duration

_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov",
                  "dec")  # fmt: skip
_DAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_DESCRIPTORS: Final = {
    "@yearly": "0 0 1 1 *", "@annually": "0 0 1 1 *", "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0", "@daily": "0 0 * * *", "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}  # fmt: skip
_EVERY: Final = "@every "
_YEARS: Final = 5
"""That are searched: a schedule that fits no day of them never does."""
_NUMBER: Final = re.compile(r"\+?[0-9]{1,9}", re.ASCII)
_HOUR: Final = 3600
_MINUTE: Final = 60


class ScheduleError(ValueError):
    """The text is no schedule, or names no time zone."""


class Schedule(Protocol):
    """Says times."""

    def after(self, moment: datetime) -> datetime | None:
        """Return the first time after a moment, in UTC; None: there is none."""


@dataclass(frozen=True, slots=True)
class Every:
    """``@every 1h30m``.

    Attributes:
        seconds: whole ones, at least one.
    """

    seconds: int

    def after(self, moment: datetime) -> datetime | None:
        """Return ``moment``, as a whole second, and as much later."""
        return moment.replace(microsecond=0) + timedelta(seconds=self.seconds)


@dataclass(frozen=True, slots=True)
class Field:
    """What one field allows.

    Attributes:
        values: that it may have.
        is_any: whether it was written as ``*`` or ``?``: a day need fit only the other field then.
    """

    values: frozenset[int]
    is_any: bool = False


@dataclass(frozen=True, slots=True)
class Fields:
    """Five fields, in a time zone."""

    minute: Field
    hour: Field
    day: Field
    month: Field
    weekday: Field
    zone: zoneinfo.ZoneInfo

    def after(self, moment: datetime) -> datetime | None:
        """Return the first time after a moment whose fields fit; None: not within five years."""
        now = int(moment.timestamp()) + 1
        limit = self._local(now).year + _YEARS
        while True:
            local = self._local(now)
            if local.year > limit:
                return None
            if local.month not in self.month.values:
                now = self._date(local.year, local.month + 1, 1)
            elif not self._fits_day(local):
                now = self._midnight(local)
            elif local.hour not in self.hour.values:
                now = self._to_hour(now, local)
            elif local.minute not in self.minute.values or local.second:
                now += _MINUTE - local.second
            else:
                return datetime.fromtimestamp(now, UTC)

    def _local(self, now: int) -> datetime:
        return datetime.fromtimestamp(now, self.zone)

    def _fits_day(self, local: datetime) -> bool:
        by_day = local.day in self.day.values
        by_weekday = local.isoweekday() % 7 in self.weekday.values
        if self.day.is_any or self.weekday.is_any:
            return by_day and by_weekday
        return by_day or by_weekday

    def _date(self, year: int, month: int, day: int) -> int:
        """Return when a day begins; where clocks are put forward at midnight, an hour later."""
        there = datetime(year + (month - 1) // 12, (month - 1) % 12 + 1, 1, tzinfo=UTC)
        naive = int((there + timedelta(days=day - 1)).timestamp())
        offset = self._offset(naive)
        return naive - self._offset(naive - offset) if offset else naive

    def _offset(self, now: int) -> int:
        offset = self._local(now).utcoffset()
        return int(offset.total_seconds()) if offset is not None else 0

    def _midnight(self, local: datetime) -> int:
        """Return when the next day begins."""
        now = self._date(local.year, local.month, local.day + 1)
        hour = self._local(now).hour
        if hour:
            now += (24 - hour) * _HOUR if hour > 12 else -hour * _HOUR
        # An hour that does not exist must not lead back.
        if self._local(now).date() <= local.date():
            now += _HOUR
        return now

    def _to_hour(self, now: int, local: datetime) -> int:
        return now - local.minute * _MINUTE - local.second + _HOUR


def parse(text: str, zone: str | None = None) -> Schedule:
    """Return the schedule that a text says.

    Args:
        text: of the CronJob; ``TZ=`` or ``CRON_TZ=`` before it name a time zone.
        zone: name of the time zone that is used otherwise; None: that of this machine.

    Raises:
        ScheduleError: it is none.
    """
    if text.startswith(("TZ=", "CRON_TZ=")):
        prefix, _, text = text.partition(" ")
        zone, text = prefix.partition("=")[2], text.strip()
    place = zone_of(zone)
    if text.startswith(_EVERY):
        try:
            seconds = parse_duration(text.removeprefix(_EVERY))
        except ValueError as error:
            raise ScheduleError(f"failed to parse duration {text}: {error}") from error
        return Every(max(int(seconds), 1))
    if text.startswith("@"):
        if text not in _DESCRIPTORS:
            raise ScheduleError(f"unrecognized descriptor: {text}")
        text = _DESCRIPTORS[text]
    parts = text.split()
    if len(parts) != 5:
        raise ScheduleError(f"expected exactly 5 fields, found {len(parts)}: {text}")
    minute, hour, day, month, weekday = parts
    return Fields(
        _field(minute, 0, 59, {}), _field(hour, 0, 23, {}), _field(day, 1, 31, {}),
        _field(month, 1, 12, {name: number for number, name in enumerate(_MONTHS, 1)}),
        _field(weekday, 0, 6, {name: number for number, name in enumerate(_DAYS)}),
        place,
    )  # fmt: skip


def zone_of(name: str | None) -> zoneinfo.ZoneInfo:
    """Return a time zone; None: the machine's.

    Raises:
        ScheduleError: it is unknown.
    """
    if name is None:
        return _local_zone()
    try:
        return zoneinfo.ZoneInfo(name or "UTC")
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ScheduleError(f"unknown time zone {name}") from error


def _local_zone() -> zoneinfo.ZoneInfo:
    try:
        with open("/etc/localtime", "rb") as file:
            return zoneinfo.ZoneInfo.from_file(file)
    except (OSError, ValueError):
        return zoneinfo.ZoneInfo("UTC")


def _field(text: str, lowest: int, highest: int, names: dict[str, int]) -> Field:
    values: set[int] = set()
    is_any = False
    for item in text.split(","):
        if item:
            found, star = _range(item, lowest, highest, names)
            values |= found
            is_any |= star
    return Field(frozenset(values), is_any)


def _range(text: str, lowest: int, highest: int, names: dict[str, int]) -> tuple[set[int], bool]:
    span, *steps = text.split("/")
    first, *rest = span.split("-")
    star = first in ("*", "?")
    if len(steps) > 1 or (len(rest) > 1 and not star):
        raise ScheduleError(f"too many slashes or hyphens: {text}")
    step = _number(steps[0], {}) if steps else 1
    if star:
        start, end = lowest, highest
    else:
        start = end = _number(first, names)
        if rest:
            end = _number(rest[0], names)
        elif steps:
            end = highest
    if not lowest <= start <= end <= highest or step == 0:
        raise ScheduleError(f"not a range within {lowest} to {highest}: {text}")
    # With a step it is not any day that is meant.
    return set(range(start, end + 1, step)), star and step == 1


def _number(text: str, names: dict[str, int]) -> int:
    known = names.get(text.lower())
    if known is not None:
        return known
    if not _NUMBER.fullmatch(text):
        raise ScheduleError(f"failed to parse int from {text}")
    return int(text)
