"""Times of RFC 3339 with nanoseconds, which ``datetime`` does not have (pure)."""

from __future__ import annotations

import re
from calendar import timegm
from functools import lru_cache
from typing import Final

_FORM: Final = re.compile(
    rb"(\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d)(?:[.,](\d{1,30}))?([Zz]|[+-]\d\d:\d\d)"
)


def nanoseconds(text: bytes) -> int | None:
    """Return a time in nanoseconds since 1970; None if it is none."""
    match = _FORM.fullmatch(text)
    if match is None:
        return None
    second = _second(match[1], match[3])
    if second is None:
        return None
    digits = (match[2] or b"")[:9]
    return second * 10**9 + int(digits.ljust(9, b"0") or b"0")


# The lines of a log are written many to the second.
@lru_cache(maxsize=64)
def _second(moment: bytes, zone: bytes) -> int | None:
    year, month, day = int(moment[:4]), int(moment[5:7]), int(moment[8:10])
    hour, minute, second = int(moment[11:13]), int(moment[14:16]), int(moment[17:19])
    if not (year and 1 <= month <= 12 and 1 <= day <= 31 and hour < 24 and minute < 60):
        return None
    offset = 0
    if zone not in (b"Z", b"z"):
        offset = (int(zone[1:3]) * 60 + int(zone[4:6])) * 60
        offset = -offset if zone[:1] == b"-" else offset
    return timegm((year, month, day, hour, minute, second)) - offset


def fixed_width(text: bytes) -> bytes:
    """Return a time with all nine digits of its nanoseconds; what is no time stays as it is."""
    match = _FORM.fullmatch(text)
    if match is None:
        return text
    digits = (match[2] or b"")[:9].ljust(9, b"0")
    return b"%s.%s%s" % (match[1], digits, match[3])
