"""How fast a number of replicas may change: windows, policies and limits.

What was recommended and done before is remembered by autoscaler; the rest is pure. Times are
seconds of one clock that never goes back.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil
from typing import Any, Final

from .calculation import MOST

_FACTOR: Final = 2
_FEWEST: Final = 4
IN_RANGE: Final = ("DesiredWithinRange", "the desired count is within the acceptable range")
_UP_LIMIT: Final = (
    "ScaleUpLimit", "the desired replica count is increasing faster than the maximum scale rate",
)  # fmt: skip
_DOWN_LIMIT: Final = (
    "ScaleDownLimit", "the desired replica count is decreasing faster than the maximum scale rate",
)  # fmt: skip
_TOO_MANY: Final = (
    "TooManyReplicas", "the desired replica count is more than the maximum replica count",
)  # fmt: skip
_TOO_FEW: Final = (
    "TooFewReplicas", "the desired replica count is less than the minimum replica count",
)  # fmt: skip
UP_STABILIZED: Final = (
    "ScaleUpStabilized",
    "recent recommendations were lower than current one, applying the lowest recent recommendation",
)
DOWN_STABILIZED: Final = (
    "ScaleDownStabilized",
    "recent recommendations were higher than current one, applying the highest recent "
    "recommendation",
)
READY: Final = ("ReadyForNewScale", "recommended size matches current size")

Rules = Mapping[str, Any]
"""HPAScalingRules, with the server's defaults."""


@dataclass(slots=True)
class Memory:
    """What is remembered of one autoscaler.

    Attributes:
        recommendations: replicas and when they were recommended.
        up, down: by how many replicas it was scaled, and when.
    """

    recommendations: list[tuple[int, float]] = field(default_factory=list)
    up: list[tuple[int, float]] = field(default_factory=list)
    down: list[tuple[int, float]] = field(default_factory=list)

    def begin(self, replicas: int, now: float) -> None:
        """Take what there is for the first recommendation, if there was none yet."""
        if not self.recommendations:
            self.recommendations.append((replicas, now))

    def recommend(self, replicas: int, now: float, window: float) -> None:
        """Remember a recommendation, and forget those that are older than a window."""
        self.recommendations = [
            one for one in self.recommendations if one[1] >= now - window
        ]  # fmt: skip
        self.recommendations.append((replicas, now))

    def scaled(self, before: int, after: int, behavior: Mapping[str, Any], now: float) -> None:
        """Remember that it was scaled."""
        way = "scaleUp" if after > before else "scaleDown"
        longest = max((one["periodSeconds"] for one in behavior[way]["policies"]), default=0)
        events = self.up if after > before else self.down
        events[:] = [one for one in events if one[1] >= now - longest]
        events.append((abs(after - before), now))


@dataclass(frozen=True, slots=True)
class Bounds:
    """Between what an autoscaler scales: fewest, most, and what there is."""

    fewest: int
    most: int
    current: int


@dataclass(frozen=True, slots=True)
class Decision:
    """A number of replicas that may be set.

    Attributes:
        replicas: the number.
        able: reason and message of the condition ``AbleToScale``.
        limited: whether it is not the one that was recommended.
        limit: reason and message of the condition ``ScalingLimited``.
    """

    replicas: int
    able: tuple[str, str]
    limited: bool
    limit: tuple[str, str]


def decide(memory: Memory, wanted: int, bounds: Bounds, window: float, now: float) -> Decision:
    """Return what may be set without rules of the autoscaler's own; remembers the recommendation.

    Args:
        memory: of the autoscaler; changed.
        wanted: what is recommended.
        bounds: of it.
        window: seconds in which the highest recommendation counts.
        now: the time.
    """
    recent = [replicas for replicas, at in memory.recommendations if at >= now - window]
    stable = max(wanted, *recent) if recent else wanted
    memory.recommend(wanted, now, window)
    replicas, limit = _bounded(stable, bounds)
    able = DOWN_STABILIZED if stable != wanted else READY
    return Decision(replicas, able, replicas != stable, limit)


