"""What counts as a leak, decided on plain data."""

from __future__ import annotations

import pytest

from tests.support.machine import KINDS, Allowances, Change, MachineState, Scope, report


def state(**kinds: dict[str, str]) -> MachineState:
    found = {kind: kinds.get(kind.replace(" ", "_"), {}) for kind in KINDS}
    return MachineState(found, Scope())


def test_equal_states_have_no_changes() -> None:
    assert state(links={"lo": "link lo"}).changes(state(links={"lo": "link lo"})) == []


def test_identity_decides_not_the_description() -> None:
    before = state(processes={"1:5": "pid 1 'a' (state S)"})
    after = state(processes={"1:5": "pid 1 'a' (state R)"})
    assert before.changes(after) == []


def test_reused_pid_is_another_process() -> None:
    before = state(processes={"7:100": "pid 7 'old'"})
    changes = before.changes(state(processes={"7:200": "pid 7 'new'"}))
    assert [str(change) for change in changes] == [
        "left behind: pid 7 'new' [processes]",
        "gone, but was there before: pid 7 'old' [processes]",
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_compared(kind: str) -> None:
    changes = state().changes(state(**{kind.replace(" ", "_"): {"x": "thing x"}}))
    assert changes == [Change(kind, True, "thing x")]


def test_allowances_cover_a_kind_and_a_part_of_the_text() -> None:
    allowances = Allowances()
    allowances.allow("links", "veth")
    assert allowances.covers(Change("links", True, "link veth1 (index 9)"))
    assert not allowances.covers(Change("links", True, "link br0 (index 9)"))
    assert not allowances.covers(Change("mounts", True, "tmpfs on /veth"))


def test_allowance_of_an_unknown_kind_is_a_slip() -> None:
    with pytest.raises(ValueError, match="'link' is none of"):
        Allowances().allow("link", "veth")


def test_report_names_the_test_and_every_change() -> None:
    text = report([Change("links", True, "link a"), Change("mounts", False, "x on /y")], "test_z")
    assert "test_z" in text
    assert "left behind: link a [links]" in text
    assert "gone, but was there before: x on /y [mounts]" in text
