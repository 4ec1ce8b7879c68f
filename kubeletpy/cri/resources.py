"""Requests and limits of containers and pods -> LinuxContainerResources (pure), and back."""

from __future__ import annotations

from kubeletpy.api.container import Container
from kubeletpy.api.pod import Pod
from kubeletpy.resources.hugepages import size_name
from kubeletpy.resources.limits import (
    container_limits,
    cpu_quota,
    cpu_shares,
    memory_protection,
    oom_score_adj,
    pod_cgroup_limits,
)
from kubeletpy.resources.swap import swap_bytes
from kubeletpy.resources.totals import Resources
from kubeletpy_proto import cri_pb2

from .node import NodeFacts


def container_resources(
    pod: Pod, container: Container, node: NodeFacts, *, exclusive_cpus: bool = False
) -> cri_pb2.LinuxContainerResources:
    """Return the limits of a container, for its creation or for a change while it runs.

    Args:
        pod, container: with the resources that they were allocated.
        node: facts of the node.
        exclusive_cpus: the container has CPUs of its own (static CPU manager).
    """
    policy = node.resources
    limits = container_limits(pod, container, policy, exclusive_cpus=exclusive_cpus)
    resources = cri_pb2.LinuxContainerResources(
        cpu_shares=limits.cpu_shares,
        cpu_quota=limits.cpu_quota_us or 0,
        cpu_period=limits.cpu_period_us or 0,
        memory_limit_in_bytes=limits.memory_bytes or 0,
        oom_score_adj=oom_score_adj(pod, container, node.memory_bytes),
    )
    # Pages of a size that nobody asked for are forbidden.
    for size in node.hugepage_sizes:
        name = size_name(size)
        resources.hugepage_limits.add(page_size=name, limit=limits.hugepages.get(name, 0))
    if node.cgroup_version == 2:
        if not policy.single_process_oom_kill:
            # All of a container or nothing of it: half of one left by the killer helps nobody.
            resources.unified["memory.oom.group"] = "1"
        resources.unified.update(memory_protection(pod, container, policy))
        if policy.swap_accounted:
            swap = swap_bytes(pod, container, policy, node.cgroup_version, node.memory_bytes)
            resources.unified["memory.swap.max"] = str(swap)
    elif policy.swap_accounted:
        # Memory and swap together: as much as memory alone, which leaves none for swap.
        resources.memory_swap_limit_in_bytes = resources.memory_limit_in_bytes
    return resources


def sandbox_resources(requests: Resources, limits: Resources) -> cri_pb2.LinuxContainerResources:
    """Return what a pod as a whole asks for; for runtimes that size sandboxes (VMs) by it."""
    requested, limited, memory = requests.get("cpu"), limits.get("cpu"), limits.get("memory")
    period = 100_000
    return cri_pb2.LinuxContainerResources(
        cpu_shares=cpu_shares(requested.milli if requested else 0),
        cpu_quota=cpu_quota(limited.milli if limited else 0, period),
        cpu_period=period,
        memory_limit_in_bytes=int(memory) if memory else 0,
    )


def pod_resources(pod: Pod, node: NodeFacts) -> cri_pb2.LinuxContainerResources:
    """Return the limits of the pod's cgroup, as UpdatePodSandboxResources tells them."""
    limits = pod_cgroup_limits(pod, node.resources)
    return cri_pb2.LinuxContainerResources(
        cpu_shares=limits.cpu_shares,
        cpu_quota=limits.cpu_quota_us or 0,
        cpu_period=limits.cpu_period_us or 0,
        memory_limit_in_bytes=limits.memory_bytes or 0,
    )
