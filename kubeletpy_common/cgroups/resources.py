"""Limits of a cgroup, independent of its version, and how they convert (pure)."""

from __future__ import annotations

import errno
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from kubeletpy_common.cgroups import rdma
from kubeletpy_common.cgroups.block_io import BlockIoLimits
from kubeletpy_common.cgroups.devices import DeviceRule
from kubeletpy_common.cgroups.errors import CgroupError
from kubeletpy_common.cgroups.rdma import RdmaLimit

UNLIMITED: Final = -1

_MIN_SHARES: Final = 2
_MAX_SHARES: Final = 262144
_MIN_WEIGHT: Final = 1
_MAX_WEIGHT: Final = 10000

_UNIFIED_KEY: Final = re.compile(r"[a-z0-9_]+(\.[A-Za-z0-9_]+)+")
_HUGE_PAGE_SIZE: Final = re.compile(r"[1-9][0-9]*[KMG]B")
# Settings of OCI that we would not honour: an error, never silently ignored. The kernel ignores
# kernel memory limits since 5.16, and is always hierarchical since 5.11, so `kernel`, `kernelTCP`
# and `useHierarchy` are no loss; `checkBeforeUpdate` concerns updates of v2 only.
_REFUSED: Final = (
    ("memory", "swappiness"),
    ("memory", "disableOOMKiller"),
    ("cpu", "burst"),
    ("cpu", "idle"),
    ("cpu", "realtimeRuntime"),
    ("cpu", "realtimePeriod"),
)
_REFUSED_WHOLE: Final = ("network",)


@dataclass(frozen=True)
class LinuxResources:
    """Limits to set; None leaves what is.

    Attributes:
        cpu_shares: relative weight on the scale of v1, 2 to 262144, default 1024.
        cpu_quota_us: CPU time per period in microseconds; -1 for no limit.
        cpu_period_us: length of a period in microseconds, 1000 to 1000000.
        cpuset_cpus, cpuset_mems: lists like ``0-3,8``.
        memory_limit: bytes; -1 for no limit.
        memory_swap: bytes of memory *and* swap together (as OCI and v1 count); -1 for no limit.
        memory_low: bytes that are reclaimed last (v1: the soft limit).
        memory_high: bytes above which the cgroup is slowed down (v2 only); -1 for no limit.
        pids_limit: how many processes and threads; -1 for no limit.
        block_io: weights and limits of block devices.
        hugepages: bytes per page size, such as ``{"2MB": 0}``.
        rdma: of RDMA devices, by name.
        devices: the whole list of rules, see :class:`DevicePolicy`; what none grants is denied.
        unified: files of v2 by name with the text to write, on top of all others.
    """

    cpu_shares: int | None = None
    cpu_quota_us: int | None = None
    cpu_period_us: int | None = None
    cpuset_cpus: str | None = None
    cpuset_mems: str | None = None
    memory_limit: int | None = None
    memory_swap: int | None = None
    memory_low: int | None = None
    memory_high: int | None = None
    pids_limit: int | None = None
    block_io: BlockIoLimits | None = None
    hugepages: Mapping[str, int] = field(default_factory=dict)
    rdma: Mapping[str, RdmaLimit] = field(default_factory=dict)
    devices: tuple[DeviceRule, ...] | None = None
    unified: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_oci(cls, resources: Mapping[str, Any]) -> LinuxResources:
        """Read ``linux.resources`` of the OCI runtime specification 1.2 (config-linux.md).

        As for runc, 0 means "not set" for shares, quota, period, memory and pids limits.

        Raises:
            CgroupError: (EOPNOTSUPP) a setting that we cannot honour; (EINVAL) a bad value.
        """
        _refuse(resources)
        memory, cpu = resources.get("memory") or {}, resources.get("cpu") or {}
        devices = resources.get("devices")
        rules = None if devices is None else tuple(map(DeviceRule.from_oci, devices))
        result = cls(
            cpu_shares=cpu.get("shares") or None,
            cpu_quota_us=cpu.get("quota") or None,
            cpu_period_us=cpu.get("period") or None,
            cpuset_cpus=cpu.get("cpus") or None,
            cpuset_mems=cpu.get("mems") or None,
            memory_limit=memory.get("limit") or None,
            memory_swap=memory.get("swap") or None,
            memory_low=memory.get("reservation") or None,
            pids_limit=(resources.get("pids") or {}).get("limit") or None,
            block_io=BlockIoLimits.from_oci(resources.get("blockIO") or {}),
            hugepages={h["pageSize"]: h["limit"] for h in resources.get("hugepageLimits") or ()},
            rdma=rdma.from_oci(resources.get("rdma") or {}),
            devices=rules,
            unified=dict(resources.get("unified") or {}),
        )
        result.check()
        return result

    def check(self) -> None:
        """Check what can be checked without a kernel.

        Raises:
            CgroupError: (EINVAL) a negative number other than -1, a page size or a key of
                ``unified`` that is no name of a control file, memory+swap below memory.
        """
        for name, value in vars(self).items():
            if isinstance(value, int) and value < UNLIMITED:
                raise _bad(name, value, "it is negative", "use -1 for no limit")
        for size, limit in self.hugepages.items():
            if not _HUGE_PAGE_SIZE.fullmatch(size) or limit < 0:
                raise _bad(f"hugepages {size!r}", limit, "not a page size with a limit in bytes")
        for key, text in self.unified.items():
            check_unified(key, text)
        swap_max(self.memory_limit, self.memory_swap)


