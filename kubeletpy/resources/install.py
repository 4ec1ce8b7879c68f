"""From the settings of a kubelet to what its pods may use, and how that is enforced."""

from __future__ import annotations

import asyncio
import logging
import mmap
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import psutil

from kubeletpy.api.events import NORMAL, WARNING
from kubeletpy.api.pod import Pod
from kubeletpy.api.quantity import Family, Quantity
from kubeletpy.api.status import PodStatus
from kubeletpy.cri.node import NodeFacts
from kubeletpy.resize.coordinator import Policies
from kubeletpy.resize.plan import RESTART
from kubeletpy.settings import Settings
from kubeletpy.settings.configuration import KubeletConfiguration
from kubeletpy.stats import processes
from kubeletpy_common import logs
from kubeletpy_common.cgroups import Hierarchy

from .allocatable import Reservations, cgroup_limits, enforced, less, reserved_cgroups
from .cgroups import CgroupError, PodCgroups
from .policy import NO_SWAP, QUOTA_PERIOD_US, ResourcePolicy
from .swap import swap_behavior
from .totals import Resources

if TYPE_CHECKING:
    from kubeletpy.core import Core

_log = logging.getLogger(__name__)
ENFORCEMENT_RETRY = 60.0
"""Seconds between attempts to limit all pods together, while they use more than that."""


def reservations_of(one: KubeletConfiguration) -> Reservations:
    """Return what is reserved on the node (pure)."""
    kube = {name: Quantity(text) for name, text in one.kube_reserved.items()}
    system = {name: Quantity(text) for name, text in one.system_reserved.items()}
    return Reservations(
        kube=kube,
        system=system,
        kube_cgroup=one.kube_reserved_cgroup,
        system_cgroup=one.system_reserved_cgroup,
        enforce=tuple(one.enforce_node_allocatable),
    )


def machine_capacity(cpu_milli: int, memory_bytes: int, pids: int) -> Resources:
    """Return what of the machine is enforced (pure)."""
    return {
        "cpu": Quantity(f"{cpu_milli}m"),
        "memory": Quantity(memory_bytes, Family.BINARY),
        "pid": Quantity(pids),
    }


def allocatable_memory(one: KubeletConfiguration, capacity: Mapping[str, Quantity]) -> Quantity:
    """Return the memory that pods may use together before eviction begins (pure)."""
    held = reservations_of(one)
    text = one.eviction_hard.get("memory.available", "0")
    memory = capacity["memory"]
    if text.endswith("%"):
        keep = Quantity(int(int(memory) * float(text[:-1]) / 100))
    else:
        keep = Quantity(text)
    return less({"memory": memory}, held.kube, held.system, {"memory": keep})["memory"]


def allocatable(one: KubeletConfiguration, cpu_milli: int, memory_bytes: int) -> Resources:
    """Return the CPU and memory that pods may request together (pure)."""
    capacity = machine_capacity(cpu_milli, memory_bytes, 0)
    held = reservations_of(one)
    cpu = less({"cpu": capacity["cpu"]}, held.kube, held.system)["cpu"]
    return {"cpu": cpu, "memory": allocatable_memory(one, capacity)}


def resource_policy(settings: Settings, hierarchy: Hierarchy, memory_bytes: int) -> ResourcePolicy:
    """Return how requests and limits become those of the kernel on this node."""
    one = settings.configuration
    memory = allocatable_memory(one, {"memory": Quantity(memory_bytes, Family.BINARY)})
    period = QUOTA_PERIOD_US
    if settings.feature("CustomCPUCFSQuotaPeriod"):
        period = round(one.cpu_cfs_quota_period * 1_000_000)
    return ResourcePolicy(
        enforce_cpu_quota=one.cpu_cfs_quota,
        quota_period_us=period,
        pids_limit=one.pod_pids_limit,
        swap_behavior=one.memory_swap.swap_behavior or NO_SWAP,
        swap_bytes=psutil.swap_memory().total,
        single_process_oom_kill=bool(one.single_process_oom_kill),
        memory_qos=settings.feature("MemoryQoS") and hierarchy.version == 2,
        throttling_factor=one.memory_throttling_factor,
        memory_reservation=one.memory_reservation_policy,
        allocatable_memory=int(memory),
        page_size=mmap.PAGESIZE,
    )


