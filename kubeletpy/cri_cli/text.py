"""Numbers as people read them (pure)."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Final

_STEPS: Final = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))
_UNITS: Final = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")
_DURATION: Final = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s)?")
SHORT_ID: Final = 13


def age(then_ns: int, now_ns: int) -> str:
    """Return how long ago something was, as in ``3h`` or ``2m``; ``-`` for never.

    Args:
        then_ns, now_ns: nanoseconds since 1970.
    """
    if then_ns <= 0:
        return "-"
    seconds = max(0, (now_ns - then_ns) // 1_000_000_000)
    for length, unit in _STEPS:
        if seconds >= length:
            return f"{seconds // length}{unit}"
    return "0s"


def size(count: int) -> str:
    """Return bytes in binary units, as in ``1.5 MiB``."""
    value = float(count)
    for unit in _UNITS:
        if value < 1024 or unit == _UNITS[-1]:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    raise AssertionError("the last unit takes all")


def short(identifier: str) -> str:
    """Return the beginning of an id, of an image's digest without its algorithm."""
    return identifier.removeprefix("sha256:")[:SHORT_ID]


def moment(text: str, now: datetime) -> datetime:
    """Return the time that ``--since`` names: RFC 3339, or a duration before now (``1h30m``).

    Raises:
        ValueError: it is neither.
    """
    match = _DURATION.fullmatch(text)
    if text and match:
        days, hours, minutes, seconds = (float(part or 0) for part in match.groups())
        return now - timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(
            f"{text!r} is neither a duration like 90s, 5m or 1h30m nor a time like "
            "2026-05-01T12:00:00Z"
        ) from None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
