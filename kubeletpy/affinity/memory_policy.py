"""The Static memory manager policy: a Guaranteed pod's memory is of as few NUMA nodes as possible.

A node serves containers alone or within one group of nodes, never both. What containers have is
kept as blocks; how full the nodes are follows from the blocks. KEP-1769.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from itertools import chain

from kubeletpy.api.container import Container
from kubeletpy.api.pod import Pod
from kubeletpy.api.quantity import Family, Quantity
from kubeletpy.resources.qos import GUARANTEED, qos_class
from kubeletpy.resources.totals import is_sidecar

from .errors import AllocationError, ConfigurationFault
from .hints import Hint, ResourceHints, all_masks, mask_of, nodes_of, prefer_narrow
from .machine import NumaNode
from .memory_state import Block, Machine, MemoryState, Node, Table, figures, occupied

MEMORY = "memory"
HUGEPAGES = "hugepages-"
Reserved = Mapping[int, Mapping[str, int]]
"""Bytes by NUMA node and kind of memory that the system keeps."""


def hugepage_kind(size: int) -> str:
    """Return the name of the resource of huge pages of ``size`` bytes."""
    return f"{HUGEPAGES}{Quantity(size, Family.BINARY)}"


def empty_machine(nodes: Mapping[int, NumaNode], reserved: Reserved) -> Machine:
    """Return the nodes with nothing assigned; huge pages count against their node's memory."""
    machine: Machine = {}
    for number, node in nodes.items():
        kept = reserved.get(number, {})
        tables, huge = {}, 0
        for size, count in node.hugepages.items():
            kind = hugepage_kind(size)
            tables[kind] = Table(size * count, kept.get(kind, 0))
            huge += size * count
        tables[MEMORY] = Table(node.memory, kept.get(MEMORY, 0), huge=huge)
        machine[number] = Node(tables, (number,))
    return machine


def requested(pod: Pod, container: Container) -> dict[str, int]:
    """Return the bytes that shall be of certain nodes, by kind; none: the container roams.

    Pods with resources of their own roam, as in Go without PodLevelResourceManagers (alpha).
    """
    own = pod.spec.resources
    if qos_class(pod) != GUARANTEED or (own is not None and (own.requests or own.limits)):
        return {}
    resources = container.resources
    amounts = {**resources.limits, **resources.requests}
    return {
        kind: int(amount)
        for kind, amount in amounts.items()
        if kind == MEMORY or kind.startswith(HUGEPAGES)
    }


def pod_requested(pod: Pod) -> dict[str, int]:
    """Return the bytes by kind that a pod needs at the most at any time (KEP-753)."""
    sidecars: dict[str, int] = {}
    peak: dict[str, int] = {}
    for container in pod.spec.init_containers:
        for kind, size in requested(pod, container).items():
            if is_sidecar(container):
                sidecars[kind] = sidecars.get(kind, 0) + size
            else:
                peak[kind] = max(peak.get(kind, 0), sidecars.get(kind, 0) + size)
    total: dict[str, int] = dict(sidecars)
    for container in pod.spec.containers:
        for kind, size in requested(pod, container).items():
            total[kind] = total.get(kind, 0) + size
    return {kind: max(size, peak.get(kind, 0)) for kind, size in total.items()}


