"""Limits of a pod's cgroup as the kernel has them."""

from __future__ import annotations

from pathlib import Path

from kubeletpy_common.cgroups import Cgroup, CgroupError, shares_to_weight
from kubeletpy_common.cgroups.interfaces import Bandwidth
from kubeletpy_common.cgroups.systemd.properties import rounded

from .limits import Limits

_NO_LIMIT_FROM = 1 << 62
"""cgroup v1 writes "no limit" as a huge number."""


def read_limits(
    cgroup: Cgroup, version: int, wanted: Limits, *, whole_percents: bool = False
) -> Limits | None:
    """Return shares, quota, period and memory limit of a cgroup; None if it is gone.

    Args:
        cgroup: of a pod.
        version: of the cgroups.
        wanted: what it shall have: on v2 a weight stands for several numbers of shares, so where
            the weight is the one wanted, so are the shares.
        whole_percents: the driver rounds a quota, as systemd does; where it is the one wanted
            rounded, it is the one wanted.
    """
    try:
        cpu, memory = (cgroup.controller_directory(name) for name in ("cpu", "memory"))
        if cpu is None or memory is None:
            return None
        return _v1(cpu, memory) if version == 1 else _v2(cpu, memory, wanted, whole_percents)
    except (OSError, ValueError, CgroupError):
        return None


def _v1(cpu: Path, memory: Path) -> Limits:
    quota = _number(cpu / "cpu.cfs_quota_us")
    limit = _number(memory / "memory.limit_in_bytes")
    return Limits(
        cpu_shares=_number(cpu / "cpu.shares"),
        cpu_quota_us=quota if quota > 0 else None,
        cpu_period_us=_number(cpu / "cpu.cfs_period_us"),
        memory_bytes=limit if limit < _NO_LIMIT_FROM else None,
    )


def _v2(cpu: Path, memory: Path, wanted: Limits, whole_percents: bool) -> Limits:
    quota, period = (cpu / "cpu.max").read_text().split()
    found = None if quota == "max" else int(quota)
    if whole_percents and wanted.cpu_quota_us and wanted.cpu_quota_us > 0:
        asked = Bandwidth(wanted.cpu_quota_us, int(period))
        if found == rounded(asked).quota_us:
            found = wanted.cpu_quota_us
    limit = (memory / "memory.max").read_text().strip()
    weight = _number(cpu / "cpu.weight")
    same = weight == shares_to_weight(wanted.cpu_shares)
    return Limits(
        cpu_shares=wanted.cpu_shares if same else shares_of_weight(weight),
        cpu_quota_us=found,
        cpu_period_us=int(period),
        memory_bytes=None if limit == "max" else int(limit),
    )


def shares_of_weight(weight: int) -> int:
    """Return the least shares that convert to a weight of cgroup v2 (pure)."""
    low, high = 2, 262144
    while low < high:
        middle = (low + high) // 2
        if shares_to_weight(middle) < weight:
            low = middle + 1
        else:
            high = middle
    return low


def _number(path: Path) -> int:
    return int(path.read_text())
