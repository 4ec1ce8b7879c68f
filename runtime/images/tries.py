"""How often one request to a registry is tried, and for how long.

Who asked for the pull has patience of its own: the kubelet tries again after 10, 20, 40 ... s,
tells the pod what is wrong, and what has arrived is kept for the next pull. So a fault is given
back soon, and only what may pass in a moment (an answer 429 or 5xx, a broken connection) is tried
again here.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

import aiohttp

from runtime.images.settings import RegistryConfig


def is_away(error: BaseException) -> bool:
    """Tell whether nobody was reached: no such name, no route, refused, no answer in time.

    Another try a moment later would not change that; each deadline is long.
    """
    return isinstance(error, aiohttp.ClientConnectorError | TimeoutError)


class Tries:
    """The tries of one request.

    Args:
        config: how long to wait between them, and with how much patience.
        attempts: tries without progress at most.
        clock: seconds that only ever grow.
    """

    def __init__(
        self,
        config: RegistryConfig,
        attempts: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._attempts = attempts
        self._clock = clock
        self._first = 0.0
        self.failed = 0
        """Tries that failed since the last progress."""

    def progress(self) -> None:
        """Begin to count anew."""
        self.failed = 0

    def next_pause(self, asked: float | None = None) -> float | None:
        """Count a failure; return the seconds until the next try, None: it is time to give up.

        Args:
            asked: seconds that the registry asks to wait (``Retry-After``).
        """
        now = self._clock()
        if not self.failed:
            self._first = now
        self.failed += 1
        bound = self._config.max_backoff_seconds
        pause = min(self._config.backoff_seconds * 2 ** (self.failed - 1), bound)
        pause *= 1 - random.random() / 4
        if asked is not None:
            pause = min(asked, bound)
        late = now + pause - self._first > self._config.patience_seconds
        return None if late or self.failed >= self._attempts else pause

    def told(self) -> str:
        """Return how often it was tried, as a part of an error's text."""
        return f"gave up after {self.failed} attempts" if self.failed > 1 else "tried once"
