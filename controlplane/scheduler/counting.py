"""What the scheduler counts, under the Go peer's names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from controlplane.engine.measures import Spread, Tally, exponential

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from .queue import SchedulingQueue

SCHEDULED: Final = "scheduled"
REFUSED: Final = "unschedulable"
FAILED: Final = "error"
BOUNDS: Final = exponential(0.01, 2, 20)
"""Seconds, of the buckets in which durations are counted."""


class Counts:
    """What happened so far."""

    def __init__(self) -> None:
        self._attempts = Tally(
            "scheduler_schedule_attempts", "Attempts to place a pod.", "result", "profile"
        )
        self._durations = Spread(
            "scheduler_pod_scheduling_sli_duration_seconds",
            "From a pod's coming into the queue until it has a node.",
            BOUNDS,
        )
        self._preemptions = Tally("scheduler_preemption_attempts", "Preemptions.")
        self._victims = Tally("scheduler_preemption_victims", "Pods that made room.")

    def attempt(self, result: str, profile: str, seconds: float | None = None) -> None:
        """Count an attempt.

        Args:
            result: `SCHEDULED`, `REFUSED` or `FAILED`.
            profile: name of the scheduler.
            seconds: since the pod came into the queue, if it got a node.
        """
        self._attempts.add(result, profile)
        if seconds is not None:
            self._durations.add(seconds)

    def preempted(self, victims: int) -> None:
        """Count a preemption."""
        self._preemptions.add()
        self._victims.add(count=victims)

    def metrics(self, queue: SchedulingQueue) -> Iterator[Metric]:
        """Yield all, and how many pods wait."""
        from prometheus_client.core import GaugeMetricFamily

        waiting = GaugeMetricFamily(
            "scheduler_pending_pods", "Pods that wait, by where.", labels=["queue"]
        )
        for name, count in queue.sizes().items():
            waiting.add_metric([name], count)
        yield waiting
        for each in (self._attempts, self._durations, self._preemptions, self._victims):
            yield each.metric()
