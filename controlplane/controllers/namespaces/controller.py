"""Empties the namespaces that are to be deleted, of any API server, and lets them go.

::

    Active --delete--> Terminating: pods are deleted -> the rest is deleted -> nothing is left
                       -> conditions say so -> the finalizer "kubernetes" is taken off -> gone
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

from controlplane.controllers.discovery import Discovery, Served
from controlplane.engine.controller import Context, Controller, timestamp
from controlplane.engine.resources import NAMESPACES, PODS, Object, Resource, is_deleting
from kubeletpy_common.apiclient.client import METADATA_LIST
from kubeletpy_common.apiclient.errors import ApiError

from .conditions import Progress, with_progress

FINALIZER: Final = "kubernetes"
_AT_ONCE: Final = 16
_PAGE: Final = "500"
_FIRST_PAUSE, _LONGEST_PAUSE = 0.25, 15.0
_BACKGROUND: Final = {"kind": "DeleteOptions", "apiVersion": "v1",
                      "propagationPolicy": "Background"}  # fmt: skip


@dataclass
class _Found:
    """What is left of a namespace, and what could not be deleted."""

    remaining: Counter[tuple[str, str]] = field(default_factory=Counter)
    finalizers: Counter[str] = field(default_factory=Counter)
    failures: dict[str, None] = field(default_factory=dict)

    def progress(self) -> Progress:
        return Progress(self.remaining, self.finalizers, tuple(self.failures))


class NamespaceController(Controller):
    """Deletes what is in the namespaces that go."""

    name: ClassVar[str] = "namespace-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._discovery = Discovery(context.client)
        self._namespaces = context.informers.of(NAMESPACES)
        self._pods = context.informers.of(PODS)
        self._pauses: dict[str, float] = {}
        self._namespaces.listen(self._namespace_changed)
        self._pods.listen(self._pod_changed)

    def _namespace_changed(self, before: Object | None, value: Object | None) -> None:
        if value is None:
            assert before is not None
            self._pauses.pop(before["metadata"]["name"], None)
        elif is_deleting(value) and (before is None or not is_deleting(before)):
            self.queue.add(value["metadata"]["name"])

    def _pod_changed(self, before: Object | None, pod: Object | None) -> None:
        if pod is None and before is not None:
            name = before["metadata"]["namespace"]
            # The last one's end is what the rest waits for.
            if name in self._pauses and not self._pods.of_namespace(name):
                self.queue.add(name)

    async def sync(self, key: str) -> float | None:
        """See `Controller`."""
        value = self._namespaces.get(key)
        if value is None or not is_deleting(value):
            return None
        if FINALIZER not in (value["spec"].get("finalizers") or ()):
            return None
        try:
            return await self._empty(value)
        except ApiError as error:
            if error.not_found:
                return None
            raise

    async def _empty(self, value: Object) -> float | None:
        name = value["metadata"]["name"]
        self._pauses.setdefault(name, _FIRST_PAUSE)
        stale = await self._discovery.refresh()
        served = [
            one for one in self._discovery.served()
            if one.resource.namespaced and one.verbs >= {"list", "delete"}
        ]  # fmt: skip
        pods = [one for one in served if one.resource == PODS]
        others = [one for one in served if one.resource != PODS]
        found = await self._delete(pods, name)
        if not found.remaining and not found.failures:
            found = await self._delete(others, name)
        for one in stale:
            found.failures[f"{one}: its server does not answer, so what is in it is not known"] = (
                None
            )
        value = await self._tell(value, found)
        if not found.remaining and not found.failures:
            # Having written the conditions, what was allowed into it before its deletion is seen.
            found = await self._delete(served, name)
        if found.failures:
            raise RuntimeError("; ".join(found.failures))
        if found.remaining:
            pause = self._pauses[name]
            self._pauses[name] = min(pause * 2, _LONGEST_PAUSE)
            return pause
        left = [one for one in value["spec"].get("finalizers") or () if one != FINALIZER]
        spec = {**value["spec"], "finalizers": left}
        await self.context.writer.update(NAMESPACES, {**value, "spec": spec}, "finalize")
        return None

    async def _tell(self, value: Object, found: _Found) -> Object:
        status: dict[str, Any] = value.get("status") or {}
        now = timestamp(self.context.clock())
        conditions = with_progress(status.get("conditions") or [], found.progress(), now)
        wanted = {"phase": "Terminating", "conditions": conditions}
        if status == wanted:
            return value
        return await self.context.writer.patch(
            NAMESPACES, value, {"status": wanted}, subresource="status"
        )

    async def _delete(self, served: list[Served], namespace: str) -> _Found:
        """Delete all objects of these resources in a namespace; return what is left."""
        found, gate = _Found(), asyncio.Semaphore(_AT_ONCE)

        async def empty(one: Served) -> None:
            async with gate:
                await self._delete_all(one, namespace, found)

        await asyncio.gather(*(empty(one) for one in served))
        return found

    async def _delete_all(self, one: Served, namespace: str, found: _Found) -> None:
        resource = one.resource
        try:
            items = await self._items(resource, namespace)
            if any(not is_deleting(item) for item in items):
                await self._delete_items(one, namespace, items)
                items = await self._items(resource, namespace)
        except ApiError as error:
            # Its definition went meanwhile, and the objects with it.
            if not error.not_found and error.code != 405:
                found.failures[str(error)] = None
            return
        if items:
            group = resource.group_version.rpartition("/")[0]
            found.remaining[resource.plural, group] += len(items)
            for item in items:
                found.finalizers.update(item["metadata"].get("finalizers") or ())

    async def _delete_items(self, one: Served, namespace: str, items: list[Object]) -> None:
        if "deletecollection" in one.verbs:
            await self.context.client.delete(one.resource.path(namespace), _BACKGROUND)
            return
        for item in items:
            path = one.resource.path(namespace, item["metadata"]["name"])
            try:
                await self.context.client.delete(path, _BACKGROUND)
            except ApiError as error:
                if not error.not_found:
                    raise

    async def _items(self, resource: Resource, namespace: str) -> list[Object]:
        items: list[Object] = []
        params = {"limit": _PAGE}
        while True:
            answer = await self.context.client.get(
                resource.path(namespace), params=params, accept=METADATA_LIST
            )
            items += answer.get("items") or ()
            more = answer["metadata"].get("continue")
            if not more:
                return items
            params["continue"] = more
