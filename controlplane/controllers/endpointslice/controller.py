"""The controller of EndpointSlices of Services that select pods."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable
from contextvars import ContextVar
from typing import ClassVar, Final

from controlplane.controllers.serviceendpoints.matching import Matching, selector_of
from controlplane.controllers.serviceendpoints.pods import TRIGGER_TIME, ZONE
from controlplane.controllers.serviceendpoints.triggers import Seen, trigger_time
from controlplane.controllers.serviceendpoints.writing import (
    is_end_of_namespace,
    of_service_name,
    service_key,
)
from controlplane.engine.controller import Context, Controller
from controlplane.engine.resources import NODES, PODS, SERVICES, SLICES, Object, is_deleting, split
from kubeletpy_common.apiclient.errors import ApiError

from .packing import Changes
from .plan import MANAGED_BY, MANAGER, families_of, plan

LIMIT: Final = 100
_BY_NODE: Final = "node"
_writing: ContextVar[str] = ContextVar("_writing", default="")
"""Key of the Service whose slices are being written: their listener need not look at that."""


class EndpointSliceController(Controller):
    """Keeps the slices of each Service that selects pods."""

    name: ClassVar[str] = "endpointslice-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        options = context.options
        self._limit: int = options.get("max_endpoints_per_slice", LIMIT)
        self._pause: float = options.get("endpointslice_updates_batch_period", 0.0)
        self._events = context.recorder.of("endpoint-slice-controller")
        self._seen: dict[str, Seen] = {}
        self._services = context.informers.of(SERVICES)
        self._pods = context.informers.of(PODS)
        self._nodes = context.informers.of(NODES)
        self._slices = context.informers.of(SLICES)
        self._slices.index("service", of_service_name)
        self._pods.index(_BY_NODE, of_node)
        self._matching = Matching(self._services, self._pods)
        self._services.listen(self.enqueue)
        self._matching.listen(self._of_pod)
        self._slices.listen(self._of_slice)
        self._nodes.listen(self._of_node)

    def _of_pod(self, key: str) -> None:
        if self._pause:
            self.queue.add_after(key, self._pause)
        else:
            self.queue.add(key)

    def _of_slice(self, before: Object | None, value: Object | None) -> None:
        """Have the Service looked at, one of whose slices somebody else changed."""
        for one in (before, value):
            if one is not None and _is_ours(one):
                key = service_key(one)
                if key and key != _writing.get():
                    self.queue.add(key)

    def _of_node(self, before: Object | None, value: Object | None) -> None:
        if before is not None and value is not None and _zone(before) == _zone(value):
            return
        name = (value or before or {})["metadata"]["name"]
        for pod in self._pods.indexed(_BY_NODE, name):
            for key in self._matching.services_of(pod):
                self._of_pod(key)

    async def sync(self, key: str) -> float | None:
        """Bring the slices of a Service to what its pods are."""
        service = self._services.get(key)
        if service is None:
            # The garbage collector takes the slices.
            self._seen.pop(key, None)
            return None
        if not selector_of(service):
            return None
        namespace, name = split(key)
        pods = self._matching.pods_of(service)
        moment, seen = trigger_time(self._seen.get(key), service, pods)
        existing = [
            one for one in self._slices.indexed("service", f"{namespace}/{name}")
            if _is_ours(one) and not is_deleting(one)
        ]  # fmt: skip
        changes = Changes()
        families = families_of(service)
        for family in families:
            changes.add(plan(
                service, pods, [one for one in existing if one["addressType"] == family], family,
                zone_of=self._zone_of, limit=self._limit,
            ))  # fmt: skip
        changes.delete += [one for one in existing if one["addressType"] not in families]
        try:
            token = _writing.set(key)
            try:
                await self._write(service, changes, moment)
            finally:
                _writing.reset(token)
        except ApiError as error:
            if is_end_of_namespace(error):
                return None
            if error.reason != "Conflict":
                self._events.warning(
                    service, "FailedToUpdateEndpointSlices",
                    f"Error updating Endpoint Slices for Service {key}: {error}",
                )  # fmt: skip
            raise
        self._seen[key] = seen
        return None

    def _zone_of(self, node: str) -> str | None:
        found = self._nodes.get(node)
        return None if found is None else _zone(found)

    async def _write(self, service: Object, changes: Changes, moment: str) -> None:
        """Make first, delete last: so that no endpoint is missing in between."""
        writer = self.context.writer
        for one in [*changes.create, *changes.update]:
            annotations = dict(one["metadata"].get("annotations") or {})
            annotations.pop(TRIGGER_TIME, None)
            if moment:
                annotations[TRIGGER_TIME] = moment
            one["metadata"]["annotations"] = annotations
        if not is_deleting(service):
            await _all(writer.create(SLICES, one) for one in changes.create)
        await _all(writer.update(SLICES, one) for one in changes.update)
        await _all(writer.delete(SLICES, one) for one in changes.delete)


async def _all(writes: Iterable[Awaitable[object]]) -> None:
    """Do all of them, also if one fails; then raise the first failure."""
    for answer in await asyncio.gather(*writes, return_exceptions=True):
        if isinstance(answer, BaseException):
            raise answer


def of_node(pod: Object) -> list[str]:
    """Return the node of a pod, for `Informer.index` (pure)."""
    name = pod["spec"].get("nodeName")
    return [name] if name else []


def _is_ours(one: Object) -> bool:
    return bool((one["metadata"].get("labels") or {}).get(MANAGED_BY) == MANAGER)


def _zone(node: Object) -> str:
    return (node["metadata"].get("labels") or {}).get(ZONE) or ""
