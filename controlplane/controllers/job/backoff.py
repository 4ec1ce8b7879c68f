"""How long no pod is made after pods failed (pure).

Source: Kubernetes documentation, "Pod backoff failure policy": 10 s, 20 s, 40 s ... up to ten
minutes, from the end of the last pod that failed; a success begins anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from controlplane.engine.resources import Object

from .facts import ended_at, failures_of

FIRST: Final = 10.0
LONGEST: Final = 600.0
_DOUBLINGS: Final = 20


@dataclass(frozen=True, slots=True)
class Record:
    """Failures of a Job's pods.

    Attributes:
        failures: since the last success.
        last: when the last of them was.
    """

    failures: int = 0
    last: datetime | None = None

    def after(self, succeeded: Iterable[Object], failed: Iterable[Object]) -> Record:
        """Return the record after some pods ended."""
        good = max((ended_at(pod) for pod in succeeded), default=None)
        bad = sorted(ended_at(pod) for pod in failed)
        if good is None:
            return Record(self.failures + len(bad), bad[-1]) if bad else self
        later = [moment for moment in bad if moment > good]
        return Record(len(later), later[-1] if later else None)

    def remaining(self, now: datetime) -> float:
        """Return the seconds until the next pod may be made."""
        if self.last is None or not self.failures:
            return 0.0
        return _remaining(self.failures, self.last, now)


def remaining_of_index(failed: Object | None, now: datetime) -> float:
    """Return the seconds until a failed pod may be replaced, where each index has its own limit."""
    return _remaining(failures_of(failed) + 1, ended_at(failed), now) if failed is not None else 0.0


def _remaining(failures: int, last: datetime, now: datetime) -> float:
    pause = min(FIRST * 2.0 ** min(failures - 1, _DOUBLINGS), LONGEST)
    # A clock that was set back must not make it longer.
    return min(max(pause - (now - last).total_seconds(), 0.0), pause)