def decide_by_rules(
    memory: Memory, wanted: int, bounds: Bounds, behavior: Mapping[str, Any], window: float,
    now: float,
) -> Decision:  # fmt: skip
    """Return what may be set with the rules of an autoscaler; remembers the recommendation.

    Args:
        memory: of the autoscaler; changed.
        wanted: what is recommended.
        bounds: of it.
        behavior: its rules.
        window: seconds of the window for scaling down, if the rules do not say.
        now: the time.
    """
    up, down = behavior["scaleUp"], behavior["scaleDown"]
    up_window = _window(up, 0.0)
    down_window = _window(down, window)
    lowest = min([wanted, *(n for n, at in memory.recommendations if at > now - up_window)])
    highest = max([wanted, *(n for n, at in memory.recommendations if at > now - down_window)])
    stable = min(max(bounds.current, lowest), highest)
    memory.recommend(wanted, now, max(up_window, down_window))
    able = READY
    if stable != wanted:
        able = UP_STABILIZED if wanted >= bounds.current else DOWN_STABILIZED
    replicas, limit = _within_rates(memory, stable, bounds, up, down, now)
    return Decision(replicas, able, replicas != stable, limit)


def _window(rules: Rules, default: float) -> float:
    found = rules.get("stabilizationWindowSeconds")
    return default if found is None else float(found)


def _bounded(wanted: int, bounds: Bounds) -> tuple[int, tuple[str, str]]:
    fastest = max(_FACTOR * bounds.current, _FEWEST)
    most, reason = (fastest, _UP_LIMIT) if bounds.most > fastest else (bounds.most, _TOO_MANY)
    if wanted < bounds.fewest:
        return bounds.fewest, _TOO_FEW
    if wanted > most:
        return most, reason
    return wanted, IN_RANGE


def _within_rates(
    memory: Memory, wanted: int, bounds: Bounds, up: Rules, down: Rules, now: float
) -> tuple[int, tuple[str, str]]:
    if wanted > bounds.current:
        limit = max(up_limit(memory, bounds.current, up, now), bounds.current)
        most, reason = (limit, _UP_LIMIT) if bounds.most > limit else (bounds.most, _TOO_MANY)
        if wanted > most:
            return most, reason
    elif wanted < bounds.current:
        limit = min(down_limit(memory, bounds.current, down, now), bounds.current)
        slow = bounds.fewest < limit
        fewest, reason = (limit, _DOWN_LIMIT) if slow else (bounds.fewest, _TOO_FEW)
        if wanted < fewest:
            return fewest, reason
    return wanted, IN_RANGE


def up_limit(memory: Memory, current: int, rules: Rules, now: float) -> int:
    """Return the most replicas that the policies for scaling up let there be now."""
    if rules["selectPolicy"] == "Disabled":
        return current
    found: list[int] = []
    for policy in rules["policies"]:
        begun = _at_begin(memory, current, policy["periodSeconds"], now)
        if policy["type"] == "Pods":
            found.append(begun + policy["value"])
        else:
            # Rounded up: otherwise few replicas would never become more.
            found.append(ceil(begun * (1 + policy["value"] / 100)))
    choose = min if rules["selectPolicy"] == "Min" else max
    return min(choose(found), MOST)


def down_limit(memory: Memory, current: int, rules: Rules, now: float) -> int:
    """Return the fewest replicas that the policies for scaling down let there be now."""
    if rules["selectPolicy"] == "Disabled":
        return current
    found: list[int] = []
    for policy in rules["policies"]:
        begun = _at_begin(memory, current, policy["periodSeconds"], now)
        if policy["type"] == "Pods":
            found.append(begun - policy["value"])
        else:
            found.append(int(begun * (1 - policy["value"] / 100)))
    choose = max if rules["selectPolicy"] == "Min" else min
    return choose(found)


def _at_begin(memory: Memory, current: int, period: float, now: float) -> int:
    """Return how many replicas there were when a period that ends now began."""
    added = sum(count for count, at in memory.up if at > now - period)
    removed = sum(count for count, at in memory.down if at > now - period)
    return current - added + removed
