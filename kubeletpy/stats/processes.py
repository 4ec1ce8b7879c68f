"""What single processes use, which cgroup they are in, and how many there are and may be."""

from __future__ import annotations

import os
import socket
import struct
import time
from pathlib import Path

from .usage import Usage

_PROC = Path("/proc")


def read_process(pid: int, proc: Path = _PROC) -> Usage | None:
    """Return CPU time and resident memory of a process; None if there is none."""
    if pid <= 0:
        return None
    try:
        stat = (proc / str(pid) / "stat").read_text()
        pages = int((proc / str(pid) / "statm").read_text().split()[1])
    except OSError:
        return None
    # The name, in parentheses, may hold anything.
    words = stat.rpartition(")")[2].split()
    ticks = int(words[11]) + int(words[12])
    resident = pages * os.sysconf("SC_PAGE_SIZE")
    return Usage(
        time_ns=time.time_ns(),
        cpu_ns=ticks * (1_000_000_000 // os.sysconf("SC_CLK_TCK")),
        usage=resident,
        working_set=resident,
        rss=resident,
        faults=int(words[7]) + int(words[9]),
        major_faults=int(words[9]),
    )


def cgroup_of_process(pid: int, proc: Path = _PROC) -> str:
    """Return the cgroup of a process that counts its memory; "" for none, or for the root."""
    if pid <= 0:
        return ""
    try:
        lines = (proc / str(pid) / "cgroup").read_text().splitlines()
    except OSError:
        return ""
    paths: dict[str, str] = {}
    for line in lines:
        _, controllers, path = line.split(":", 2)
        for controller in controllers.split(","):
            paths[controller] = path
    found = paths.get("memory", paths.get("", ""))
    return "" if found == "/" or found.startswith("/..") else found


def peer_of(endpoint: str) -> int:
    """Return the process that listens on a Unix socket; 0 if that cannot be told."""
    path = endpoint.removeprefix("unix://").removeprefix("unix:")
    try:
        with socket.socket(socket.AF_UNIX) as asker:
            asker.settimeout(1.0)
            asker.connect(path)
            raw = asker.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    except OSError:
        return 0
    return int(struct.unpack("3i", raw)[0])


def running(proc: Path = _PROC) -> int:
    """Return how many processes and threads the machine has, of proc_loadavg(5).

    Raises:
        OSError: the kernel does not tell.
    """
    return int((proc / "loadavg").read_text().split()[3].partition("/")[2])


def most(proc: Path = _PROC) -> int:
    """Return how many there can be: whichever of the two limits is the smaller one.

    A PID namespace may have a ``pid_max`` of its own, above the machine's ``threads-max``.

    Raises:
        OSError: the kernel does not tell.
    """
    limits = (proc / "sys/kernel" / name for name in ("pid_max", "threads-max"))
    return min(int(path.read_text()) for path in limits)
