"""What of a log is asked for (pure).

Source: Kubernetes API reference, ``PodLogOptions``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from .moments import nanoseconds

_INTEGER: Final = re.compile(r"[+-]?[0-9]{1,18}")
_BOTH: Final = ("stdout", "stderr")
_STREAMS: Final = {"All": _BOTH, "Stdout": ("stdout",), "Stderr": ("stderr",)}


class UnreadableError(ValueError):
    """A parameter is not of its type."""


class InvalidError(ValueError):
    """A parameter has a value that is not possible."""


@dataclass(frozen=True, slots=True)
class LogOptions:
    """What of a log is asked for.

    Attributes:
        follow: go on until the container ends.
        previous: of the instance of the container before this one.
        timestamps: a time before each line.
        since: nanoseconds since 1970; older lines are left out. None: none are.
        tail: lines from the end of the log; None: all.
        limit: bytes at most; None: all.
        streams: of which streams.
    """

    follow: bool = False
    previous: bool = False
    timestamps: bool = False
    since: int | None = None
    tail: int | None = None
    limit: int | None = None
    streams: tuple[str, ...] = _BOTH


def log_options(query: Mapping[str, str], now: int) -> LogOptions:
    """Return the options that a query asks for.

    Args:
        query: parameters, each once.
        now: nanoseconds since 1970.

    Raises:
        UnreadableError: a parameter is not of its type.
        InvalidError: a value is not possible.
    """
    # "tail" is an older name; "all" of it means what is meant without it.
    named = "tailLines" if not query.get("tail") else "tail"
    tail = None if query.get("tail") == "all" else _integer(query, named)
    limit, seconds = _integer(query, "limitBytes"), _integer(query, "sinceSeconds")
    moment = query.get("sinceTime")
    since = nanoseconds(moment.encode()) if moment else None
    if moment and since is None:
        raise UnreadableError("sinceTime is no time of RFC 3339")
    stream = query.get("stream") or "All"
    if tail is not None and tail < 0:
        raise InvalidError("tailLines is negative")
    if limit is not None and limit < 1:
        raise InvalidError("limitBytes is not positive")
    if seconds is not None and (seconds < 1 or moment):
        raise InvalidError("sinceSeconds is not positive, or stands beside sinceTime")
    if stream not in _STREAMS or (stream != "All" and tail is not None):
        raise InvalidError("stream is not known, or stands beside tailLines")
    if seconds is not None:
        since = now - seconds * 10**9
    return LogOptions(
        follow=_is_set(query, "follow"),
        previous=_is_set(query, "previous"),
        timestamps=_is_set(query, "timestamps"),
        since=since,
        tail=tail,
        limit=limit,
        streams=_STREAMS[stream],
    )


def _integer(query: Mapping[str, str], name: str) -> int | None:
    text = query.get(name)
    if not text:
        return None
    if not _INTEGER.fullmatch(text):
        raise UnreadableError(f"{name} is no number")
    return int(text)


def _is_set(query: Mapping[str, str], name: str) -> bool:
    """Say whether a flag is set, as Kubernetes reads them: it is unless it says that it is not."""
    text = query.get(name)
    return text is not None and text.lower() not in ("0", "false")
