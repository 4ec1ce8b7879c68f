"""What runs first, memory, swap."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from kubeletpy.doctor.finding import Finding, error, fine, warning
from kubeletpy.doctor.looking import text, word
from kubeletpy.doctor.purpose import Purpose

_KUBELET_FILE: Final = "/etc/kubeletpy/kubelet.yaml"


@dataclass(frozen=True)
class Facts:
    """What there is of the machine.

    Attributes:
        init: name of PID 1.
        systemd: it is systemd, by sd_booted(3).
        virtualization: in a container, what runs it; "" outside.
        memory: bytes of memory.
        swap: files and devices that are swapped to.
        fail_swap_on: what the installed kubelet's file says; None if it says nothing.
        swap_behavior: likewise, of memorySwap.
    """

    init: str
    systemd: bool
    virtualization: str
    memory: int
    swap: tuple[str, ...] = ()
    fail_swap_on: bool | None = None
    swap_behavior: str = ""


def look(purpose: Purpose) -> list[Finding]:
    """Look at this machine."""
    return judge(gather(), purpose)


def gather() -> Facts:
    """Read the facts."""
    fail, behavior = kubelet_swap(text(_KUBELET_FILE) or "")
    return Facts(
        init=word("/proc/1/comm"),
        systemd=Path("/run/systemd/system").is_dir(),
        virtualization=container_manager(text("/proc/1/environ") or ""),
        memory=memory_bytes(text("/proc/meminfo") or ""),
        swap=swaps(text("/proc/swaps") or ""),
        fail_swap_on=fail,
        swap_behavior=behavior,
    )


def container_manager(environ: str) -> str:
    """Return what PID 1 was told of its container, by systemd's CONTAINER_INTERFACE (pure)."""
    for entry in environ.split("\0"):
        if entry.startswith("container="):
            return entry.removeprefix("container=")
    return ""


def memory_bytes(meminfo: str) -> int:
    """Return MemTotal of /proc/meminfo (pure)."""
    for line in meminfo.splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) << 10
    return 0


def swaps(listed: str) -> tuple[str, ...]:
    """Return the names in /proc/swaps (pure)."""
    return tuple(line.split()[0] for line in listed.splitlines()[1:] if line.strip())


def kubelet_swap(document: str) -> tuple[bool | None, str]:
    """Return ``failSwapOn`` and ``memorySwap.swapBehavior`` of a KubeletConfiguration (pure)."""
    try:
        loaded = yaml.safe_load(document)
    except yaml.YAMLError:
        return None, ""
    if not isinstance(loaded, dict):
        return None, ""
    fail, memory_swap = loaded.get("failSwapOn"), loaded.get("memorySwap")
    behavior = memory_swap.get("swapBehavior", "") if isinstance(memory_swap, dict) else ""
    return (fail if isinstance(fail, bool) else None), str(behavior or "")


def judge(facts: Facts, purpose: Purpose) -> list[Finding]:
    """Return what the facts mean (pure)."""
    return [_init(facts, purpose), _memory(facts, purpose), _swap(facts)]


def _init(facts: Facts, purpose: Purpose) -> Finding:
    place = f", in a container of {facts.virtualization}" if facts.virtualization else ""
    found = f"PID 1 is {facts.init or 'unknown'}{place}"
    if facts.systemd:
        return fine("systemd", found, "kubeletpy install")
    if not purpose.installed:
        said = f"{found}: not needed, `kubeletpy up` keeps its daemons itself"
        return fine("systemd", said, "kubeletpy install")
    remedy = (
        "boot with systemd as PID 1 (Debian: apt-get install systemd-sysv, then reboot); without "
        "it start the daemons yourself: kubeletpy runtime, kubeletpy kubelet, kubeletpy proxy"
    )
    return error("systemd", f"{found}, not systemd", "kubeletpy install", remedy)


def _memory(facts: Facts, purpose: Purpose) -> Finding:
    found = f"{facts.memory >> 20} MiB"
    if not facts.memory:
        remedy = "mount -t proc proc /proc"
        return error("memory", "/proc/meminfo tells nothing", "kubelet", remedy)
    if facts.memory < purpose.memory_needed:
        needed = f"give the machine {purpose.memory_needed >> 20} MiB of memory or more"
        return error("memory", found, purpose.name, needed)
    if facts.memory < purpose.memory_wanted:
        wanted = f"give the machine {purpose.memory_wanted >> 20} MiB of memory or more"
        return warning("memory", f"{found}: few pods will fit", purpose.name, wanted)
    return fine("memory", found, purpose.name)


def _swap(facts: Facts) -> Finding:
    if not facts.swap:
        return fine("swap", "off", "kubelet")
    listed = ", ".join(facts.swap)
    if facts.fail_swap_on:
        remedy = (
            "swapoff -a, and remove the swap lines of /etc/fstab; or set failSwapOn: false in "
            f"{_KUBELET_FILE}"
        )
        found = f"on ({listed}), and failSwapOn is true: the kubelet does not start"
        return error("swap", found, "kubelet", remedy)
    use = "as much as their limits allow" if facts.swap_behavior == "LimitedSwap" else "none of it"
    return fine("swap", f"on ({listed}); pods use {use}", "kubelet")
