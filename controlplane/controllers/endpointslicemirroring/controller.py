"""The controller that mirrors Endpoints to EndpointSlices."""

from __future__ import annotations

from typing import ClassVar, Final

from controlplane.controllers.endpointslice.plan import MANAGED_BY
from controlplane.controllers.serviceendpoints.pods import LEADER
from controlplane.controllers.serviceendpoints.writing import (
    is_end_of_namespace,
    of_service_name,
    service_key,
)
from controlplane.engine.controller import Context, Controller
from controlplane.engine.resources import ENDPOINTS, SERVICES, SLICES, Object, is_deleting
from kubeletpy_common.apiclient.errors import ApiError

from .plan import LIMIT, MANAGER, Plan, plan

SKIP: Final = "endpointslice.kubernetes.io/skip-mirror"


class MirroringController(Controller):
    """Keeps a slice for what Endpoints say, where the Service selects no pods."""

    name: ClassVar[str] = "endpointslice-mirroring-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        options = context.options
        self._limit: int = options.get("mirroring_max_endpoints_per_subset", LIMIT)
        self._pause: float = options.get("mirroring_endpointslice_updates_batch_period", 0.0)
        self._events = context.recorder.of("endpoint-slice-mirroring-controller")
        self._services = context.informers.of(SERVICES)
        self._endpoints = context.informers.of(ENDPOINTS)
        self._slices = context.informers.of(SLICES)
        self._slices.index("service", of_service_name)
        self._services.listen(self._of_service)
        self._endpoints.listen(self._of_endpoints)
        self._slices.listen(self._of_slice)

    def _of_service(self, before: Object | None, value: Object | None) -> None:
        states = {_selects(one) for one in (before, value) if one is not None}
        if before is None or value is None:
            if False in states:
                self.enqueue(before, value)
        elif len(states) == 2:
            self.enqueue(before, value)

    def _of_endpoints(self, before: Object | None, value: Object | None) -> None:
        if any(one is not None and is_mirrored(one) for one in (before, value)):
            self.enqueue(before, value)

    def _of_slice(self, before: Object | None, value: Object | None) -> None:
        for one in (before, value):
            if one is not None and _is_ours(one) and (key := service_key(one)):
                if self._pause:
                    self.queue.add_after(key, self._pause)
                else:
                    self.queue.add(key)

    async def sync(self, key: str) -> float | None:
        """Bring the slices that mirror Endpoints to what these say."""
        endpoints, service = self._endpoints.get(key), self._services.get(key)
        existing = [
            one for one in self._slices.indexed("service", key)
            if _is_ours(one) and not is_deleting(one)
        ]  # fmt: skip
        writer = self.context.writer
        if (
            endpoints is None or not is_mirrored(endpoints)
            or service is None or _selects(service)
        ):  # fmt: skip
            for one in existing:
                await writer.delete(SLICES, one)
            return None
        made = plan(endpoints, existing, self._limit)
        changes = made.changes
        self._tell(endpoints, made)
        if not is_deleting(endpoints):
            for one in changes.create:
                try:
                    await writer.create(SLICES, one)
                except ApiError as error:
                    if is_end_of_namespace(error):
                        return None
                    raise
        for one in changes.update:
            await writer.update(SLICES, one)
        for one in changes.delete:
            await writer.delete(SLICES, one)
        return None

    def _tell(self, endpoints: Object, made: Plan) -> None:
        changes = made.changes
        if not (changes.create or changes.update or changes.delete):
            return
        if made.invalid:
            self._events.warning(
                endpoints, "InvalidIPAddress",
                f"Skipped {made.invalid} invalid IP addresses when mirroring to EndpointSlices",
            )  # fmt: skip
        if made.skipped > made.invalid:
            self._events.warning(
                endpoints, "TooManyAddressesToMirror",
                f"A max of {self._limit} addresses can be mirrored to EndpointSlices per "
                f"Endpoints subset. {made.skipped} addresses were skipped",
            )  # fmt: skip


def is_mirrored(endpoints: Object) -> bool:
    """Whether Endpoints are mirrored, if their Service selects no pods (pure)."""
    meta = endpoints["metadata"]
    return (meta.get("labels") or {}).get(SKIP) != "true" and LEADER not in (
        meta.get("annotations") or {}
    )


def _selects(service: Object) -> bool:
    return bool(service["spec"].get("selector"))


def _is_ours(one: Object) -> bool:
    return bool((one["metadata"].get("labels") or {}).get(MANAGED_BY) == MANAGER)
