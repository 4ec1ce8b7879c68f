"""Cgroups on a machine where all controllers are on v2."""

from __future__ import annotations

import errno
import logging
import os
import time
from pathlib import Path
from typing import Final

from kubeletpy_common.cgroups import killing, paths, rdma
from kubeletpy_common.cgroups.base import Cgroup
from kubeletpy_common.cgroups.devices import DevicePolicy
from kubeletpy_common.cgroups.errors import CgroupError, missing
from kubeletpy_common.cgroups.interfaces import Bandwidth
from kubeletpy_common.cgroups.resources import (
    UNLIMITED,
    LinuxResources,
    shares_to_weight,
    swap_max,
)
from kubeletpy_common.cgroups.stats import (
    CgroupStats,
    CpuStats,
    MemoryStats,
    PidsStats,
    PressureStats,
    memory_stats,
    pressure_stats,
)
from kubeletpy_common.cgroups.v2 import controllers as files
from kubeletpy_common.cgroups.v2 import leaf
from kubeletpy_common.cgroups.v2.device_program import device_program
from kubeletpy_common.linux.bpf import replace_device_programs

REQUIRED: Final = ("cpu", "memory", "pids")
# Domain controllers first: in a cgroup that has processes they are refused (EBUSY), while a
# threaded one (cpu, pids, cpuset) would be enabled there and turn that cgroup into a threaded
# domain (Documentation/admin-guide/cgroup-v2.rst, "Threads").
WANTED: Final = ("memory", "io", "hugetlb", "rdma", "misc", "cpu", "pids", "cpuset")
_THREADED: Final = ("threaded", "domain threaded", "domain invalid")
_MEMBER: Final = "member"

_log = logging.getLogger(__name__)


class CgroupsV2:
    """The hierarchy of cgroup v2.

    Args:
        root: its mount point, or a directory delegated to us.
    """

    version: Final = 2

    def __init__(self, root: Path) -> None:
        self.root = root

    def __repr__(self) -> str:
        return f"CgroupsV2({self.root})"

    def cgroup(self, path: str) -> CgroupV2:
        """Return the cgroup of ``path`` below the root; raises CgroupError if it is invalid."""
        return CgroupV2(self.root, path)

    def controllers(self) -> frozenset[str]:
        """Return what ``cgroup.controllers`` of the root offers, and ``devices``, done by BPF."""
        offered: frozenset[str] = files.Core(self.root).controllers
        return offered | {"devices"}


def threads_only(kind: str) -> str:
    """Return why a cgroup of this ``cgroup.type`` cannot hold containers; "" if it can (pure).

    Memory and I/O are limited in domains only (Documentation/admin-guide/cgroup-v2.rst, "Threads").
    """
    if kind.strip() not in _THREADED:
        return ""
    return f"its cgroup.type is {kind.strip()!r}: only threads and their CPUs are managed there"


def missing_controllers(offered: frozenset[str]) -> list[str]:
    """Return which of the controllers that limits need a cgroup is not given (pure)."""
    return [name for name in REQUIRED if name not in offered]


def controllers_to_enable(offered: frozenset[str], enabled: frozenset[str]) -> list[str]:
    """Return which controllers a parent has yet to enable for its children (pure)."""
    return [name for name in WANTED if name in offered and name not in enabled]