def with_swap(policy: ResourcePolicy, cgroups: PodCgroups) -> ResourcePolicy:
    """Return the policy with what the cgroup of all pods, once it is made, tells of swap."""
    directory = cgroups.directory("memory")
    names = ("memory.swap.max", "memory.memsw.limit_in_bytes")
    accounted = directory is not None and any((directory / name).exists() for name in names)
    return replace(policy, swap_accounted=accounted)


def install(core: Core) -> None:
    """Enforce what pods may use together; tell the coordinator of resizes of pods that ended."""
    resizes = core.tools.resizes

    def on_status(pod: Pod, status: PodStatus) -> None:
        if resizes is not None and status.phase in ("Succeeded", "Failed"):
            resizes.finish(pod.metadata.uid)

    core.on_status.append(on_status)
    one = core.settings.configuration
    if resizes is not None:
        resizes.policies = Policies(
            static_cpus=one.cpu_manager_policy == "static",
            static_memory=one.memory_manager_policy == "Static",
            swap_fault=lambda before, after: swap_fault(before, after, core.facts),
        )
    core.background.append(("node allocatable", lambda: enforce(core)))


def swap_fault(before: Pod, after: Pod, node: NodeFacts) -> str:
    """Return why a resize cannot be, "" if it can: swap is a share of the memory request (pure).

    A container that restarts for it gets its new share.
    """
    version = node.cgroup_version
    old = {one.name: one for one in (*before.spec.containers, *before.spec.init_containers)}
    for new in (*after.spec.containers, *after.spec.init_containers):
        same = new.resources.requests.get("memory") == (
            old[new.name].resources.requests.get("memory")
        )
        restarts = any(
            one.resource_name == "memory" and one.restart_policy == RESTART
            for one in new.resize_policy
        )
        behaviors = {
            swap_behavior(pod, one, node.resources, version)
            for pod, one in ((before, old[new.name]), (after, new))
        }
        if not (same or restarts) and behaviors != {NO_SWAP}:
            return "In-place resize of containers with swap is not supported."
    return ""


async def enforce(core: Core) -> None:
    """Limit all pods together, and the reserved cgroups that shall be limited.

    Pods that run already may use more than the limit: it is tried again until eviction has brought
    them down.
    """
    held = reservations_of(core.settings.configuration)
    facts = core.facts
    capacity = machine_capacity(facts.cpu_milli, facts.memory_bytes, processes.most())
    hugepages = "hugetlb" in core.hierarchy.controllers()
    limits = cgroup_limits(enforced(capacity, held), hugepages=hugepages)
    for name, path, resources in reserved_cgroups(held):
        try:
            await asyncio.to_thread(core.hierarchy.cgroup(path).apply, resources)
        except CgroupError as error:
            text = f"Failed to enforce {name.title()} Cgroup Limits on {path!r}: {error}"
            core.recorder.node(WARNING, "FailedNodeAllocatableEnforcement", text)
        else:
            text = f"Updated limits on {name} cgroup {path}"
            core.recorder.node(NORMAL, "NodeAllocatableEnforced", text)
    told = ""
    while True:
        try:
            await asyncio.to_thread(core.cgroups.enforce, limits)
            break
        except CgroupError as error:
            text = f"Failed to update Node Allocatable Limits: {error}"
            if text != told:
                core.recorder.node(WARNING, "FailedNodeAllocatableEnforcement", text)
            told = text
        await asyncio.sleep(ENFORCEMENT_RETRY)
    text = "Updated Node Allocatable limit across pods"
    core.recorder.node(NORMAL, "NodeAllocatableEnforced", text)
    logs.event(
        _log, logging.INFO, "node allocatable enforced", memory=limits.memory_limit,
        pids=limits.pids_limit, cpu_shares=limits.cpu_shares,
    )  # fmt: skip
