"""Back-off between attempts; pure, all times are seconds.

Containers: the Go kubelet starts a container again at once after its first end, then waits 10 s,
20 s, ... 300 s after each end, and forgets all that once the container ran for ten minutes
(https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#restart-policy). It keeps the
delays in memory; here each container carries, as an annotation, the delay that applies after its
own end, so that a restarted kubelet goes on where the last one was.
"""

from __future__ import annotations

from dataclasses import dataclass

CONTAINER_INITIAL = 10.0
CONTAINER_MAXIMUM = 300.0
CONTAINER_RESET_AFTER = 600.0


@dataclass(frozen=True, slots=True)
class CrashLoop:
    """Limits of the back-off between restarts of a container.

    Attributes:
        initial: seconds to wait after the second end in a row.
        maximum: seconds to wait at most.
        reset_after: a container that ran for so many seconds is not seen as crashing.
    """

    initial: float = CONTAINER_INITIAL
    maximum: float = CONTAINER_MAXIMUM
    reset_after: float = CONTAINER_RESET_AFTER

    def delay(self, carried: float, started_at: float, finished_at: float) -> float:
        """Return how long after ``finished_at`` to wait before the next start.

        Args:
            carried: the delay that the ended container carries.
            started_at: when it started; 0 if it never did.
            finished_at: when it ended.
        """
        if started_at and finished_at - started_at > self.reset_after:
            return 0.0
        return min(carried, self.maximum)

    def carried_by_next(self, delay: float) -> float:
        """Return the delay that the next container carries, ``delay`` being waited before it."""
        return self.initial if delay <= 0 else min(delay * 2, self.maximum)


@dataclass(frozen=True, slots=True)
class Retry:
    """Exponential delays for a step that fails: ``initial``, twice that, ... ``maximum``."""

    initial: float
    maximum: float

    def delay(self, failures: int) -> float:
        """Return the seconds to wait after that many failures in a row (>= 1)."""
        # The exponent is bounded before it is used: a float has room for 1023 doublings only.
        return min(self.initial * 2.0 ** min(max(failures, 1) - 1, 64), self.maximum)


IMAGE_PULL = Retry(initial=10.0, maximum=300.0)
"""Between pulls of one image, as the Go kubelet."""
STEP = Retry(initial=1.0, maximum=60.0)
"""Between attempts of any other step of a pod (sandbox, container creation, clean-up)."""


def go_duration(seconds: float) -> str:
    """Return whole seconds as Go prints a duration: ``10s``, ``1m20s``, ``5m0s``, ``1h0m0s``."""
    total = round(seconds)
    hours, rest = divmod(total, 3600)
    minutes, second = divmod(rest, 60)
    if hours:
        return f"{hours}h{minutes}m{second}s"
    return f"{minutes}m{second}s" if minutes else f"{second}s"
