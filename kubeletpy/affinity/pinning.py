"""Keeps running containers on the CPUs that are theirs, or that are left for all.

New containers are created with their CPUs. When CPUs are given away or come back, the containers
that share the rest are told by UpdateContainerResources: at once, and again until it succeeds.
"""

from __future__ import annotations

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Generic, Protocol, TypeVar

from kubeletpy.api.container import Container
from kubeletpy.api.pod import Pod
from kubeletpy.cri.client import CriClient, CriError
from kubeletpy.cri.labels import CONTAINER_NAME, POD_UID
from kubeletpy_common import logs
from kubeletpy_proto import cri_pb2

from . import cpu_state, cpusets, memory_state
from .cpu_policy import StaticCpus
from .cpusets import CpuSet
from .errors import AllocationError
from .hints import Hint, ResourceHints
from .memory_policy import StaticMemory

_log = logging.getLogger(__name__)
_SHORTEST_PAUSE, _LONGEST_PAUSE = 0.5, 10.0
_NO_QUOTA = -1
_LONGEST_MAKING = 60.0
"""Seconds after which a container whose configuration was given out is not expected any more."""


_Policy = TypeVar("_Policy", StaticCpus, StaticMemory)


class _Provider(ABC, Generic[_Policy]):
    """A static policy as a provider: what it gives is written down before it is used."""

    restores = True

    def __init__(self, policy: _Policy, directory: Path, file: str) -> None:
        self.policy: _Policy = policy
        self._directory = directory
        self._file = file

    def hints(self, pod: Pod, container: Container) -> ResourceHints:
        """Return which NUMA nodes could serve a container."""
        return self.policy.hints(pod, container)

    def pod_hints(self, pod: Pod) -> ResourceHints:
        """Return which NUMA nodes could serve a whole pod."""
        return self.policy.pod_hints(pod)

    async def allocate(self, pod: Pod, container: Container, hint: Hint) -> None:
        """Give a container what it asks for.

        Raises:
            AllocationError: there is not enough, or the state cannot be written.
        """
        if self._give(pod, container, hint):
            self._save()
            self._changed()

    def holds(self, uid: str) -> bool:
        """Whether a pod has something of its own."""
        return uid in self.policy.state.entries

    def settle(self, pod: Pod) -> None:
        """Forget what could be used again."""
        self.policy.settle(pod.metadata.uid)

    def release(self, uid: str) -> None:
        """Take back what a pod has."""
        names = list(self.policy.state.entries.get(uid, ()))
        for name in names:
            self.policy.release(uid, name)
        if names:
            try:
                self._save()
            except AllocationError as error:
                # Written with the next change; until then a restart would keep it reserved.
                logs.event(_log, logging.ERROR, "state not written", reason=str(error))
            self._changed()

    def _save(self) -> None:
        try:
            self._write()
        except OSError as error:
            raise AllocationError(
                f"cannot write {self._directory / self._file}: {error}; free space on that disk"
            ) from error

    def _changed(self) -> None:
        """Tell whom it concerns; nobody by default."""
        return

    @abstractmethod
    def _give(self, pod: Pod, container: Container, hint: Hint) -> bool:
        """Let the policy decide; return whether its state changed."""

    @abstractmethod
    def _write(self) -> None:
        """Write the policy's state."""


class CpuProvider(_Provider[StaticCpus]):
    """The static CPU policy as a provider.

    Args:
        policy: with its state checked.
        directory: of the state file.
        changed: called when the CPUs of a running container may have changed.
    """

    def __init__(self, policy: StaticCpus, directory: Path, changed: Callable[[], None]) -> None:
        super().__init__(policy, directory, cpu_state.FILE)
        self._tell = changed

    def _changed(self) -> None:
        self._tell()

    def _give(self, pod: Pod, container: Container, hint: Hint) -> bool:
        return self.policy.allocate(pod, container, hint.mask)

    def _write(self) -> None:
        cpu_state.save(self._directory, self.policy.state)


class MemoryProvider(_Provider[StaticMemory]):
    """The Static memory policy as a provider.

    Args:
        policy: with its state checked.
        directory: of the state file.
    """

    def __init__(self, policy: StaticMemory, directory: Path) -> None:
        super().__init__(policy, directory, memory_state.FILE)

    def _give(self, pod: Pod, container: Container, hint: Hint) -> bool:
        return self.policy.allocate(pod, container, hint)

    def _write(self) -> None:
        memory_state.save(self._directory, self.policy.state, self.policy.machine)


