"""Schedules of CronJobs: five fields or a descriptor, and time zones (pure).

Source: Kubernetes documentation, "CronJob", "Schedule syntax"; the grammar is that of robfig/cron
(Go), version 3: lists, ranges and steps, names of months and days, ``?`` for ``*``.
"""

from __future__ import annotations

import re
import zoneinfo
from typing import Final

_MONTHS: Final = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov",
                  "dec")  # fmt: skip
_DAYS: Final = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
# Lowest and highest number, and the names of some.
_FIELDS: Final[tuple[tuple[str, int, int, dict[str, int]], ...]] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of month", 1, 31, {}),
    ("month", 1, 12, {name: number for number, name in enumerate(_MONTHS, 1)}),
    ("day of week", 0, 6, {name: number for number, name in enumerate(_DAYS)}),
)
_DESCRIPTORS: Final = ("@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight",
                       "@hourly")  # fmt: skip
_DURATION: Final = re.compile(
    r"[+-]?(0|(([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h))+)", re.ASCII
)
_ZONE_PART: Final = re.compile(r"[A-Za-z._0-9+-]{1,14}", re.ASCII)


class ScheduleError(ValueError):
    """The text is no schedule, or no time zone."""


def check_schedule(text: str) -> None:
    """Refuse what is no schedule.

    Raises:
        ScheduleError: it is none; the text says which part of it.
    """
    if text.startswith(("TZ=", "CRON_TZ=")):
        zone, _, text = text.partition(" ")
        check_zone(zone.partition("=")[2])
        text = text.strip()
    if text.startswith("@"):
        _check_descriptor(text)
        return
    parts = text.split()
    if len(parts) != len(_FIELDS):
        raise ScheduleError(f"expected exactly {len(_FIELDS)} fields, found {len(parts)}")
    for part, (name, lowest, highest, names) in zip(parts, _FIELDS, strict=True):
        for item in part.split(","):
            if item:
                _check_range(item, name, lowest, highest, names)
            elif not part.strip(","):
                raise ScheduleError(f"the {name} is empty")


def check_zone(name: str) -> None:
    """Refuse what is no name of a time zone.

    Raises:
        ScheduleError: it is none that the IANA database has.
    """
    parts = name.split("/")
    if any(
        part in (".", "..") or part.startswith("-") or not _ZONE_PART.fullmatch(part)
        for part in parts
    ):
        raise ScheduleError(f"unknown time zone {name}")
    try:
        zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ScheduleError(f"unknown time zone {name}") from error


def _check_descriptor(text: str) -> None:
    every = "@every "
    if text in _DESCRIPTORS:
        return
    if text.startswith(every) and _DURATION.fullmatch(text.removeprefix(every)):
        return
    raise ScheduleError(f"unrecognized descriptor: {text}")


def _check_range(text: str, field: str, lowest: int, highest: int, names: dict[str, int]) -> None:
    span, *steps = text.split("/")
    if len(steps) > 1:
        raise ScheduleError(f"too many slashes in the {field} {text}")
    first, *rest = span.split("-")
    if first in ("*", "?"):
        start, end = lowest, highest
    else:
        if len(rest) > 1:
            raise ScheduleError(f"too many hyphens in the {field} {text}")
        start = end = _number(first, field, names)
        if rest:
            end = _number(rest[0], field, names)
    step = _number(steps[0], field, {}) if steps else 1
    if steps and not rest:
        end = highest
    if start < lowest or end > highest:
        raise ScheduleError(f"the {field} {text} is not within {lowest} to {highest}")
    if start > end:
        raise ScheduleError(f"the {field} {text} begins after its end")
    if step == 0:
        raise ScheduleError(f"the step of the {field} {text} is 0")


def _number(text: str, field: str, names: dict[str, int]) -> int:
    known = names.get(text.lower())
    if known is not None:
        return known
    if not re.fullmatch(r"\+?[0-9]{1,9}", text, re.ASCII):
        raise ScheduleError(f"the {field} has {text!r}, which is no number")
    return int(text)
