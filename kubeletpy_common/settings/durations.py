"""Durations as Go writes them, and the error of all settings."""

from __future__ import annotations

import re

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "μs": 1e-6,
          "ns": 1e-9}  # fmt: skip
_NUMBER = r"(?:\d+(?:\.\d*)?|\.\d+)"
_UNIT = "h|ms|us|µs|μs|ns|m|s"
_DURATION = re.compile(rf"(?P<sign>[+-]?)(?:{_NUMBER}(?:{_UNIT}))+")
_PART = re.compile(rf"({_NUMBER})({_UNIT})")


class ConfigurationError(ValueError):
    """A setting that cannot be taken; the message names it, its value and what is expected."""


class Duration(float):
    """Seconds; ``str()`` gives them as Go does: ``1m30s``."""

    __slots__ = ()

    def __str__(self) -> str:
        return go_text(self)


def duration(value: object, name: str = "duration") -> Duration:
    """Return a duration as Go writes it (time.ParseDuration): ``1m30s``, ``500ms``, ``-1s``, ``0``.

    Raises:
        ConfigurationError: it is none.
    """
    if value in (0, "0"):
        return Duration(0.0)
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ConfigurationError(f"{name}: {value!r} is no duration such as 1m30s")
    seconds = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(match[0]))
    return Duration(-seconds if match["sign"] == "-" else seconds)


def go_text(seconds: float) -> str:
    """Return ``seconds`` as Go prints a time.Duration: ``0s``, ``100ms``, ``1h0m0s``."""
    nanoseconds = round(abs(seconds) * 1e9)
    sign = "-" if seconds < 0 and nanoseconds else ""
    if nanoseconds == 0:
        return "0s"
    for unit, scale in (("ns", 1), ("µs", 1000), ("ms", 10**6)):
        if nanoseconds < scale * 1000:
            return f"{sign}{_decimal(nanoseconds, scale)}{unit}"
    minutes, rest = divmod(nanoseconds, 60 * 10**9)
    hours, minutes = divmod(minutes, 60)
    text = f"{_decimal(rest, 10**9)}s"
    if hours or minutes:
        text = f"{minutes}m{text}"
    return f"{sign}{hours}h{text}" if hours else sign + text


def _decimal(nanoseconds: int, scale: int) -> str:
    whole, fraction = divmod(nanoseconds, scale)
    digits = f"{fraction:0{len(str(scale)) - 1}d}".rstrip("0") if fraction else ""
    return f"{whole}.{digits}" if digits else str(whole)
