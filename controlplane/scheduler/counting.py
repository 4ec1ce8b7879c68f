"""What the scheduler counts, under the Go peer's names."""

from __future__ import annotations

import bisect
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from .queue import SchedulingQueue

SCHEDULED: Final = "scheduled"
REFUSED: Final = "unschedulable"
FAILED: Final = "error"
BOUNDS: Final = tuple(0.01 * 2**power for power in range(20))
"""Seconds, of the buckets in which durations are counted."""


class Counts:
    """What happened so far."""

    def __init__(self) -> None:
        self._attempts: Counter[tuple[str, str]] = Counter()
        self._buckets = [0] * (len(BOUNDS) + 1)
        self._seconds = 0.0
        self._preemptions = 0
        self._victims = 0

    def attempt(self, result: str, profile: str, seconds: float | None = None) -> None:
        """Count an attempt.

        Args:
            result: `SCHEDULED`, `REFUSED` or `FAILED`.
            profile: name of the scheduler.
            seconds: since the pod came into the queue, if it got a node.
        """
        self._attempts[result, profile] += 1
        if seconds is not None:
            self._buckets[bisect.bisect_left(BOUNDS, seconds)] += 1
            self._seconds += seconds

    def preempted(self, victims: int) -> None:
        """Count a preemption."""
        self._preemptions += 1
        self._victims += victims

    def metrics(self, queue: SchedulingQueue) -> Iterator[Metric]:
        """Yield all, and how many pods wait."""
        from prometheus_client.core import (
            CounterMetricFamily,
            GaugeMetricFamily,
            HistogramMetricFamily,
        )

        waiting = GaugeMetricFamily(
            "scheduler_pending_pods", "Pods that wait, by where.", labels=["queue"]
        )
        for name, count in queue.sizes().items():
            waiting.add_metric([name], count)
        yield waiting
        attempts = CounterMetricFamily(
            "scheduler_schedule_attempts", "Attempts to place a pod.", labels=["result", "profile"]
        )
        for labels, count in self._attempts.items():
            attempts.add_metric(list(labels), count)
        yield attempts
        total, buckets = 0, []
        for bound, count in zip((*map(str, BOUNDS), "+Inf"), self._buckets, strict=True):
            total += count
            buckets.append((bound, total))
        durations = HistogramMetricFamily(
            "scheduler_pod_scheduling_sli_duration_seconds",
            "From a pod's coming into the queue until it has a node.",
        )
        durations.add_metric([], buckets, self._seconds)
        yield durations
        yield CounterMetricFamily(
            "scheduler_preemption_attempts", "Preemptions.", value=self._preemptions
        )
        yield CounterMetricFamily(
            "scheduler_preemption_victims", "Pods that made room.", value=self._victims
        )
