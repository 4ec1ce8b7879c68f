"""Collects garbage, of any API server.

The metadata of all objects is followed, and a graph kept of who owns whom. Where the graph shows
all owners of an object nothing is asked; before anything is deleted, the object and its owners are
read from the server, and the deletion is on condition that the object is still that one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any, ClassVar, Final

from controlplane.controllers.discovery import Discovery
from controlplane.engine.controller import Context, Controller
from controlplane.engine.resources import DEFINITIONS, Object, Resource
from kubeletpy_common import logs
from kubeletpy_common.apiclient.client import METADATA
from kubeletpy_common.apiclient.errors import ApiError

from .decisions import Decision, State, decide
from .following import Following, object_key, resource_key
from .graph import Graph, Node, Owner

_log = logging.getLogger(__name__)
_VERBS: Final = frozenset({"delete", "list", "watch"})
_IGNORED: Final = frozenset({("v1", "events"), ("events.k8s.io/v1", "events")})
_LATER_SECONDS: Final = 30.0
"""A reference of a kind that is not served may be good later, when its definition is made."""
_FIRST_LISTS: Final = 30.0
_SETTLING: Final = (0.0, 1.0, 5.0, 30.0)
"""Seconds after which discovery is read once a definition changed: it follows behind."""
_ABSENT_MOST: Final = 500
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 30.0


class GarbageCollector(Controller):
    """Deletes what nobody owns any longer."""

    name: ClassVar[str] = "garbage-collector-controller"
    workers: ClassVar[int] = 20

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._discovery = Discovery(context.client)
        self._graph = Graph()
        self._following = Following(context.client, self._take)
        self._resources: dict[str, Resource] = {}
        # Uids never come back: who is known to be gone need not be asked for again.
        self._absent: dict[str, None] = {}
        self._changed = asyncio.Event()
        self._definitions = context.informers.of(DEFINITIONS)
        self._definitions.listen(lambda *_: self._changed.set())

    async def run(self) -> None:
        """See `Controller`."""
        async with asyncio.TaskGroup() as tasks:
            await self._discover(tasks)
            await self._following.listed(_FIRST_LISTS)
            tasks.create_task(self._keep_discovering(tasks))
            await self.queue.run()

    async def sync(self, key: str) -> float | None:
        """See `Controller`; the keys are uids."""
        node = self._graph.get(key)
        if node is None or not self._is_to_be_looked_at(node):
            return None
        resource, namespace, name = self._place_of(node.key)
        if resource is None:
            return None
        try:
            live = await self._read(resource, namespace, name)
            if live is None or live["metadata"]["uid"] != key:
                # The watch tells it, too.
                return None
            return await self._decide(resource, live)
        except ApiError as error:
            if not error.not_found:
                raise
            return None

    async def _look(self, key: str) -> float | None:
        # There is no informer that an own write could be missing in.
        return await self.sync(key)

    def _take(self, key: str, node: Node | None) -> None:
        for uid in self._graph.change(key, node):
            self.queue.add(uid)

    # Discovery.

    async def _discover(self, tasks: asyncio.TaskGroup) -> None:
        pause = _FIRST_PAUSE
        while True:
            try:
                await self._discovery.refresh()
                break
            except ApiError as error:
                logs.event(_log, logging.WARNING, "the resources of the server cannot be read",
                           error=str(error), seconds=pause)  # fmt: skip
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
        found = [
            one.resource for one in self._discovery.served()
            if one.verbs >= _VERBS
            and (one.resource.group_version, one.resource.plural) not in _IGNORED
        ]  # fmt: skip
        known = {(one.group_version, one.kind) for one in self._resources.values()}
        self._resources = {resource_key(one): one for one in found}
        self._following.follow(found, tasks)
        # What was to be looked at later, for want of an owner's kind, is looked at now.
        new = {(one.group_version, one.kind) for one in found} - known
        for uid in self._graph.owned_by_kinds(new):
            self.queue.add(uid)

    async def _keep_discovering(self, tasks: asyncio.TaskGroup) -> None:
        """Read again what there is to follow, whenever definitions of resources change."""
        while True:
            await self._changed.wait()
            for seconds in _SETTLING:
                self._changed.clear()
                try:
                    async with asyncio.timeout(seconds):
                        await self._changed.wait()
                except TimeoutError:
                    pass
                await self._discover(tasks)

    # Looking at an object.

    def _is_to_be_looked_at(self, node: Node) -> bool:
        """Whether there may be something to do, by what the graph shows."""
        if node.orphans or node.waits:
            return True
        if node.deleting:
            return False
        return any(self._known_state(owner, node) is not State.SOLID for owner in node.owners)

    def _known_state(self, owner: Owner, node: Node) -> State | None:
        """Return what the graph has of an owner; None: it has none there."""
        known = self._graph.get(owner.uid)
        resource = self._discovery.find(owner.api_version, owner.kind)
        if known is None or resource is None:
            return None
        _, namespace, _ = self._place_of(node.key)
        if resource.namespaced and not namespace:
            return None
        place = self._place_of(known.key)
        if place[1:] != (namespace if resource.namespaced else "", owner.name):
            return None
        return State.WAITING if known.waits else State.SOLID

    async def _decide(self, resource: Resource, live: Object) -> float | None:
        meta = live["metadata"]
        node = _node(resource, live)
        states: dict[str, State] = {}
        if not node.deleting:
            for owner in node.owners:
                states[owner.uid] = await self._state(owner, meta.get("namespace", ""))
        decision = decide(node, self._graph.dependents(node.uid), states)
        await self._do(resource, live, decision)
        return _LATER_SECONDS if decision.later else None

    async def _state(self, owner: Owner, namespace: str) -> State:
        """Ask the server what there is of an owner, for an object in ``namespace`` ("": none)."""
        if owner.uid in self._absent:
            return State.ABSENT
        resource = self._discovery.find(owner.api_version, owner.kind)
        if resource is None or (resource.namespaced and not namespace):
            return State.UNKNOWN
        live = await self._read(resource, namespace if resource.namespaced else "", owner.name)
        if live is None or live["metadata"]["uid"] != owner.uid:
            if len(self._absent) >= _ABSENT_MOST:
                del self._absent[next(iter(self._absent))]
            self._absent[owner.uid] = None
            return State.ABSENT
        return State.WAITING if _node(resource, live).waits else State.SOLID

    async def _read(self, resource: Resource, namespace: str, name: str) -> Object | None:
        """Return the metadata of an object; None: it is not there."""
        try:
            return await self.context.client.get(resource.path(namespace, name), accept=METADATA)
        except ApiError as error:
            if error.not_found:
                return None
            raise

    def _place_of(self, key: str) -> tuple[Resource | None, str, str]:
        version, plural, namespace, name = key.split(" ")
        return self._resources.get(f"{version} {plural}"), namespace, name

    # Doing.

    async def _do(self, resource: Resource, live: Object, decision: Decision) -> None:
        uid = live["metadata"]["uid"]
        for one in decision.look:
            self.queue.add(one)
        if decision.orphan:
            await asyncio.gather(*(self._forget(one, frozenset({uid})) for one in decision.orphan))
        if decision.forget:
            live = await self._rewrite(resource, live, _without_owners(decision.forget))
        if decision.unblock:
            live = await self._rewrite(resource, live, _unblocked)
        if decision.release:
            live = await self._rewrite(resource, live, _without_finalizer(decision.release))
        if decision.delete:
            # Right as of this version; another may have an owner again.
            await self.context.writer.delete(resource, live, policy=decision.delete, versioned=True)

    async def _forget(self, uid: str, owners: frozenset[str]) -> None:
        """Have a dependent forget its owners."""
        node = self._graph.get(uid)
        resource, namespace, name = self._place_of(node.key) if node else (None, "", "")
        if resource is None:
            return
        try:
            live = await self._read(resource, namespace, name)
            if live is not None and live["metadata"]["uid"] == uid:
                await self._rewrite(resource, live, _without_owners(owners))
        except ApiError as error:
            if not error.not_found:
                raise

    async def _rewrite(
        self, resource: Resource, live: Object, change: Callable[[Object], dict[str, Any]]
    ) -> Object:
        """Patch the metadata of an object, on condition that it is as it was read."""
        meta = live["metadata"]
        known = {name: meta[name] for name in ("uid", "resourceVersion")}
        return await self.context.writer.patch(
            resource, live, {"metadata": {**change(meta), **known}}
        )


def _node(resource: Resource, live: Object) -> Node:
    meta = live["metadata"]
    owners = tuple(
        Owner(one["apiVersion"], one["kind"], one["name"], one["uid"],
              bool(one.get("blockOwnerDeletion")))
        for one in meta.get("ownerReferences") or ()
    )  # fmt: skip
    key = object_key(resource_key(resource), meta.get("namespace", ""), meta["name"])
    finalizers = tuple(meta.get("finalizers") or ())
    return Node(key, meta["uid"], owners, bool(meta.get("deletionTimestamp")), finalizers)


def _without_owners(uids: frozenset[str]) -> Callable[[Object], dict[str, Any]]:
    def change(meta: Object) -> dict[str, Any]:
        kept = [one for one in meta.get("ownerReferences") or () if one["uid"] not in uids]
        return {"ownerReferences": kept or None}

    return change


def _without_finalizer(finalizer: str) -> Callable[[Object], dict[str, Any]]:
    def change(meta: Object) -> dict[str, Any]:
        kept = [one for one in meta.get("finalizers") or () if one != finalizer]
        return {"finalizers": kept or None}

    return change


def _unblocked(meta: Object) -> dict[str, Any]:
    owners = [
        {name: value for name, value in one.items() if name != "blockOwnerDeletion"}
        for one in meta.get("ownerReferences") or ()
    ]
    return {"ownerReferences": owners}
