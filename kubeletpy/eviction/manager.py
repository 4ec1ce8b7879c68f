"""The eviction manager: looks, decides, reclaims, evicts; woken by the kernel and by a clock."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from kubeletpy.api.pod import Pod
from kubeletpy.events import Recorder
from kubeletpy.resources.priority import is_critical
from kubeletpy.resources.qos import BEST_EFFORT, qos_class
from kubeletpy_common import logs

from .decision import Past, decide, met
from .ranking import REASON, eviction_message, rank
from .signals import (
    MEMORY_PRESSURE,
    Observation,
    Signal,
    Threshold,
    condition_of,
    resource_of,
)
from .storage import excess, limited
from .usage import Disks, PodUsage

_log = logging.getLogger(__name__)
HOUSEKEEPING = 10.0
"""Seconds between looks without any notice, as in the Go kubelet: a disk sends none."""
CLEANUP_WAIT = 30.0
"""Seconds that an evicted pod is waited for before the next one goes."""
IMMEDIATELY = 1
"""Seconds that a pod has to end at a hard threshold."""
MEMORY_TAINT = "node.kubernetes.io/memory-pressure"


class Measure(Protocol):
    """What the manager asks of the node; `measuring.NodeMeasure` has it."""

    @property
    def disks(self) -> Disks:
        """Which file systems there are."""

    async def observe(self) -> Mapping[Signal, Observation]:
        """Return the value of each signal."""

    async def usages(self, pods: Sequence[Pod], *, storage: bool) -> dict[str, PodUsage]:
        """Return what pods use, by uid; ``storage``: of disks too."""


@dataclass(frozen=True, kw_only=True)
class Actions:
    """What the manager may do.

    Attributes:
        active: returns the pods that use something of the node, as they were allocated.
        evict: ends a pod for good: pod, message, seconds of grace, whether it is a disruption.
        reclaim: by condition of the signal: what frees something of the node first.
        publish: called with the node conditions that hold, when they change.
        counted: called with the signal of each eviction, and the age in seconds of what it was
            decided by, for metrics.
    """

    active: Callable[[], list[Pod]]
    evict: Callable[[Pod, str, int, bool], None]
    reclaim: Callable[[Signal], Awaitable[bool]]
    publish: Callable[[frozenset[str]], None]
    counted: Callable[[str, float], None] = field(default=lambda signal, age: None)


class EvictionManager:
    """Ends pods before the node runs out of something.

    Args:
        thresholds: of the configuration, containerfs included.
        measure: of the node.
        actions: what it may do.
        recorder: takes events.
        transition: evictionPressureTransitionPeriod in seconds.
        longest_grace: evictionMaxPodGracePeriod in seconds.
        isolation: localStorageCapacityIsolation.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        thresholds: Sequence[Threshold],
        measure: Measure,
        actions: Actions,
        recorder: Recorder,
        *,
        transition: float = 300.0,
        longest_grace: int = 0,
        isolation: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.thresholds = thresholds
        self.conditions: frozenset[str] = frozenset()
        self.observations: Mapping[Signal, Observation] = {}
        self._observed_at = clock()
        self._measure = measure
        self._actions = actions
        self._recorder = recorder
        self._transition = transition
        self._longest_grace = longest_grace
        self._isolation = isolation
        self._clock = clock
        self._past = Past()
        self._wake_at: float | None = None
        self._bell = asyncio.Event()
        self._ended = asyncio.Event()
        self._awaited: set[str] = set()

    def ring(self) -> None:
        """Look now: the kernel told of pressure."""
        self._bell.set()

    def on_released(self, uid: str) -> None:
        """Take note of a pod that has given back what it held of the node, volumes and cgroup.

        That it has come to its end is not enough: its files still fill the disk, and the next look
        would evict another pod for them.
        """
        self._awaited.discard(uid)
        if not self._awaited:
            self._ended.set()

    def refusal(self, pod: Pod) -> str:
        """Return why a new pod cannot be admitted now (reason Evicted), "" if it can."""
        if not self.conditions or is_critical(pod):
            return ""
        if self.conditions == {MEMORY_PRESSURE}:
            tolerated = any(
                one.key in ("", MEMORY_TAINT)
                and one.effect in ("", "NoSchedule")
                and (one.operator == "Exists" or (one.key and not one.value))
                for one in pod.spec.tolerations
            )
            if qos_class(pod) != BEST_EFFORT or tolerated:
                return ""
        return f"The node had condition: [{' '.join(sorted(self.conditions))}]. "

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            self._bell.clear()
            evicted = await self.look()
            if evicted:
                await self._wait_for(evicted)
                continue
            timeout = HOUSEKEEPING
            if self._wake_at is not None:
                timeout = min(timeout, max(self._wake_at - self._clock(), 0.05))
            try:
                async with asyncio.timeout(timeout):
                    await self._bell.wait()
            except TimeoutError:
                pass

    async def _wait_for(self, evicted: Sequence[Pod]) -> None:
        self._awaited = {pod.metadata.uid for pod in evicted} & {
            pod.metadata.uid for pod in self._actions.active()
        }
        self._ended.clear()
        if not self._awaited:
            return
        try:
            async with asyncio.timeout(CLEANUP_WAIT):
                await self._ended.wait()
        except TimeoutError:
            logs.event(
                _log, logging.WARNING, "evicted pods have not ended yet",
                pods=sorted(self._awaited), after_s=CLEANUP_WAIT,
            )  # fmt: skip

    async def _observe(self) -> Mapping[Signal, Observation]:
        self._observed_at = self._clock()
        self.observations = await self._measure.observe()
        return self.observations

    async def look(self) -> list[Pod]:
        """Look at the node once and do what is due; return the pods that were evicted."""
        observations = await self._observe()
        decision = decide(
            self.thresholds, observations, self._past, self._transition, self._clock()
        )
        self._past, self._wake_at = decision.past, decision.wake_at
        if decision.conditions != self.conditions:
            self.conditions = decision.conditions
            logs.event(
                _log, logging.WARNING if decision.conditions else logging.INFO,
                "pressure on the node", conditions=sorted(decision.conditions),
            )  # fmt: skip
            self._actions.publish(decision.conditions)
        if self._isolation:
            evicted = await self._enforce_limits()
            if evicted:
                return evicted
        if decision.reclaim is None:
            return []
        return await self._reclaim(decision.reclaim, decision.met)

    async def _enforce_limits(self) -> list[Pod]:
        """Evict pods that exceed a limit of ephemeral storage."""
        pods = [pod for pod in self._actions.active() if limited(pod)]
        if not pods:
            return []
        usages = await self._measure.usages(pods, storage=True)
        evicted = []
        for pod in pods:
            usage = usages.get(pod.metadata.uid)
            message = excess(pod, usage, self._measure.disks) if usage is not None else ""
            if message and self._evict(pod, message, IMMEDIATELY, disruption=False):
                self._actions.counted("ephemeralpodfs.limit", 0.0)
                evicted.append(pod)
        return evicted

    async def _reclaim(self, threshold: Threshold, due: Sequence[Threshold]) -> list[Pod]:
        resource = resource_of(threshold.signal)
        text = f"Attempting to reclaim {resource}"
        self._recorder.node("Warning", "EvictionThresholdMet", text)
        if await self._actions.reclaim(threshold.signal):
            await self._observe()
            if not met(self.thresholds, self.observations, with_reclaim=True):
                logs.event(_log, logging.INFO, "pressure reduced without eviction",
                           resource=resource)  # fmt: skip
                return []
        pods = self._actions.active()
        storage = resource != "memory" and resource != "pids"
        usages = await self._measure.usages(pods, storage=storage)
        for pod in rank(pods, usages, threshold.signal, self._measure.disks):
            usage = usages.get(pod.metadata.uid)
            if resource == "memory" and usage is not None:
                detailed = await self._measure.usages([pod], storage=True)
                usage = detailed.get(pod.metadata.uid, usage)
            message = eviction_message(pod, usage, threshold, due, self.observations)
            if self._evict(pod, message, self._grace(pod, threshold), disruption=True):
                age = self._clock() - self._observed_at
                self._actions.counted(threshold.signal, age)
                return [pod]
        logs.event(_log, logging.WARNING, "no pod can be evicted", resource=resource,
                   condition=condition_of(threshold.signal))  # fmt: skip
        return []

    def _grace(self, pod: Pod, threshold: Threshold) -> int:
        if threshold.hard:
            return IMMEDIATELY
        own = pod.spec.termination_grace_period_seconds
        return self._longest_grace if own is None else min(self._longest_grace, own)

    def _evict(self, pod: Pod, message: str, grace: int, *, disruption: bool) -> bool:
        """End a pod; critical ones stay, for static pods would not be admitted again."""
        if is_critical(pod):
            return False
        self._recorder.warning(pod, REASON, message)
        self._actions.evict(pod, message, grace, disruption)
        return True
