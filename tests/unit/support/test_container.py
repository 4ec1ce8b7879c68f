"""What the container's command runs."""

from __future__ import annotations

import pytest

from tests.container.__main__ import _BRIEF, chosen


@pytest.mark.parametrize(
    ("given", "brief", "expected"),
    [
        ([], False, ["tests/root"]),
        ([], True, [*_BRIEF]),
        (["-q"], True, [*_BRIEF, "-q"]),
        (["-x", "-q"], False, ["tests/root", "-x", "-q"]),
        (["-x", "tests/root/common"], False, ["-x", "tests/root/common"]),
        (["tests/root/e2e/test_up.py::test_x"], False, ["tests/root/e2e/test_up.py::test_x"]),
    ],
)
def test_tests_are_those_that_are_named(given: list[str], brief: bool, expected: list[str]) -> None:
    assert chosen(given, brief) == expected
