"""What the kubelet does when the machine is about to go down."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Protocol

from kubeletpy.affinity.errors import AdmissionError
from kubeletpy.api.base import now
from kubeletpy.api.events import NORMAL
from kubeletpy.api.pod import Pod
from kubeletpy.api.status import PodCondition
from kubeletpy.pods.state import Terminal
from kubeletpy_common import logs

from .groups import Group, grace, groups, members, requested
from .logind import Logind, LogindError

if TYPE_CHECKING:
    from kubeletpy.core import Core

_log = logging.getLogger(__name__)
SHUTTING_DOWN = "node is shutting down"
REJECTED = ("NodeShutdown", "Pod was rejected as the node is shutting down.")
ENDED = ("Terminated", "Pod was terminated in response to imminent node shutdown.")
LAST_WORDS = 2.0
"""Seconds that the last statuses get to reach the API server, after the pods' own time."""
RECONNECT = 1.0
_FINISHED = ("Succeeded", "Failed")


class Bus(Protocol):
    """What tells of shutdowns, and delays them; see `Logind`."""

    async def open(self) -> None:
        """Connect."""

    def close(self) -> None:
        """Disconnect."""

    async def allow_delay(self, seconds: int) -> None:
        """Have a shutdown wait for so long."""

    async def inhibit(self) -> None:
        """Delay shutdowns from now on."""

    def release(self) -> None:
        """Delay nothing any more."""

    def shutdowns(self) -> AsyncIterator[bool]:
        """Yield True when one begins, False when it is cancelled."""


class NodeShutdown:
    """Ends the pods of a node that goes down, before it does.

    Args:
        core: the kubelet's parts.
        found: groups of pods by rising priority.
        bus: tells of shutdowns.
    """

    def __init__(self, core: Core, found: Sequence[Group], bus: Bus) -> None:
        self._core = core
        self._groups = found
        self._bus = bus
        self._going = False
        self._work: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()

    def fault(self) -> str:
        """Return why the node is not ready, or ""."""
        return SHUTTING_DOWN if self._going else ""

    async def admit(self, _: Pod) -> AdmissionError | None:
        """Refuse pods that come while the node goes down."""
        return AdmissionError(*REJECTED) if self._going else None

    def noticed(self, *_: object) -> None:
        """Look again whether the pods that are waited for have ended."""
        self._changed.set()

    async def run(self) -> None:
        """Hold the lock, and follow the news of shutdowns; connect again if they break off."""
        try:
            while True:
                try:
                    await self._follow()
                except LogindError as error:
                    logs.event(
                        _log, logging.WARNING, "node shutdowns cannot be watched; tried again",
                        reason=str(error), after_s=RECONNECT,
                    )  # fmt: skip
                finally:
                    self._bus.close()
                await asyncio.sleep(RECONNECT)
        finally:
            if self._work is not None:
                self._work.cancel()

    async def _follow(self) -> None:
        await self._bus.open()
        await self._bus.allow_delay(requested(self._groups))
        await self._bus.inhibit()
        async for begins in self._bus.shutdowns():
            word = "event" if begins else "cancellation"
            self._core.recorder.node(
                NORMAL, "NodeShutdown", f"Shutdown manager detected shutdown {word}"
            )
            self._going = begins
            if self._core.presence is not None:
                self._core.presence.report()
            if begins:
                if self._work is None or self._work.done():
                    self._work = asyncio.create_task(self._shut_down(), name="node shutdown")
            else:
                await self._bus.inhibit()

    async def _shut_down(self) -> None:
        """End the pods, group by group, then let the machine go."""
        try:
            pods = [pod for pod in self._core.manager.pods() if pod.status.phase not in _FINISHED]
            for group, each in members(self._groups, pods):
                if each:
                    await self._end(group, each)
            if self._core.statuses_told is not None:
                async with asyncio.timeout(LAST_WORDS):
                    await self._core.statuses_told()
        except TimeoutError:
            logs.event(_log, logging.WARNING, "the last statuses have not reached the API server")
        finally:
            self._bus.release()
            logs.event(_log, logging.INFO, "pods have ended; the machine may go down")

    async def _end(self, group: Group, pods: list[Pod]) -> None:
        reason, message = ENDED
        for pod in pods:
            condition = PodCondition(
                type="DisruptionTarget", status="True", reason="TerminationByKubelet",
                message=message, observed_generation=pod.metadata.generation,
                last_transition_time=now(),
            )  # fmt: skip
            self._core.manager.workers.conclude(
                pod.metadata.uid, Terminal("Failed", reason, message), grace=grace(group, pod),
                disruption=condition,
            )  # fmt: skip
        waited = {pod.metadata.uid for pod in pods}
        try:
            async with asyncio.timeout(group.seconds):
                while self._running(waited):
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError:
            logs.event(
                _log, logging.WARNING, "pods did not end in time before a shutdown",
                priority=group.priority, after_s=group.seconds, pods=len(self._running(waited)),
            )  # fmt: skip

    def _running(self, waited: set[str]) -> list[Pod]:
        return [
            pod
            for pod in self._core.manager.pods()
            if pod.metadata.uid in waited and pod.status.phase not in _FINISHED
        ]


def install(core: Core, bus: Bus | None = None) -> NodeShutdown | None:
    """Add it to a kubelet, if it is asked for (shutdownGracePeriod)."""
    found = groups(core.settings.configuration)
    if not core.settings.feature("GracefulNodeShutdown") or not found:
        return None
    shutdown = NodeShutdown(core, found, bus or Logind())
    core.ready_checks["shutdown"] = shutdown.fault
    core.admitters.insert(0, shutdown.admit)
    core.on_status.append(shutdown.noticed)
    core.on_gone.append(shutdown.noticed)
    core.background.append(("node shutdown", shutdown.run))
    return shutdown
