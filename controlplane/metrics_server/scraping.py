"""Fetching texts of others, within bounds: bytes, time and redirects are theirs to abuse."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass
from typing import Final

import aiohttp
from yarl import URL

_AT_ONCE: Final = 50
_LONGEST_LINE: Final = 64 << 10


class ScrapeError(Exception):
    """A text could not be had; the message says whose and why."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What a text may cost.

    Attributes:
        size: bytes.
        seconds: from the first byte sent to the last one received.
    """

    size: int
    seconds: float


class Scraper:
    """Fetches texts; closed by `close`."""

    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            # What is compressed may be of any size.
            auto_decompress=False,
            headers={"Accept": "text/plain;version=0.0.4", "Accept-Encoding": "identity",
                     "User-Agent": "kubeletpy-metrics/1.36"},
        )  # fmt: skip

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def fetch(
        self, url: str, bounds: Bounds, context: ssl.SSLContext | None = None, token: str = ""
    ) -> str:
        """Return a text.

        Args:
            url: of it.
            bounds: that it must keep.
            context: of TLS.
            token: bearer token; "": none.

        Raises:
            ScrapeError: it cannot be had, or is too much.
        """
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        try:
            async with (
                self._slots,
                asyncio.timeout(bounds.seconds),
                self._session.get(
                    URL(url, encoded=True), ssl=context if context is not None else True,
                    headers=headers, allow_redirects=False,
                ) as answer,
            ):  # fmt: skip
                if answer.status != 200:
                    raise ScrapeError(f"{url}: the answer is {answer.status}")
                return await _text(answer, url, bounds.size)
        except TimeoutError as error:
            raise ScrapeError(f"{url}: not all of it came within {bounds.seconds:g} s") from error
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise ScrapeError(f"{url}: {str(error) or type(error).__name__}") from error


async def _text(answer: aiohttp.ClientResponse, url: str, size: int) -> str:
    received = bytearray()
    line = 0
    async for data in answer.content.iter_any():
        received += data
        if len(received) > size:
            raise ScrapeError(f"{url}: more than {size} bytes")
        newline = data.rfind(b"\n")
        line = line + len(data) if newline < 0 else len(data) - newline
        if line > _LONGEST_LINE:
            raise ScrapeError(f"{url}: a line is longer than {_LONGEST_LINE} bytes")
    return received.decode("utf-8", "replace")
