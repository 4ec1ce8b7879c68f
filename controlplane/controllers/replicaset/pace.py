"""How fast pods are made again that fail, or that the server refuses (pure but for its memory).

Every event about a pod has its owner looked at. Without a bound, pods that fail as soon as they
are there (a node that rejects them, say) would be replaced as fast as they fail, and a quota that
is used up would be tried with each of those looks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

BURST: Final = 100
"""Pods that failed young and are replaced at once."""
RATE: Final = 1.0
"""Those beyond `BURST` that are replaced each second."""
YOUNG: Final = 600.0
"""Seconds within which after its creation a pod is young."""
FIRST_PAUSE: Final = 0.05
LONGEST_PAUSE: Final = 60.0


@dataclass(slots=True)
class Pace:
    """Of one owner; times are seconds of a clock that only grows."""

    at: float
    tokens: float = BURST
    _slow: bool = False
    refusals: int = 0
    resume: float = 0.0
    generation: int = 0
    active: int = 0

    def allowed(self, missing: int, failed: int, now: float) -> tuple[int, float | None]:
        """Return how many pods may be made now, and the seconds until there may be more.

        Args:
            missing: how many are wanted.
            failed: pods of the owner that failed young and are still known.
            now: what time it is.
        """
        self._refill(now)
        replacements = min(missing, failed)
        granted = min(replacements, int(self.tokens))
        self.tokens -= granted
        held = replacements - granted
        self._slow = self._slow or held > 0
        return missing - held, max(1.0 - self.tokens, 0.0) / RATE if held else None

    def slow(self, now: float) -> float | None:
        """Return the seconds for which failing pods are still replaced slowly; None: they are not.

        One that waits for a token now and then is slow until half of `BURST` is there again.
        """
        self._refill(now)
        missing = BURST / 2 - self.tokens
        self._slow = self._slow and missing > 0
        return missing / RATE if self._slow else None

    def _refill(self, now: float) -> None:
        self.tokens = min(BURST, self.tokens + (now - self.at) * RATE)
        self.at = now

    def refused(self, generation: int, active: int, now: float, asked: float | None) -> float:
        """Take note that the server refused to make a pod; return the seconds to wait.

        Args:
            generation: of the owner.
            active: its pods that are there.
            now: what time it is.
            asked: seconds that the server asks to wait.
        """
        pause = min(FIRST_PAUSE * 2 ** min(self.refusals, 20), LONGEST_PAUSE)
        self.refusals += 1
        self.resume = now + max(pause, asked or 0.0)
        self.generation, self.active = generation, active
        return self.resume - now

    def held(self, generation: int, active: int, now: float) -> float | None:
        """Return the seconds to wait after a refusal; None: something may be different now."""
        changed = generation != self.generation or active < self.active
        return None if changed or now >= self.resume else self.resume - now

    def made(self) -> None:
        """Take note that the server refuses nothing any more."""
        self.refusals, self.resume = 0, 0.0
