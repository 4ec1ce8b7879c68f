"""Which controllers run."""

from __future__ import annotations

import pytest

from controlplane.builtin.selection import ALL, GARBAGE, NAMESPACES, selected
from controlplane.options import OptionsError


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (["*"], set(ALL)),
        (["*", "-garbagecollector"], set(ALL) - {GARBAGE}),
        (["-*", "namespace"], {NAMESPACES}),
        ([NAMESPACES, GARBAGE], {NAMESPACES, GARBAGE}),
        (["-garbage-collector-controller", "*"], set(ALL) - {GARBAGE}),
        ([], set()),
    ],
)
def test_selection(wanted: list[str], expected: set[str]) -> None:
    if "-*" in wanted:
        with pytest.raises(OptionsError, match=r"--controllers: '-\*' is no controller"):
            selected(wanted)
        wanted = [word for word in wanted if word != "-*"]
    assert selected(wanted) == expected
