"""Pods of the API server that are bound to this node, by one watch of them all.

``PodTable`` turns what the watch says into `PodUpdates` (pure); ``ApiPodSource`` feeds it. A pod
is one instance as long as its UID is the same. What only repeats the kubelet's own words about a
pod's status is no change.
"""

from __future__ import annotations

import typing
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from kubeletpy.api.codec import DecodeError
from kubeletpy.api.lenient import decode_lenient
from kubeletpy.api.pod import Pod
from kubeletpy.status.manager import StatusManager
from kubeletpy.status.ownership import foreign
from kubeletpy.status.patch import TERMINAL
from kubeletpy_common.apiclient.client import object_path
from kubeletpy_common.apiclient.reflector import Changed, Reflector, Synced

from .mirrors import Mirrors
from .updates import (
    API_SOURCE,
    CONFIG_MIRROR,
    CONFIG_SEEN,
    CONFIG_SOURCE,
    PodChange,
    PodUpdates,
    SourceError,
    pod_key,
)

if typing.TYPE_CHECKING:
    from kubeletpy.core import Core

Seen = Callable[[str, Mapping[str, Any] | None], None]
"""Called with the UID of a pod in the API server and its object there, None once it is gone."""


def pod_of(item: Mapping[str, Any], seen: str) -> Pod:
    """Return a pod of the API server as the kubelet works with it.

    Args:
        item: the object.
        seen: when the kubelet first saw it, RFC 3339.

    Raises:
        DecodeError: a field has a wrong type.
    """
    metadata = {
        name: value
        for name, value in item.get("metadata", {}).items()
        if name not in ("managedFields", "resourceVersion")
    }
    pod = decode_lenient({**item, "metadata": metadata}, Pod)
    # As in the Go kubelet, which shows them to the containers (downward API), too.
    pod.metadata.annotations[CONFIG_SOURCE] = API_SOURCE
    pod.metadata.annotations[CONFIG_SEEN] = seen
    return pod


def is_mirror(item: Mapping[str, Any]) -> bool:
    """Whether an object stands for a static pod, and is none of its own."""
    return CONFIG_MIRROR in (item.get("metadata", {}).get("annotations") or {})


class PodTable:
    """The pods of this node as the API server has them.

    Args:
        seen: told of every object of a pod, also if nothing of it matters to who runs it.
        mirror: told of every mirror pod in the same way.
        synced: called once the server has said which pods there are.
        clock: the present.
    """

    def __init__(
        self,
        seen: Seen = lambda uid, item: None,
        mirror: Seen = lambda uid, item: None,
        synced: Callable[[], None] = lambda: None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._seen = seen
        self._mirror = mirror
        self._synced = synced
        self._clock = clock
        self._pods: dict[str, Pod] = {}
        self._mirrors: set[str] = set()

    def take(self, each: Synced | Changed) -> PodUpdates:
        """Return what changed; pods without any news that matter here are left out."""
        if isinstance(each, Synced):
            updates = self._sync(each.items)
            self._synced()
            return updates
        uid = _uid(each.object)
        if each.kind == "DELETED":
            return self._drop(uid)
        return self._put(each.object)

    def _sync(self, items: list[dict[str, Any]]) -> PodUpdates:
        present = {_uid(item) for item in items}
        parts = [self._drop(uid) for uid in [*self._pods, *self._mirrors] if uid not in present]
        # The oldest first: where there is not room for all, who came first has it.
        parts += [self._put(item) for item in sorted(items, key=_created)]
        return PodUpdates(
            added=tuple(pod for part in parts for pod in part.added),
            changed=tuple(change for part in parts for change in part.changed),
            removed=tuple(pod for part in parts for pod in part.removed),
            errors=tuple(error for part in parts for error in part.errors),
        )

    def _drop(self, uid: str) -> PodUpdates:
        if uid in self._mirrors:
            self._mirrors.discard(uid)
            self._mirror(uid, None)
            return PodUpdates()
        pod = self._pods.pop(uid, None)
        if pod is None:
            return PodUpdates()
        self._seen(uid, None)
        return PodUpdates(removed=(pod,))

    def _put(self, item: Mapping[str, Any]) -> PodUpdates:
        uid = _uid(item)
        if is_mirror(item):
            self._mirrors.add(uid)
            self._mirror(uid, item)
            return PodUpdates()
        before = self._pods.get(uid)
        seen = before.metadata.annotations[CONFIG_SEEN] if before else _text(self._clock())
        try:
            pod = pod_of(item, seen)
        except DecodeError as error:
            metadata = item.get("metadata", {})
            name = f"pod {metadata.get('namespace')}/{metadata.get('name')} of the API server"
            kept = pod_key(before) if before else ""
            return PodUpdates(errors=(SourceError(name, str(error), (), kept),))
        self._seen(uid, item)
        if before is None:
            self._pods[uid] = pod
            return PodUpdates(added=(pod,))
        if _same(before, pod):
            return PodUpdates()
        self._pods[uid] = pod
        return PodUpdates(changed=(PodChange(before, pod),))


def _same(before: Pod, after: Pod) -> bool:
    """Whether two versions differ in nothing but what the kubelet itself wrote."""
    return (
        before.metadata == after.metadata
        and before.spec == after.spec
        and foreign(before.status.conditions) == foreign(after.status.conditions)
        and _end(before) == _end(after)
    )


def _end(pod: Pod) -> str:
    return pod.status.phase if pod.status.phase in TERMINAL else ""


def _uid(item: Mapping[str, Any]) -> str:
    return str(item.get("metadata", {}).get("uid", ""))


def _created(item: Mapping[str, Any]) -> str:
    return str(item.get("metadata", {}).get("creationTimestamp") or "")


def _text(instant: datetime) -> str:
    return instant.isoformat().replace("+00:00", "Z")


class ApiPodSource:
    """Iterate over it for PodUpdates; the first come once the API server has been heard.

    Args:
        events: a `Reflector` of the pods of this node.
        table: keeps them.
    """

    def __init__(self, events: AsyncIterable[Synced | Changed], table: PodTable) -> None:
        self._events = events
        self._table = table
        self._told: dict[str, SourceError] = {}

    async def __aiter__(self) -> AsyncIterator[PodUpdates]:
        async for each in self._events:
            updates = self._table.take(each)
            news = tuple(one for one in updates.errors if self._told.get(one.source) != one)
            self._told |= {one.source: one for one in news}
            updates = replace(updates, errors=news)
            if updates or isinstance(each, Synced):
                yield updates


def install(core: Core) -> None:
    """Run the pods of the API server, and tell it their statuses, if there is one."""
    if core.api is None:
        return
    statuses = StatusManager(core.api)
    core.statuses_told = statuses.told
    manager = core.manager
    mirrors = Mirrors(core.api, core.facts.name, statuses.show, manager.has_static)

    async def settle() -> None:
        await manager.adopted.wait()
        mirrors.settled()

    core.background.append(("mirrors", settle))
    table = PodTable(seen=statuses.show, mirror=mirrors.seen, synced=mirrors.synced)
    reflector = Reflector(
        core.api, object_path("v1", "pods"), field_selector=f"spec.nodeName={core.facts.name}"
    )
    core.sources[API_SOURCE] = ApiPodSource(reflector, table)
    core.on_status += [statuses.publish, mirrors.published]
    core.on_gone += [statuses.gone, mirrors.gone]
    core.tools.farewells.append(statuses.finish)
    core.closers += [statuses.close, mirrors.close]
