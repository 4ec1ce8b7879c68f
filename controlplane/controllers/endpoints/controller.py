"""The controller of Endpoints of Services that select pods."""

from __future__ import annotations

from typing import ClassVar

from controlplane.controllers.serviceendpoints.matching import Matching
from controlplane.controllers.serviceendpoints.pods import LEADER
from controlplane.controllers.serviceendpoints.triggers import Seen, trigger_time
from controlplane.controllers.serviceendpoints.writing import is_end_of_namespace
from controlplane.engine.controller import Context, Controller
from controlplane.engine.resources import ENDPOINTS, PODS, SERVICES, Object, key_of
from kubeletpy_common.apiclient.errors import ApiError

from .plan import MANAGER, wanted


class EndpointsController(Controller):
    """Keeps the Endpoints of each Service that selects pods."""

    name: ClassVar[str] = "endpoints-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._pause: float = context.options.get("endpoint_updates_batch_period", 0.0)
        self._events = context.recorder.of(MANAGER)
        self._seen: dict[str, Seen] = {}
        self._services = context.informers.of(SERVICES)
        self._pods = context.informers.of(PODS)
        self._endpoints = context.informers.of(ENDPOINTS)
        self._matching = Matching(self._services, self._pods)
        self._services.listen(self.enqueue)
        self._matching.listen(self._of_pod)
        self._endpoints.listen(self._of_endpoints)

    async def run(self) -> None:
        """Work, until cancelled; first of all look at Endpoints whose Service is gone."""
        await self.context.informers.synced()
        for one in self._endpoints:
            if self._services.get(key_of(one)) is None:
                self.queue.add(key_of(one))
        await self.queue.run()

    def _of_pod(self, key: str) -> None:
        if self._pause:
            self.queue.add_after(key, self._pause)
        else:
            self.queue.add(key)

    def _of_endpoints(self, before: Object | None, value: Object | None) -> None:
        """Have Endpoints looked at that somebody changed or deleted; new ones are somebody's."""
        if before is not None and self._services.get(key_of(before)) is not None:
            self.queue.add(key_of(before))

    async def sync(self, key: str) -> float | None:
        """Bring the Endpoints of a Service to what its pods are."""
        service = self._services.get(key)
        known = self._endpoints.get(key)
        if service is None:
            self._seen.pop(key, None)
            if known is not None and LEADER not in (known["metadata"].get("annotations") or {}):
                await self.context.writer.delete(ENDPOINTS, known)
            return None
        if service["spec"].get("type") == "ExternalName" or not service["spec"].get("selector"):
            return None
        pods = self._matching.pods_of(service)
        moment, seen = trigger_time(self._seen.get(key), service, pods)
        made = wanted(service, pods, known, moment)
        if made is not None:
            try:
                if known is None:
                    await self.context.writer.create(ENDPOINTS, made)
                else:
                    await self.context.writer.update(ENDPOINTS, made)
            except ApiError as error:
                if known is None and is_end_of_namespace(error):
                    return None
                self._tell(made, error, is_new=known is None)
                raise
        self._seen[key] = seen
        return None

    def _tell(self, made: Object, error: ApiError, *, is_new: bool) -> None:
        key = key_of(made)
        if is_new:
            message = f"Failed to create endpoint for service {key}: {error}"
            self._events.warning(made, "FailedToCreateEndpoint", message)
        elif error.reason != "Conflict":
            message = f"Failed to update endpoint {key}: {error}"
            self._events.warning(made, "FailedToUpdateEndpoint", message)
