"""The control files of v2, on cgroupspy's controller class and descriptors.

Kernel: Documentation/admin-guide/cgroup-v2.rst, "Core Interface Files" and "Controllers".
"""

from __future__ import annotations

from cgroupspy.interfaces import IntegerFile

from kubeletpy_common.cgroups.interfaces import (
    BandwidthFile,
    ControlFiles,
    CpuList,
    FlatKeyed,
    MaxInteger,
    NestedKeyed,
    Text,
    Words,
)


class Core(ControlFiles):
    """``cgroup.*``, in every cgroup."""

    controllers = Words("cgroup.controllers", readonly=True)
    subtree_control = Words("cgroup.subtree_control")
    kill = Text("cgroup.kill", writeonly=True)
    freeze = Text("cgroup.freeze")
    type = Text("cgroup.type")
    events = FlatKeyed("cgroup.events")


class Cpu(ControlFiles):
    """``cpu``: weight (1 to 10000), bandwidth; ``stat`` is there without the controller too."""

    weight = IntegerFile("cpu.weight")
    max = BandwidthFile("cpu.max")
    stat = FlatKeyed("cpu.stat")
    pressure = NestedKeyed("cpu.pressure")


class CpuSet(ControlFiles):
    """``cpuset``; an empty file means what the parent has."""

    cpus = CpuList("cpuset.cpus")
    mems = CpuList("cpuset.mems")
    partition = Text("cpuset.cpus.partition")


class Memory(ControlFiles):
    """``memory``, in bytes."""

    current = IntegerFile("memory.current", readonly=True)
    max = MaxInteger("memory.max")
    high = MaxInteger("memory.high")
    low = MaxInteger("memory.low")
    swap_current = IntegerFile("memory.swap.current", readonly=True)
    swap_max = MaxInteger("memory.swap.max")
    stat = FlatKeyed("memory.stat")
    events = FlatKeyed("memory.events")
    pressure = NestedKeyed("memory.pressure")


class Io(ControlFiles):
    """``io``: weights, limits of devices, pressure."""

    pressure = NestedKeyed("io.pressure")


class Pids(ControlFiles):
    """``pids``."""

    current = IntegerFile("pids.current", readonly=True)
    max = MaxInteger("pids.max")
