"""GetContainerEvents: a stream of what happens to containers and pods."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

from kubeletpy_proto import cri_pb2 as cri
from runtime.cri.runtime import Runtime


async def get_container_events(
    runtime: Runtime, request: cri.GetEventsRequest, accept: Callable[[], Awaitable[None]]
) -> AsyncIterator[cri.ContainerEventResponse]:
    """Yield events in their order from now on, until the client goes or the daemon stops.

    The initial metadata goes out once the subscription holds: a client that has them, and lists
    the containers then, misses nothing.

    Raises:
        SlowClientError: the client did not keep up; others are not affected.
    """
    with runtime.events.subscribe() as subscription:
        await accept()
        async for event in subscription.events():
            yield event
