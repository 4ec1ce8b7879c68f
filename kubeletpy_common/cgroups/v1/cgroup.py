"""Cgroups on a machine whose controllers are on v1, or partly unused on v2 beside it (hybrid)."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from kubeletpy_common.cgroups import killing, paths, rdma
from kubeletpy_common.cgroups.base import Cgroup
from kubeletpy_common.cgroups.devices import DevicePolicy
from kubeletpy_common.cgroups.errors import CgroupError
from kubeletpy_common.cgroups.interfaces import ControlFiles
from kubeletpy_common.cgroups.resources import UNLIMITED, LinuxResources
from kubeletpy_common.cgroups.stats import (
    CgroupStats,
    CpuStats,
    MemoryStats,
    PidsStats,
    memory_stats,
    v1_limit,
)
from kubeletpy_common.cgroups.v1 import controllers as files
from kubeletpy_common.cgroups.v2.cgroup import kill_at_once, read_pressure

REQUIRED: Final = ("cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "pids")
USED: Final = (*REQUIRED, "blkio", "hugetlb", "rdma")
_FREEZE_READS: Final = 20


class CgroupsV1:
    """The hierarchies of cgroup v1.

    Args:
        controllers: mount point of the hierarchy of each controller; several may share one.
        named: mount point of ``name=systemd``, if there is one. Joining it takes containers out of
            the daemon's own unit, so that systemd does not kill them when it stops the daemon.
        unified: mount point of v2 beside v1, if there is one. It limits nothing here, but its
            ``cgroup.kill`` kills a fork bomb in one step, it tells by an event when a cgroup is
            empty, and it has the pressure files.
    """

    version: Final = 1

    def __init__(
        self,
        controllers: Mapping[str, Path],
        named: Path | None = None,
        unified: Path | None = None,
    ) -> None:
        self.roots = {name: root for name, root in controllers.items() if name in USED}
        self.named = named
        self.unified = unified

    def __repr__(self) -> str:
        return f"CgroupsV1({', '.join(self.roots)})"

    def cgroup(self, path: str) -> CgroupV1:
        """Return the cgroup of ``path``; raises CgroupError if it is invalid."""
        return CgroupV1(self, path)

    def controllers(self) -> frozenset[str]:
        """Return the controllers that are mounted."""
        return frozenset(self.roots)


class CgroupV1(Cgroup):
    """A cgroup with the same path in every hierarchy."""

    def __init__(self, hierarchy: CgroupsV1, path: str) -> None:
        super().__init__(path)
        self._roots = hierarchy.roots
        self._unified = self._below(hierarchy.unified)
        roots = [*hierarchy.roots.values(), hierarchy.named, hierarchy.unified]
        # Controllers can share a hierarchy (cpu,cpuacct): each directory once.
        self._all_roots = list(dict.fromkeys(root for root in roots if root is not None))

    def _below(self, root: Path | None) -> Path | None:
        return None if root is None else root.joinpath(*self._components)

    def _directory(self, controller: str) -> Path:
        directory = self._below(self._roots.get(controller))
        if directory is None:
            action = f"cannot use the controller {controller}"
            remedy = f"mount it, `mount -t cgroup -o {controller} cgroup <directory>`"
            raise CgroupError(errno.ENOENT, self.path, action, "it is not mounted", remedy)
        return directory

    def directories(self) -> list[Path]:
        """Return the directory in each hierarchy, ``name=systemd`` and v2 included."""
        return [root.joinpath(*self._components) for root in self._all_roots]

    def controller_directory(self, controller: str) -> Path | None:
        """Return the directory in the controller's hierarchy; see :class:`Cgroup`."""
        return self._below(self._roots.get(controller))

    def create(self) -> None:
        """Make the cgroup in every hierarchy; new cpusets start with all that their parent has."""
        made: list[Path] = []
        try:
            for root in self._all_roots:
                own = root.joinpath(*self._components)
                cpuset = root == self._roots.get("cpuset")
                # Mostly the parents are there, and need no look at each of them.
                # In cpuset somebody else may have made them, but not yet filled.
                ready = len(self._components) > 1 and own.parent.is_dir()
                if ready and (not cpuset or _is_filled(own.parent)):
                    lineage = [own]
                else:
                    lineage = paths.lineage(root, self._components)
                for directory in lineage:
                    if paths.make(directory):
                        made.append(directory)
                    if cpuset:
                        _inherit_cpuset(directory)
        except CgroupError:
            for directory in reversed(made):
                try:
                    os.rmdir(directory)
                except OSError:
                    pass  # somebody uses it by now; the first failure is what counts
            raise

    def apply(self, resources: LinuxResources) -> None:
        """Set limits by the files of v1; see :meth:`Cgroup.apply`."""
        resources.check()
        if resources.unified or resources.memory_high is not None:
            reason = "memory.high and `unified` are of cgroup v2, this machine limits by v1"
            remedy = "leave them out, or boot with systemd.unified_cgroup_hierarchy=1"
            raise CgroupError(errno.EOPNOTSUPP, self.path, "cannot limit", reason, remedy)
        self._apply_cpu(resources)
        self._apply_memory(resources)
        if resources.pids_limit is not None:
            limit = None if resources.pids_limit == UNLIMITED else resources.pids_limit
            files.Pids(self._directory("pids")).max = limit
        self._apply_hugepages(resources)
        if resources.block_io is not None:
            control = ControlFiles(self._directory("blkio"))
            for name, text in resources.block_io.v1_writes(control.has):
                control.set_property(name, text)
        rdma.apply(self.controller_directory("rdma"), resources.rdma, self.path)
        if resources.devices is not None:
            devices = files.Devices(self._directory("devices"))
            for name, text in DevicePolicy.reduce(resources.devices).v1_writes():
                setattr(devices, name, text)

    def _apply_cpu(self, resources: LinuxResources) -> None:
        if resources.cpu_shares is not None:
            files.Cpu(self._directory("cpu")).shares = resources.cpu_shares
        steps = {
            "cfs_period_us": resources.cpu_period_us,
            "cfs_quota_us": resources.cpu_quota_us,
        }
        wanted = [(name, value) for name, value in steps.items() if value is not None]
        if wanted:
            cpu = files.Cpu(self._directory("cpu"))
            try:
                _set_all(cpu, wanted)
            except CgroupError as error:
                # With the old one of the two, the new one can exceed the parent's share of CPU
                # time, which the kernel refuses: the other order then passes.
                if error.errno != errno.EINVAL or len(wanted) < 2:
                    raise
                _set_all(cpu, wanted[::-1])
        if resources.cpuset_cpus is not None:
            files.CpuSet(self._directory("cpuset")).cpus = resources.cpuset_cpus
        if resources.cpuset_mems is not None:
            files.CpuSet(self._directory("cpuset")).mems = resources.cpuset_mems

    def _apply_memory(self, resources: LinuxResources) -> None:
        limit, swap = resources.memory_limit, resources.memory_swap
        if limit is None and swap is None and resources.memory_low is None:
            return
        memory = files.Memory(self._directory("memory"))
        both_now: int | None = memory.get("memsw_limit_in_bytes")
        if both_now is None:
            swap = None  # the kernel was booted without accounting of swap
        elif limit == UNLIMITED and swap is None:
            swap = UNLIMITED  # the kernel keeps memory <= memory+swap
        try:
            for name, value in memory_writes(limit, swap, both_now):
                setattr(memory, name, value)
            if resources.memory_low is not None:
                memory.soft_limit_in_bytes = resources.memory_low
        except CgroupError as error:
            if error.errno != errno.EBUSY:
                raise
            used = memory.get("usage_in_bytes")
            reason = f"{used} bytes are in use and cannot be reclaimed"
            remedy = "give a higher limit, or let its processes free memory first"
            action = f"cannot limit memory to {limit} bytes"
            raise CgroupError(errno.EBUSY, error.filename, action, reason, remedy) from error

    def _apply_hugepages(self, resources: LinuxResources) -> None:
        # A kubelet limits every page size to 0 by default: no reason to fail where none is counted.
        if "hugetlb" not in self._roots and not any(resources.hugepages.values()):
            return
        for size, limit in resources.hugepages.items():
            control = files.Memory(self._directory("hugetlb"))
            plain, reserved = (
                f"hugetlb.{size}.limit_in_bytes",
                f"hugetlb.{size}.rsvd.limit_in_bytes",
            )
            if limit or control.has(plain):
                control.set_property(plain, limit)
            if control.has(reserved):
                control.set_property(reserved, limit)

    def oom_file(self) -> Path | None:
        """Return ``memory.oom_control``."""
        directory = self._below(self._roots.get("memory"))
        path = directory and directory / "memory.oom_control"
        return path if path and path.exists() else None

    def oom_kills(self) -> int:
        """Return ``oom_kill`` of ``memory.oom_control``, this cgroup's alone (Linux 4.13)."""
        directory = self._below(self._roots.get("memory"))
        if directory is None:
            return 0
        events: dict[str, int] = files.Memory(directory).get("oom_control", {})
        return events.get("oom_kill", 0)

    def stats(self) -> CgroupStats:
        """Read the files of v1; see :meth:`Cgroup.stats`."""
        if not self.exists():
            raise CgroupError(errno.ENOENT, self.path, "cannot read statistics")
        return CgroupStats(
            time_ns=time.time_ns(),
            cpu=self._cpu_stats(),
            memory=self._memory_stats(),
            pids=self._pids_stats(),
            pressure=read_pressure(self._unified) if self._unified else {},
        )

    def _cpu_stats(self) -> CpuStats | None:
        if "cpuacct" not in self._roots:
            return None
        accounting = files.CpuAccounting(self._directory("cpuacct"))
        usage: int | None = accounting.get("usage")
        if usage is None:
            return None
        stat: dict[str, int] = {}
        if "cpu" in self._roots:
            stat = files.Cpu(self._directory("cpu")).get("stat", {})
        return CpuStats(
            usage_ns=usage,
            user_ns=accounting.get("usage_user", 0),
            system_ns=accounting.get("usage_system", 0),
            periods=stat.get("nr_periods", 0),
            throttled_periods=stat.get("nr_throttled", 0),
            throttled_ns=stat.get("throttled_time", 0),
        )

    def _memory_stats(self) -> MemoryStats | None:
        if "memory" not in self._roots:
            return None
        memory = files.Memory(self._directory("memory"))
        usage: int | None = memory.get("usage_in_bytes")
        if usage is None:
            return None
        stat: dict[str, int] = memory.get("stat", {})
        limit = v1_limit(memory.get("limit_in_bytes"))
        both = v1_limit(memory.get("memsw_limit_in_bytes"))
        return memory_stats(
            usage,
            stat,
            limit,
            prefix="total_",
            rss_key="rss",
            swap=stat.get("total_swap"),
            swap_limit=None if both is None or limit is None else both - limit,
        )

    def _pids_stats(self) -> PidsStats | None:
        if "pids" not in self._roots:
            return None
        pids = files.Pids(self._directory("pids"))
        current: int | None = pids.get("current")
        return None if current is None else PidsStats(current, pids.get("max"))

    def _kill(self, deadline: float) -> None:
        killing.refuse_own(self.path, self.processes())
        if self._unified is not None and kill_at_once(self._unified):
            # What is frozen by v1 keeps the signal until it is thawed.
            self.thaw()
            killing.wait_until_empty(self._unified, self.processes, deadline)
        # Whoever joined v1 only.
        killing.kill_listed(self.path, self.processes, self.freeze, self.thaw, deadline)

    def freeze(self) -> None:
        """Freeze by ``freezer.state``; see :meth:`Cgroup.freeze`."""
        directory = self._below(self._roots.get("freezer"))
        if directory is None or not directory.is_dir():
            return
        freezer = files.Freezer(directory)
        freezer.state = "FROZEN"
        # Each read lets the kernel look again whether all tasks have stopped; there is no event.
        # What is not frozen by then is killed in the next round.
        for _ in range(_FREEZE_READS):
            if freezer.get("state", "FROZEN") == "FROZEN":
                return
            time.sleep(0.001)

    def thaw(self) -> None:
        """Thaw; see :meth:`Cgroup.thaw`."""
        directory = self._below(self._roots.get("freezer"))
        if directory is None:
            return
        for frozen in [directory, *paths.descendants(directory)]:
            if frozen.is_dir():
                files.Freezer(frozen).state = "THAWED"


