"""A bounded buffer of bytes between one task that fills it and one that empties it."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

LIMIT: Final = 256 << 10
"""Bytes that wait for a reader before the writer has to."""


class ByteBuffer:
    """Bytes in order; whoever fills it waits once it is full."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._ended = False
        self._error: Exception | None = None
        self._changed = asyncio.Event()

    async def put(self, data: bytes) -> None:
        """Add bytes, after waiting while it is full; what comes after the end is dropped."""
        while self._size >= self._limit and not self._ended:
            self._changed.clear()
            await self._changed.wait()
        if data and not self._ended:
            self._pieces.append(data)
            self._size += len(data)
            self._changed.set()

    async def get(self) -> bytes:
        """Return the next piece as soon as there is one; b"" at the end.

        Raises:
            Exception: what :meth:`fail` was given, once what came before was taken.
        """
        while not self._pieces:
            if self._error is not None:
                raise self._error
            if self._ended:
                return b""
            self._changed.clear()
            await self._changed.wait()
        data = self._pieces.popleft()
        self._size -= len(data)
        self._changed.set()
        return data

    def end(self) -> None:
        """Nothing more will come."""
        self._ended = True
        self._changed.set()

    def fail(self, error: Exception) -> None:
        """Nothing more will come, and that is not as it should be."""
        if not self._ended:
            self._error = error
        self.end()

    @property
    def ended(self) -> bool:
        """Nothing more will come, but for what is in it."""
        return self._ended