class CgroupV2(Cgroup):
    """A cgroup of v2.

    Processes live in leaves only ("No Internal Process Constraint"): a pod's cgroup, which enables
    controllers for its containers' cgroups, holds no process itself.
    """

    def __init__(self, root: Path, path: str) -> None:
        super().__init__(path)
        self._root = root
        self._directory = root.joinpath(*self._components)

    def directories(self) -> list[Path]:
        """Return the one directory."""
        return [self._directory]

    def controller_directory(self, controller: str) -> Path | None:
        """Return the directory; see :class:`Cgroup`."""
        return self._directory

    def create(self) -> None:
        """Make the cgroup; each of its parents enables the controllers it can for its children."""
        made: list[Path] = []
        parent = self._root
        try:
            for directory in paths.lineage(self._root, self._components):
                self._enable_controllers(parent)
                if paths.make(directory):
                    made.append(directory)
                parent = directory
        except CgroupError:
            for directory in reversed(made):
                try:
                    os.rmdir(directory)
                except OSError:
                    pass  # somebody uses it by now; the first failure is what counts
            raise

    def _enable_controllers(self, parent: Path) -> None:
        core = files.Core(parent)
        self._check_parent(parent, core)
        # One write for each: a write of several fails as a whole if one of them does.
        for name in controllers_to_enable(core.controllers, core.subtree_control):
            try:
                leaf.enable(parent, name)
            except CgroupError as error:
                if name in REQUIRED:
                    raise self._not_enabled(parent, name, error) from error

    def _check_parent(self, parent: Path, core: files.Core) -> None:
        """Refuse a parent below which nothing can be limited.

        Raises:
            CgroupError: (EOPNOTSUPP) it is threaded; (ENODEV) controllers are not given to it.
        """
        action = f"cannot make {self.path} below it"
        # The root of the hierarchy has no such file, and is always a domain.
        if reason := threads_only(core.get("type", "")):
            remedy = (
                "choose a parent in a domain: a cgroup becomes threaded when somebody writes "
                "`threaded` to its cgroup.type or its child's, and stays it until it is removed"
            )
            raise CgroupError(errno.EOPNOTSUPP, parent, action, reason, remedy)
        if absent := missing_controllers(core.controllers):
            reason = f"its cgroup.controllers lacks {', '.join(absent)}"
            above = "the kernel's command line (cgroup_disable=, cgroup_no_v1=all)"
            if parent != self._root:
                above = f"{parent.parent}/cgroup.subtree_control"
            remedy = f"enable what is missing by {above}; a container's manager has to delegate it"
            raise CgroupError(errno.ENODEV, parent, action, reason, remedy)

    def _not_enabled(self, parent: Path, name: str, error: CgroupError) -> CgroupError:
        remedy = ""
        if error.errno in (errno.EBUSY, errno.EOPNOTSUPP):
            inside = paths.describe_processes(paths.read_processes(parent))
            remedy = f"move {inside} to a leaf; a cgroup with children to limit holds no process"
        action = f"cannot enable the controller {name} for {self.path}"
        return CgroupError(error.errno or 0, parent, action, remedy=remedy)

    def apply(self, resources: LinuxResources) -> None:
        """Set limits by the files of v2; see :meth:`Cgroup.apply`.

        A memory limit below what is in use and cannot be reclaimed makes the kernel kill processes
        of the cgroup (v1 refuses it, EBUSY); who resizes a running container looks at the usage
        first.
        """
        resources.check()
        self._apply_cpu(resources)
        self._apply_memory(resources)
        if resources.pids_limit is not None:
            files.Pids(self._directory).max = _or_max(resources.pids_limit)
        self._apply_hugepages(resources)
        if resources.block_io is not None:
            control = files.Core(self._directory)
            for name, text in resources.block_io.v2_writes(control.has):
                control.set_property(name, text)
        rdma.apply(self._directory, resources.rdma, self.path)
        self._apply_unified(resources)
        if resources.devices is not None:
            self._apply_devices(DevicePolicy.reduce(resources.devices))

    def _apply_cpu(self, resources: LinuxResources) -> None:
        cpu, cpuset = files.Cpu(self._directory), files.CpuSet(self._directory)
        if resources.cpu_shares is not None:
            cpu.weight = shares_to_weight(resources.cpu_shares)
        quota, period = resources.cpu_quota_us, resources.cpu_period_us
        if quota is not None or period is not None:
            now: Bandwidth = cpu.max
            cpu.max = Bandwidth(
                now.quota_us if quota is None else _or_max(quota),
                now.period_us if period is None else period,
            )
        if resources.cpuset_cpus is not None and not self._is_partition(cpuset):
            cpuset.cpus = resources.cpuset_cpus
        if resources.cpuset_mems is not None:
            cpuset.mems = resources.cpuset_mems

    def _is_partition(self, cpuset: files.CpuSet) -> bool:
        """Whether somebody made the cgroup a partition of CPUs, which is left as it is."""
        kind: str = cpuset.get("partition", _MEMBER)
        if kind == _MEMBER:
            return False
        _log.warning(
            "the CPUs of a cgroup are left as they are: it is a partition, which its maker manages",
            extra={"cgroup": self.path, "cpuset.cpus.partition": kind},
        )
        return True

    def _apply_memory(self, resources: LinuxResources) -> None:
        memory = files.Memory(self._directory)
        swap = swap_max(resources.memory_limit, resources.memory_swap)
        # Without swap in the kernel there is no file, and nothing to limit.
        if swap is not None and (swap > 0 or memory.has("memory.swap.max")):
            memory.swap_max = _or_max(swap)
        if resources.memory_low is not None:
            memory.low = _or_max(resources.memory_low)
        if resources.memory_high is not None:
            memory.high = _or_max(resources.memory_high)
        if resources.memory_limit is not None:
            memory.max = _or_max(resources.memory_limit)

    def _apply_hugepages(self, resources: LinuxResources) -> None:
        control = files.Core(self._directory)
        for size, limit in resources.hugepages.items():
            # rsvd counts what mmap reserves, so that mmap fails instead of a later SIGBUS
            # (runtime-spec, config-linux.md, "Huge page limits").
            for name in (f"hugetlb.{size}.max", f"hugetlb.{size}.rsvd.max"):
                # A kubelet limits every page size to 0 by default: no reason to fail where the
                # kernel counts none.
                if control.has(name) or (limit and ".rsvd." not in name):
                    control.set_property(name, limit)

    def _apply_unified(self, resources: LinuxResources) -> None:
        control = files.Core(self._directory)
        for name, text in resources.unified.items():
            # Files of many lines (io.max) take one line a write.
            for line in text.splitlines() or [""]:
                control.set_property(name, line)

    def _apply_devices(self, policy: DevicePolicy) -> None:
        try:
            descriptor = os.open(self._directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                replace_device_programs(descriptor, device_program(policy))
            finally:
                os.close(descriptor)
        except OSError as error:
            remedy = "run as root with a kernel that has CONFIG_CGROUP_BPF"
            if error.errno == errno.E2BIG:
                remedy = "give fewer rules: the program must stay below 4096 instructions"
            raise CgroupError(
                error.errno or 0, self._directory, "cannot restrict devices", str(error), remedy
            ) from error

    def oom_file(self) -> Path | None:
        """Return ``memory.events``."""
        path = self._directory / "memory.events"
        return path if path.exists() else None

    def oom_kills(self) -> int:
        """Return ``oom_kill`` of ``memory.events``, with the cgroups below."""
        events: dict[str, int] = files.Memory(self._directory).get("events", {})
        return events.get("oom_kill", 0)

    def stats(self) -> CgroupStats:
        """Read the files of v2; see :meth:`Cgroup.stats`."""
        if not self.exists():
            raise CgroupError(errno.ENOENT, self._directory, "cannot read statistics")
        return CgroupStats(
            time_ns=time.time_ns(),
            cpu=self._cpu_stats(),
            memory=self._memory_stats(),
            pids=self._pids_stats(),
            pressure=read_pressure(self._directory),
        )

    def _cpu_stats(self) -> CpuStats | None:
        stat: dict[str, int] = files.Cpu(self._directory).get("stat", {})
        if "usage_usec" not in stat:
            return None
        return CpuStats(
            usage_ns=stat["usage_usec"] * 1000,
            user_ns=stat.get("user_usec", 0) * 1000,
            system_ns=stat.get("system_usec", 0) * 1000,
            periods=stat.get("nr_periods", 0),
            throttled_periods=stat.get("nr_throttled", 0),
            throttled_ns=stat.get("throttled_usec", 0) * 1000,
        )

    def _memory_stats(self) -> MemoryStats | None:
        memory = files.Memory(self._directory)
        usage: int | None = memory.get("current")
        if usage is None:
            return None
        return memory_stats(
            usage,
            memory.get("stat", {}),
            memory.get("max"),
            swap=memory.get("swap_current"),
            swap_limit=memory.get("swap_max"),
        )

    def _pids_stats(self) -> PidsStats | None:
        pids = files.Pids(self._directory)
        current: int | None = pids.get("current")
        return None if current is None else PidsStats(current, pids.get("max"))

    def _kill(self, deadline: float) -> None:
        killing.refuse_own(self._directory, self.processes())
        if not kill_at_once(self._directory):
            killing.kill_listed(self._directory, self.processes, self.freeze, self.thaw, deadline)
        killing.wait_until_empty(self._directory, self.processes, deadline)

    def freeze(self) -> None:
        """Freeze by ``cgroup.freeze``; see :meth:`Cgroup.freeze`."""
        files.Core(self._directory).freeze = "1"

    def thaw(self) -> None:
        """Thaw; see :meth:`Cgroup.thaw`."""
        for directory in [self._directory, *paths.descendants(self._directory)]:
            if directory.is_dir():
                files.Core(directory).freeze = "0"


def kill_at_once(directory: Path) -> bool:
    """Kill a whole tree by ``cgroup.kill``, forks included.

    Returns:
        False if this kernel (before 5.14) has no such file; True also if the cgroup is gone.

    Raises:
        CgroupError: the kernel refuses.
    """
    try:
        files.Core(directory).kill = "1"
    except CgroupError as error:
        if missing(error):
            return not directory.is_dir()
        raise
    return True


def read_pressure(directory: Path) -> dict[str, PressureStats]:
    """Return the pressure of CPU, memory and I/O, as far as the kernel keeps it."""
    found: dict[str, PressureStats] = {}
    resources = {
        "cpu": files.Cpu(directory),
        "memory": files.Memory(directory),
        "io": files.Io(directory),
    }
    for name, control in resources.items():
        parsed = pressure_stats(control.get("pressure", {}))
        if parsed is not None:
            found[name] = parsed
    return found


def _or_max(value: int) -> int | None:
    return None if value == UNLIMITED else value
