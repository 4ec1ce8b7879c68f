"""Processes of the machine: whose they are, by what they were started with."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

# Modules of ours that are daemons, as they are named behind `python -m`.
_OURS: Final = (
    "kubeletpy.kubelet_main", "runtime", "controlplane", "proxy", "runtime.shim", "kubeletpy",
)  # fmt: skip


@dataclass(frozen=True)
class Process:
    """A process: its id, its name (15 characters at most), and its command line."""

    pid: int
    name: str
    arguments: tuple[str, ...]

    @property
    def ours(self) -> bool:
        """Whether it is one of kubeletpy's (pure)."""
        if self.name.startswith("kubeletpy"):
            return True
        words = self.arguments
        modules = (words[i + 1] for i, one in enumerate(words[:-1]) if one == "-m")
        if any(
            module.startswith(f"{one}.") or module == one for module in modules for one in _OURS
        ):
            return True
        return any(Path(one).name == "kubeletpy" for one in words[:2])

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid})"


def processes() -> Iterator[Process]:
    """Yield the processes of this PID namespace, without the kernel's own."""
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        with contextlib.suppress(OSError):
            directory = Path("/proc", entry)
            words = (directory / "cmdline").read_bytes().decode(errors="replace").split("\0")
            if words[0]:
                name = (directory / "comm").read_text(errors="replace").strip()
                yield Process(int(entry), name, tuple(words))


def holders(inodes: Iterable[int]) -> dict[int, Process]:
    """Return which process has each socket, by its inode; those of others need root."""
    wanted = {f"socket:[{inode}]": inode for inode in inodes if inode}
    found: dict[int, Process] = {}
    if not wanted:
        return found
    for process in processes():
        with contextlib.suppress(OSError):
            for descriptor in os.scandir(f"/proc/{process.pid}/fd"):
                with contextlib.suppress(OSError):
                    inode = wanted.get(os.readlink(descriptor.path))
                    if inode is not None:
                        found.setdefault(inode, process)
        if len(found) == len(wanted):
            break
    return found
