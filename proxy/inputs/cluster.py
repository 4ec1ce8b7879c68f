"""Services, their networks, EndpointSlices and the Node of an API server, by list and watch."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import msgspec

from kubeletpy_common import logs
from kubeletpy_common.apiclient.client import ApiClient
from kubeletpy_common.apiclient.reflector import Changed, Reflector, Synced
from proxy.model import objects

from .sink import Key, Kind, Sink, key_of

_log = logging.getLogger(__name__)
PAGE = 500
"""Objects asked for at once, as the peer asks."""

_PATHS = {
    Kind.SERVICE: "/api/v1/services",
    Kind.SLICE: "/apis/discovery.k8s.io/v1/endpointslices",
    Kind.NODE: "/api/v1/nodes",
    Kind.SERVICE_CIDR: "/apis/networking.k8s.io/v1/servicecidrs",
}


async def follow(client: ApiClient, sink: Sink, node_name: str) -> None:
    """Put all objects into ``sink`` and keep it up to date; ends only by being cancelled."""
    async with asyncio.TaskGroup() as group:
        for kind, labels, fields in (
            (Kind.SERVICE, objects.EXCLUDE_PROXY_NAME, objects.NOT_HEADLESS),
            (Kind.SLICE, objects.EXCLUDE_HEADLESS, ""),
            (Kind.NODE, "", f"metadata.name={node_name}"),
            (Kind.SERVICE_CIDR, "", ""),
        ):
            follower = _Follower(kind, sink)
            reflector = Reflector(
                client, _PATHS[kind], label_selector=labels, field_selector=fields,
                read=follower.read, page=PAGE,
            )  # fmt: skip
            group.create_task(follower.follow(reflector), name=f"watch {kind.value}")


class _Follower:
    """One kind of objects."""

    def __init__(self, kind: Kind, sink: Sink) -> None:
        self._kind = kind
        self._sink = sink

    def read(self, change: str, data: msgspec.Raw) -> Key:
        """Put an object into the sink at once, so that no list of all is in memory; its key."""
        try:
            one: Any = objects.decode(self._kind.type, data)
        except objects.Unreadable as error:
            key = objects.name_of(data)
            logs.event(
                _log, logging.WARNING, "an object cannot be read and is left out",
                object="/".join(key), reason=str(error),
            )  # fmt: skip
            # What it was before is no more true than nothing.
            self._sink.drop(self._kind, key)
            return key
        key = key_of(one)
        if change == "DELETED":
            self._sink.drop(self._kind, key)
        else:
            self._sink.put(self._kind, one)
        return key

    async def follow(self, reflector: Reflector) -> None:
        """Say which objects there are, whenever a list is whole."""
        async for each in reflector:
            if isinstance(each, Synced):
                self._sink.keep(self._kind, set(each.items))
            elif not isinstance(each, Changed):
                raise TypeError(f"a reflector gave {type(each).__name__}")
