"""What is counted of autoscalers, under the names that the Go peer has."""

from __future__ import annotations

from typing import Final

from controlplane.engine.measures import Level, Measure, Spread, Tally, exponential

UP: Final = "scale_up"
DOWN: Final = "scale_down"
NONE: Final = "none"
SPEC: Final = "spec"
INTERNAL: Final = "internal"
_PREFIX: Final = "horizontal_pod_autoscaler_controller_"
_BOUNDS: Final = exponential(0.001, 2, 15)


def way_of(current: int, wanted: int) -> str:
    """Return what a number of replicas does (pure)."""
    return UP if wanted > current else DOWN if wanted < current else NONE


class Counts:
    """What happened so far.

    Attributes:
        desired: replicas that each autoscaler wants, by its key.
    """

    def __init__(self) -> None:
        labels = ("action", "error")
        self.desired: dict[str, int] = {}
        self._looks = Tally(f"{_PREFIX}reconciliations", "Looks at autoscalers.", *labels)
        self._seconds = Spread(
            f"{_PREFIX}reconciliation_duration_seconds", "How long these took.", _BOUNDS, *labels
        )
        of_metric = (*labels, "metric_type")
        self._metrics = Tally(f"{_PREFIX}metric_computation", "Metrics looked at.", *of_metric)
        self._of_metrics = Spread(
            f"{_PREFIX}metric_computation_duration_seconds", "How long these took.", _BOUNDS,
            *of_metric,
        )  # fmt: skip

    @property
    def all(self) -> list[Measure]:
        """All of them."""
        desired = Level(
            f"{_PREFIX}desired_replicas", "Replicas wanted.",
            lambda: {tuple(key.split("/", 1)): count for key, count in self.desired.items()},
            "namespace", "hpa_name",
        )  # fmt: skip
        return [self._looks, self._seconds, self._metrics, self._of_metrics, desired]

    def looked(self, action: str, error: str, seconds: float) -> None:
        """Look at an autoscaler done: what came of it, and whose fault it is if nothing did."""
        self._looks.add(action, error)
        self._seconds.add(seconds, action, error)

    def computed(self, action: str, error: str, kind: str, seconds: float) -> None:
        """One metric of an autoscaler was computed; ``kind`` is its type."""
        self._metrics.add(action, error, kind)
        self._of_metrics.add(seconds, action, error, kind)
