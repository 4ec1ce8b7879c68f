"""Facts of the machine that do not change while the daemon runs."""

from __future__ import annotations

import os
import re
import socket
from pathlib import Path

from kubeletpy_common.linux.processes import CAPABILITIES, last_capability
from runtime.oci.request import HostFacts

_LOWEST_OOM_SCORE_ADJ = -1000


def read_host_facts(cgroup_version: int) -> HostFacts:
    """Look at the machine.

    Raises:
        OSError: /proc cannot be read.
    """
    held = held_capabilities(Path("/proc/self/status").read_text(), last_capability())
    return HostFacts(
        hostname=socket.gethostname(),
        cgroup_version=cgroup_version,
        capabilities=held,
        selinux=Path("/sys/fs/selinux/enforce").exists(),
        apparmor=_enabled(Path("/sys/module/apparmor/parameters/enabled")),
        # Lowering the score needs this capability; containerd calls it restrict_oom_score_adj.
        lowest_oom_score_adj=_LOWEST_OOM_SCORE_ADJ
        if "CAP_SYS_RESOURCE" in held
        else int(Path("/proc/self/oom_score_adj").read_text()),
        machine=os.uname().machine,
        tmpfs_maps_ids=tmpfs_maps_ids(os.uname().release),
    )


def tmpfs_maps_ids(release: str) -> bool:
    """Whether a kernel mounts a tmpfs with mapped ids, by its release: from 6.3 on (pure)."""
    numbers = re.match(r"(\d+)\.(\d+)", release)
    return numbers is not None and (int(numbers[1]), int(numbers[2])) >= (6, 3)


def held_capabilities(status: str, last: int) -> tuple[str, ...]:
    """Return the capabilities that a process holds and may pass on (pure).

    Args:
        status: content of its /proc/PID/status.
        last: number of the last capability that the kernel knows.
    """
    sets = {}
    for line in status.splitlines():
        name, _, value = line.partition(":")
        if name in ("CapPrm", "CapBnd"):
            sets[name] = int(value, 16)
    held = sets.get("CapPrm", 0) & sets.get("CapBnd", 0)
    return tuple(name for name, n in CAPABILITIES.items() if n <= last and held >> n & 1)


def boot_id() -> str:
    """Return the id of this boot of the machine.

    Raises:
        OSError: /proc cannot be read.
    """
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def _enabled(path: Path) -> bool:
    try:
        return path.read_text().strip() == "Y"
    except OSError:
        return False