def memory_writes(
    limit: int | None, both: int | None, both_now: int | None
) -> list[tuple[str, int | None]]:
    """Return which memory limits to write, in an order that the kernel takes (pure).

    The kernel refuses memory > memory+swap at every step, so what is raised beyond the present
    memory+swap needs that one first (cgroup-v1/memory.rst, "2.4 Locking" ff.: memsw).

    Args:
        limit: bytes of memory; -1 for none, None to leave it.
        both: bytes of memory and swap; likewise.
        both_now: the present limit of both, None if swap is not accounted.
    """
    steps: list[tuple[str, int | None]] = []
    if limit is not None:
        steps.append(("limit_in_bytes", None if limit == UNLIMITED else limit))
    if both is not None:
        steps.append(("memsw_limit_in_bytes", None if both == UNLIMITED else both))
    if limit is not None and both_now is not None and (limit == UNLIMITED or limit > both_now):
        steps.reverse()
    return steps


def _is_filled(directory: Path) -> bool:
    cpuset = files.CpuSet(directory)
    return bool(cpuset.cpus) and bool(cpuset.mems)


def _inherit_cpuset(directory: Path) -> None:
    # No task can join a cpuset of v1 that has no CPU or memory node (cgroup-v1/cpusets.rst, 1.9).
    own, parent = files.CpuSet(directory), files.CpuSet(directory.parent)
    for name in ("cpus", "mems"):
        if not getattr(own, name):
            setattr(own, name, getattr(parent, name))


def _set_all(control: files.Cpu, steps: list[tuple[str, int]]) -> None:
    for name, value in steps:
        setattr(control, name, value)
