"""``/stats/summary``: what the node and its pods use."""

from __future__ import annotations

import asyncio
import time
from dataclasses import replace
from pathlib import Path

from kubeletpy.api.pod import Pod
from kubeletpy.api.volumes import Volume
from kubeletpy.core import Core
from kubeletpy.server.finding import find_status

from . import shapes
from .collector import Collector, Measured
from .node import Filesystem
from .pods import ContainerUsage, PodUsage
from .shapes import Json, sum_of
from .volumes import VolumeMeasures

_LOG_SECONDS = 10.0


class Summary:
    """Makes summaries.

    Args:
        core: the kubelet's parts.
        collector: measures.
        measures: those of volumes.
    """

    def __init__(self, core: Core, collector: Collector, measures: VolumeMeasures) -> None:
        self._core = core
        self._collector = collector
        self._measures = measures

    async def make(self, *, only_cpu_and_memory: bool = False) -> Json:
        """Return a summary.

        Raises:
            CriError, OSError: CPU and memory cannot be measured.
        """
        measured = await self._collector.measured()
        if only_cpu_and_memory:
            desired = self._desired()
            pods = [_plain(pod, desired.get(pod.uid)) for pod in measured.pods]
            return {"node": self._node(measured), "pods": pods}
        node_fs = await self._collector.filesystem(self._core.facts.root_dir)
        node, pods = await asyncio.gather(
            self._whole_node(measured, node_fs), self._pods(measured, node_fs)
        )
        self._collector.forget()
        return {"node": node, "pods": pods}

    def _desired(self) -> dict[str, Pod]:
        return {pod.metadata.uid: pod for pod in self._core.manager.pods()}

    def _node(self, measured: Measured) -> Json:
        node = measured.node
        daemons = [
            {
                "name": name,
                "startTime": shapes.moment(node.booted),
                **shapes.known(cpu=shapes.cpu(usage), memory=shapes.memory(usage)),
            }
            for name, usage in measured.daemons.items()
        ]
        return {
            "nodeName": self._core.facts.name,
            "systemContainers": daemons,
            "startTime": shapes.moment(node.booted),
            **shapes.known(cpu=shapes.cpu(node.usage), memory=shapes.memory(node.usage)),
        }

    async def _whole_node(self, measured: Measured, node_fs: Filesystem | None) -> Json:
        node, now = measured.node, time.time()
        images, layers = await self._collector.image_filesystems()
        runtime = shapes.known(
            imageFs=shapes.disk(images, now), containerFs=shapes.disk(layers, now)
        )
        limits = {
            "time": shapes.moment(now),
            "maxpid": node.most_processes,
            "curproc": node.processes,
        }
        return {
            **self._node(measured),
            **shapes.known(
                io=shapes.io(node.usage),
                network=shapes.network(node.usage.time_ns, node.interfaces, node.default_interface),
                fs=shapes.disk(node_fs, now),
                runtime=runtime,
                rlimit=limits,
                swap=shapes.swap(node.usage),
            ),
        }

    async def _pods(self, measured: Measured, node_fs: Filesystem | None) -> list[Json]:
        desired = self._desired()
        logs_fs = await self._collector.filesystem(self._core.facts.pod_logs)
        found = []
        # One after the other: what is counted is on the same disks.
        for pod in measured.pods:
            found.append(await self._pod(pod, desired.get(pod.uid), node_fs, logs_fs))
        return found

    async def _pod(
        self,
        pod: PodUsage,
        spec: Pod | None,
        node_fs: Filesystem | None,
        logs_fs: Filesystem | None,
    ) -> Json:
        result = _plain(pod, spec)
        used: int | None = None
        inodes: int | None = None
        now = time.time()
        for one, shape in zip(pod.containers, result["containers"], strict=True):
            layer = await self._layer(one)
            logs = await self._logs(spec, one.name, logs_fs)
            shape |= shapes.known(rootfs=shapes.disk(layer, now), logs=shapes.disk(logs, now))
            for part in (layer, logs):
                if part is not None:
                    used, inodes = sum_of(used, part.used), sum_of(inodes, part.inodes_used)
        volumes: list[Json] = []
        if spec is not None:
            for volume in spec.spec.volumes:
                amount = await self._measures.measure(pod.uid, volume)
                if amount is None:
                    continue
                volumes.append(self._named(pod, volume, amount, now))
                if volume.empty_dir is not None and not volume.empty_dir.medium:
                    used, inodes = sum_of(used, amount.used), sum_of(inodes, amount.inodes_used)
        whole = replace(node_fs, used=used, inodes_used=inodes) if node_fs is not None else None
        result |= shapes.known(
            network=shapes.network(pod.usage.time_ns, pod.interfaces, ""),
            volume=volumes or None,
            process_stats=shapes.known(process_count=pod.processes) or None,
        )
        result |= shapes.known(**{"ephemeral-storage": shapes.disk(whole, now)})
        return result

    async def _layer(self, one: ContainerUsage) -> Filesystem | None:
        if one.layer is None or not one.mountpoint:
            return None
        return await self._collector.filesystem(
            Path(one.mountpoint), one.layer, one.layer_inodes or 0
        )

    async def _logs(
        self, spec: Pod | None, container: str, logs_fs: Filesystem | None
    ) -> Filesystem | None:
        if spec is None or logs_fs is None:
            return None
        directory = self._collector.log_directory(spec) / container
        counted = await self._collector.tree(directory, good=_LOG_SECONDS)
        if counted is None:
            return None
        return replace(logs_fs, used=counted[0], inodes_used=counted[1])

    def _named(self, pod: PodUsage, volume: Volume, amount: Filesystem, now: float) -> Json:
        claim = claim_of(pod.name, volume)
        reference = {"name": claim, "namespace": pod.namespace} if claim else None
        return shapes.disk(amount, now, name=volume.name, pvcRef=reference) or {}


def claim_of(pod: str, volume: Volume) -> str:
    """Return the name of the claim that a volume of a pod is; "" if it is none (pure)."""
    if volume.persistent_volume_claim is not None:
        return volume.persistent_volume_claim.claim_name
    return f"{pod}-{volume.name}" if volume.ephemeral is not None else ""


def _plain(pod: PodUsage, spec: Pod | None) -> Json:
    """Return CPU and memory of a pod and its containers (pure)."""
    started = spec.status.start_time if spec is not None else None
    containers = []
    for one in pod.containers:
        status = find_status(spec, one.name) if spec is not None else None
        running = status.state.running if status is not None else None
        begun = running.started_at if running is not None else None
        containers.append(
            {
                "name": one.name,
                "startTime": shapes.moment(begun.timestamp()) if begun is not None else None,
                **shapes.whole(one.usage),
            }
        )
    return {
        "podRef": {"name": pod.name, "namespace": pod.namespace, "uid": pod.uid},
        "startTime": shapes.moment(started.timestamp()) if started is not None else None,
        "containers": containers,
        **shapes.whole(pod.usage),
    }