class _Runtime(Protocol):
    async def list_containers(self) -> list[cri_pb2.Container]: ...

    async def update_container_resources(
        self, container_id: str, linux: cri_pb2.LinuxContainerResources
    ) -> None: ...


class Pinning:
    """Tells the runtime which CPUs and memory nodes containers have.

    Args:
        cri: the runtime.
        cpus: the CPU policy; None: containers run everywhere.
        memory: the memory policy; None: containers get memory from everywhere.
        quota: whether a container is throttled on CPUs of its own, too.
    """

    def __init__(
        self,
        cri: CriClient | _Runtime,
        cpus: StaticCpus | None,
        memory: StaticMemory | None,
        *,
        quota: bool = False,
    ) -> None:
        self._cri = cri
        self._quota = quota
        self._cpus = cpus
        self._memory = memory
        self._bell = asyncio.Event()
        self._bell.set()
        self._told: dict[str, CpuSet] = {}
        self._in_making: dict[tuple[str, str, int], tuple[CpuSet, float]] = {}

    def ring(self) -> None:
        """CPUs were given away, or came back."""
        self._bell.set()

    def hold(self) -> None:
        """Move nobody until `ring` is called."""
        self._bell.clear()

    def cpus_of(self, uid: str, container: str) -> CpuSet:
        """Return the CPUs that a container runs on; none: everywhere."""
        if self._cpus is None:
            return cpusets.EMPTY
        return self._cpus.state.get(uid, container) or self._cpus.state.default

    async def configure(
        self, pod: Pod, container: Container, config: cri_pb2.ContainerConfig
    ) -> None:
        """Put CPUs and memory nodes into the configuration of a container to be created."""
        uid = pod.metadata.uid
        resources = config.linux.resources
        if self._cpus is not None:
            cpus = self.cpus_of(uid, container.name)
            resources.cpuset_cpus = cpusets.show(cpus)
            if not self._quota and self._cpus.state.get(uid, container.name) is not None:
                # A quota would throttle on CPUs that nobody else may use (KEP-3570's
                # DisableCPUQuotaWithExclusiveCPUs).
                resources.cpu_quota = _NO_QUOTA
            key = (uid, container.name, config.metadata.attempt)
            self._in_making[key] = (cpus, time.monotonic() + _LONGEST_MAKING)
        if self._memory is not None:
            resources.cpuset_mems = cpusets.show(self._memory.nodes(uid, container.name))

    async def run(self) -> None:
        """Follow changes until cancelled."""
        pause = _SHORTEST_PAUSE
        while True:
            await self._bell.wait()
            self._bell.clear()
            if await self.reconcile():
                pause = _SHORTEST_PAUSE
            else:
                await asyncio.sleep(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
                self._bell.set()

    async def reconcile(self) -> bool:
        """Compare all containers with what they shall have; return whether all are as they shall.

        A container whose configuration was given out a moment ago, with CPUs that are others by
        now, is waited for.
        """
        try:
            found = await self._cri.list_containers()
        except CriError as error:
            logs.event(_log, logging.WARNING, "CPUs of containers not compared", reason=str(error))
            return False
        alive = [
            one
            for one in found
            if one.state in (cri_pb2.CONTAINER_CREATED, cri_pb2.CONTAINER_RUNNING)
        ]
        self._told = {one.id: self._told[one.id] for one in alive if one.id in self._told}
        done = True
        for one in alive:
            uid, name = one.labels.get(POD_UID, ""), one.labels.get(CONTAINER_NAME, "")
            made = self._in_making.pop((uid, name, one.metadata.attempt), None)
            if made is not None:
                self._told.setdefault(one.id, made[0])
            if uid and not await self._tell(one.id, self.cpus_of(uid, name)):
                done = False
        now = time.monotonic()
        self._in_making = {
            key: (cpus, until)
            for key, (cpus, until) in self._in_making.items()
            if now < until and cpus != self.cpus_of(*key[:2])
        }
        return done and not self._in_making

    async def _tell(self, container_id: str, cpus: CpuSet) -> bool:
        if not cpus or self._told.get(container_id) == cpus:
            return True
        resources = cri_pb2.LinuxContainerResources(cpuset_cpus=cpusets.show(cpus))
        try:
            await self._cri.update_container_resources(container_id, resources)
        except CriError as error:
            if error.not_found:
                return True
            logs.event(
                _log, logging.WARNING, "CPUs of a container not changed", container=container_id,
                cpus=cpusets.show(cpus), reason=str(error),
            )  # fmt: skip
            return False
        self._told[container_id] = cpus
        return True
