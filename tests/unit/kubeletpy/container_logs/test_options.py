"""What of a log is asked for."""

from __future__ import annotations

import pytest

from kubeletpy.container_logs.moments import fixed_width, nanoseconds
from kubeletpy.container_logs.options import (
    InvalidError,
    LogOptions,
    UnreadableError,
    log_options,
)

NOW = 1_000_000 * 10**9


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, LogOptions()),
        ({"follow": "true", "timestamps": "1", "previous": ""}, LogOptions(
            follow=True, timestamps=True, previous=True)),
        ({"follow": "false", "timestamps": "0"}, LogOptions()),
        ({"tailLines": "0"}, LogOptions(tail=0)),
        ({"tail": "7", "tailLines": "9"}, LogOptions(tail=7)),
        ({"tail": "all", "tailLines": "9"}, LogOptions()),
        ({"limitBytes": "1"}, LogOptions(limit=1)),
        ({"sinceSeconds": "10"}, LogOptions(since=NOW - 10 * 10**9)),
        ({"sinceTime": "1970-01-01T00:00:01Z"}, LogOptions(since=10**9)),
        ({"stream": "Stderr"}, LogOptions(streams=("stderr",))),
        ({"stream": "All", "tailLines": "1"}, LogOptions(tail=1)),
    ],
)  # fmt: skip
def test_queries(query: dict[str, str], expected: LogOptions) -> None:
    assert log_options(query, NOW) == expected


@pytest.mark.parametrize(
    "query",
    [
        {"tailLines": "-1"},
        {"limitBytes": "0"},
        {"sinceSeconds": "0"},
        {"sinceSeconds": "1", "sinceTime": "1970-01-01T00:00:01Z"},
        {"stream": "stdout"},
        {"stream": "Stdout", "tailLines": "1"},
    ],
)
def test_values_that_are_not_possible(query: dict[str, str]) -> None:
    with pytest.raises(InvalidError):
        log_options(query, NOW)


@pytest.mark.parametrize(
    "query", [{"tailLines": "x"}, {"limitBytes": "9" * 40}, {"sinceTime": "yesterday"}]
)
def test_values_of_another_type(query: dict[str, str]) -> None:
    with pytest.raises(UnreadableError):
        log_options(query, NOW)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"1970-01-01T00:00:00Z", 0),
        (b"1970-01-01T00:00:00.000000001Z", 1),
        (b"1970-01-01T00:00:00.5Z", 500_000_000),
        (b"1970-01-01T01:00:00.123456789+01:00", 123_456_789),
        (b"1969-12-31T23:00:00-01:00", 0),
        (b"2026-02-30T00:00:00", None),
        (b"2026-13-01T00:00:00Z", None),
        (b"", None),
    ],
)
def test_moments(text: bytes, expected: int | None) -> None:
    assert nanoseconds(text) == expected


def test_times_are_written_with_all_digits() -> None:
    assert fixed_width(b"2026-01-01T00:00:00.5Z") == b"2026-01-01T00:00:00.500000000Z"
    assert fixed_width(b"2026-01-01T00:00:00+02:00") == b"2026-01-01T00:00:00.000000000+02:00"
    assert fixed_width(b"?") == b"?"
