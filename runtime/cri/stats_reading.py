"""Statistics of containers and pods: files are read in a thread, a whole list in one go."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from kubeletpy_common.cgroups import Cgroup, CgroupError, CgroupStats
from kubeletpy_proto import cri_pb2 as cri
from runtime.cri import stats_messages as messages
from runtime.cri.network_usage import InterfaceUsage, Networked, network_usage
from runtime.cri.runtime import Runtime
from runtime.cri.statuses import visible
from runtime.state.records import ContainerState
from runtime.state.store import Container, Pod


@dataclass(frozen=True)
class PodReading:
    """What was read of a pod.

    Attributes:
        stats: of its cgroup, None if that is gone.
        processes: how many run in it.
        interfaces: of its network, none for one in the host's.
    """

    stats: CgroupStats | None
    processes: int = 0
    interfaces: Sequence[InterfaceUsage] = field(default_factory=tuple)


def is_running(container: Container) -> bool:
    """Tell whether a container has processes that use something."""
    return container.record.state is ContainerState.RUNNING


def is_measured(pod: Pod) -> bool:
    """Tell whether lists of statistics show a pod: while it is up, as with containerd."""
    return visible(pod) and pod.ready


async def read_containers(
    runtime: Runtime, containers: Iterable[Container]
) -> list[cri.ContainerStats]:
    """Return statistics of containers; of one that does not run, the writable layer only."""
    chosen = list(containers)
    cgroups = [runtime.cgroup_of(c) if is_running(c) else None for c in chosen]
    readings = await asyncio.to_thread(lambda: [_read(cgroup) for cgroup in cgroups])
    sizes = await runtime.layer_sizes.sizes(container.id for container in chosen)
    root = str(runtime.config.root)
    result = []
    for container, stats in zip(chosen, readings, strict=True):
        message = cri.ContainerStats(
            attributes=cri.ContainerAttributes(
                id=container.id,
                metadata=container.config.metadata,
                labels=container.config.labels,
                annotations=container.config.annotations,
            ),
            writable_layer=messages.layer_usage(sizes.get(container.id), root),
        )
        if stats is not None:
            _add_usage(runtime, container.id, stats, message)
        result.append(message)
    _forget_removed(runtime)
    return result


def _add_usage(runtime: Runtime, key: str, stats: CgroupStats, message: cri.ContainerStats) -> None:
    for name, part in (
        ("cpu", messages.cpu_usage(stats, cpu_rate(runtime, key, stats))),
        ("memory", messages.memory_usage(stats)),
        ("swap", messages.swap_usage(stats)),
        ("io", messages.io_usage(stats)),
    ):
        if part is not None:
            getattr(message, name).CopyFrom(part)


def cpu_rate(runtime: Runtime, key: str, stats: CgroupStats) -> int | None:
    """Return the CPU use of a container or pod in billionths of a core since the last reading."""
    if stats.cpu is None:
        return None
    return runtime.cpu_rates.rate(key, stats.time_ns, stats.cpu.usage_ns)


async def read_pods(runtime: Runtime, pods: Iterable[Pod]) -> list[cri.PodSandboxStats]:
    """Return statistics of pods with those of their running containers."""
    chosen = list(pods)
    readings = await read_pod_cgroups(runtime, chosen)
    containers = [c for pod in chosen for c in pod.containers.values() if is_running(c)]
    of_containers = {
        message.attributes.id: message for message in await read_containers(runtime, containers)
    }
    return [
        _pod_message(
            runtime,
            pod,
            readings[pod.id],
            [of_containers[c] for c in pod.containers if c in of_containers],
        )
        for pod in chosen
    ]


async def read_pod_cgroups(runtime: Runtime, pods: Sequence[Pod]) -> dict[str, PodReading]:
    """Read the cgroup and the network of each pod."""
    cgroups = [(pod.id, runtime.cgroups.cgroup(pod.record.cgroup)) for pod in pods]
    networked = [pod for pod in map(_networked, pods) if pod is not None]
    bridge = runtime.config.network.bridge

    def read() -> dict[str, PodReading]:
        usage = network_usage(bridge, networked)
        return {
            key: PodReading(
                _read(cgroup),
                len(cgroup.processes()),
                usage.get(key, ()),
            )
            for key, cgroup in cgroups
        }

    return await asyncio.to_thread(read)


def _networked(pod: Pod) -> Networked | None:
    namespace = pod.record.namespaces.get("network")
    if namespace is None or not pod.ready:
        return None
    pids = [c.record.pid for c in pod.containers.values() if is_running(c)]
    return Networked(pod.id, namespace, pids[0] if pids else 0)


def _pod_message(
    runtime: Runtime, pod: Pod, reading: PodReading, containers: list[cri.ContainerStats]
) -> cri.PodSandboxStats:
    message = cri.PodSandboxStats(
        attributes=cri.PodSandboxAttributes(
            id=pod.id,
            metadata=pod.config.metadata,
            labels=pod.config.labels,
            annotations=pod.config.annotations,
        )
    )
    stats = reading.stats
    if stats is not None:
        message.linux.CopyFrom(
            cri.LinuxPodSandboxStats(
                cpu=messages.cpu_usage(stats, cpu_rate(runtime, pod.id, stats)),
                memory=messages.memory_usage(stats),
                io=messages.io_usage(stats),
                network=messages.network_message(stats.time_ns, reading.interfaces),
                process=cri.ProcessUsage(
                    timestamp=stats.time_ns,
                    process_count=cri.UInt64Value(value=reading.processes),
                ),
            )
        )
    message.linux.containers.extend(containers)
    return message


def _read(cgroup: Cgroup | None) -> CgroupStats | None:
    if cgroup is None:
        return None
    try:
        return cgroup.stats()
    except CgroupError:
        # It ended between the look at the list and the reading.
        return None


def _forget_removed(runtime: Runtime) -> None:
    containers = [container.id for container in runtime.store.containers()]
    runtime.layer_sizes.keep(containers)
    runtime.cpu_rates.keep([*containers, *(pod.id for pod in runtime.store.pods())])
