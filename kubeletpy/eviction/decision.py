"""What to do about the node's pressure: a pure function of thresholds, observations, and the past.

::

    below the threshold --> met --(grace)--> acted upon --> until available >= threshold + reclaim
    a condition holds from the first look at which a threshold is met (soft ones included) until the
    transition period after the last one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from .signals import Observation, Signal, Threshold, condition_of, resource_of


@dataclass(frozen=True)
class Past:
    """What was seen before.

    Attributes:
        since: when each threshold that is met was first met.
        seen: when each node condition was last seen.
        acted: thresholds that are met for longer than their grace, until they are resolved.
    """

    since: Mapping[Threshold, float] = field(default_factory=dict)
    seen: Mapping[str, float] = field(default_factory=dict)
    acted: tuple[Threshold, ...] = ()


@dataclass(frozen=True)
class Decision:
    """What to do now.

    Attributes:
        past: for the next decision.
        conditions: node conditions that hold.
        reclaim: threshold to act upon first; None: nothing is to be done.
        met: all thresholds to act upon, in their order.
        wake_at: when a grace or a transition period ends.
    """

    past: Past
    conditions: frozenset[str]
    reclaim: Threshold | None
    met: tuple[Threshold, ...]
    wake_at: float | None


def decide(
    thresholds: Sequence[Threshold],
    observations: Mapping[Signal, Observation],
    past: Past,
    transition: float,
    now: float,
) -> Decision:
    """Return what to do.

    Args:
        thresholds: all that are set.
        observations: by signal; signals that could not be observed are not judged.
        past: of the decision before.
        transition: evictionPressureTransitionPeriod in seconds.
        now: a time in seconds.
    """
    current = list(met(thresholds, observations))
    unresolved = met(past.acted, observations, with_reclaim=True)
    current += [one for one in unresolved if one not in current]
    since = {one: past.since.get(one, now) for one in current}
    seen = dict(past.seen) | {condition_of(one.signal): now for one in current}
    seen = {name: at for name, at in seen.items() if now - at < transition or at == now}
    acted = sorted((one for one in current if now - since[one] >= one.grace), key=_urgency)
    times = [since[one] + one.grace for one in current if one not in acted]
    times += [at + transition for at in seen.values() if at < now]
    return Decision(
        past=Past(since, seen, tuple(acted)),
        conditions=frozenset(seen),
        reclaim=acted[0] if acted else None,
        met=tuple(acted),
        wake_at=min(times, default=None),
    )


def met(
    thresholds: Sequence[Threshold],
    observations: Mapping[Signal, Observation],
    *,
    with_reclaim: bool = False,
) -> list[Threshold]:
    """Return the thresholds that are met, whatever their grace.

    Args:
        thresholds: to look at.
        observations: by signal.
        with_reclaim: a threshold counts as met until its minimum reclaim is free as well.
    """
    found = []
    for one in thresholds:
        seen = observations.get(one.signal)
        if seen is None:
            continue
        needed = one.value.of(seen.capacity)
        if with_reclaim and one.reclaim is not None:
            needed += one.reclaim.of(seen.capacity)
        if needed > seen.available:
            found.append(one)
    return found


def _urgency(one: Threshold) -> tuple[bool, bool]:
    """Memory first: it is the one that the kernel answers for by killing."""
    return resource_of(one.signal) != "memory", not one.hard
