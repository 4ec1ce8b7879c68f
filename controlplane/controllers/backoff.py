"""Longer and longer pauses before what failed is tried again."""

from __future__ import annotations

_MANY = 1000


class Backoff:
    """Pauses by key, each twice as long as the one before.

    Args:
        first, longest: seconds. What did not fail for twice the longest begins anew.
    """

    def __init__(self, first: float, longest: float) -> None:
        self._first = first
        self._longest = longest
        self._entries: dict[str, tuple[float, float]] = {}

    def wait(self, key: str, now: float) -> float:
        """Return the seconds that are left before the next attempt; 0: none.

        Args:
            now: seconds of a clock that only grows.
        """
        entry = self._entries.get(key)
        if entry is None or self._is_over(entry, now):
            return 0.0
        pause, since = entry
        return max(since + pause - now, 0.0)

    def attempt(self, key: str, now: float) -> None:
        """Take note of an attempt: the next one has to wait."""
        entry = self._entries.get(key)
        again = entry is not None and not self._is_over(entry, now)
        pause = min(entry[0] * 2, self._longest) if entry is not None and again else self._first
        self._entries[key] = (pause, now)
        if len(self._entries) > _MANY:
            self._entries = {
                name: one for name, one in self._entries.items() if not self._is_over(one, now)
            }

    def _is_over(self, entry: tuple[float, float], now: float) -> bool:
        return now - entry[1] > 2 * self._longest
