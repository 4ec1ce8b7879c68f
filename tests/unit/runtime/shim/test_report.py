"""The channel on which a child tells of its failure."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from runtime.shim.forking import LaunchError, Report


class Watched:
    """In the place of the shim's loop, which nothing is waited for in here."""

    def watch(self, fd: int, events: int, callback: Callable[[], None]) -> None:
        """Take note of nothing."""

    def unwatch(self, fd: int) -> None:
        """Take note of nothing."""


@pytest.fixture
def told() -> list[LaunchError | None]:
    return []


@pytest.fixture
def report(told: list[LaunchError | None]) -> Report:
    loop: Any = Watched()
    return Report(loop, told.append)


def test_the_end_of_the_channel_is_success(report: Report, told: list[LaunchError | None]) -> None:
    report.read()
    assert told == []
    report.child.close()
    report.read()
    assert told == [None]


def test_a_child_that_ended_has_said_all_whoever_holds_the_channel_open(
    report: Report, told: list[LaunchError | None]
) -> None:
    with report.child:
        # As long as the launcher has not closed its copy there is no end to be read.
        report.conclude()
        assert told == [None]
        report.conclude()
        assert told == [None]
        assert report.done


def test_the_last_word_of_a_child_that_ended_counts(
    report: Report, told: list[LaunchError | None]
) -> None:
    with report.child:
        word = {"step": "execute /bin/none", "errno": 2, "message": "No such file or directory"}
        report.child.send(json.dumps(word).encode())
        report.conclude()
    [error] = told
    assert error is not None
    assert error.code == "not-found"


def test_one_that_was_closed_tells_nothing(report: Report, told: list[LaunchError | None]) -> None:
    with report.child:
        report.close()
        report.conclude()
    assert told == []
