"""Sets of CPUs as the kernel writes them: ``0-3,8`` (pure)."""

from __future__ import annotations

from collections.abc import Iterable

CpuSet = frozenset[int]
EMPTY: CpuSet = frozenset()
_LARGEST = 1 << 20


def parse(text: str) -> CpuSet:
    """Return the CPUs of a list such as ``0-3,8``; "" is the empty set.

    Raises:
        ValueError: it is no such list.
    """
    found: set[int] = set()
    for part in text.strip().split(",") if text.strip() else []:
        first, dash, last = part.strip().partition("-")
        low, high = int(first), int(last if dash else first)
        if not 0 <= low <= high < _LARGEST:
            raise ValueError(f"{part!r} is no range of CPUs")
        found.update(range(low, high + 1))
    return frozenset(found)


def show(cpus: Iterable[int]) -> str:
    """Return CPUs as the shortest list of ranges."""
    ranges: list[list[int]] = []
    for cpu in sorted(set(cpus)):
        if ranges and ranges[-1][1] == cpu - 1:
            ranges[-1][1] = cpu
        else:
            ranges.append([cpu, cpu])
    return ",".join(str(low) if low == high else f"{low}-{high}" for low, high in ranges)