@dataclass
class StaticMemory:
    """The policy with its state; whoever changes it saves the state.

    Attributes:
        empty: the nodes with nothing assigned.
        state: who has what.
        lost: whether the state of before was damaged.
    """

    empty: Machine
    state: MemoryState
    lost: bool = False
    _reusable: dict[str, dict[tuple[tuple[int, ...], str], int]] = field(default_factory=dict)

    @property
    def machine(self) -> Machine:
        """The nodes as they are now."""
        return occupied(self.empty, self.state.blocks())

    @property
    def allocatable(self) -> list[Block]:
        """What containers can have, by node and kind."""
        return [
            Block((number,), kind, table.allocatable)
            for number, node in sorted(self.empty.items())
            for kind, table in sorted(node.tables.items())
            if table.allocatable > 0
        ]

    def check(self) -> None:
        """Compare the state of the file with the machine and the settings.

        Raises:
            AllocationError: they do not fit: the node has to be drained and the file removed.
        """
        fixed = ("total", "systemReserved", "allocatable")
        for number, tables in self.state.noted.items():
            now = self.empty.get(number)
            ours = {kind: figures(one) for kind, one in now.tables.items()} if now else {}
            if ours.keys() != tables.keys() or any(
                ours[kind][key] != table.get(key) for kind, table in tables.items() for key in fixed
            ):
                raise AllocationError("the expected machine state is different from the real one")
        if self.state.noted and self.state.noted.keys() != self.empty.keys():
            raise AllocationError("the expected machine state is different from the real one")
        try:
            occupied(self.empty, self.state.blocks())
        except KeyError as error:
            raise AllocationError(
                f"the memory assignment uses a NUMA node or resource that does not exist: {error}"
            ) from error

    def nodes(self, uid: str, container: str) -> frozenset[int]:
        """Return the nodes that a container is bound to; none: it is not bound."""
        blocks = self.state.entries.get(uid, {}).get(container, [])
        return frozenset(node for block in blocks for node in block.nodes)

    def allocate(self, pod: Pod, container: Container, hint: Hint) -> bool:
        """Give a container its memory; return whether the state changed.

        Args:
            pod: the pod.
            container: one of its containers.
            hint: what the topology manager found best.

        Raises:
            AllocationError: there is not enough.
        """
        wanted = requested(pod, container)
        if not wanted:
            return False
        uid = pod.metadata.uid
        have = self.state.entries.get(uid, {}).get(container.name)
        if have is not None:
            self._note_reusable(pod, container, have)
            return False
        machine = self.machine
        mask = self._place(machine, pod, wanted, hint)
        nodes = tuple(nodes_of(mask))
        if _mixes(machine, nodes):
            raise AllocationError("[memorymanager] preferred hint violates NUMA node allocation")
        blocks = [Block(nodes, kind, size) for kind, size in sorted(wanted.items())]
        self._note_reusable(pod, container, blocks)
        self._shrink_init(pod, container, blocks)
        self.state.entries.setdefault(uid, {})[container.name] = blocks
        return True

    def _place(self, machine: Machine, pod: Pod, wanted: Mapping[str, int], hint: Hint) -> int:
        """Return the nodes for a request: the hint's, or more if they have too little."""
        hints = self._hints(machine, pod, wanted)
        best = hint
        if best.mask is None:
            if not hints:
                raise AllocationError(
                    "[memorymanager] failed to get the default NUMA affinity, no NUMA nodes with "
                    "enough memory is available"
                )
            best = _best(hints)
            if hint.preferred and not best.preferred:
                raise AllocationError("[memorymanager] failed to find the default preferred hint")
        assert best.mask is not None
        if self._enough(machine, pod, best.mask, wanted):
            return best.mask
        wider = [one for one in hints if one.mask is not None and one.mask & best.mask == best.mask]
        if not wider:
            raise AllocationError(
                "[memorymanager] failed to find NUMA nodes to extend the current topology hint"
            )
        extended = _best(wider)
        if best.preferred and not extended.preferred:
            raise AllocationError("[memorymanager] failed to find the extended preferred hint")
        assert extended.mask is not None
        return extended.mask

    def _enough(self, machine: Machine, pod: Pod, mask: int, wanted: Mapping[str, int]) -> bool:
        nodes = nodes_of(mask)
        return all(
            sum(_table(machine, node, kind).free for node in nodes)
            + self._again(pod, tuple(nodes), kind)
            >= size
            for kind, size in wanted.items()
        )

    def _again(self, pod: Pod, nodes: tuple[int, ...], kind: str) -> int:
        """Return what init containers of the pod leave for those after them."""
        return self._reusable.get(pod.metadata.uid, {}).get((nodes, kind), 0)

    def _note_reusable(self, pod: Pod, container: Container, blocks: Iterable[Block]) -> None:
        uid = pod.metadata.uid
        left = self._reusable.setdefault(uid, {})
        init = any(one.name == container.name for one in pod.spec.init_containers)
        for block in blocks:
            key = (block.nodes, block.kind)
            if init and not is_sidecar(container):
                left[key] = max(left.get(key, 0), block.size)
            elif key in left:
                left[key] = max(left[key] - block.size, 0)

    def _shrink_init(self, pod: Pod, container: Container, blocks: Iterable[Block]) -> None:
        """Take what is used again out of the blocks of earlier init containers."""
        entries = self.state.entries.get(pod.metadata.uid, {})
        for block in blocks:
            left = block.size
            for init in pod.spec.init_containers:
                if init.name == container.name or left == 0:
                    break
                if is_sidecar(init) or init.name not in entries:
                    continue
                shrunk = []
                for one in entries[init.name]:
                    same = one.kind == block.kind and set(one.nodes) == set(block.nodes)
                    part = min(one.size, left) if same else 0
                    left -= part
                    shrunk.append(replace(one, size=one.size - part))
                entries[init.name] = shrunk

    def release(self, uid: str, container: str) -> bool:
        """Take a container's memory back; return whether it had any."""
        containers = self.state.entries.get(uid, {})
        if containers.pop(container, None) is None:
            return False
        if not containers:
            del self.state.entries[uid]
        return True

    def settle(self, uid: str) -> None:
        """A pod is through with its allocations: nothing is left to use again."""
        self._reusable.pop(uid, None)

    def hints(self, pod: Pod, container: Container) -> ResourceHints:
        """Return the NUMA nodes that could give a container its memory."""
        wanted = requested(pod, container)
        have = self.state.entries.get(pod.metadata.uid, {}).get(container.name)
        return self._resource_hints(pod, wanted, have)

    def pod_hints(self, pod: Pod) -> ResourceHints:
        """Return the NUMA nodes that could give all containers of a pod their memory."""
        entries = self.state.entries.get(pod.metadata.uid, {})
        for container in chain(pod.spec.init_containers, pod.spec.containers):
            if container.name in entries:
                return self._resource_hints(pod, pod_requested(pod), entries[container.name])
        return self._resource_hints(pod, pod_requested(pod), None)

    def _resource_hints(
        self, pod: Pod, wanted: Mapping[str, int], have: list[Block] | None
    ) -> ResourceHints:
        if not wanted:
            return {}
        if have is not None:
            if {one.kind: one.size for one in have} != wanted:
                return {}
            return {one.kind: [Hint(mask_of(one.nodes), True)] for one in have}
        hints = self._hints(self.machine, pod, wanted)
        return dict.fromkeys(wanted, hints)

    def _hints(self, machine: Machine, pod: Pod, wanted: Mapping[str, int]) -> list[Hint]:
        numbers = sorted(machine)
        narrowest, masks = len(numbers), []
        for mask in all_masks(numbers):
            nodes = tuple(nodes_of(mask))
            if any(
                sum(_table(machine, node, kind).allocatable for node in nodes) < size
                for kind, size in wanted.items()
            ):
                continue
            narrowest = min(narrowest, len(nodes))
            if not _mixes(machine, nodes) and self._enough(machine, pod, mask, wanted):
                masks.append(mask)
        return prefer_narrow(masks, narrowest)


