"""Measures when asked; who asks at the same time, or within a second, gets the same answer."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from kubeletpy.api.pod import Pod
from kubeletpy.core import Core
from kubeletpy.cri.client import CriError
from kubeletpy.cri.sandbox_config import pod_log_directory
from kubeletpy_common.cgroups import CgroupError

from .memory import Memory
from .node import Filesystem, NodeUsage, disk_usage, filesystem, read_node
from .pods import PodUsage, of_containers, of_sandboxes
from .processes import cgroup_of_process, peer_of, read_process
from .usage import Rates, Usage, of_cgroup

FRESH: Final = 1.0
"""Seconds for which a measurement is good for others who ask."""
FIRST_PAUSE: Final = 0.2
"""Seconds between the first two measurements, from which the first rates come."""
_STALE: Final = 300.0
_FILESYSTEM_SECONDS: Final = 5.0
_TREE_SECONDS: Final = 60.0
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Measured:
    """CPU and memory of all."""

    node: NodeUsage
    pods: list[PodUsage]
    daemons: dict[str, Usage]


class _Shared(Generic[_T]):
    """One question, its latest answer, and those who wait for the next one."""

    def __init__(self, ask: Callable[[], Coroutine[Any, Any, _T]], seconds: float) -> None:
        self._ask = ask
        self._seconds = seconds
        self._at = float("-inf")
        self._task: asyncio.Task[_T] | None = None

    @property
    def age(self) -> float:
        """Seconds since the latest question."""
        return time.monotonic() - self._at

    async def get(self) -> _T:
        task = self._task
        if task is None or (task.done() and (self.age >= self._seconds or task.exception())):
            task = self._task = asyncio.create_task(self._ask())
            task.add_done_callback(lambda _: setattr(self, "_at", time.monotonic()))
        return await asyncio.shield(task)


class Collector:
    """Measures the node and its pods.

    Args:
        core: the kubelet's parts.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._rates = Rates()
        self._measured = _Shared(self._measure_twice, FRESH)
        self._filesystems: Memory[Filesystem] = Memory("statvfs", _FILESYSTEM_SECONDS)
        self._trees: Memory[tuple[int, int]] = Memory("du", _TREE_SECONDS)
        self._sandboxes = True
        self._runtime = (float("-inf"), 0)

    async def measured(self) -> Measured:
        """Return CPU and memory of all.

        Raises:
            CriError: the runtime does not answer.
            OSError: the machine cannot be measured.
        """
        return await self._measured.get()

    async def _measure_twice(self) -> Measured:
        found = await self._measure()
        if self._measured.age > _STALE:
            await asyncio.sleep(FIRST_PAUSE)
            found = await self._measure()
        return found

    async def _measure(self) -> Measured:
        pods = await self._pods()
        known = {pod.metadata.uid: pod for pod in self._core.manager.pods()}
        node, daemons = await asyncio.to_thread(self._read, pods, known)
        return Measured(node, pods, daemons)

    async def _pods(self) -> list[PodUsage]:
        if self._sandboxes:
            try:
                return of_sandboxes(await self._core.cri.list_pod_sandbox_stats())
            except CriError as error:
                if not error.unimplemented:
                    raise
                self._sandboxes = False
        return of_containers(await self._core.cri.list_container_stats())

    def _read(
        self, pods: list[PodUsage], known: dict[str, Pod]
    ) -> tuple[NodeUsage, dict[str, Usage]]:
        """Read files; in a thread."""
        for pod in pods:
            desired = known.get(pod.uid)
            if desired is not None:
                pod.cgroup = self._core.cgroups.path(desired)
                own = self.cgroup(pod.cgroup)
                if own is not None:
                    # The runtime may have counted before, or not at all.
                    rate = pod.usage.rate if own.cpu_ns is None else None
                    pod.usage = replace(own, rate=rate)
            pod.usage = self._rates.add(f"pod {pod.uid}", pod.usage)
            pod.containers = [
                replace(one, usage=self._rates.add(one.id, one.usage)) for one in pod.containers
            ]
        node = read_node()
        node = replace(node, usage=self._rates.add("node", node.usage))
        daemons = {
            name: self._rates.add(f"daemon {name}", usage) for name, usage in self._read_daemons()
        }
        return node, daemons

    def cgroup(self, path: str) -> Usage | None:
        """Return what a cgroup uses; None if it is not there. Blocks."""
        try:
            return of_cgroup(self._core.hierarchy.cgroup(path).stats())
        except (CgroupError, OSError, ValueError):
            return None

    def _read_daemons(self) -> Iterator[tuple[str, Usage]]:
        """Yield what the kubelet, the runtime, the pods and all else use."""
        configuration, core = self._core.settings.configuration, self._core
        for name, path, process in (
            ("kubelet", configuration.kubelet_cgroups, os.getpid()),
            ("runtime", core.settings.runtime_cgroups, self._runtime_process()),
            ("misc", configuration.system_cgroups, 0),
            ("pods", core.cgroups.layout.class_path("Guaranteed"), 0),
        ):
            path = path or cgroup_of_process(process)
            usage = self.cgroup(path) if path else None
            if usage is None or usage.cpu_ns is None:
                # One that is in no cgroup of its own is known by its process.
                usage = read_process(process) or usage
            if usage is not None:
                yield name, usage

    def _runtime_process(self) -> int:
        now = time.monotonic()
        if now - self._runtime[0] > _STALE:
            self._runtime = (now, peer_of(self._core.cri.endpoint))
        return self._runtime[1]

    # File systems.

    async def image_filesystems(self) -> tuple[Filesystem | None, Filesystem | None]:
        """Return the file systems of images and of writable layers; None: not known."""
        try:
            answer = await self._core.cri.image_fs_info()
        except CriError:
            return None, None
        found: list[Filesystem | None] = []
        for listed in (answer.image_filesystems, answer.container_filesystems):
            one = listed[0] if listed else None
            if one is None or not one.fs_id.mountpoint:
                found.append(found[0] if found else None)
                continue
            inodes = one.inodes_used.value if one.HasField("inodes_used") else None
            found.append(
                await self.filesystem(Path(one.fs_id.mountpoint), one.used_bytes.value, inodes)
            )
        return found[0], found[1]

    async def filesystem(
        self, path: Path, used: int | None = None, inodes: int | None = None
    ) -> Filesystem | None:
        """Return the file system of a path; None if it does not answer, as one over a network.

        Args:
            path: on it.
            used, inodes: by what is asked about; None: by all that is on it.
        """
        found = await self._filesystems.get(str(path), lambda: filesystem(path), FRESH)
        if found is None:
            return None
        return replace(
            found,
            used=found.used if used is None else used,
            inodes_used=found.inodes_used if inodes is None else inodes,
        )

    async def tree(self, path: Path, *, good: float) -> tuple[int, int] | None:
        """Return bytes and inodes of a tree; None if it cannot be counted.

        Args:
            path: of it.
            good: seconds for which an earlier count is good.
        """
        return await self._trees.get(str(path), lambda: disk_usage(path), good)

    def forget(self) -> None:
        """Forget what was measured long ago, of pods that may be no more."""
        for memory in (self._filesystems, self._trees):
            memory.forget(_STALE)

    def log_directory(self, pod: Pod) -> Path:
        """Return where the logs of a pod are."""
        return pod_log_directory(pod, self._core.facts)
