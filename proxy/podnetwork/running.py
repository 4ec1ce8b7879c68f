"""The network between nodes as an API server has it, in a process of its own or in the proxy's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from kubeletpy_common.apiclient.client import ApiClient
from kubeletpy_common.events.sink import EventSink

from . import filters, host
from .inputs import follow
from .mesh import Mesh
from .plan import Plan
from .settings import Settings
from .telling import Complaints, OwnNode, write_node_file


async def connect(
    client: ApiClient, node: str, settings: Settings, ready: Callable[[], None] | None = None
) -> None:
    """Route between the pods of all nodes; ends only by being cancelled. Routes stay.

    Args:
        client: of the API server.
        node: this node's name.
        settings: of this node.
        ready: called when it begins to work. Routes may come later: a node that waits for the
            cluster, or for its pod CIDRs, is not one that failed to start.
    """
    sink = EventSink(client, 1.0, 25)
    complaints, own = Complaints(sink), OwnNode(client, settings, node)
    first = True

    def planned(made: Plan) -> None:
        nonlocal first
        write_node_file(settings, made)
        complaints.tell(made.problems, {name: each.uid for name, each in mesh.members.all.items()})
        first = False
        look()

    def look() -> None:
        found = mesh.members.all.get(node)
        if found is not None:
            own.look(found, works=not first)

    mesh = Mesh(settings, node, planned)
    mesh.members.listeners.append(look)
    await asyncio.to_thread(host.prepare, settings)
    async with asyncio.TaskGroup() as group:
        kept = filters.of(settings)
        for each in kept:
            group.create_task(each.run(), name="filters of the pod network")
        for each in kept:
            await each.tried.wait()
        if ready is not None:
            ready()
        group.create_task(follow(client, mesh.members), name="watch nodes")
        group.create_task(mesh.run(), name="pod network")
        group.create_task(own.run(), name="own node")
        group.create_task(sink.run(), name="events of the pod network")