def shares_to_weight(shares: int) -> int:
    """Convert CPU shares of v1 (2 to 262144) to the weight of v2 (1 to 10000).

    The quadratic formula of runc 1.3.2 (opencontainers/cgroups PR 20, "ConvertCPUSharesToCgroup
    V2Value: improve"), crun 1.23 and the kubelet 1.35, described in the Kubernetes blog of
    2026-01-30, "New Conversion from cgroup v1 CPU Shares to v2 CPU Weight": it maps minimum,
    default and maximum of one scale to those of the other (2: 1, 1024: 100, 262144: 10000).
    """
    if shares <= _MIN_SHARES:
        return _MIN_WEIGHT
    if shares >= _MAX_SHARES:
        return _MAX_WEIGHT
    logarithm = math.log2(shares)
    exponent = (logarithm * logarithm + 125 * logarithm) / 612 - 7 / 34
    return math.ceil(10**exponent)


def swap_max(memory_limit: int | None, memory_swap: int | None) -> int | None:
    """Return the bytes of swap alone, as v2 counts; -1 for no limit, None to leave it.

    An unlimited memory without a word about swap frees the swap as well, as on v1, where the
    kernel keeps memory <= memory+swap.

    Raises:
        CgroupError: (EINVAL) memory+swap is below memory, or given without a limit of memory.
    """
    if memory_swap is None:
        return UNLIMITED if memory_limit == UNLIMITED else None
    if memory_swap == UNLIMITED:
        return UNLIMITED
    if memory_limit is None:
        reason = "memory+swap without a memory limit has no meaning"
        raise _bad("memory_swap", memory_swap, reason, "give both")
    if memory_limit == UNLIMITED:
        return memory_swap
    if memory_swap < memory_limit:
        reason = f"it counts memory and swap together, and memory alone is {memory_limit}"
        raise _bad("memory_swap", memory_swap, reason, "raise it, or use -1 for no limit")
    return memory_swap - memory_limit


def check_unified(key: str, text: str) -> None:
    """Check one entry of ``unified``.

    Raises:
        CgroupError: (EINVAL) ``key`` is not the bare name of a control file, is one of the files
            that move, freeze or kill processes, or the text holds a NUL.
    """
    if not _UNIFIED_KEY.fullmatch(key):
        raise _bad("unified", key, "not the name of a control file", "name it like memory.high")
    if key.startswith("cgroup."):
        reason = "files of the cgroup core are the runtime's own"
        raise _bad("unified", key, reason, "name a file of a controller")
    if not isinstance(text, str) or "\0" in text:
        raise _bad(f"unified {key}", text, "not a text that a control file takes")


def _refuse(resources: Mapping[str, Any]) -> None:
    found = [
        f"{section}.{name}"
        for section, name in _REFUSED
        if (resources.get(section) or {}).get(name) not in (None, False)
    ]
    found += [name for name in _REFUSED_WHOLE if resources.get(name)]
    if found:
        raise CgroupError(
            errno.EOPNOTSUPP,
            "linux.resources",
            f"cannot honour {', '.join(found)}",
            "not supported yet",
            "leave it out; on cgroup v2 `unified` can set any control file",
        )


def _bad(name: str, value: object, reason: str, remedy: str = "correct it") -> CgroupError:
    return CgroupError(errno.EINVAL, "resources", f"{name} = {value!r} is refused", reason, remedy)
