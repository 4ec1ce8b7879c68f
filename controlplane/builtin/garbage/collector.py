"""Collects garbage: follows every object, and does what the decisions say."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec

from controlplane.api.deletion import DeleteOptions
from controlplane.api.errors import ApiError
from controlplane.api.resource import Object, Resource
from controlplane.builtin.following import context
from controlplane.builtin.selection import GARBAGE
from controlplane.controllers.garbage.decisions import Decision, State, decide
from controlplane.controllers.garbage.graph import Graph, Node, Owner
from controlplane.engine.queue import WorkQueue
from controlplane.plane import Plane
from controlplane.store.model import Item
from controlplane.store.watch import Watch

# A reference of a kind that is not served may be good later, when its definition is made.
_LATER_SECONDS: Final = 30.0
_SOON_SECONDS: Final = 0.02


class _Reference(msgspec.Struct):
    apiVersion: str = ""
    kind: str = ""
    name: str = ""
    uid: str = ""
    blockOwnerDeletion: bool | None = None


class _Metadata(msgspec.Struct):
    uid: str = ""
    ownerReferences: list[_Reference] = []
    finalizers: list[str] = []
    deletionTimestamp: str = ""


class _Owned(msgspec.Struct):
    metadata: _Metadata


_decoder = msgspec.json.Decoder(_Owned)


def node_of(item: Item) -> Node:
    """Return what the graph has of a stored object; nothing else of it is decoded."""
    meta = _decoder.decode(item.value).metadata
    owners = tuple(
        Owner(one.apiVersion, one.kind, one.name, one.uid, bool(one.blockOwnerDeletion))
        for one in meta.ownerReferences
    )
    deleting = bool(meta.deletionTimestamp)
    return Node(item.key, meta.uid, owners, deleting, tuple(meta.finalizers))


class Collector:
    """Deletes what nobody owns any longer.

    Args:
        plane: the parts of the server.
    """

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self._graph = Graph()
        self._watch: Watch
        self._queue = WorkQueue(GARBAGE, self._look)

    async def run(self) -> None:
        """Collect, until cancelled.

        Raises:
            CompactedError: it fell too far behind, and has to begin anew.
        """
        store = self._plane.store
        self._graph, self._watch = Graph(), store.watch("/", store.revision)
        try:
            for item in store.read("/").items:
                self._take(item.key, item)
            async with asyncio.TaskGroup() as tasks:
                working = tasks.create_task(self._queue.run())
                while await self._watch.wait():
                    self._drain()
                working.cancel()
        finally:
            self._watch.close()

    def _drain(self) -> None:
        """Bring the graph to where the store is: no decision is made of an older state."""
        for change in self._watch.take():
            self._take(change.key, change.item)

    def _take(self, key: str, item: Item | None) -> None:
        for uid in self._graph.change(key, node_of(item) if item is not None else None):
            self._queue.add(uid)

    async def _look(self, uid: str) -> float | None:
        self._drain()
        known = self._graph.get(uid)
        item = self._plane.store.get(known.key) if known is not None else None
        if item is None:
            return None
        node = node_of(item)
        resource = self._plane.catalog.of_key(item.key)
        if node.uid != uid or resource is None:
            return None
        namespace = item.key.split("/")[3] if resource.namespaced else ""
        owners = {owner.uid: self._state(owner, namespace) for owner in node.owners}
        decision = decide(node, self._graph.dependents(uid), owners)
        try:
            await self._do(resource, item, node, decision)
        except ApiError as error:
            if error.reason == "Conflict":
                # Somebody's change is on its way to the disk, and seen once it is there.
                return _SOON_SECONDS
            if error.reason != "NotFound":
                raise
        return _LATER_SECONDS if decision.later else None

    def _state(self, owner: Owner, namespace: str) -> State:
        """Say what there is of an owner, for an object in ``namespace`` ("": in none)."""
        group, _, version = owner.api_version.rpartition("/")
        resource = self._plane.catalog.serving(group, version, owner.kind)
        if resource is None or (resource.namespaced and not namespace):
            return State.UNKNOWN
        item = self._plane.store.get(resource.key(namespace, owner.name))
        if item is None:
            return State.ABSENT
        node = node_of(item)
        if node.uid != owner.uid:
            return State.ABSENT
        return State.WAITING if node.waits else State.SOLID

    async def _do(self, resource: Resource, item: Item, node: Node, decision: Decision) -> None:
        for uid in decision.look:
            self._queue.add(uid)
        for uid in decision.orphan:
            await self._forget(uid, frozenset({node.uid}))
        if decision.forget:
            await self._forget(node.uid, decision.forget)
        if decision.unblock:
            await self._rewrite(resource, item, node.uid, _unblock)
        if decision.release:
            await self._rewrite(resource, item, node.uid, _releasing(decision.release))
        if decision.delete:
            # Right as of this version; another may have an owner again.
            revision = "" if decision.unblock else str(item.modified)
            options = DeleteOptions(None, node.uid, revision, decision.delete)
            await self._plane.registry.delete(resource, item, options, context(GARBAGE))

    async def _forget(self, uid: str, owners: frozenset[str]) -> None:
        node = self._graph.get(uid)
        item = self._plane.store.get(node.key) if node is not None else None
        resource = self._plane.catalog.of_key(item.key) if item is not None else None
        if item is None or resource is None:
            return

        def change(meta: dict[str, Any]) -> None:
            kept = [one for one in meta.get("ownerReferences", []) if one["uid"] not in owners]
            _put(meta, "ownerReferences", kept)

        try:
            await self._rewrite(resource, item, uid, change)
        except ApiError as error:
            if error.reason != "NotFound":
                raise

    async def _rewrite(self, resource: Resource, item: Item, uid: str, change: Any) -> None:
        """Change the metadata of the object that has ``uid``; another of its name is left alone."""

        async def rewritten(value: Object) -> Object:
            if value["metadata"]["uid"] == uid:
                change(value["metadata"])
            value["metadata"].pop("resourceVersion", None)
            return value

        *_, namespace, name = item.key.split("/")
        namespace = namespace if resource.namespaced else ""
        await self._plane.registry.update(resource, namespace, name, rewritten, context(GARBAGE))


def _releasing(finalizer: str) -> Any:
    def change(meta: dict[str, Any]) -> None:
        _put(meta, "finalizers", [one for one in meta.get("finalizers", []) if one != finalizer])

    return change


def _unblock(meta: dict[str, Any]) -> None:
    for one in meta.get("ownerReferences", []):
        one.pop("blockOwnerDeletion", None)


def _put(meta: dict[str, Any], key: str, found: list[Any]) -> None:
    if found:
        meta[key] = found
    else:
        meta.pop(key, None)
