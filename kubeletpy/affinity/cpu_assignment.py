"""Which free CPUs a request gets, by the machine's topology (pure).

Whole NUMA nodes and sockets first, then (by option) CPUs that share a third-level cache, then whole
cores, then single CPUs: always the unit that is already the fullest, so that large requests find
whole units later. Spread over cores, and distributed over NUMA nodes, are options.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import combinations
from math import inf, sqrt

from .cpusets import EMPTY, CpuSet
from .errors import AllocationError
from .machine import CpuTopology, Level


class _Picker:
    """Takes CPUs until a request is satisfied.

    Args:
        topology: the whole machine.
        available: free CPUs.
        needed: how many are asked for.
    """

    def __init__(self, topology: CpuTopology, available: CpuSet, needed: int) -> None:
        self.topology = topology
        self.free = topology.keep(available)
        self.needed = needed
        self.taken: CpuSet = EMPTY
        # The larger unit goes first: nodes hold sockets on some machines, on others it is the
        # other way round.
        nodes, sockets = len(topology.units("numa")), len(topology.units("socket"))
        self.outer: Level = "numa" if sockets >= nodes else "socket"
        self.inner: Level = "socket" if sockets >= nodes else "numa"

    @property
    def satisfied(self) -> bool:
        return self.needed < 1

    def take(self, cpus: CpuSet) -> None:
        self.taken |= cpus
        self.free = self.free.keep(self.free.all - cpus)
        self.needed -= len(cpus)

    def fullest(self, level: Level, units: Iterable[int]) -> list[int]:
        """Order units by how few free CPUs they have."""
        return sorted(units, key=lambda unit: (len(self.free.cpus_in(level, unit)), unit))

    def ordered(self, level: Level) -> list[int]:
        """Return the units with free CPUs, the fullest one of the fullest larger unit first."""
        free = self.free
        if level == self.outer:
            return self.fullest(level, free.units(level))
        if level == self.inner:
            around: Level = self.outer
        elif level == "core":
            around = self.inner
        else:
            around = "numa"
        result: dict[int, None] = {}
        for larger in self.ordered(around):
            for unit in self.fullest(level, free.units_in(level, around, larger)):
                result[unit] = None
        return list(result)

    def whole(self, level: Level) -> None:
        """Take units that are entirely free and fit in what is still needed."""
        for unit in self.ordered(level):
            everything = self.topology.cpus_in(level, unit)
            if self.free.cpus_in(level, unit) == everything and self.needed >= len(everything):
                self.take(everything)

    def caches(self) -> None:
        """Take CPUs that share a cache: whole caches, then the rest from one of them."""
        for cache in self.ordered("uncore"):
            if self.needed >= self.topology.per("uncore"):
                self.whole("uncore")
            if not self.satisfied:
                self._part_of_cache(cache)
            if self.satisfied:
                return

    def _part_of_cache(self, cache: int) -> None:
        per_core = max(self.topology.per("core"), 1)
        cores = sorted(self.free.units_in("core", "uncore", cache))
        cores = cores[: -(-self.needed // per_core)]
        cpus = sorted(self.free.cpus_in("core", *cores))
        if self.needed % 2 and per_core > 1 and len(cpus) > self.needed:
            cpus = cpus[:-1]
        if len(cpus) == self.needed:
            self.take(frozenset(cpus))

    def singles(self, spread: bool) -> None:
        """Take single CPUs, core by core, or spread over the cores of a socket."""
        level: Level = "socket" if spread else "core"
        order = [
            cpu for unit in self.ordered(level) for cpu in sorted(self.free.cpus_in(level, unit))
        ]
        self.take(frozenset(order[: max(self.needed, 0)]))


def take_packed(
    topology: CpuTopology,
    available: CpuSet,
    count: int,
    *,
    spread: bool = False,
    by_cache: bool = False,
) -> CpuSet:
    """Return ``count`` of the ``available`` CPUs, as close together as they are.

    Args:
        topology: the whole machine.
        available: free CPUs.
        count: how many.
        spread: over cores (option ``distribute-cpus-across-cores``).
        by_cache: prefer CPUs of one cache (option ``prefer-align-cpus-by-uncorecache``).

    Raises:
        AllocationError: there are not enough.
    """
    picker = _Picker(topology, available, count)
    if count > len(picker.free.all):
        raise AllocationError(
            "not enough cpus available to satisfy request: "
            f"requested={count}, available={len(available)}"
        )
    picker.whole(picker.outer)
    picker.whole(picker.inner)
    if by_cache and not picker.satisfied:
        picker.caches()
    if not spread:
        picker.whole("core")
    if not picker.satisfied:
        picker.singles(spread)
    return picker.taken


def take_distributed(
    topology: CpuTopology,
    available: CpuSet,
    count: int,
    *,
    group: int = 1,
    spread: bool = False,
) -> CpuSet:
    """Return CPUs spread evenly over as few NUMA nodes as possible.

    Args:
        topology: the whole machine.
        available: free CPUs.
        count: how many.
        group: CPUs that stay together (those of a core, with ``full-pcpus-only``).
        spread: over cores.

    Raises:
        AllocationError: there are not enough.
    """
    picker = _Picker(topology, available, count)
    if count % group or count < 1 or count > len(picker.free.all):
        return take_packed(topology, available, count, spread=spread)
    nodes = picker.ordered("numa")
    free = {node: len(picker.free.cpus_in("numa", node)) for node in nodes}
    fewest, most = _range_of_nodes(picker, group)
    for size in range(fewest, most + 1):
        shares = _best_shares(nodes, free, size, count, group)
        if shares is None:
            continue
        taken = EMPTY
        for node, rounds in shares:
            for amount in rounds:
                left = picker.free.cpus_in("numa", node) - taken
                taken |= take_packed(topology, left, amount, spread=spread)
        return taken
    return take_packed(topology, available, count, spread=spread)


def _range_of_nodes(picker: _Picker, group: int) -> tuple[int, int]:
    topology = picker.topology
    groups = (len(topology.all) - 1) // group + 1
    per_node = (groups - 1) // len(topology.units("numa")) + 1
    needed = (picker.needed - 1) // group + 1
    return (needed - 1) // per_node + 1, min(needed, len(picker.free.units("numa")))


_Shares = list[tuple[int, list[int]]]


def _best_shares(
    nodes: Sequence[int], free: dict[int, int], size: int, count: int, group: int
) -> _Shares | None:
    """Return what each of ``size`` nodes gives, such that what is left is the most even."""
    best, best_balance = None, inf
    for combo in combinations(nodes, size):
        if best_balance == 0:
            break
        if sum(free[node] // group for node in combo) * group < count:
            continue
        share = count // size // group * group
        if any(free[node] < share for node in combo):
            continue
        left = {**free, **{node: free[node] - share for node in combo}}
        balance, extra = _best_remainder(combo, left, count - share * size, group)
        if balance < best_balance:
            best_balance = balance
            best = [
                (
                    node,
                    [share, *([group] * extra.count(node))]
                    if share
                    else [group] * extra.count(node),
                )
                for node in combo
            ]
    return best


def _best_remainder(
    combo: Sequence[int], left: dict[int, int], remainder: int, group: int
) -> tuple[float, list[int]]:
    """Return how even the nodes are once the remainder is taken, and the nodes that give it."""
    if not remainder:
        return _deviation(left.values()), []
    best: tuple[float, list[int]] = (inf, [])
    able = [node for node in combo if left[node] >= group]
    for size in range(len(able), 0, -1):
        for subset in combinations(able, size):
            rest, given = dict(left), []
            missing = remainder
            while missing > 0:
                before = missing
                for node in subset:
                    if missing > 0 and rest[node] >= group:
                        rest[node] -= group
                        missing -= group
                        given.append(node)
                if missing == before:
                    break
            if missing <= 0:
                balance = _deviation(rest.values())
                if balance < best[0]:
                    best = (balance, given)
    return best


def _deviation(values: Iterable[int]) -> float:
    """Return the standard deviation, to three digits: finer differences shall not matter."""
    found = list(values)
    mean = round(sum(found) / len(found), 3)
    return round(sqrt(sum((one - mean) ** 2 for one in found) / len(found)), 3)
