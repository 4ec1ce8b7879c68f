"""What cgroup files tell beyond :class:`CgroupStats`: for metrics, not for decisions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from kubeletpy_common.cgroups.base import Cgroup
from kubeletpy_common.cgroups.interfaces import parse_flat_keyed, parse_nested_keyed

# io.stat (cgroup-v2.rst, "IO Interface Files"): the operations that v1 counts as well.
_V2_OPERATIONS: Final = {
    "Read": ("rbytes", "rios"),
    "Write": ("wbytes", "wios"),
    "Discard": ("dbytes", "dios"),
}
_COUNTED: Final = (*_V2_OPERATIONS, "Sync", "Async", "Total")


@dataclass(frozen=True)
class MemoryDetails:
    """Parts of memory in bytes, the cgroups below included unless said otherwise.

    Attributes:
        cache: page cache. mapped_file: of it, what is mapped. kernel: the kernel's own objects.
        peak: the highest use so far, 0 where the kernel keeps none.
        limit_hits: how often the limit was reached.
        faults, major_faults: of this cgroup alone on v1; v2 counts whole trees only.
        tree_faults, tree_major_faults: with the cgroups below.
    """

    cache: int = 0
    mapped_file: int = 0
    kernel: int = 0
    peak: int = 0
    limit_hits: int = 0
    faults: int = 0
    major_faults: int = 0
    tree_faults: int = 0
    tree_major_faults: int = 0


@dataclass(frozen=True)
class BlockIo:
    """What went to or from one device.

    Attributes:
        device: major and minor number.
        operation: ``Read``, ``Write`` or ``Discard``; v1 has ``Sync``, ``Async``, ``Total`` too.
        bytes, requests: so far.
    """

    device: tuple[int, int]
    operation: str
    bytes: int
    requests: int


@dataclass(frozen=True)
class CgroupDetails:
    """A reading; what the kernel does not keep is 0 or absent.

    Attributes:
        hugepages: page size to bytes in use and their peak.
    """

    memory: MemoryDetails = MemoryDetails()
    block_io: tuple[BlockIo, ...] = ()
    hugepages: Mapping[str, tuple[int, int]] = field(default_factory=dict)


def read_details(cgroup: Cgroup, version: int) -> CgroupDetails:
    """Read the files of a cgroup; one that is gone gives an empty reading.

    Args:
        cgroup: which one.
        version: of its hierarchy, 1 or 2.
    """
    memory = cgroup.controller_directory("memory")
    block = cgroup.controller_directory("io" if version == 2 else "blkio")
    huge = cgroup.controller_directory("hugetlb")
    if version == 2:
        return CgroupDetails(
            memory=_memory_v2(memory) if memory else MemoryDetails(),
            block_io=tuple(parse_io_stat(_text(block, "io.stat"))) if block else (),
            hugepages=_hugepages(huge, "current", "max") if huge else {},
        )
    return CgroupDetails(
        memory=_memory_v1(memory) if memory else MemoryDetails(),
        block_io=_block_io_v1(block) if block else (),
        hugepages=_hugepages(huge, "usage_in_bytes", "max_usage_in_bytes") if huge else {},
    )


def _memory_v1(directory: Path) -> MemoryDetails:
    stat = parse_flat_keyed(_text(directory, "memory.stat"))
    return MemoryDetails(
        cache=stat.get("total_cache", 0),
        mapped_file=stat.get("total_mapped_file", 0),
        kernel=_number(directory, "memory.kmem.usage_in_bytes"),
        peak=_number(directory, "memory.max_usage_in_bytes"),
        limit_hits=_number(directory, "memory.failcnt"),
        faults=stat.get("pgfault", 0),
        major_faults=stat.get("pgmajfault", 0),
        tree_faults=stat.get("total_pgfault", 0),
        tree_major_faults=stat.get("total_pgmajfault", 0),
    )


def _memory_v2(directory: Path) -> MemoryDetails:
    stat = parse_flat_keyed(_text(directory, "memory.stat"))
    events = parse_flat_keyed(_text(directory, "memory.events"))
    faults, major = stat.get("pgfault", 0), stat.get("pgmajfault", 0)
    return MemoryDetails(
        cache=stat.get("file", 0),
        mapped_file=stat.get("file_mapped", 0),
        kernel=stat.get("kernel", 0),
        peak=_number(directory, "memory.peak"),
        limit_hits=events.get("max", 0),
        faults=faults,
        major_faults=major,
        tree_faults=faults,
        tree_major_faults=major,
    )


def _block_io_v1(directory: Path) -> tuple[BlockIo, ...]:
    served = parse_blkio(_text(directory, "blkio.throttle.io_service_bytes_recursive"))
    counts = parse_blkio(_text(directory, "blkio.throttle.io_serviced_recursive"))
    return tuple(
        BlockIo(device, operation, amount, counts.get((device, operation), 0))
        for (device, operation), amount in served.items()
    )


def parse_blkio(text: str) -> dict[tuple[tuple[int, int], str], int]:
    """Parse lines of ``major:minor operation number`` (v1); other lines are skipped."""
    found: dict[tuple[tuple[int, int], str], int] = {}
    for line in text.splitlines():
        words = line.split()
        if len(words) == 3 and words[1] in _COUNTED and words[2].isdigit():
            device = _device(words[0])
            if device is not None:
                found[device, words[1]] = int(words[2])
    return found


def parse_io_stat(text: str) -> Iterable[BlockIo]:
    """Parse ``io.stat`` of v2; lines that name no device are skipped."""
    for name, values in parse_nested_keyed(text).items():
        device = _device(name)
        if device is None:
            continue
        for operation, (amount, requests) in _V2_OPERATIONS.items():
            if amount in values:
                yield BlockIo(
                    device, operation, int(values[amount]), int(values.get(requests, "0"))
                )


def _device(text: str) -> tuple[int, int] | None:
    major, _, minor = text.partition(":")
    return (int(major), int(minor)) if major.isdigit() and minor.isdigit() else None


def _hugepages(directory: Path, used: str, peak: str) -> dict[str, tuple[int, int]]:
    try:
        files = list(directory.glob(f"hugetlb.*.{used}"))
    except OSError:
        return {}
    sizes = [file.name.split(".")[1] for file in files if ".rsvd." not in file.name]
    # `max` of v2 is a limit; there the peak is not kept, and the present use stands for it.
    top = peak if peak != "max" else used
    return {
        size: (
            _number(directory, f"hugetlb.{size}.{used}"),
            _number(directory, f"hugetlb.{size}.{top}"),
        )
        for size in sizes
    }


def _text(directory: Path, name: str) -> str:
    try:
        return (directory / name).read_text(encoding="ascii", errors="replace")
    except OSError:
        # The file is not of this kernel, or the cgroup was removed meanwhile.
        return ""


def _number(directory: Path, name: str) -> int:
    text = _text(directory, name).strip()
    return int(text) if text.isdigit() else 0
