"""Metrics of pods: all files of a part of the list are read in one go, in a thread."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from kubeletpy_common.cgroups import Cgroup, CgroupError
from kubeletpy_common.cgroups.details import read_details
from kubeletpy_proto import cri_pb2 as cri
from runtime.cri import metric_samples as samples
from runtime.cri.metric_samples import DeviceNames, Disk, Reading
from runtime.cri.process_facts import ProcessFacts, read_process_facts
from runtime.cri.runtime import Runtime
from runtime.cri.stats_reading import is_running, read_pod_cgroups
from runtime.cri.statuses import current_resources
from runtime.state.store import Container, Pod

NETWORK_CONTAINER = "POD"
"""The container label of a pod's network counters, as with cAdvisor."""


@dataclass(frozen=True)
class _Facts:
    reading: Reading
    processes: ProcessFacts


async def read_metrics(runtime: Runtime, pods: Iterable[Pod]) -> list[cri.PodSandboxMetrics]:
    """Return the metrics of pods and of their running containers.

    Raises:
        OSError: the kernel refused to list network links, or the disk to tell its size.
    """
    chosen = list(pods)
    containers = [c for pod in chosen for c in pod.containers.values() if is_running(c)]
    readings = await read_pod_cgroups(runtime, chosen)
    sizes = await runtime.layer_sizes.sizes(container.id for container in containers)
    targets = [(c.id, runtime.cgroup_of(c), c.record.pid) for c in containers]
    version = runtime.cgroups.version
    facts = await asyncio.to_thread(
        lambda: {key: _read(cgroup, pid, version) for key, cgroup, pid in targets}
    )
    devices, disk = await asyncio.to_thread(_look_at_disks, runtime.config.root, facts.values())
    result = []
    for pod in chosen:
        message = cri.PodSandboxMetrics(pod_sandbox_id=pod.id)
        message.metrics.extend(
            samples.messages(
                samples.of_network(readings[pod.id].interfaces),
                _pod_labels(pod),
                time.time_ns(),
            )
        )
        for container in pod.containers.values():
            found = facts.get(container.id)
            if found is None:
                continue
            size = sizes.get(container.id)
            metrics = _of_container(container, found, size.bytes if size else 0, disk, devices)
            message.container_metrics.append(
                cri.ContainerMetrics(container_id=container.id, metrics=metrics)
            )
        result.append(message)
    return result


def _of_container(
    container: Container, facts: _Facts, layer_bytes: int, disk: Disk, devices: DeviceNames
) -> list[cri.Metric]:
    stats = facts.reading.stats
    return samples.messages(
        chain(
            samples.of_cgroup(facts.reading),
            samples.of_disk(disk, layer_bytes, facts.reading.details.block_io, devices),
            samples.of_processes(facts.processes, stats),
            samples.of_settings(
                current_resources(container), container.record.started_at, stats.time_ns
            ),
        ),
        _container_labels(container),
        stats.time_ns,
    )


def _container_labels(container: Container) -> Sequence[str]:
    owner = container.pod.config.metadata
    return (
        owner.name,
        owner.namespace,
        container.config.metadata.name,
        container.record.cgroup,
        container.config.image.user_specified_image or container.config.image.image,
        container.id,
    )


def _pod_labels(pod: Pod) -> Sequence[str]:
    owner = pod.config.metadata
    return (owner.name, owner.namespace, NETWORK_CONTAINER, pod.record.cgroup, "", pod.id)


def _read(cgroup: Cgroup, pid: int, version: int) -> _Facts | None:
    try:
        reading = Reading(cgroup.stats(), read_details(cgroup, version), cgroup.oom_kills())
    except CgroupError:
        # It ended between the look at the list and the reading.
        return None
    return _Facts(reading, read_process_facts(cgroup.processes(), pid))


def _look_at_disks(root: Path, facts: Iterable[_Facts | None]) -> tuple[DeviceNames, Disk]:
    number = os.stat(root).st_dev
    own = (os.major(number), os.minor(number))
    seen = {entry.device for f in facts if f for entry in f.reading.details.block_io}
    names = DeviceNames({device: _device_name(device) for device in seen | {own}})
    size = os.statvfs(root)
    return names, Disk(names.of(own), size.f_blocks * size.f_frsize, size.f_files, size.f_ffree)


def _device_name(device: tuple[int, int]) -> str:
    try:
        # sysfs(5): a link to the device's directory, whose name is that of the node in /dev.
        target = os.readlink(f"/sys/dev/block/{device[0]}:{device[1]}")
    except OSError:
        return ""
    return f"/dev/{os.path.basename(target)}"
