"""The machine's CPUs, caches and NUMA nodes, from ``/sys``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from . import cpusets
from .cpusets import CpuSet

SYSTEM = Path("/sys/devices/system")
Level = Literal["numa", "socket", "core", "uncore"]


@dataclass(frozen=True, slots=True)
class Cpu:
    """Where a logical CPU sits.

    Attributes:
        numa, socket: numbers of its NUMA node and its socket.
        core: the lowest CPU of its core (core ids of the kernel repeat on each socket).
        uncore: id of its third-level cache; the socket if the kernel tells of none.
    """

    numa: int
    socket: int
    core: int
    uncore: int


class CpuTopology:
    """Some CPUs, and what they are parts of."""

    def __init__(self, cpus: Mapping[int, Cpu]) -> None:
        self.cpus = dict(cpus)
        self._units: dict[Level, dict[int, set[int]]] = {}

    @property
    def all(self) -> CpuSet:
        """The CPUs."""
        return frozenset(self.cpus)

    def keep(self, cpus: Iterable[int]) -> CpuTopology:
        """Return the same with only those of ``cpus``."""
        return CpuTopology({cpu: self.cpus[cpu] for cpu in cpus if cpu in self.cpus})

    def _at(self, level: Level) -> dict[int, set[int]]:
        found = self._units.get(level)
        if found is None:
            found = {}
            for number, cpu in self.cpus.items():
                found.setdefault(getattr(cpu, level), set()).add(number)
            self._units[level] = found
        return found

    def units(self, level: Level) -> frozenset[int]:
        """Return the numbers of the NUMA nodes, sockets, cores or caches."""
        return frozenset(self._at(level))

    def cpus_in(self, level: Level, *units: int) -> CpuSet:
        """Return the CPUs of some of them."""
        parts = self._at(level)
        return frozenset().union(*(parts.get(unit, ()) for unit in units))

    def units_in(self, inner: Level, outer: Level, *units: int) -> frozenset[int]:
        """Return what of ``inner`` has CPUs in those ``units`` of ``outer``."""
        return frozenset(getattr(self.cpus[cpu], inner) for cpu in self.cpus_in(outer, *units))

    def per(self, level: Level) -> int:
        """Return the CPUs of each core, socket, ... on a machine where all are alike."""
        count = len(self._at(level))
        return len(self.cpus) // count if count else 0


@dataclass(frozen=True, slots=True)
class NumaNode:
    """Memory of one NUMA node.

    Attributes:
        memory: bytes.
        hugepages: number of huge pages by their size in bytes.
        distances: to all nodes, in the order of their numbers.
    """

    memory: int
    hugepages: Mapping[int, int] = field(default_factory=dict)
    distances: tuple[int, ...] = (10,)


@dataclass(frozen=True, slots=True)
class Machine:
    """CPUs and NUMA nodes."""

    topology: CpuTopology
    nodes: Mapping[int, NumaNode]

    @classmethod
    def nothing(cls) -> Machine:
        """Return a machine of which nobody wants to know anything."""
        return cls(CpuTopology({}), {})

    @property
    def distances(self) -> dict[int, tuple[int, ...]]:
        """By node, its distances to the node of each number (0 for numbers without a node)."""
        numbers = sorted(self.nodes)
        largest = max(numbers, default=0)
        table: dict[int, tuple[int, ...]] = {}
        for number in numbers:
            row = [0] * (largest + 1)
            for other, distance in zip(numbers, self.nodes[number].distances, strict=False):
                row[other] = distance
            table[number] = tuple(row)
        return table


def read_machine(system: Path = SYSTEM, meminfo: Path = Path("/proc/meminfo")) -> Machine:
    """Read the machine; one without NUMA is one node 0.

    Raises:
        OSError: the kernel does not tell of its CPUs.
        ValueError: it tells something else than expected.
    """
    online = cpusets.parse((system / "cpu/online").read_text())
    nodes: dict[int, NumaNode] = {}
    node_of: dict[int, int] = {}
    for directory in sorted((system / "node").glob("node[0-9]*")):
        number = int(directory.name.removeprefix("node"))
        memory = _memory(directory / "meminfo")
        distances = tuple(int(one) for one in (directory / "distance").read_text().split())
        nodes[number] = NumaNode(memory, _hugepages(directory / "hugepages"), distances)
        for cpu in cpusets.parse((directory / "cpulist").read_text()):
            node_of[cpu] = number
    if not nodes:
        nodes[0] = NumaNode(_memory(meminfo), _hugepages(Path("/sys/kernel/mm/hugepages")))
    cpus = {cpu: _cpu(system / f"cpu/cpu{cpu}", node_of.get(cpu, 0)) for cpu in sorted(online)}
    return Machine(CpuTopology(cpus), nodes)


def _cpu(directory: Path, numa: int) -> Cpu:
    topology = directory / "topology"
    siblings = topology / "core_cpus_list"
    if not siblings.exists():
        siblings = topology / "thread_siblings_list"  # kernels before 5.6
    try:
        socket = max(int((topology / "physical_package_id").read_text()), 0)
        core = min(cpusets.parse(siblings.read_text()))
    except FileNotFoundError:
        socket, core = 0, int(directory.name.removeprefix("cpu"))
    return Cpu(numa, socket, core, _uncore(directory / "cache", socket))


def _uncore(caches: Path, socket: int) -> int:
    for cache in sorted(caches.glob("index[0-9]*")):
        try:
            if (cache / "level").read_text().strip() == "3":
                return int((cache / "id").read_text())
        except (OSError, ValueError):
            continue
    return socket


def _memory(meminfo: Path) -> int:
    for line in meminfo.read_text().splitlines():
        name, _, rest = line.rpartition("MemTotal:")
        if rest and (not name or name.startswith("Node ")):
            return int(rest.split()[0]) * 1024
    raise ValueError(f"{meminfo}: no MemTotal")


def _hugepages(directory: Path) -> dict[int, int]:
    found = {}
    for entry in sorted(directory.glob("hugepages-*kB")):
        size = int(entry.name.removeprefix("hugepages-").removesuffix("kB")) * 1024
        found[size] = int((entry / "nr_hugepages").read_text())
    return found
