"""What a cgroup uses, in the same units for v1 and v2."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

# v1 shows "no limit" as the largest multiple of the page size below 2**63.
_NO_LIMIT_FROM = 1 << 62


@dataclass(frozen=True)
class CpuStats:
    """CPU time since the cgroup was made.

    Attributes:
        usage_ns: all CPU time in nanoseconds (v2 counts in microseconds).
        user_ns, system_ns: its parts in nanoseconds.
        periods: elapsed periods in which a quota was in force.
        throttled_periods: those in which the quota was used up.
        throttled_ns: how long its tasks were kept waiting, in nanoseconds, summed over CPUs.
    """

    usage_ns: int
    user_ns: int = 0
    system_ns: int = 0
    periods: int = 0
    throttled_periods: int = 0
    throttled_ns: int = 0


@dataclass(frozen=True)
class MemoryStats:
    """Memory, the cgroups below included; all in bytes unless said otherwise.

    Attributes:
        usage: all that is charged, page cache included.
        working_set: ``usage`` without the inactive page cache; what eviction looks at.
        rss: anonymous memory, transparent huge pages included.
        page_faults, major_page_faults: how many so far.
        limit: None if there is none.
        available: ``limit`` less ``working_set``, not below 0; None if there is no limit.
        swap: used swap; None if the kernel does not account it.
        swap_limit: for swap alone; None if there is none, or it is not accounted.
        active_file: page cache in use lately; part of ``working_set``, reclaimable all the same.
    """

    usage: int
    working_set: int
    rss: int
    page_faults: int
    major_page_faults: int
    limit: int | None
    available: int | None
    swap: int | None = None
    swap_limit: int | None = None
    active_file: int = 0


@dataclass(frozen=True)
class PidsStats:
    """Processes and threads, the cgroups below included; ``limit`` is None if there is none."""

    current: int
    limit: int | None


@dataclass(frozen=True)
class Pressure:
    """How much time tasks lost waiting (kernel: Documentation/accounting/psi.rst).

    Attributes:
        avg10, avg60, avg300: share of the last 10, 60, 300 seconds, in percent.
        total_ns: in nanoseconds since the cgroup was made.
    """

    avg10: float
    avg60: float
    avg300: float
    total_ns: int


@dataclass(frozen=True)
class PressureStats:
    """Pressure of one resource: of some task, and of all at once (None where not kept)."""

    some: Pressure
    full: Pressure | None = None


@dataclass(frozen=True)
class CgroupStats:
    """A reading of a cgroup; a part is None where its controller is missing.

    Attributes:
        time_ns: when it was read, nanoseconds since 1970.
        pressure: by ``cpu``, ``memory``, ``io``; empty where the kernel keeps none.
    """

    time_ns: int
    cpu: CpuStats | None = None
    memory: MemoryStats | None = None
    pids: PidsStats | None = None
    pressure: Mapping[str, PressureStats] = field(default_factory=dict)


def memory_stats(
    usage: int,
    stat: Mapping[str, int],
    limit: int | None,
    *,
    prefix: str = "",
    rss_key: str = "anon",
    swap: int | None = None,
    swap_limit: int | None = None,
) -> MemoryStats:
    """Combine the memory files of either version.

    Args:
        usage: bytes charged.
        stat: ``memory.stat``.
        limit: bytes, None for none.
        prefix: ``total_`` on v1, whose plain keys leave the cgroups below out.
        rss_key: ``anon`` on v2, ``rss`` on v1.
        swap: used bytes of swap, if accounted.
        swap_limit: for swap alone.
    """
    working_set = max(0, usage - stat.get(f"{prefix}inactive_file", 0))
    return MemoryStats(
        usage=usage,
        working_set=working_set,
        rss=stat.get(prefix + rss_key, 0),
        page_faults=stat.get(f"{prefix}pgfault", 0),
        major_page_faults=stat.get(f"{prefix}pgmajfault", 0),
        limit=limit,
        available=None if limit is None else max(0, limit - working_set),
        swap=swap,
        swap_limit=swap_limit,
        active_file=stat.get(f"{prefix}active_file", 0),
    )


def v1_limit(value: int | None) -> int | None:
    """Return a limit of v1 in bytes, None for its number that means none."""
    return None if value is None or value >= _NO_LIMIT_FROM else value


def pressure_stats(lines: Mapping[str, Mapping[str, str]]) -> PressureStats | None:
    """Read the parsed lines of a pressure file; None if there is no ``some`` line."""
    parsed = {
        key: Pressure(
            float(words["avg10"]),
            float(words["avg60"]),
            float(words["avg300"]),
            int(words["total"]) * 1000,
        )
        for key, words in lines.items()
        if {"avg10", "avg60", "avg300", "total"} <= words.keys()
    }
    return PressureStats(parsed["some"], parsed.get("full")) if "some" in parsed else None
