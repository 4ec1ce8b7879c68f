"""The topology manager, CPU manager and memory manager that the settings ask for."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from kubeletpy.api.pod import Pod
from kubeletpy.api.quantity import Quantity
from kubeletpy.cri.client import CriClient
from kubeletpy.settings import ConfigurationError, Settings

from . import cpu_state, cpusets, memory_state
from .admission import TopologyManager
from .cpu_policy import StaticCpus, cpu_options, static_cpus
from .cpu_state import CpuState
from .errors import AllocationError, ConfigurationFault
from .hints import NONE, Hint, topology_policy
from .machine import Machine, read_machine
from .memory_policy import MEMORY, StaticMemory, empty_machine, reserved_by_node
from .memory_state import MemoryState
from .pinning import CpuProvider, MemoryProvider, Pinning
from .state_file import StateError, read_state, set_aside

NO_QUOTA = "DisableCPUQuotaWithExclusiveCPUs"
"""Feature gate: pods are not throttled on CPUs of their own."""
STATIC_CPUS, STATIC_MEMORY = "static", "Static"
_DRAIN = "drain the node and remove the file, or go back to the settings of before"


@dataclass(frozen=True)
class Affinity:
    """What the settings ask for.

    Attributes:
        manager: admits pods; without policies it asks only for devices.
        pinning: keeps containers on their CPUs; None without a static policy.
        cpus, memory: the static policies; None: none.
        nodes: NUMA nodes of the machine; empty if nothing depends on them.
        lost: whether a state was damaged: what pods have is to be found anew.
    """

    manager: TopologyManager
    pinning: Pinning | None
    cpus: StaticCpus | None
    memory: StaticMemory | None
    nodes: tuple[int, ...]
    lost: bool = False

    async def rebuild(self, pods: Iterable[Pod]) -> None:
        """Give pods of an earlier kubelet CPUs and memory again, after the states were lost.

        They may be others than before; containers that run are moved to them. A pod for which
        there is not enough any more shares.
        """
        providers = [one for one in self.manager.providers if one.restores]
        for pod in pods:
            for container in chain(pod.spec.init_containers, pod.spec.containers):
                for provider in providers:
                    with contextlib.suppress(AllocationError):
                        await provider.allocate(pod, container, Hint(None, False))
            for provider in providers:
                provider.settle(pod)
        if self.pinning is not None:
            self.pinning.ring()


def set_up(settings: Settings, cri: CriClient) -> Affinity:
    """Make the managers, their states read from ``root_dir``.

    Raises:
        ConfigurationError: a policy cannot work on this machine with these settings, or the state
            of before does not fit them.
    """
    try:
        return _set_up(settings, cri)
    except ConfigurationFault as error:
        raise ConfigurationError(str(error)) from error
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"the machine's CPUs and NUMA nodes: {error}") from error


def _set_up(settings: Settings, cri: CriClient) -> Affinity:
    one, directory = settings.configuration, settings.root_dir
    plain = (one.cpu_manager_policy, one.memory_manager_policy, one.topology_manager_policy)
    machine = read_machine() if plain != (NONE, "None", NONE) else Machine.nothing()
    topology = topology_policy(
        one.topology_manager_policy, one.topology_manager_policy_options, machine.distances
    )
    manager = TopologyManager(topology, one.topology_manager_scope)
    cpus = memory = pinning = None
    if one.cpu_manager_policy == STATIC_CPUS:
        cpus = _cpus(settings, machine)
    else:
        _forget(directory / cpu_state.FILE)
    if one.memory_manager_policy == STATIC_MEMORY:
        memory = _memory(settings, machine)
    else:
        _forget(directory / memory_state.FILE)
    if cpus is not None or memory is not None:
        quota = not settings.feature(NO_QUOTA)
        pinning = Pinning(cri, cpus, memory, quota=quota)
    if cpus is not None and pinning is not None:
        manager.providers.append(CpuProvider(cpus, directory, pinning.ring))
    if memory is not None:
        manager.providers.append(MemoryProvider(memory, directory))
    nodes = tuple(sorted(machine.nodes))
    lost = any(policy is not None and policy.lost for policy in (cpus, memory))
    if lost and pinning is not None:
        # Nobody is moved to CPUs of which it is not known yet whether they are another's.
        pinning.hold()
    return Affinity(manager, pinning, cpus, memory, nodes, lost)


def _cpus(settings: Settings, machine: Machine) -> StaticCpus:
    one, directory = settings.configuration, settings.root_dir
    alpha = settings.feature("CPUManagerPolicyAlphaOptions")
    lost = False
    try:
        state = cpu_state.load(directory) or CpuState(STATIC_CPUS)
    except StateError as error:
        set_aside(directory / cpu_state.FILE, str(error))
        state, lost = CpuState(STATIC_CPUS), True
    if state.policy != STATIC_CPUS and not state.entries:
        state = CpuState(STATIC_CPUS)
    policy = static_cpus(
        machine.topology,
        cpu_options(one.cpu_manager_policy_options, alpha=alpha),
        state,
        reserved_milli=_reserved(settings, "cpu").milli,
        reserved_cpus=cpusets.parse(one.reserved_system_cpus),
        topology_policy=one.topology_manager_policy,
    )
    try:
        policy.check()
    except AllocationError as error:
        if state.entries:
            raise _misfit(directory / cpu_state.FILE, error) from error
        # Nobody has anything of it: other settings, or another machine, start anew.
        policy.state = CpuState(STATIC_CPUS)
        policy.check()
    cpu_state.save(directory, policy.state)
    policy.lost = lost
    return policy


def _memory(settings: Settings, machine: Machine) -> StaticMemory:
    directory = settings.root_dir
    lost = False
    try:
        state = memory_state.load(directory) or MemoryState(STATIC_MEMORY)
    except StateError as error:
        set_aside(directory / memory_state.FILE, str(error))
        state, lost = MemoryState(STATIC_MEMORY), True
    total = sum(node.memory for node in machine.nodes.values())
    given = [
        (entry.numa_node, {name: int(Quantity(str(size))) for name, size in entry.limits.items()})
        for entry in settings.configuration.reserved_memory
    ]
    kept = {MEMORY: int(_reserved(settings, MEMORY)) + _eviction(settings, total)}
    reserved = reserved_by_node(given, machine.nodes, kept)
    policy = StaticMemory(empty_machine(machine.nodes, reserved), state)
    try:
        policy.check()
    except AllocationError as error:
        if state.entries:
            raise _misfit(directory / memory_state.FILE, error) from error
        policy.state = MemoryState(STATIC_MEMORY)
    policy.state.policy = STATIC_MEMORY
    memory_state.save(directory, policy.state, policy.machine)
    policy.lost = lost
    return policy


def _reserved(settings: Settings, resource: str) -> Quantity:
    """Return what kubeReserved and systemReserved keep of a resource."""
    one = settings.configuration
    amounts: list[Mapping[str, str]] = [one.kube_reserved, one.system_reserved]
    total = Quantity(0)
    for given in amounts:
        total += Quantity(given.get(resource, "0"))
    return total


def _eviction(settings: Settings, total: int) -> int:
    """Return the bytes of memory that hard eviction keeps free."""
    threshold = settings.configuration.eviction_hard.get("memory.available", "0")
    if threshold.endswith("%"):
        return int(total * float(threshold[:-1]) / 100)
    return int(Quantity(threshold))


def _misfit(path: Path, error: AllocationError) -> ConfigurationError:
    return ConfigurationError(f"{path} does not fit: {error}; {_DRAIN}")


def _forget(path: Path) -> None:
    """Remove the state of a policy that is not there any more, if nobody has anything of it.

    Raises:
        ConfigurationError: pods have CPUs or memory of their own.
    """
    try:
        found = read_state(path)
    except StateError as error:
        set_aside(path, str(error))
        return
    if found is not None and found.get("entries"):
        raise ConfigurationError(
            f"{path}: pods have CPUs or memory of their own by policy {found.get('policyName')!r}, "
            f"which is not the configured one; {_DRAIN}"
        )
    if found is not None:
        path.unlink(missing_ok=True)
