"""One-time tokens: who holds one may open the session that it was issued for, once and soon."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from typing import Final, Generic, TypeVar

TOKEN_BYTES: Final = 32
LIFETIME: Final = 60.0
MAX_TOKENS: Final = 1000

_T = TypeVar("_T")


class TooManyTokensError(Exception):
    """Too many sessions were asked for and not opened."""


class Tokens(Generic[_T]):
    """What waits to be opened, by its token.

    Args:
        clock: seconds, monotonic.
        lifetime: seconds until a token is void.
        limit: tokens at most.
    """

    def __init__(
        self,
        clock: Callable[[], float] = time.monotonic,
        lifetime: float = LIFETIME,
        limit: int = MAX_TOKENS,
    ) -> None:
        self._clock = clock
        self._lifetime = lifetime
        self._limit = limit
        # In the order of their issue, which is that of their expiry.
        self._waiting: dict[str, tuple[float, _T]] = {}

    def issue(self, value: _T) -> str:
        """Return a token of 256 random bits, safe in a URL.

        Raises:
            TooManyTokensError: as many as allowed are waiting.
        """
        self._expire()
        if len(self._waiting) >= self._limit:
            raise TooManyTokensError(
                f"{self._limit} streaming sessions were asked for and not opened: open them, or "
                f"wait {self._lifetime:g} s"
            )
        token = secrets.token_urlsafe(TOKEN_BYTES)
        self._waiting[token] = (self._clock() + self._lifetime, value)
        return token

    def take(self, token: str) -> _T | None:
        """Return what a token was issued for, and void it; None if it is void or unknown."""
        self._expire()
        entry = self._waiting.pop(token, None)
        return None if entry is None else entry[1]

    def __len__(self) -> int:
        self._expire()
        return len(self._waiting)

    def _expire(self) -> None:
        now = self._clock()
        while self._waiting:
            token = next(iter(self._waiting))
            if self._waiting[token][0] > now:
                return
            del self._waiting[token]
