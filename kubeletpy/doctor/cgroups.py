"""Cgroups: version, mixture of versions, missing controllers, domains that may hold nothing.

Sources: Documentation/admin-guide/cgroup-v2.rst ("Threads", "Cpuset"), kernel-parameters.txt.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kubeletpy.doctor.finding import Finding, error, fine, warning
from kubeletpy.doctor.looking import text, word
from kubeletpy.doctor.purpose import Purpose
from kubeletpy_common import cgroups
from kubeletpy_common.cgroups.detection import cgroup_mounts

_ROOT: Final = Path("/sys/fs/cgroup")
# Where pods' cgroups are, by either driver; what is above or beside them is not ours to judge.
_PODS: Final = ("", "kubepods", "kubepods.slice", "kubeletpy", "kubeletpy.slice")
_GRUB: Final = "add {0} to GRUB_CMDLINE_LINUX in /etc/default/grub, then: update-grub && reboot"
_PI: Final = (
    "sed -i '1s/$/ {0}/' /boot/firmware/cmdline.txt && reboot (before Debian 12: /boot/cmdline.txt)"
)
_PI_MEMORY: Final = "cgroup_enable=memory cgroup_memory=1"
_UNIFIED: Final = "systemd.unified_cgroup_hierarchy=1"


@dataclass(frozen=True)
class Facts:
    """What there is of cgroups.

    Attributes:
        version: 1 or 2; 0 if there are none.
        unified_too: v2 is mounted beside v1.
        controllers: those that can be used.
        missing: those that a node needs and that are not there.
        command_line: the kernel's parameters.
        board: the machine's model where a device tree tells it.
        types: of the cgroups that hold pods, by path: content of ``cgroup.type``.
        partitions: likewise ``cpuset.cpus.partition``.
        writable: the file system can be written to.
        problem: why none can be used; with ``remedy``.
    """

    version: int
    unified_too: bool = False
    controllers: frozenset[str] = frozenset()
    missing: tuple[str, ...] = ()
    command_line: str = ""
    board: str = ""
    types: tuple[tuple[str, str], ...] = ()
    partitions: tuple[tuple[str, str], ...] = ()
    writable: bool = True
    problem: str = ""
    remedy: str = ""


def look(purpose: Purpose) -> list[Finding]:
    """Look at this machine."""
    return judge(gather())


def gather() -> Facts:
    """Read the facts."""
    mountinfo = text("/proc/self/mountinfo") or ""
    command_line, board = word("/proc/cmdline"), word("/proc/device-tree/model").strip("\0")
    try:
        hierarchy = cgroups.detect()
        controllers = frozenset(hierarchy.controllers())
        missing = tuple(one.name for one in cgroups.missing_controllers(hierarchy))
    except (cgroups.CgroupError, OSError) as reason:
        remedy = getattr(reason, "remedy", f"mount -t cgroup2 cgroup2 {_ROOT}")
        return Facts(0, problem=str(reason), remedy=remedy, command_line=command_line, board=board)
    kinds = {mount.kind for mount in cgroup_mounts(mountinfo)}
    return Facts(
        version=hierarchy.version,
        unified_too=hierarchy.version == 1 and "cgroup2" in kinds,
        controllers=controllers,
        missing=missing,
        types=_contents("cgroup.type") if hierarchy.version == 2 else (),
        partitions=_contents("cpuset.cpus.partition") if hierarchy.version == 2 else (),
        writable=writable(mountinfo),
        command_line=command_line,
        board=board,
    )


def _contents(name: str) -> tuple[tuple[str, str], ...]:
    found = ((f"/{group}", word(_ROOT / group / name)) for group in _PODS)
    return tuple((group, content) for group, content in found if content)


def writable(mountinfo: str) -> bool:
    """Return whether all mounted cgroup file systems can be written to (pure; proc(5))."""
    for line in mountinfo.splitlines():
        left, _, right = line.partition(" - ")
        if right.split(" ")[0] not in ("cgroup", "cgroup2"):
            continue
        # The mount's own options, and those of the file system.
        if "ro" in left.split(" ")[5].split(",") or "ro" in right.split(" ")[-1].split(","):
            return False
    return True


def judge(facts: Facts) -> list[Finding]:
    """Return what the facts mean (pure)."""
    if not facts.version:
        return [error("cgroup version", facts.problem, "runtime, kubelet", facts.remedy)]
    return [_version(facts), _controllers(facts), _domains(facts), _partitions(facts),
            _access(facts)]  # fmt: skip


def _version(facts: Facts) -> Finding:
    if facts.version == 2:
        return fine("cgroup version", "v2", "kubelet")
    mixed = " (hybrid: v2 is mounted beside it, without controllers)" if facts.unified_too else ""
    found = (
        f"v1{mixed}, which Kubernetes deprecates: no memory.high, no pressure figures, "
        "no systemd driver"
    )
    return warning("cgroup version", found, "kubelet", _parameter(facts, _UNIFIED))


def _controllers(facts: Facts) -> Finding:
    if not facts.missing:
        listed = " ".join(sorted(facts.controllers))
        return fine("cgroup controllers", listed, "runtime, kubelet")
    found = f"v{facts.version} without {', '.join(facts.missing)}"
    disabled = [name for name in facts.missing if f"cgroup_disable={name}" in facts.command_line]
    if disabled:
        found += f"; the kernel was started with cgroup_disable={','.join(disabled)}"
    return error("cgroup controllers", found, "runtime, kubelet", _enable(facts))


def _enable(facts: Facts) -> str:
    """Return how the missing controllers are got."""
    if "Raspberry Pi" in facts.board and "memory" in facts.missing:
        return _PI.format(_PI_MEMORY)  # its firmware adds cgroup_disable=memory by itself
    parameters = [f"cgroup_enable={name}" for name in facts.missing]
    taken = "remove cgroup_disable= and "
    remedy = _parameter(facts, " ".join(parameters))
    if "cgroup_disable=" in facts.command_line:
        remedy = taken + remedy
    if facts.version == 2:
        remedy += (
            "; where v1 has taken them: cgroup_no_v1=all; in a container: its manager is to "
            "delegate them (systemd: Delegate=yes)"
        )
        return remedy
    mounts = " && ".join(
        f"mkdir -p {_ROOT}/{name} && mount -t cgroup -o {name} cgroup {_ROOT}/{name}"
        for name in facts.missing
    )
    return f"{mounts}; if the kernel has them not: {remedy}"


def _domains(facts: Facts) -> Finding:
    bad = [f"{path} is `{kind}`" for path, kind in facts.types if kind != "domain"]
    if not bad:
        return fine("cgroup domains", "pods' cgroups can hold processes", "runtime")
    remedy = (
        "start it in a cgroup of its own (systemd-run --scope -p Delegate=yes COMMAND); a cgroup "
        "that is threaded stays so until it is removed"
    )
    found = f"{'; '.join(bad)}: no memory limit and no container can be below it"
    return error("cgroup domains", found, "runtime", remedy)


def _partitions(facts: Facts) -> Finding:
    bad = [f"{path} is `{kind}`" for path, kind in facts.partitions if "invalid" in kind]
    if not bad:
        return fine("cpuset partitions", "none is invalid", "kubelet")
    remedy = "cat /sys/fs/cgroup/*/cpuset.cpus.partition, and give the CPUs back: echo member > ..."
    return warning("cpuset partitions", "; ".join(bad), "kubelet", remedy)


def _access(facts: Facts) -> Finding:
    if facts.writable:
        return fine("cgroups writable", "yes", "runtime, kubelet")
    remedy = f"mount -o remount,rw {_ROOT} (or that below it); start a container with --privileged"
    return error("cgroups writable", "mounted read-only", "runtime, kubelet", remedy)


def _parameter(facts: Facts, parameter: str) -> str:
    if "Raspberry Pi" in facts.board:
        return _PI.format(parameter)
    return _GRUB.format(parameter)
