"""What /proc tells of a container's processes; processes end while one looks, which is no error."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterable
from dataclasses import dataclass

_MAX_PROCESSES = 1000
"""More are not looked at one by one: a fork bomb must not occupy a thread of ours."""


@dataclass(frozen=True)
class ProcessFacts:
    """Of all processes of a container.

    Attributes:
        processes: how many. descriptors: open ones. sockets: those that are sockets.
        open_files_limit: soft RLIMIT_NOFILE of the first process, None if it has ended.
    """

    processes: int
    descriptors: int
    sockets: int
    open_files_limit: int | None


def read_process_facts(pids: Iterable[int], first: int) -> ProcessFacts:
    """Look at the processes ``pids``; ``first`` is the container's first one, 0 for none."""
    listed = list(pids)
    descriptors = sockets = 0
    for pid in listed[:_MAX_PROCESSES]:
        found = _descriptors(pid)
        descriptors += len(found)
        sockets += sum(target.startswith("socket:") for target in found)
    return ProcessFacts(len(listed), descriptors, sockets, _open_files_limit(first))


def _descriptors(pid: int) -> list[str]:
    directory = f"/proc/{pid}/fd"
    found = []
    try:
        for name in os.listdir(directory):
            try:
                found.append(os.readlink(f"{directory}/{name}"))
            except OSError:
                continue
    except OSError:
        pass
    return found


def _open_files_limit(pid: int) -> int | None:
    if not pid:
        return None
    try:
        soft, _ = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    except OSError:
        return None
    return soft
