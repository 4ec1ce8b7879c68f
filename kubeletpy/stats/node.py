"""What the machine uses, from /proc and /sys; the calls block for a moment at most."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from kubeletpy_common.cgroups import PressureStats
from kubeletpy_common.cgroups.interfaces import parse_nested_keyed
from kubeletpy_common.cgroups.stats import pressure_stats

from . import processes
from .usage import Usage

_PROC = Path("/proc")
_HIDDEN = ("lo", "veth", "docker", "nerdctl")
"""Beginnings of the names of interfaces that are not the machine's own, as in cAdvisor."""


@dataclass(frozen=True, slots=True)
class Interface:
    """Counters of a network interface since it was made."""

    name: str
    rx_bytes: int
    rx_errors: int
    tx_bytes: int
    tx_errors: int


@dataclass(frozen=True, slots=True)
class Filesystem:
    """A file system, or what something uses of it; bytes and inodes; None where not known.

    Attributes:
        used, inodes_used: by what is measured.
    """

    capacity: int | None
    available: int | None
    inodes: int | None
    inodes_free: int | None
    used: int | None = None
    inodes_used: int | None = None


@dataclass(frozen=True, slots=True)
class NodeUsage:
    """The machine as a whole."""

    usage: Usage
    booted: float
    interfaces: tuple[Interface, ...]
    default_interface: str
    processes: int
    most_processes: int


def read_node(proc: Path = _PROC) -> NodeUsage:
    """Measure the machine.

    Raises:
        OSError: /proc cannot be read.
    """
    stat = (proc / "stat").read_text()
    memory = parse_meminfo((proc / "meminfo").read_text())
    faults = _pairs((proc / "vmstat").read_text())
    used = memory["MemTotal"] - memory["MemFree"]
    working_set = max(0, used - memory.get("Inactive(file)", 0))
    usage = Usage(
        time_ns=time.time_ns(),
        cpu_ns=cpu_time(stat),
        usage=used,
        working_set=working_set,
        rss=memory.get("AnonPages", 0),
        available=max(0, memory["MemTotal"] - working_set),
        faults=faults.get("pgfault", 0),
        major_faults=faults.get("pgmajfault", 0),
        swap=memory.get("SwapTotal", 0) - memory.get("SwapFree", 0),
        swap_available=memory.get("SwapFree", 0),
        pressure=_pressures(proc),
    )
    return NodeUsage(
        usage=usage,
        booted=float(_pairs(stat).get("btime", 0)),
        interfaces=parse_interfaces((proc / "net/dev").read_text()),
        default_interface=parse_default_route(_text(proc / "net/route")),
        processes=processes.running(proc),
        most_processes=processes.most(proc),
    )


def cpu_time(stat: str) -> int:
    """Return the CPU time of all cores that was not idle, in nanoseconds, of /proc/stat (pure)."""
    words = stat.split("\n", 1)[0].split()[1:]
    # user nice system idle iowait irq softirq steal; guests are in user and nice already.
    counted = [int(word) for word in words[:8]]
    busy = sum(counted) - counted[3] - counted[4]
    return busy * (1_000_000_000 // os.sysconf("SC_CLK_TCK"))


def parse_meminfo(text: str) -> dict[str, int]:
    """Return /proc/meminfo in bytes (pure)."""
    found = {}
    for line in text.splitlines():
        name, _, rest = line.partition(":")
        words = rest.split()
        if words and words[0].isdigit():
            found[name] = int(words[0]) * (1024 if words[1:] == ["kB"] else 1)
    return found


def parse_interfaces(text: str) -> tuple[Interface, ...]:
    """Return the machine's own interfaces of /proc/net/dev (pure)."""
    found = []
    for line in text.splitlines()[2:]:
        name, _, rest = line.partition(":")
        name, words = name.strip(), rest.split()
        if len(words) >= 11 and not name.startswith(_HIDDEN):
            numbers = [int(word) for word in words]
            found.append(Interface(name, numbers[0], numbers[2], numbers[8], numbers[10]))
    return tuple(found)


def parse_default_route(text: str) -> str:
    """Return the interface of the default route of /proc/net/route (pure); "" if there is none."""
    routes = [line.split() for line in text.splitlines()[1:]]
    defaults = [words for words in routes if len(words) > 7 and words[1] == words[7] == "00000000"]
    return min(defaults, key=lambda words: int(words[6]))[0] if defaults else ""


def filesystem(path: Path, used: int | None = None, inodes_used: int | None = None) -> Filesystem:
    """Measure the file system of ``path``.

    Args:
        path: on it.
        used, inodes_used: by what is asked about; None: by all that is on it.

    Raises:
        OSError: it cannot be measured.
    """
    found = os.statvfs(path)
    size = found.f_frsize
    if used is None:
        used = (found.f_blocks - found.f_bfree) * size
    if inodes_used is None:
        inodes_used = found.f_files - found.f_ffree
    return Filesystem(
        found.f_blocks * size,
        found.f_bavail * size,
        found.f_files,
        found.f_ffree,
        used,
        inodes_used,
    )


def disk_usage(path: Path) -> tuple[int, int]:
    """Return bytes and inodes of a tree, hard links counted once, other file systems left out.

    Raises:
        OSError: there is no such tree.
    """
    root = os.lstat(path)
    used, seen = root.st_blocks * 512, {root.st_ino}
    pending = [os.fspath(path)]
    while pending:
        try:
            with os.scandir(pending.pop()) as entries:
                listed = list(entries)
        except OSError:
            # It went away while it was counted.
            continue
        for entry in listed:
            try:
                found = entry.stat(follow_symlinks=False)
            except OSError:
                continue
            if found.st_dev != root.st_dev or found.st_ino in seen:
                continue
            seen.add(found.st_ino)
            used += found.st_blocks * 512
            if entry.is_dir(follow_symlinks=False):
                pending.append(entry.path)
    return used, len(seen)


def _pressures(proc: Path) -> Mapping[str, PressureStats]:
    found = {}
    for name in ("cpu", "memory", "io"):
        parsed = pressure_stats(parse_nested_keyed(_text(proc / "pressure" / name)))
        if parsed is not None:
            found[name] = parsed
    return found


def _pairs(text: str) -> dict[str, int]:
    pairs = (line.split() for line in text.splitlines())
    return {words[0]: int(words[1]) for words in pairs if len(words) == 2 and words[1].isdigit()}


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        # A kernel without it.
        return ""
