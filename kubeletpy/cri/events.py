"""The runtime's stream of container events, over restarts of the runtime."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass

import grpc
import grpc.aio

from kubeletpy_common import logs
from kubeletpy_proto import cri_pb2

from .client import CriClient, Stream

_log = logging.getLogger(__name__)
_FIRST_DELAY = 0.1
_HEADER_WAIT = 0.25
_LONGEST_DELAY = 3.0


class EventsUnsupported(Exception):
    """The runtime has no event stream: relist it instead, once a second."""


@dataclass(frozen=True)
class Resync:
    """Events may have been missed (the stream is new): list everything once.

    Attributes:
        reason: why, in words.
    """

    reason: str


Event = cri_pb2.ContainerEventResponse | Resync


class ContainerEvents:
    """Async iteration over the events of a runtime.

    The first item is a Resync, and so is the first after each loss of the stream; in between
    come ContainerEventResponse messages in the runtime's order. Iteration ends only by
    cancellation or by EventsUnsupported. Flow control of HTTP/2 bounds what is in flight: a slow
    consumer slows the runtime's sending, nothing is queued here.
    """

    def __init__(self, client: CriClient) -> None:
        self._client = client

    async def __aiter__(self) -> AsyncIterator[Event]:
        delay = _FIRST_DELAY
        reason = "start"
        while True:
            stream = self._client.container_events()
            try:
                await self._established(stream)
                if not stream.done():
                    yield Resync(reason)
                async for event in stream:
                    delay = _FIRST_DELAY
                    yield event
                reason = "the runtime closed the stream"
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.UNIMPLEMENTED:
                    raise EventsUnsupported(error.details() or "UNIMPLEMENTED") from error
                reason = f"{error.code().name}: {error.details()}"
            finally:
                stream.cancel()
            logs.event(
                _log, logging.WARNING, "container event stream lost", reason=reason, retry_s=delay
            )
            await asyncio.sleep(delay)
            delay = min(delay * 2, _LONGEST_DELAY)

    async def _established(self, stream: Stream) -> None:
        """Wait until the runtime has the stream, so that a list made after it misses nothing.

        A runtime that sends its header with the first event only cannot tell; it gets a moment.
        """
        header = asyncio.ensure_future(stream.initial_metadata())
        await asyncio.wait({header}, timeout=_HEADER_WAIT)
        if not header.done():
            header.cancel()
            return
        # A refusal is raised (and told apart) by reading from the stream.
        header.exception()
