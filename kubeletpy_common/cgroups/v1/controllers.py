"""The control files of v1: cgroupspy's controllers, and those that it lacks.

Kernel: Documentation/admin-guide/cgroup-v1/.
"""

from __future__ import annotations

from cgroupspy import controllers as cgroupspy
from cgroupspy.interfaces import IntegerFile

from kubeletpy_common.cgroups.interfaces import (
    ControlFiles,
    CpuList,
    FlatKeyed,
    MaxInteger,
    Text,
)


class Cpu(ControlFiles, cgroupspy.CpuController):  # type: ignore[misc]  # cgroupspy has no types
    """``cpu``: shares, quota and period (cgroupspy's), throttling."""

    stat = FlatKeyed("cpu.stat")


class CpuAccounting(ControlFiles, cgroupspy.CpuAcctController):  # type: ignore[misc]
    """``cpuacct``: usage in nanoseconds (cgroupspy's), and its parts."""

    usage_user = IntegerFile("cpuacct.usage_user", readonly=True)
    usage_system = IntegerFile("cpuacct.usage_sys", readonly=True)


class CpuSet(ControlFiles, cgroupspy.CpuSetController):  # type: ignore[misc]
    """``cpuset``: as text, which cgroupspy's set of numbers refuses."""

    cpus = CpuList("cpuset.cpus")
    mems = CpuList("cpuset.mems")


class Memory(ControlFiles, cgroupspy.MemoryController):  # type: ignore[misc]
    """``memory``: limits and usage (cgroupspy's), events."""

    stat = FlatKeyed("memory.stat")
    oom_control = FlatKeyed("memory.oom_control")


class Devices(ControlFiles):
    """``devices``: writes as text; cgroupspy's type has no way to say "a" alone."""

    allow = Text("devices.allow", writeonly=True)
    deny = Text("devices.deny", writeonly=True)


class Freezer(ControlFiles):
    """``freezer`` (missing from cgroupspy): THAWED, FREEZING, FROZEN."""

    state = Text("freezer.state")


class Pids(ControlFiles):
    """``pids`` (missing from cgroupspy)."""

    current = IntegerFile("pids.current", readonly=True)
    max = MaxInteger("pids.max")
