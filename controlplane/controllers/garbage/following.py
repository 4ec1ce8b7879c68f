"""Follows the metadata of all objects of all resources, custom ones as they come and go."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Final

import msgspec

from controlplane.engine.resources import Resource
from kubeletpy_common.apiclient.client import ApiClient
from kubeletpy_common.apiclient.reflector import Reflector, Synced

from .graph import Node, Owner

PAGE: Final = 500


class _Reference(msgspec.Struct):
    apiVersion: str = ""
    kind: str = ""
    name: str = ""
    uid: str = ""
    blockOwnerDeletion: bool | None = None


class _Metadata(msgspec.Struct):
    name: str = ""
    namespace: str = ""
    uid: str = ""
    ownerReferences: list[_Reference] | None = None
    finalizers: list[str] | None = None
    deletionTimestamp: str | None = None


class _Owned(msgspec.Struct):
    metadata: _Metadata


_decoder: Final = msgspec.json.Decoder(_Owned)


def node_of(key: str, raw: bytes | msgspec.Raw) -> Node:
    """Return what the graph has of an object; nothing else of its JSON is decoded.

    Args:
        key: of its resource; that of the object is made of it.
    """
    meta = _decoder.decode(raw).metadata
    owners = tuple(
        Owner(one.apiVersion, one.kind, one.name, one.uid, bool(one.blockOwnerDeletion))
        for one in meta.ownerReferences or ()
    )
    deleting = bool(meta.deletionTimestamp)
    name = object_key(key, meta.namespace, meta.name)
    return Node(name, meta.uid, owners, deleting, tuple(meta.finalizers or ()))


def object_key(key: str, namespace: str, name: str) -> str:
    """Return the key of an object of the resource ``key``."""
    return f"{key} {namespace} {name}"


def resource_key(resource: Resource) -> str:
    """Return the key of a resource."""
    return f"{resource.group_version} {resource.plural}"


class Following:
    """The watches.

    Args:
        client: of the API server.
        take: is told what is at a key of an object now; None: nothing.
    """

    def __init__(self, client: ApiClient, take: Callable[[str, Node | None], None]) -> None:
        self._client = client
        self._take = take
        self._running: dict[Resource, asyncio.Task[None]] = {}
        self._known: dict[Resource, set[str]] = {}
        self._listed: dict[Resource, asyncio.Event] = {}

    def follow(self, resources: Iterable[Resource], tasks: asyncio.TaskGroup) -> None:
        """Follow these resources from now on, and no others."""
        wanted = set(resources)
        for resource in set(self._running) - wanted:
            self._running.pop(resource).cancel()
            self._listed.pop(resource).set()
            for key in self._known.pop(resource):
                self._take(key, None)
        for resource in sorted(wanted - set(self._running), key=resource_key):
            self._known[resource], self._listed[resource] = set(), asyncio.Event()
            name = f"follow the metadata of {resource.plural}"
            self._running[resource] = tasks.create_task(self._run(resource), name=name)

    async def listed(self, seconds: float) -> None:
        """Wait until all of them are listed, for so long at most."""
        try:
            async with asyncio.timeout(seconds):
                for event in list(self._listed.values()):
                    await event.wait()
        except TimeoutError:
            # What cannot be listed is asked for object by object.
            pass

    async def _run(self, resource: Resource) -> None:
        known, key = self._known[resource], resource_key(resource)

        def read(_: str, raw: msgspec.Raw) -> Node:
            return node_of(key, raw)

        reflector = Reflector(
            self._client, resource.path(), read=read, page=PAGE, metadata_only=True
        )
        async for each in reflector:
            if isinstance(each, Synced):
                self._replace(known, each.items)
                self._listed[resource].set()
            elif each.kind == "DELETED":
                known.discard(each.object.key)
                self._take(each.object.key, None)
            else:
                known.add(each.object.key)
                self._take(each.object.key, each.object)

    def _replace(self, known: set[str], nodes: list[Any]) -> None:
        there = {node.key for node in nodes}
        for key in known - there:
            self._take(key, None)
        known.clear()
        known |= there
        for node in nodes:
            self._take(node.key, node)