_NOTHING = Table(0, 0)


def _table(machine: Machine, node: int, kind: str) -> Table:
    return machine[node].tables.get(kind, _NOTHING)


def _mixes(machine: Machine, nodes: tuple[int, ...]) -> bool:
    """Whether a node would serve alone and in a group, or in two groups."""
    if len(nodes) == 1:
        return len(machine[nodes[0]].cells) > 1
    return any(
        machine[node].assignments > 0 and set(machine[node].cells) != set(nodes) for node in nodes
    )


def _best(hints: Iterable[Hint]) -> Hint:
    return min(hints, key=lambda one: (not one.preferred, (one.mask or 0).bit_count(), one.mask))


def reserved_by_node(
    given: Iterable[tuple[int, Mapping[str, int]]],
    nodes: Iterable[int],
    allocatable: Mapping[str, int],
) -> Reserved:
    """Return ``reservedMemory`` by node.

    Args:
        given: NUMA node and bytes by kind of each entry.
        nodes: the machine's.
        allocatable: by kind, what kubeReserved, systemReserved and the hard eviction threshold
            keep; the entries must add up to it.

    Raises:
        ConfigurationFault: they do not, or name a node that there is not.
    """
    found: dict[int, dict[str, int]] = {node: {} for node in nodes}
    totals: dict[str, int] = {}
    for node, limits in given:
        if node not in found:
            raise ConfigurationFault(f"reservedMemory: this machine has no NUMA node {node}")
        for kind, size in limits.items():
            found[node][kind] = size
            totals[kind] = totals.get(kind, 0) + size
    kinds = {kind for kind in allocatable if kind == MEMORY or kind.startswith(HUGEPAGES)}
    for kind in sorted(kinds | totals.keys()):
        if totals.get(kind, 0) != allocatable.get(kind, 0):
            raise ConfigurationFault(
                f"reservedMemory: the entries of {kind} add up to {totals.get(kind, 0)} bytes, "
                "but kubeReserved, systemReserved and the hard eviction threshold to "
                f"{allocatable.get(kind, 0)}; make them equal"
            )
    return found
