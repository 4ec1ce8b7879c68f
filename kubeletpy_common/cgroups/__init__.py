"""Cgroups, one interface for v1 and v2.

:func:`detect` finds what the machine has; a :class:`Hierarchy` gives a :class:`Cgroup` by its
path; that one is made, limited by :class:`LinuxResources`, read, emptied and removed. Every failure
is a :class:`CgroupError` that names file, value, reason and remedy.
"""

from __future__ import annotations

from kubeletpy_common.cgroups.base import Cgroup, Hierarchy
from kubeletpy_common.cgroups.detection import Missing, detect, missing_controllers
from kubeletpy_common.cgroups.devices import DevicePolicy, DeviceRule
from kubeletpy_common.cgroups.errors import CgroupError
from kubeletpy_common.cgroups.resources import UNLIMITED, LinuxResources, shares_to_weight
from kubeletpy_common.cgroups.stats import (
    CgroupStats,
    CpuStats,
    MemoryStats,
    PidsStats,
    Pressure,
    PressureStats,
)
from kubeletpy_common.cgroups.v1.cgroup import CgroupsV1
from kubeletpy_common.cgroups.v2.cgroup import CgroupsV2

__all__ = [
    "UNLIMITED",
    "Cgroup",
    "CgroupError",
    "CgroupStats",
    "CgroupsV1",
    "CgroupsV2",
    "CpuStats",
    "DevicePolicy",
    "DeviceRule",
    "Hierarchy",
    "LinuxResources",
    "MemoryStats",
    "Missing",
    "PidsStats",
    "Pressure",
    "PressureStats",
    "detect",
    "missing_controllers",
    "shares_to_weight",
]
