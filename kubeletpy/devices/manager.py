"""All device plug-ins of the node, and which container has which of their devices.

The node's capacity of a resource is the number of its devices, what is allocatable the number of
the healthy ones. A plug-in that goes leaves its devices unhealthy; if it is not back after five
minutes the resource is forgotten. Pods that have devices keep them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kubeletpy.affinity.errors import AllocationError
from kubeletpy.affinity.hints import Hint, ResourceHints
from kubeletpy.affinity.state_file import StateError, set_aside
from kubeletpy.api.container import Container
from kubeletpy.api.pod import Pod
from kubeletpy.api.status import PodStatus, ResourceHealth, ResourceStatus
from kubeletpy.plugins.channels import PluginError
from kubeletpy.pods.measures import Measures
from kubeletpy.resources.totals import is_sidecar, pod_limits
from kubeletpy_common import logs
from kubeletpy_proto import deviceplugin_pb2

from . import records
from .choice import Device, Devices, by_affinity, device_hints, pick, tells_nodes
from .endpoint import Endpoint
from .records import NO_NODE, Grant, Records

_log = logging.getLogger(__name__)
FORGOTTEN_AFTER = 300.0
"""Seconds after which a resource whose plug-in went is not a resource of the node any more."""


@dataclass
class _Resource:
    """What is known of one resource.

    Attributes:
        devices: by id.
        endpoint: its plug-in; None: it went.
        stopped_at: when it went.
        task: follows its devices.
    """

    devices: dict[str, Device] = field(default_factory=dict)
    endpoint: Endpoint | None = None
    stopped_at: float = 0.0
    task: asyncio.Task[None] | None = None

    @property
    def healthy(self) -> set[str]:
        """Ids that can be given; none without a plug-in."""
        if self.endpoint is None:
            return set()
        return {one for one, device in self.devices.items() if device.healthy}


class DeviceManager:
    """Knows the plug-ins; a `Provider` of the topology manager.

    Args:
        directory: of the checkpoint.
        nodes: NUMA nodes of the machine.
        changed: called when capacity, or the health of a device, may have changed.
        clock: seconds.
    """

    restores = False

    def __init__(
        self,
        directory: Path,
        nodes: Iterable[int],
        changed: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.changed = changed
        self.measures = Measures()
        """Told of registrations and allocations."""
        self._directory = directory
        self._nodes = tuple(nodes)
        self._clock = clock
        self._resources: dict[str, _Resource] = {}
        self._records = Records()
        self._reserved: dict[str, set[str]] = {}
        self._reusable: dict[str, dict[str, set[str]]] = {}

    def load(self) -> None:
        """Read the checkpoint; one that is damaged is set aside, and nobody has anything."""
        path = self._directory / records.FILE
        try:
            found = records.load(self._directory)
        except StateError as error:
            set_aside(path, str(error))
            return
        if found is not None:
            self._records = found
            for resource in found.registered:
                # As long as the plug-in is not back the node has none of it, but knows the name.
                self._resources[resource] = _Resource(stopped_at=self._clock())

    # Plug-ins -----------------------------------------------------------------------------------

    async def connect(self, resource: str, socket: Path) -> None:
        """Take a plug-in, in place of the one that offered the resource before.

        Raises:
            PluginError: it cannot be reached.
        """
        endpoint = Endpoint(resource, socket)
        try:
            await endpoint.open()
        except BaseException:
            await endpoint.close()
            raise
        self.measures.plugin(resource)
        known = self._resources.setdefault(resource, _Resource())
        before = known.task
        known.endpoint = endpoint
        known.task = asyncio.create_task(self._follow(known, endpoint), name=f"devices {resource}")
        if before is not None:
            before.cancel()

    async def disconnect(self, resource: str) -> None:
        """Let go of the plug-in of a resource."""
        known = self._resources.get(resource)
        if known is not None and known.task is not None:
            known.task.cancel()
            await asyncio.gather(known.task, return_exceptions=True)

    async def close(self) -> None:
        """Let go of all plug-ins."""
        for resource in list(self._resources):
            await self.disconnect(resource)

    async def _follow(self, known: _Resource, endpoint: Endpoint) -> None:
        reason = "it ended the stream"
        try:
            async for devices in endpoint.devices():
                if known.endpoint is endpoint:
                    self._update(known, endpoint.resource, devices)
        except PluginError as error:
            reason = str(error)
        finally:
            if known.endpoint is endpoint:
                known.endpoint = None
                known.stopped_at = self._clock()
                self.changed()
                asyncio.get_running_loop().call_later(FORGOTTEN_AFTER + 1, self.changed)
                logs.event(
                    _log, logging.WARNING, "device plug-in gone", resource=endpoint.resource,
                    reason=reason,
                )  # fmt: skip
            await endpoint.close()

    def _update(self, known: _Resource, resource: str, devices: dict[str, Device]) -> None:
        if known.devices == devices and resource in self._records.registered:
            self.changed()
            return
        known.devices = devices
        self._records.registered[resource] = sorted(known.healthy)
        self._try_save()
        logs.event(
            _log, logging.INFO, "devices", resource=resource, count=len(devices),
            healthy=len(known.healthy),
        )  # fmt: skip
        self.changed()

    # What the node has ---------------------------------------------------------------------------

    def amounts(self) -> tuple[dict[str, int], dict[str, int], set[str]]:
        """Return capacity and allocatable by resource, and the resources that are no more."""
        capacity, allocatable, gone = {}, {}, set()
        for resource, known in list(self._resources.items()):
            stopped = known.endpoint is None
            if stopped and self._clock() - known.stopped_at > FORGOTTEN_AFTER:
                gone.add(resource)
                del self._resources[resource]
                self._records.registered.pop(resource, None)
                continue
            capacity[resource] = len(known.devices)
            allocatable[resource] = len(known.healthy)
        if gone:
            self._try_save()
        return capacity, allocatable, gone

    def offers(self, resource: str) -> bool:
        """Whether a resource is, or was, that of a device plug-in."""
        return resource in self._resources or any(
            name == resource for *_, name, _ in self._records.every()
        )

    def allocatable(self) -> dict[str, Devices]:
        """Return the healthy devices by resource."""
        return {
            resource: {one: known.devices[one] for one in sorted(known.healthy)}
            for resource, known in sorted(self._resources.items())
            if known.healthy
        }

    def pods(self) -> Collection[str]:
        """Return the UIDs of the pods that have devices."""
        return self._records.grants.keys()

    def grants(self, uid: str, container: str) -> Mapping[str, Grant]:
        """Return the devices of a container by resource."""
        return self._records.of(uid, container)

    def add_to_status(self, status: dict[str, Any]) -> None:
        """Put devices into a NodeStatus; resources that are no more become zero, as in Go."""
        capacity, allocatable, gone = self.amounts()
        zeros = dict.fromkeys(gone, 0)
        for key, amounts in (("capacity", capacity), ("allocatable", allocatable)):
            told = {name: str(amount) for name, amount in (amounts | zeros).items()}
            status[key] = {**(status.get(key) or {}), **told}

    def health(self, resource: str, device: str) -> bool:
        """Whether a device is healthy; one that is not known counts as such, as in Go."""
        known = self._resources.get(resource)
        found = known.devices.get(device) if known is not None else None
        return found is None or found.healthy

    def add_to_pod_status(self, pod: Pod, status: PodStatus) -> None:
        """Add the health of its devices to a pod's status (KEP-4680)."""
        for one in status.container_statuses:
            one.allocated_resources_status = [
                ResourceStatus(
                    name=resource,
                    resources=[
                        ResourceHealth(
                            resource_id=device,
                            health="Healthy" if self.health(resource, device) else "Unhealthy",
                        )
                        for device in sorted(grant.ids)
                    ],
                )
                for resource, grant in sorted(self.grants(pod.metadata.uid, one.name).items())
            ]

    # Provider ------------------------------------------------------------------------------------

    def wanted(self, container: Container) -> dict[str, int]:
        """Return how many devices of each resource a container asks for."""
        return {
            resource: int(amount)
            for resource, amount in sorted(container.resources.limits.items())
            if amount and "/" in resource and self.offers(resource)
        }

    def hints(self, pod: Pod, container: Container) -> ResourceHints:
        """Return which NUMA nodes could serve a container."""
        uid = pod.metadata.uid
        found: dict[str, list[Hint] | None] = {}
        for resource, count in self.wanted(container).items():
            grant = self._records.of(uid, container.name).get(resource)
            reusable = self._reusable.get(uid, {}).get(resource, set())
            found[resource] = self._hints(resource, count, grant.ids if grant else None, reusable)
        return found

    def pod_hints(self, pod: Pod) -> ResourceHints:
        """Return which NUMA nodes could serve a whole pod."""
        found: dict[str, list[Hint] | None] = {}
        containers = self._records.grants.get(pod.metadata.uid, {}).values()
        for resource, amount in sorted(pod_limits(pod).items()):
            if not amount or "/" not in resource or not self.offers(resource):
                continue
            have: set[str] = set()
            for grants in containers:
                if resource in grants:
                    have |= grants[resource].ids
            found[resource] = self._hints(resource, int(amount), frozenset(have) or None, set())
        return found

    def _hints(
        self, resource: str, count: int, have: frozenset[str] | None, reusable: set[str]
    ) -> list[Hint] | None:
        known = self._resources.get(resource, _Resource())
        if not tells_nodes(known.devices):
            return None
        if have is not None:
            if len(have) != count:
                return []
            return device_hints(known.devices, have, set(), count, self._nodes)
        available = self._available(resource)
        if len(available | reusable) < count:
            return []
        return device_hints(known.devices, available, reusable, count, self._nodes)

    def _available(self, resource: str) -> set[str]:
        known = self._resources.get(resource, _Resource())
        reserved = self._reserved.get(resource, set())
        return known.healthy - self._records.taken(resource) - reserved

    async def allocate(self, pod: Pod, container: Container, hint: Hint) -> None:
        """Give a container its devices.

        Raises:
            AllocationError: there are not enough, or a plug-in failed.
        """
        for resource, count in self.wanted(container).items():
            await self._allocate(pod, container, resource, count, hint)

    async def _allocate(
        self, pod: Pod, container: Container, resource: str, count: int, hint: Hint
    ) -> None:
        uid = pod.metadata.uid
        grant = self._records.of(uid, container.name).get(resource)
        if grant is not None:
            if len(grant.ids) != count:
                raise AllocationError(
                    f'pod "{uid}" container "{container.name}" changed request for resource '
                    f'"{resource}" from {len(grant.ids)} to {count}'
                )
            self._note_reusable(pod, container, resource, set(grant.ids))
            return
        endpoint = self._ready(resource)
        chosen = set(await self._choose(uid, endpoint, count, hint))
        if len(chosen) < count:
            raise AllocationError(
                f"requested number of devices unavailable for {resource}. Requested: {count}, "
                f"Available: {len(chosen)}"
            )
        again = self._reusable.get(uid, {}).get(resource, set())
        reserved = self._reserved.setdefault(resource, set())
        reserved |= chosen - again
        try:
            begun = time.monotonic()
            answer = await endpoint.allocate(chosen)
            self.measures.allocated(resource, time.monotonic() - begun)
            devices = self._resources[resource].devices if resource in self._resources else {}
            grant = Grant(_by_node(chosen, devices), answer.SerializeToString())
            self._records.put(uid, container.name, resource, grant)
            self._save()
        except PluginError as error:
            raise AllocationError(str(error)) from error
        finally:
            reserved -= chosen
        self._note_reusable(pod, container, resource, chosen)

    def _ready(self, resource: str) -> Endpoint:
        known = self._resources.get(resource)
        if known is None:
            raise AllocationError(f"cannot allocate unregistered device {resource}")
        if known.endpoint is None or not known.healthy:
            raise AllocationError(
                f"no healthy devices present; cannot allocate unhealthy devices {resource}"
            )
        return known.endpoint

    async def _choose(self, uid: str, endpoint: Endpoint, count: int, hint: Hint) -> list[str]:
        """Return the devices for a request: those left by init containers, then aligned ones."""
        resource = endpoint.resource
        again = sorted(self._reusable.get(uid, {}).get(resource, set()))[:count]
        if len(again) == count:
            return again
        available = self._available(resource)
        missing = count - len(again)
        if len(available) < missing:
            raise AllocationError(
                f"requested number of devices unavailable for {resource}. Requested: {missing}, "
                f"Available: {len(available)}"
            )
        aligned = self._groups(resource, hint)[0]
        preferred: list[str] = []
        if endpoint.options.get_preferred_allocation_available:
            among = set(aligned) if missing < len(aligned) else available
            included = set(again) if missing < len(aligned) else {*again, *aligned}
            try:
                preferred = await endpoint.preferred(among | set(again), included, count)
            except PluginError as error:
                raise AllocationError(
                    f"device plugin GetPreferredAllocation rpc failed with err: {error}"
                ) from error
        # Meanwhile others may have taken some.
        aligned, others, nowhere = self._groups(resource, hint)
        left = self._available(resource)
        wished = [one for one in preferred if one in left]
        if missing < len(aligned):
            inside = set(aligned)
            return pick(count, again, [one for one in wished if one in inside], aligned)
        return pick(count, again, aligned, wished, others, nowhere)

    def _groups(self, resource: str, hint: Hint) -> tuple[list[str], list[str], list[str]]:
        known = self._resources.get(resource, _Resource())
        return by_affinity(known.devices, self._available(resource), hint.mask)

    def _note_reusable(self, pod: Pod, container: Container, resource: str, ids: set[str]) -> None:
        left = self._reusable.setdefault(pod.metadata.uid, {}).setdefault(resource, set())
        init = any(one.name == container.name for one in pod.spec.init_containers)
        if init and not is_sidecar(container):
            left |= ids
        else:
            left -= ids

    def holds(self, uid: str) -> bool:
        """Whether a pod has devices."""
        return uid in self._records.grants

    def settle(self, pod: Pod) -> None:
        """Forget what could be used again."""
        self._reusable.pop(pod.metadata.uid, None)

    def release(self, uid: str) -> None:
        """Take the devices of a pod back."""
        if self._records.grants.pop(uid, None) is not None:
            self._try_save()

    # Containers ----------------------------------------------------------------------------------

    async def prepare(
        self, pod: Pod, container: Container
    ) -> list[deviceplugin_pb2.ContainerAllocateResponse]:
        """Have the devices of a container that is about to be created made ready.

        Returns:
            What the container needs, one answer for each resource.

        Raises:
            AllocationError: a plug-in is not there or failed, or devices are missing.
        """
        uid = pod.metadata.uid
        answers = []
        for resource in self.wanted(container):
            grant = self._records.of(uid, container.name).get(resource)
            if grant is None:
                raise AllocationError(f"no devices of {resource} were allocated for the container")
            await self._pre_start(resource, grant)
            answer = deviceplugin_pb2.ContainerAllocateResponse()
            answer.ParseFromString(grant.answer)
            answers.append(answer)
        return answers

    async def _pre_start(self, resource: str, grant: Grant) -> None:
        known = self._resources.get(resource)
        if known is None or known.endpoint is None:
            raise AllocationError(
                f"the device plug-in of {resource} is not registered: start it, then the "
                "container starts"
            )
        if not known.endpoint.options.pre_start_required:
            return
        try:
            await known.endpoint.pre_start(grant.ids)
        except PluginError as error:
            raise AllocationError(
                f"device plugin PreStartContainer rpc failed with err: {error}"
            ) from error

    def _save(self) -> None:
        try:
            records.save(self._directory, self._records)
        except OSError as error:
            raise AllocationError(f"cannot write {records.FILE}: {error}") from error

    def _try_save(self) -> None:
        try:
            records.save(self._directory, self._records)
        except OSError as error:
            logs.event(_log, logging.ERROR, "checkpoint not written", reason=str(error))


def _by_node(chosen: Iterable[str], devices: Devices) -> dict[int, tuple[str, ...]]:
    found: dict[int, list[str]] = {}
    for one in sorted(chosen):
        device = devices.get(one)
        for node in (device.nodes if device is not None else ()) or (NO_NODE,):
            found.setdefault(node, []).append(one)
    return {node: tuple(ids) for node, ids in sorted(found.items())}
