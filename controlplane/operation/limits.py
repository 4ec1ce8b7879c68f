"""Bounds on requests: how long one may take, how many run at once.

Watches and other streams have no deadline and are not counted: they last, and wait for most of the
time. Source: kube-apiserver documentation, ``--request-timeout``, ``--max-requests-inflight``,
``--max-mutating-requests-inflight``.
"""

from __future__ import annotations

import asyncio
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler

from controlplane.api.errors import ApiError, bad_request
from controlplane.operation.durations import parse_duration
from controlplane.operation.health import is_health
from controlplane.server.keys import INFO
from controlplane.server.request import RequestInfo

READ_ONLY: Final = "readOnly"
MUTATING: Final = "mutating"
_READING_VERBS: Final = ("get", "list", "watch")
_LASTING: Final = ("exec", "attach", "portforward", "proxy", "log")


def is_lasting(info: RequestInfo | None) -> bool:
    """Say whether a request is for a stream that lasts."""
    return info is not None and (info.verb == "watch" or info.subresource in _LASTING)


class Limits:
    """Keeps requests within bounds.

    Args:
        seconds: that a request may take.
        reading: requests that read, at once.
        mutating: requests that write, at once.

    Attributes:
        running: how many there are now, by :data:`READ_ONLY` and :data:`MUTATING`.
    """

    def __init__(self, seconds: float, reading: int, mutating: int) -> None:
        self._seconds = seconds
        self._most = {READ_ONLY: reading, MUTATING: mutating}
        self.running = {READ_ONLY: 0, MUTATING: 0}

    @web.middleware
    async def bound(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Serve a request within the bounds.

        Raises:
            ApiError: there are too many, or it has taken too long.
        """
        info = request[INFO]
        # Whether the server is well must be known above all when it is busy.
        if is_lasting(info) or is_health(request.path):
            return await handler(request)
        seconds = self._allowed(request.query.get("timeout", ""))
        kind = READ_ONLY if info is None or info.verb in _READING_VERBS else MUTATING
        if self.running[kind] >= self._most[kind]:
            raise ApiError(
                "TooManyRequests", "Too many requests, please try again later.", retry_after=1
            )
        self.running[kind] += 1
        deadline = asyncio.timeout(seconds)
        try:
            async with deadline:
                return await handler(request)
        except TimeoutError as error:
            if not deadline.expired():
                raise
            text = "Timeout: request did not complete within the allotted timeout"
            raise ApiError("Timeout", text) from error
        finally:
            self.running[kind] -= 1

    def _allowed(self, wanted: str) -> float:
        if not wanted:
            return self._seconds
        try:
            seconds = parse_duration(wanted)
        except ValueError as error:
            raise bad_request(f"invalid timeout specified in the request URL - {error}") from error
        return seconds if 0 < seconds < self._seconds else self._seconds
