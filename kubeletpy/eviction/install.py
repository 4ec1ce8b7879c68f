"""How the eviction manager hooks into a kubelet."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kubeletpy.affinity.errors import AdmissionError
from kubeletpy.api.base import now as api_now
from kubeletpy.api.pod import Pod
from kubeletpy.api.status import PodCondition
from kubeletpy.cri.client import CriError
from kubeletpy.pods.state import Terminal
from kubeletpy.resources.cgroups import CgroupError, PodCgroups
from kubeletpy_common import logs

from .manager import HOUSEKEEPING, Actions, EvictionManager
from .measuring import Meter, Places, find_places, in_use, observe
from .notices import SYSTEM_PRESSURE, Notices
from .ranking import REASON
from .signals import (
    Observation,
    Signal,
    Threshold,
    parse_thresholds,
    resource_of,
    with_container_fs,
)
from .usage import Disks, PodUsage

if TYPE_CHECKING:
    from kubeletpy.core import Core

_log = logging.getLogger(__name__)
_RETRY = 5.0


class NodeMeasure:
    """Measures the node of a kubelet; see `manager.Measure`."""

    def __init__(self, meter: Meter, cgroups: PodCgroups, places: Places) -> None:
        self._meter = meter
        self._cgroups = cgroups
        self._places = places
        self.disks: Disks = places.disks
        self.observed: Callable[[], None] | None = None
        """Called after each observation."""

    async def observe(self) -> Mapping[Signal, Observation]:
        """Return the value of each signal."""
        found = await asyncio.to_thread(observe, self._places, self._cgroups)
        if self.observed is not None:
            self.observed()
        return found

    async def usages(self, pods: Sequence[Pod], *, storage: bool) -> dict[str, PodUsage]:
        """Return what pods use, by uid."""
        if not storage:
            return await asyncio.to_thread(self._meter.memory, pods)
        containers = await self._meter.containers()
        found = {}
        for pod in pods:
            uid = pod.metadata.uid
            of_pod = containers.get(uid, {})
            try:
                found[uid] = await asyncio.to_thread(self._meter.storage, pod, of_pod, self._places)
            except (OSError, ValueError) as error:
                logs.event(_log, logging.WARNING, "use of a pod not measured", uid=uid,
                           reason=str(error))  # fmt: skip
        return found


def install(core: Core) -> None:
    """Add the eviction manager to a kubelet."""

    async def admit(pod: Pod) -> AdmissionError | None:
        text = core.eviction.refusal(pod) if core.eviction is not None else ""
        return AdmissionError(REASON, text) if text else None

    # Before those who give a pod what it asks for.
    core.admitters.insert(0, admit)
    core.background.append(("eviction", lambda: _run(core)))


async def _run(core: Core) -> None:
    one = core.settings.configuration
    enforce = () if core.settings.ignore_eviction_in_allocatable else one.enforce_node_allocatable
    thresholds = parse_thresholds(
        one.eviction_hard, one.eviction_soft, one.eviction_soft_grace_period,
        one.eviction_minimum_reclaim, enforce,
    )  # fmt: skip
    places = await _places(core)
    disks = places.disks
    thresholds = with_container_fs(thresholds, image_fs=disks.image_fs, split=disks.split)
    measure = NodeMeasure(Meter(core.cri, core.cgroups, core.facts), core.cgroups, places)
    manager = EvictionManager(
        thresholds,
        measure,
        _actions(core),
        core.recorder,
        transition=one.eviction_pressure_transition_period,
        longest_grace=one.eviction_max_pod_grace_period,
        isolation=one.local_storage_capacity_isolation,
    )
    core.eviction = manager
    core.environment.released.append(manager.on_released)
    notices = Notices(manager.ring)
    try:
        notices.start()
        _watch(core, notices, manager, measure)
        await manager.run()
    finally:
        notices.close()
        core.eviction = None
        core.environment.released.remove(manager.on_released)


async def _places(core: Core) -> Places:
    while True:
        try:
            return await find_places(core.cri, core.settings.root_dir)
        except CriError:
            await asyncio.sleep(_RETRY)


def _actions(core: Core) -> Actions:
    def evict(pod: Pod, message: str, grace: int, disruption: bool) -> None:
        condition = PodCondition(
            type="DisruptionTarget", status="True", reason="TerminationByKubelet",
            message=message, observed_generation=pod.metadata.generation,
            last_transition_time=api_now(),
        )  # fmt: skip
        core.manager.workers.conclude(
            pod.metadata.uid,
            Terminal("Failed", REASON, message),
            grace=grace,
            disruption=condition if disruption else None,
        )

    def publish(conditions: frozenset[str]) -> None:
        core.pressure.clear()
        core.pressure.update(conditions)
        if core.presence is not None:
            core.presence.report()

    def active() -> list[Pod]:
        resizes = core.tools.resizes
        return resizes.pods() if resizes is not None else []

    async def reclaim(signal: Signal) -> bool:
        if resource_of(signal) in ("memory", "pids"):
            return False
        freed = False
        for each in core.reclaimers:
            freed = await each() or freed
        return freed

    counted = core.tools.measures.evicted
    return Actions(active=active, evict=evict, reclaim=reclaim, publish=publish, counted=counted)


def _watch(core: Core, notices: Notices, manager: EvictionManager, measure: NodeMeasure) -> None:
    """Have the kernel tell of pressure where it can."""
    stalls = notices.stall(SYSTEM_PRESSURE)
    pods = core.cgroups.directory("memory")
    if core.hierarchy.version == 2 and pods is not None:
        stalls = notices.stall(pods / "memory.pressure") or stalls
    elif core.hierarchy.version == 1 and pods is not None:
        measure.observed = _MemoryThreshold(core.cgroups, notices, manager.thresholds, pods).rearm
    logs.event(
        _log, logging.INFO, "eviction manager started", pressure_stalls=stalls,
        memory_thresholds=measure.observed is not None,
        thresholds=[str(one.signal) for one in manager.thresholds],
    )  # fmt: skip


class _MemoryThreshold:
    """Version 1's notice that all pods together use more than a hard threshold leaves them.

    What the kernel compares includes page cache, so it is set anew as the cache changes.
    """

    def __init__(
        self, cgroups: PodCgroups, notices: Notices, thresholds: Sequence[Threshold], pods: Path
    ) -> None:
        self._cgroups = cgroups
        self._notices = notices
        self._pods = pods
        self._value = next(
            (one.value for one in thresholds if one.signal is Signal.ALLOCATABLE_MEMORY), None
        )
        self._set_at = 0.0

    def rearm(self) -> None:
        """Set it for the cache of this moment, unless that was done a moment ago."""
        if self._value is None or time.monotonic() - self._set_at < HOUSEKEEPING:
            return
        try:
            memory = self._cgroups.all_usage().memory
        except CgroupError:
            return
        if memory is None or not memory.limit:
            return
        cache = memory.usage - in_use(memory)
        usage = memory.limit - self._value.of(memory.limit) + cache
        if self._notices.memory(self._pods, usage):
            self._set_at = time.monotonic()
