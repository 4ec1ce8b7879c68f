"""From measured values to a number of replicas (pure).

All values are in thousandths, as `pods.milli` makes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from math import ceil, inf
from typing import Final

from controlplane.engine.resources import Object

from .pods import (
    CalculationError,
    Groups,
    Patience,
    PodMetric,
    PodMetrics,
    group,
    ready_count,
    requests_of,
)

MOST: Final = 2**31 - 1
"""Replicas that can be asked for."""
_LARGEST: Final = 2**63 - 1
_WHOLE: Final = 100
_NO_PODS: Final = "no pods returned by selector while calculating replica count"
_NO_METRICS: Final = "did not receive metrics for targeted pods (pods might be unready)"


@dataclass(frozen=True, slots=True)
class Tolerances:
    """By how much usage may be below or above the target without anything being done."""

    down: float = 0.1
    up: float = 0.1

    def hold(self, ratio: float) -> bool:
        """Whether a ratio of usage to target is good enough."""
        return 1.0 - self.down <= ratio <= 1.0 + self.up


@dataclass(frozen=True, slots=True)
class Situation:
    """What a number of replicas depends on besides a metric.

    Attributes:
        replicas: that there shall be now.
        pods: of the target.
        tolerances: of the autoscaler.
        patience: with new pods.
        now: the time.
    """

    replicas: int
    pods: Sequence[Object]
    tolerances: Tolerances
    patience: Patience
    now: datetime


@dataclass(frozen=True, slots=True)
class Result:
    """A number of replicas.

    Attributes:
        replicas: that there should be.
        usage: of a pod, on average, or in all; in thousandths.
        utilization: of what was asked for, in percent.
    """

    replicas: int
    usage: int
    utilization: int = 0


def by_utilization(
    metrics: PodMetrics, target: int, resource: str, container: str, at: Situation
) -> Result:
    """Return the replicas for a share of what the pods ask for.

    Args:
        metrics: what was measured.
        target: percent.
        resource: that was measured.
        container: only this one counts; "": all.
        at: everything else.

    Raises:
        CalculationError: they cannot be said.
    """
    if not at.pods:
        raise CalculationError(_NO_PODS)
    groups = group(at.pods, metrics, resource, at.patience, at.now)
    counted = groups.counted(metrics)
    if not counted:
        raise CalculationError(_NO_METRICS)
    requests = requests_of(at.pods, container, resource)
    ratio, utilization, average = utilization_ratio(counted, requests, target)
    # On a scale-down, those that were not measured use all, or what is aimed at if that is more.
    fallback = max(_WHOLE, target)
    absent = {name: requests[name] * fallback // _WHOLE for name in groups.missing}
    filled = _filled(counted, groups, ratio, absent, at)
    if filled is None:
        return Result(_plain(ratio, groups, at), average, utilization)
    again, _, _ = utilization_ratio(filled, requests, target)
    return Result(_careful(ratio, again, len(filled), at), average, utilization)


def by_average(metrics: PodMetrics, target: int, resource: str, at: Situation) -> Result:
    """Return the replicas for an average of a pod.

    Args:
        metrics: what was measured.
        target: in thousandths.
        resource: that was measured; "": no resource.
        at: everything else.

    Raises:
        CalculationError: they cannot be said.
    """
    if not at.pods:
        raise CalculationError(_NO_PODS)
    groups = group(at.pods, metrics, resource, at.patience, at.now)
    counted = groups.counted(metrics)
    if not counted:
        raise CalculationError(_NO_METRICS)
    ratio, usage = usage_ratio(counted, target)
    absent = dict.fromkeys(groups.missing, target)
    filled = _filled(counted, groups, ratio, absent, at)
    if filled is None:
        return Result(_plain(ratio, groups, at), usage)
    again, _ = usage_ratio(filled, target)
    return Result(_careful(ratio, again, len(filled), at), usage)


def by_value(usage: int, target: int, at: Situation) -> Result:
    """Return the replicas for a value that does not belong to single pods.

    Raises:
        CalculationError: there are no pods.
    """
    ratio = _divided(usage, target)
    if at.replicas == 0:
        # There is nothing that could be tolerated.
        return Result(_whole(ratio), usage)
    if at.tolerances.hold(ratio):
        return Result(at.replicas, usage)
    return Result(_whole(ratio * ready_count(list(at.pods))), usage)


def by_value_per_pod(usage: int, target: int, replicas: int, tolerances: Tolerances) -> Result:
    """Return the replicas for a value that is shared evenly by all that there are.

    Args:
        usage: in all.
        target: of a pod.
        replicas: that there are.
        tolerances: of the autoscaler.
    """
    ratio = _divided(usage, target * replicas)
    wanted = replicas if tolerances.hold(ratio) else _whole(_divided(usage, target))
    return Result(wanted, min(_whole(_divided(usage, replicas), _LARGEST), _LARGEST))


def total(values: Sequence[int]) -> int:
    """Return the sum of the values of an external metric, capped as 64 bits are."""
    return min(sum(values), _LARGEST)


def utilization_ratio(
    metrics: PodMetrics, requests: Mapping[str, int], target: int
) -> tuple[float, int, int]:
    """Return usage to target, the utilization in percent, and the average usage of a pod.

    Raises:
        CalculationError: what was measured is not of the pods.
    """
    known = [name for name in metrics if name in requests]
    used = sum(metrics[name].value for name in known)
    asked = sum(requests[name] for name in known)
    if not asked:
        raise CalculationError("no metrics returned matched known pods")
    utilization = used * 100 // asked
    return utilization / target, utilization, used // len(known)


def usage_ratio(metrics: PodMetrics, target: int) -> tuple[float, int]:
    """Return usage to target, and the average usage of a pod."""
    usage = sum(one.value for one in metrics.values()) // len(metrics)
    return _divided(usage, target), usage


def _filled(
    counted: dict[str, PodMetric], groups: Groups, ratio: float, absent: Mapping[str, int],
    at: Situation,
) -> dict[str, PodMetric] | None:  # fmt: skip
    """Return what was measured with guesses about the others; None: there are no others."""
    growing = bool(groups.unready) and ratio > 1.0
    if not growing and not groups.missing:
        return None
    filled = dict(counted)
    if ratio < 1.0:
        filled |= {name: PodMetric(value) for name, value in absent.items()}
    elif ratio > 1.0:
        filled |= {name: PodMetric(0) for name in groups.missing}
    if growing:
        filled |= {name: PodMetric(0) for name in groups.unready}
    return filled


def _plain(ratio: float, groups: Groups, at: Situation) -> int:
    return at.replicas if at.tolerances.hold(ratio) else _whole(ratio * groups.ready)


def _careful(before: float, ratio: float, count: int, at: Situation) -> int:
    """Return the replicas after guesses: they may slow a change down, never turn it around."""
    turned = (before < 1.0 < ratio) or (ratio < 1.0 < before)
    if at.tolerances.hold(ratio) or turned:
        return at.replicas
    wanted = _whole(ratio * count)
    if (ratio < 1.0 and wanted > at.replicas) or (ratio > 1.0 and wanted < at.replicas):
        return at.replicas
    return wanted


def _divided(number: int, by: int) -> float:
    if by == 0:
        return inf if number > 0 else 0.0
    return number / by


def _whole(number: float, most: int = MOST) -> int:
    return most if number > most else ceil(number)
