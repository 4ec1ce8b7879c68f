"""The static CPU manager policy: whole CPUs of Guaranteed pods are theirs alone.

All other containers share what is left, which always holds the reserved CPUs. Init containers' CPUs
are used again by the containers after them; those of sidecars are not. KEP-3570, KEP-2625.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from itertools import chain

from kubeletpy.api.container import Container
from kubeletpy.api.pod import Pod
from kubeletpy.resources.qos import GUARANTEED, qos_class
from kubeletpy.resources.totals import is_sidecar

from .cpu_assignment import take_distributed, take_packed
from .cpu_state import CpuState
from .cpusets import EMPTY, CpuSet, show
from .errors import AlignmentError, AllocationError, ConfigurationFault
from .hints import (
    SINGLE_NUMA_NODE,
    Hint,
    ResourceHints,
    all_masks,
    boolean,
    nodes_of,
    prefer_narrow,
)
from .machine import CpuTopology

CPU = "cpu"


@dataclass(frozen=True, slots=True)
class CpuOptions:
    """``cpuManagerPolicyOptions``; the names in settings have dashes."""

    full_pcpus_only: bool = False
    distribute_cpus_across_numa: bool = False
    align_by_socket: bool = False
    distribute_cpus_across_cores: bool = False
    strict_cpu_reservation: bool = False
    prefer_align_cpus_by_uncorecache: bool = False


_ALPHA = frozenset({"align_by_socket", "distribute_cpus_across_cores"})
_EXCLUSIVE = (
    ("full_pcpus_only", "distribute_cpus_across_cores"),
    ("distribute_cpus_across_numa", "distribute_cpus_across_cores"),
    ("prefer_align_cpus_by_uncorecache", "distribute_cpus_across_cores"),
    ("prefer_align_cpus_by_uncorecache", "distribute_cpus_across_numa"),
)


def cpu_options(given: Mapping[str, str], *, alpha: bool = False) -> CpuOptions:
    """Return the options that the settings name.

    Args:
        given: ``cpuManagerPolicyOptions``.
        alpha: whether the feature gate CPUManagerPolicyAlphaOptions is on.

    Raises:
        ConfigurationFault: one is unknown, not enabled, or at odds with another.
    """
    known = {one.name.replace("_", "-"): one.name for one in fields(CpuOptions)}
    found: dict[str, bool] = {}
    for option, value in given.items():
        name = known.get(option)
        if name is None:
            raise ConfigurationFault(f"cpuManagerPolicyOptions: unknown option {option!r}")
        if name in _ALPHA and not alpha:
            raise ConfigurationFault(
                f"cpuManagerPolicyOptions: {option} needs the feature gate "
                "CPUManagerPolicyAlphaOptions"
            )
        found[name] = boolean(option, value)
    for one, other in _EXCLUSIVE:
        if found.get(one) and found.get(other):
            names = f"{one} and {other}".replace("_", "-")
            raise ConfigurationFault(f"cpuManagerPolicyOptions: {names} cannot both be set")
    return CpuOptions(**found)


def whole_cpus(pod: Pod, container: Container) -> int:
    """Return how many CPUs shall be the container's own; 0: it shares.

    Pods with resources of their own share, as in Go without PodLevelResourceManagers (alpha).
    """
    if qos_class(pod) != GUARANTEED or (pod.spec.resources and _named(pod)):
        return 0
    requested = container.resources.requests.get(CPU) or container.resources.limits.get(CPU)
    if requested is None or requested.value.denominator != 1:
        return 0
    return int(requested)


def _named(pod: Pod) -> bool:
    resources = pod.spec.resources
    return resources is not None and bool(resources.requests or resources.limits)


def pod_cpus(pod: Pod) -> int:
    """Return how many own CPUs the pod needs at the most at any time (KEP-753)."""
    sidecars = peak = 0
    for container in pod.spec.init_containers:
        wanted = whole_cpus(pod, container)
        if is_sidecar(container):
            sidecars += wanted
        else:
            peak = max(peak, sidecars + wanted)
    return max(peak, sidecars + sum(whole_cpus(pod, one) for one in pod.spec.containers))


@dataclass
class StaticCpus:
    """The policy with its state; whoever changes it saves the state.

    Attributes:
        topology: all CPUs of the machine.
        reserved: CPUs that are never anybody's own.
        options: how CPUs are picked.
        state: who has what.
        lost: whether the state of before was damaged.
    """

    topology: CpuTopology
    reserved: CpuSet
    options: CpuOptions
    state: CpuState
    lost: bool = False
    _reusable: dict[str, CpuSet] = field(default_factory=dict)

    def check(self) -> None:
        """Compare the state with the machine and the settings; an empty one is filled.

        Raises:
            AllocationError: they do not fit: the node has to be drained and the file removed.
        """
        state, everything = self.state, self.topology.all
        if not state.default:
            if state.entries:
                raise AllocationError("default cpuset cannot be empty")
            strict = self.options.strict_cpu_reservation
            state.default = everything - self.reserved if strict else everything
            return
        if self.options.strict_cpu_reservation:
            if self.reserved & state.default:
                raise AllocationError(
                    f"some of strictly reserved cpus: {show(self.reserved & state.default)!r} are "
                    f"present in defaultCpuSet: {show(state.default)!r}"
                )
            everything -= self.reserved
        elif not self.reserved <= state.default:
            raise AllocationError(
                f"not all reserved cpus: {show(self.reserved)!r} are present in defaultCpuSet: "
                f"{show(state.default)!r}"
            )
        for uid, containers in state.entries.items():
            for name, cpus in containers.items():
                if cpus & state.default:
                    raise AllocationError(
                        f"pod: {uid}, container: {name} cpuset: {show(cpus)!r} overlaps with "
                        f"default cpuset {show(state.default)!r}"
                    )
        known = state.default | state.assigned()
        if known != everything:
            raise AllocationError(
                f"current set of available CPUs {show(everything)!r} doesn't match with CPUs in "
                f"state {show(known)!r}"
            )

    @property
    def allocatable(self) -> CpuSet:
        """CPUs that can be some container's own."""
        return self.topology.all - self.reserved

    @property
    def available(self) -> CpuSet:
        """CPUs that can be given now."""
        return self.state.default - self.reserved

    def allocate(self, pod: Pod, container: Container, mask: int | None) -> bool:
        """Give a container its CPUs; return whether the state changed.

        Args:
            pod: the pod.
            container: one of its containers.
            mask: NUMA nodes to take them from, as far as they have enough.

        Raises:
            AllocationError: there are not enough.
        """
        count = whole_cpus(pod, container)
        if count == 0:
            return False
        uid = pod.metadata.uid
        have = self.state.get(uid, container.name)
        if have is not None:
            self._note_reusable(pod, container, have)
            return False
        self._check_cores(count)
        cpus = self._pick(count, mask, self._reusable.get(uid, EMPTY))
        self.state.default -= cpus
        self.state.put(uid, container.name, cpus)
        self._note_reusable(pod, container, cpus)
        return True

    def _check_cores(self, count: int) -> None:
        if not self.options.full_pcpus_only:
            return
        per_core = self.topology.per("core")
        if count % per_core:
            raise AlignmentError(
                f"SMT Alignment Error: requested {count} cpus not multiple cpus per core = "
                f"{per_core}"
            )
        cores = self.topology.units_in("core", "core", *self._cores_of(self.reserved))
        free = len(self.state.default - self.topology.cpus_in("core", *cores))
        if count > free:
            raise AlignmentError(
                "SMT Alignment Error: not enough free physical CPUs: available physical CPUs = "
                f"{free}, requested CPUs = {count}, CPUs per core = {per_core}"
            )

    def _cores_of(self, cpus: CpuSet) -> set[int]:
        return {self.topology.cpus[cpu].core for cpu in cpus}

    def _pick(self, count: int, mask: int | None, reusable: CpuSet) -> CpuSet:
        free = self.available | reusable
        taken = EMPTY
        if mask is not None:
            aligned = self._aligned(mask, free)
            taken = self.take(aligned, min(count, len(aligned)))
        return taken | self.take(free - taken, count - len(taken))

    def _aligned(self, mask: int, free: CpuSet) -> CpuSet:
        nodes = nodes_of(mask)
        if self.options.align_by_socket:
            sockets = self.topology.units_in("socket", "numa", *nodes)
            return free & self.topology.cpus_in("socket", *sockets)
        return free & self.topology.cpus_in("numa", *nodes)

    def take(self, available: CpuSet, count: int) -> CpuSet:
        """Return ``count`` of the ``available`` CPUs by the machine's topology.

        Raises:
            AllocationError: there are not enough.
        """
        options = self.options
        spread = options.distribute_cpus_across_cores
        if count < 1:
            return EMPTY
        if options.distribute_cpus_across_numa:
            group = self.topology.per("core") if options.full_pcpus_only else 1
            return take_distributed(self.topology, available, count, group=group, spread=spread)
        by_cache = options.prefer_align_cpus_by_uncorecache
        return take_packed(self.topology, available, count, spread=spread, by_cache=by_cache)

    def _note_reusable(self, pod: Pod, container: Container, cpus: CpuSet) -> None:
        uid = pod.metadata.uid
        before = self._reusable.get(uid, EMPTY)
        init = any(one.name == container.name for one in pod.spec.init_containers)
        reuse = init and not is_sidecar(container)
        self._reusable[uid] = before | cpus if reuse else before - cpus

    def settle(self, uid: str) -> None:
        """A pod is through with its allocations: nothing is left to use again."""
        self._reusable.pop(uid, None)

    def release(self, uid: str, container: str) -> bool:
        """Take a container's CPUs back; return whether it had any."""
        if self.state.get(uid, container) is None:
            return False
        self.state.default |= self.state.drop(uid, container)
        return True

    def hints(self, pod: Pod, container: Container) -> ResourceHints:
        """Return the NUMA nodes that could give a container its CPUs."""
        count = whole_cpus(pod, container)
        if count == 0:
            return {}
        uid = pod.metadata.uid
        have = self.state.get(uid, container.name)
        if have is not None:
            return {CPU: self._hints(have, EMPTY, count) if len(have) == count else []}
        return {CPU: self._hints(self.available, self._reusable.get(uid, EMPTY), count)}

    def pod_hints(self, pod: Pod) -> ResourceHints:
        """Return the NUMA nodes that could give all containers of a pod their CPUs."""
        count = pod_cpus(pod)
        if count == 0:
            return {}
        uid = pod.metadata.uid
        assigned = EMPTY
        for container in chain(pod.spec.init_containers, pod.spec.containers):
            have = self.state.get(uid, container.name)
            if have is not None:
                if len(have) != whole_cpus(pod, container):
                    return {CPU: []}
                assigned |= have
        if len(assigned) == count:
            return {CPU: self._hints(assigned, EMPTY, count)}
        reusable = self._reusable.get(uid, EMPTY) | assigned
        return {CPU: self._hints(self.available, reusable, count)}

    def _hints(self, available: CpuSet, reusable: CpuSet, count: int) -> list[Hint]:
        topology = self.topology
        nodes = sorted(topology.units("numa"))
        narrowest, masks = len(nodes), []
        for mask in all_masks(nodes):
            inside = topology.cpus_in("numa", *nodes_of(mask))
            if len(inside) >= count:
                narrowest = min(narrowest, mask.bit_count())
            if reusable <= inside and len(reusable) + len(available & inside) >= count:
                masks.append(mask)
        hints = prefer_narrow(masks, narrowest)
        if not self.options.align_by_socket:
            return hints
        return [
            Hint(one.mask, one.preferred or self._one_socket(one.mask, narrowest)) for one in hints
        ]

    def _one_socket(self, mask: int | None, narrowest: int) -> bool:
        """Whether a set of nodes spans no more sockets than it has to."""
        per_socket = len(self.topology.units("numa")) // len(self.topology.units("socket"))
        if per_socket == 0 or mask is None:
            return False
        sockets = self.topology.units_in("socket", "numa", *nodes_of(mask))
        return len(sockets) == -(-narrowest // per_socket)


def static_cpus(
    topology: CpuTopology,
    options: CpuOptions,
    state: CpuState,
    *,
    reserved_milli: int,
    reserved_cpus: CpuSet,
    topology_policy: str,
) -> StaticCpus:
    """Return the policy with its reserved CPUs chosen.

    Args:
        topology: all CPUs of the machine.
        options: how CPUs are picked.
        state: who has what.
        reserved_milli: thousandths of a CPU that systemReserved and kubeReserved add up to.
        reserved_cpus: ``reservedSystemCPUs``; empty: chosen here.
        topology_policy: name of the topology manager's policy.

    Raises:
        ConfigurationFault: nothing is reserved, or more than there is.
    """
    if options.align_by_socket:
        if topology_policy == SINGLE_NUMA_NODE:
            raise ConfigurationFault(
                "cpuManagerPolicyOptions: align-by-socket is incompatible with "
                f"topologyManagerPolicy {SINGLE_NUMA_NODE}"
            )
        if len(topology.units("socket")) > len(topology.units("numa")):
            raise ConfigurationFault(
                "cpuManagerPolicyOptions: align-by-socket is incompatible with more sockets than "
                "NUMA nodes"
            )
    policy = StaticCpus(topology, EMPTY, options, state)
    count = len(reserved_cpus) or -(-reserved_milli // 1000)
    if count == 0:
        raise ConfigurationFault(
            "cpuManagerPolicy static requires systemReserved.cpu + kubeReserved.cpu, or "
            "reservedSystemCPUs, to be greater than zero"
        )
    try:
        policy.reserved = reserved_cpus or policy.take(topology.all, count)
    except AllocationError as error:
        raise ConfigurationFault(f"cannot reserve {count} CPUs: {error}") from error
    if not policy.reserved <= topology.all:
        missing = show(policy.reserved - topology.all)
        raise ConfigurationFault(f"reservedSystemCPUs: this machine has no CPU {missing}")
    return policy
