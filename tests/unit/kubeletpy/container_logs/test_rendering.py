"""What is sent of the lines of a log."""

from __future__ import annotations

import pytest

from kubeletpy.container_logs.options import LogOptions
from kubeletpy.container_logs.rendering import Renderer

T1, T2, T3 = (b"2026-01-01T00:00:0%d.5Z" % n for n in (1, 2, 3))
F1 = T1[:-1] + b"00000000Z"
F3 = T3[:-1] + b"00000000Z"
LINES = [
    T1 + b" stdout F one",
    T2 + b" stderr P tw",
    b"rubbish",
    T3 + b" stderr F o",
    T3 + b" stdout F ",
]
SECOND = 1_767_225_600 * 10**9


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (LogOptions(), b"one\ntwo\n\n"),
        (LogOptions(streams=("stdout",)), b"one\n\n"),
        (LogOptions(streams=("stderr",)), b"two\n"),
        (LogOptions(since=SECOND + 2 * 10**9), b"two\n\n"),
        (LogOptions(since=SECOND + 4 * 10**9), b""),
        (LogOptions(limit=5), b"one\nt"),
        (LogOptions(limit=2, streams=("stderr",)), b"tw"),
        (LogOptions(timestamps=True, streams=("stdout",)),
         F1 + b" one\n" + F3 + b" \n"),
        (LogOptions(timestamps=True, limit=10), F1[:10]),
    ],
)  # fmt: skip
def test_lines(options: LogOptions, expected: bytes) -> None:
    assert Renderer(options).render(LINES) == expected


def test_the_time_stands_once_before_a_line_in_parts() -> None:
    sent = Renderer(LogOptions(timestamps=True)).render(LINES[1:4])
    assert sent == T2[:-1] + b"00000000Z two\n"


def test_a_limit_that_is_reached_ends_it() -> None:
    renderer = Renderer(LogOptions(limit=4))
    assert not renderer.done
    renderer.render(LINES)
    assert renderer.done


def test_a_line_without_its_end_gets_none() -> None:
    assert Renderer(LogOptions()).render([LINES[0]], ended=False) == b"one"
