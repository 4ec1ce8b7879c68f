"""How fast a number of replicas may change."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controlplane.controllers.autoscaling.stabilizing import (
    Bounds,
    Memory,
    decide,
    decide_by_rules,
    down_limit,
    up_limit,
)
from tests.support.circumstances import examples


def rules(*policies: tuple[str, int, int], select: str = "Max", window: int | None = 0) -> Any:
    listed = [{"type": kind, "value": value, "periodSeconds": period}
              for kind, value, period in policies]  # fmt: skip
    found = {"selectPolicy": select, "policies": listed}
    return found if window is None else {**found, "stabilizationWindowSeconds": window}


@pytest.mark.parametrize(
    ("wanted", "bounds", "replicas", "reason", "limited"),
    [
        (5, Bounds(1, 10, 3), 5, "DesiredWithinRange", False),
        (7, Bounds(1, 10, 3), 6, "ScaleUpLimit", True),
        (9, Bounds(1, 10, 1), 4, "ScaleUpLimit", True),
        (12, Bounds(1, 10, 8), 10, "TooManyReplicas", True),
        (0, Bounds(2, 10, 8), 2, "TooFewReplicas", True),
    ],
)
def test_without_rules(
    wanted: int, bounds: Bounds, replicas: int, reason: str, limited: bool
) -> None:
    found = decide(Memory(), wanted, bounds, 300, 1000)
    assert (found.replicas, found.limit[0], found.limited) == (replicas, reason, limited)
    assert found.able[0] == "ReadyForNewScale"


def test_the_highest_of_the_window_counts() -> None:
    memory, bounds = Memory(), Bounds(1, 10, 5)
    memory.begin(5, 0)
    memory.begin(9, 1)
    found = decide(memory, 2, bounds, 300, 100)
    assert (found.replicas, found.able[0]) == (5, "ScaleDownStabilized")
    assert decide(memory, 3, bounds, 300, 300).replicas == 5
    found = decide(memory, 2, bounds, 300, 301)
    assert (found.replicas, found.able[0]) == (3, "ScaleDownStabilized")
    assert decide(memory, 1, bounds, 300, 602).replicas == 1
    assert len(memory.recommendations) == 1


@pytest.mark.parametrize(
    ("current", "policies", "select", "up", "down", "wanted"),
    [
        (10, [("Pods", 4, 60), ("Percent", 100, 60)], "Max", [], [], 20),
        (10, [("Pods", 4, 60), ("Percent", 100, 60)], "Min", [], [], 14),
        (1, [("Pods", 4, 60), ("Percent", 100, 60)], "Max", [], [], 5),
        (10, [("Pods", 4, 60)], "Disabled", [], [], 10),
        (11, [("Percent", 10, 60)], "Max", [], [], 13),
        # What was done in the period is taken off.
        (14, [("Pods", 4, 60)], "Max", [(4, 980)], [], 14),
        (14, [("Pods", 4, 60)], "Max", [(4, 940)], [], 18),
        (12, [("Pods", 4, 60)], "Max", [(4, 980)], [(2, 990)], 14),
    ],
)
def test_scaling_up(
    current: int, policies: Any, select: str, up: Any, down: Any, wanted: int
) -> None:
    memory = Memory(up=up, down=down)
    assert up_limit(memory, current, rules(*policies, select=select), 1000) == wanted


@pytest.mark.parametrize(
    ("current", "policies", "select", "up", "down", "wanted"),
    [
        (10, [("Percent", 100, 15)], "Max", [], [], 0),
        (10, [("Pods", 4, 60), ("Percent", 10, 60)], "Max", [], [], 6),
        (10, [("Pods", 4, 60), ("Percent", 10, 60)], "Min", [], [], 9),
        (10, [("Pods", 4, 60)], "Disabled", [], [], 10),
        (7, [("Percent", 50, 60)], "Max", [], [], 3),
        (6, [("Pods", 4, 60)], "Max", [], [(4, 980)], 6),
        (8, [("Pods", 4, 60)], "Max", [(2, 990)], [(4, 980)], 6),
    ],
)
def test_scaling_down(
    current: int, policies: Any, select: str, up: Any, down: Any, wanted: int
) -> None:
    memory = Memory(up=up, down=down)
    assert down_limit(memory, current, rules(*policies, select=select), 1000) == wanted


@pytest.mark.parametrize(
    ("wanted", "current", "up", "down", "events", "expected"),
    [
        (9, 3, rules(("Pods", 4, 60)), rules(("Percent", 100, 15)), Memory(),
         (7, "ReadyForNewScale", "ScaleUpLimit")),
        (9, 7, rules(("Pods", 4, 60)), rules(("Percent", 100, 15)), Memory(up=[(4, 990)]),
         (7, "ReadyForNewScale", "ScaleUpLimit")),
        (30, 15, rules(("Percent", 100, 15)), rules(("Percent", 100, 15)), Memory(),
         (20, "ReadyForNewScale", "TooManyReplicas")),
        (1, 9, rules(("Pods", 4, 60)), rules(("Pods", 2, 60)), Memory(),
         (7, "ReadyForNewScale", "ScaleDownLimit")),
        (0, 3, rules(("Pods", 4, 60)), rules(("Percent", 100, 15)), Memory(),
         (2, "ReadyForNewScale", "TooFewReplicas")),
        (5, 5, rules(("Pods", 4, 60)), rules(("Percent", 100, 15)), Memory(),
         (5, "ReadyForNewScale", "DesiredWithinRange")),
        # Windows of both directions.
        (9, 5, rules(("Percent", 100, 15), window=60), rules(("Percent", 100, 15)),
         Memory([(6, 950)]), (6, "ScaleUpStabilized", "DesiredWithinRange")),
        (9, 5, rules(("Percent", 100, 15), window=60), rules(("Percent", 100, 15)),
         Memory([(6, 930)]), (9, "ReadyForNewScale", "DesiredWithinRange")),
        (2, 5, rules(("Percent", 100, 15)), rules(("Percent", 100, 15), window=60),
         Memory([(4, 950)]), (4, "ScaleDownStabilized", "DesiredWithinRange")),
        # The flag counts where the rules do not say.
        (2, 5, rules(("Percent", 100, 15)), rules(("Percent", 100, 15), window=None),
         Memory([(4, 750)]), (4, "ScaleDownStabilized", "DesiredWithinRange")),
        (2, 5, rules(("Percent", 100, 15)), rules(("Percent", 100, 15), window=None),
         Memory([(4, 650)]), (2, "ReadyForNewScale", "DesiredWithinRange")),
        # With both, what is between stays as it is.
        (5, 5, rules(("Percent", 100, 15), window=60), rules(("Percent", 100, 15), window=60),
         Memory([(4, 950), (6, 960)]), (5, "ReadyForNewScale", "DesiredWithinRange")),
    ],
)  # fmt: skip
def test_by_rules(
    wanted: int, current: int, up: Any, down: Any, events: Memory, expected: tuple[int, str, str]
) -> None:
    behavior = {"scaleUp": up, "scaleDown": down}
    found = decide_by_rules(events, wanted, Bounds(2, 20, current), behavior, 300, 1000)
    assert (found.replicas, found.able[0], found.limit[0]) == expected
    assert found.limited == (found.limit[0] != "DesiredWithinRange")
    assert events.recommendations[-1] == (wanted, 1000)


def test_what_was_done_is_forgotten_after_the_longest_period() -> None:
    memory = Memory()
    behavior = {"scaleUp": rules(("Pods", 1, 60), ("Pods", 1, 10)),
                "scaleDown": rules(("Pods", 1, 10))}  # fmt: skip
    memory.scaled(1, 3, behavior, 100)
    memory.scaled(3, 4, behavior, 150)
    memory.scaled(4, 1, behavior, 155)
    assert (memory.up, memory.down) == ([(2, 100), (1, 150)], [(3, 155)])
    memory.scaled(1, 2, behavior, 170)
    assert memory.up == [(1, 150), (1, 170)]


@st.composite
def histories(draw: st.DrawFn) -> tuple[Any, Bounds, list[tuple[int, int]]]:
    def one_way() -> Any:
        policies = draw(st.lists(st.tuples(
            st.sampled_from(["Pods", "Percent"]), st.integers(1, 200), st.integers(1, 60)),
            min_size=1, max_size=3))  # fmt: skip
        select = draw(st.sampled_from(["Max", "Min", "Disabled"]))
        return rules(*policies, select=select, window=draw(st.integers(0, 60)))

    fewest = draw(st.integers(1, 5))
    most = draw(st.integers(fewest, 30))
    steps = draw(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 30)), max_size=20))
    bounds = Bounds(fewest, most, draw(st.integers(fewest, most)))
    return {"scaleUp": one_way(), "scaleDown": one_way()}, bounds, steps


@settings(max_examples=examples(50), derandomize=True, deadline=None)
@given(histories())
def test_whatever_is_recommended_bounds_and_directions_hold(history: Any) -> None:
    behavior, bounds, steps = history
    memory = Memory()
    current, now = bounds.current, 0.0
    memory.begin(current, now)
    for wanted, seconds in steps:
        now += seconds
        at = Bounds(bounds.fewest, bounds.most, current)
        found = decide_by_rules(memory, wanted, at, behavior, 300, now)
        assert bounds.fewest <= found.replicas <= bounds.most
        # It never goes the other way than what is wanted of it now, but to keep its bounds.
        clamped = min(max(wanted, bounds.fewest), bounds.most)
        assert (found.replicas - current) * (clamped - current) >= 0
        for way, moved in (("scaleUp", found.replicas > current),
                           ("scaleDown", found.replicas < current)):  # fmt: skip
            assert not (moved and behavior[way]["selectPolicy"] == "Disabled")
        if found.replicas != current:
            memory.scaled(current, found.replicas, behavior, now)
            current = found.replicas
    # What is wanted for long enough comes, as far as it may.
    up, down = (behavior[way]["selectPolicy"] != "Disabled" for way in ("scaleUp", "scaleDown"))
    for _ in range(200):
        now += 61
        at = Bounds(bounds.fewest, bounds.most, current)
        found = decide_by_rules(memory, bounds.most, at, behavior, 300, now)
        if found.replicas != current:
            memory.scaled(current, found.replicas, behavior, now)
        current = found.replicas
    assert not up or current == bounds.most
    assert up or down or current == bounds.current
