"""Enforcing what an API server says, in a process of its own or beside the proxy."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

from kubeletpy_common.apiclient.client import ApiClient
from kubeletpy_common.events.sink import EventSink

from ..model.portal import Family
from . import bridge
from .enforcer import Enforcer
from .events import Teller
from .inputs import follow


async def enforce(
    client: ApiClient,
    node: str,
    families: Sequence[Family],
    ready: Callable[[], None] | None = None,
) -> None:
    """Enforce the policies of a cluster on this node; ends only by being cancelled. Rules stay.

    Args:
        client: of the API server.
        node: this node's name.
        families: that are enforced.
        ready: called when all policies are in force for the first time.
    """
    await asyncio.to_thread(bridge.prepare)
    sink = EventSink(client, 1.0, 25)
    enforcer = Enforcer(node, families, Teller(sink, node))
    telling = asyncio.create_task(sink.run(), name="events of policies")
    try:
        await enforcer.run(follow(client, enforcer.inputs), ready)
    finally:
        telling.cancel()
        await asyncio.gather(telling, return_exceptions=True)
