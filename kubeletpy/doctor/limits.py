"""Limits on what is open, watched and running."""

from __future__ import annotations

import resource
from dataclasses import dataclass
from typing import Final

from kubeletpy.doctor.finding import Finding, error, fine, warning
from kubeletpy.doctor.looking import word
from kubeletpy.doctor.purpose import Purpose

# A pod of one container takes about ten descriptors of runtime and kubelet together.
_FILES: Final = (1024, 4096)
_INSTANCES: Final = (32, 128)
_WATCHES: Final = (1024, 8192)
_PROCESSES: Final = (4096, 32768)


@dataclass(frozen=True)
class Facts:
    """The limits; None where the kernel does not tell.

    Attributes:
        files: open files of a process, the hard limit; -1 for none.
        inotify_instances: of one user.
        inotify_watches: of one user.
        pid_max: processes and threads of the machine.
    """

    files: int
    inotify_instances: int | None
    inotify_watches: int | None
    pid_max: int | None


def look(purpose: Purpose) -> list[Finding]:
    """Look at this machine."""
    return judge(gather(), purpose)


def gather() -> Facts:
    """Read the facts."""
    return Facts(
        files=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        inotify_instances=_number("/proc/sys/fs/inotify/max_user_instances"),
        inotify_watches=_number("/proc/sys/fs/inotify/max_user_watches"),
        pid_max=_number("/proc/sys/kernel/pid_max"),
    )


def _number(path: str) -> int | None:
    value = word(path)
    return int(value) if value.isdigit() else None


def judge(facts: Facts, purpose: Purpose) -> list[Finding]:
    """Return what the facts mean (pure)."""
    return [
        _files(facts, purpose),
        _sysctl("inotify instances", "fs.inotify.max_user_instances", facts.inotify_instances,
                _INSTANCES, 1024),
        _sysctl("inotify watches", "fs.inotify.max_user_watches", facts.inotify_watches,
                _WATCHES, 524288),
        _sysctl("process ids", "kernel.pid_max", facts.pid_max, _PROCESSES, 4194304),
    ]  # fmt: skip


def _files(facts: Facts, purpose: Purpose) -> Finding:
    if purpose.installed:
        return fine("open files", "set by the units (LimitNOFILE)", "runtime")
    least, wanted = _FILES
    if facts.files < 0 or facts.files >= wanted:
        return fine("open files", f"up to {'any' if facts.files < 0 else facts.files}", "runtime")
    remedy = "ulimit -Hn 1048576 as root, or LimitNOFILE=1048576 in the unit that starts it"
    kind = error if facts.files < least else warning
    return kind("open files", f"{facts.files} at most: few pods will run", "runtime", remedy)


def _sysctl(
    name: str, key: str, value: int | None, thresholds: tuple[int, int], better: int
) -> Finding:
    least, wanted = thresholds
    if value is None or value >= wanted:
        return fine(name, "not told" if value is None else f"up to {value}", "kubelet")
    kept = f"echo {key}={better} >> /etc/sysctl.d/99-kubeletpy.conf"
    remedy = f"sysctl -w {key}={better}; to keep it: {kept}"
    kind = error if value < least else warning
    return kind(name, f"{key} is {value}: few pods will run", "kubelet", remedy)
