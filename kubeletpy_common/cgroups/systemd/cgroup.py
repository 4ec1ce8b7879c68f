"""Cgroups that systemd makes and removes; all the rest of them is as on any v2."""

from __future__ import annotations

import errno
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from kubeletpy_common.cgroups import paths
from kubeletpy_common.cgroups.base import REMOVE_TIMEOUT, Hierarchy
from kubeletpy_common.cgroups.errors import CgroupError
from kubeletpy_common.cgroups.interfaces import UNLIMITED_BANDWIDTH, Bandwidth
from kubeletpy_common.cgroups.resources import LinuxResources
from kubeletpy_common.cgroups.systemd import names
from kubeletpy_common.cgroups.systemd.properties import (
    in_whole_percents,
    limit_properties,
    scope_properties,
    slice_properties,
)
from kubeletpy_common.cgroups.v2 import controllers as files
from kubeletpy_common.cgroups.v2.cgroup import CgroupsV2, CgroupV2

if TYPE_CHECKING:
    from kubeletpy_common.cgroups.systemd.bus import Bus

BOOTED: Final = Path("/run/systemd/system")
_DESCRIPTION: Final = "kubeletpy: {}"


def open_systemd(hierarchy: Hierarchy) -> CgroupsSystemd:
    """Return the cgroups of a machine by way of its systemd.

    Args:
        hierarchy: what :func:`kubeletpy_common.cgroups.detect` found.

    Raises:
        CgroupError: (EOPNOTSUPP) they are not of version 2, or systemd is not PID 1; or systemd
            does not answer.
    """
    if not isinstance(hierarchy, CgroupsV2):
        raise _unusable(
            "the controllers are on cgroup v1",
            "boot with systemd.unified_cgroup_hierarchy=1, or use the driver cgroupfs",
        )
    # sd_booted(3): the documented way to tell.
    if not BOOTED.is_dir():
        raise _unusable(
            f"systemd is not this machine's PID 1 ({BOOTED} is not there)",
            "use the driver cgroupfs",
        )
    # Only who uses the driver pays for the library.
    from kubeletpy_common.cgroups.systemd.bus import Bus

    bus = Bus()
    return CgroupsSystemd(hierarchy.root, bus, bus.version())


def _unusable(reason: str, remedy: str) -> CgroupError:
    action = "cannot use the systemd cgroup driver"
    return CgroupError(errno.EOPNOTSUPP, "systemd", action, reason, remedy)


class CgroupsSystemd(CgroupsV2):
    """The hierarchy of cgroup v2, whose slices and scopes are systemd's.

    Attributes:
        systemd_version: as systemd says.
    """

    def __init__(self, root: Path, bus: Bus, systemd_version: str) -> None:
        super().__init__(root)
        self._bus = bus
        self.systemd_version = systemd_version

    def cgroup(self, path: str) -> CgroupV2:
        """Return the slice or the scope of ``path``.

        Any other path is a plain directory: one inside of a scope, or from before a change of the
        driver.
        """
        unit = names.unit_of(path)
        if unit.endswith(names.SLICE):
            return SystemdSlice(self.root, path, unit, self._bus)
        if unit:
            return SystemdScope(self.root, path, unit, self._bus)
        return super().cgroup(path)


class _Unit(CgroupV2):
    def __init__(self, root: Path, path: str, unit: str, bus: Bus) -> None:
        super().__init__(root, path)
        self.unit = unit
        self._bus = bus

    def apply(self, resources: LinuxResources) -> None:
        """Set limits as properties, so that systemd keeps them, and in the files.

        The files tell what the kernel refuses, and have what systemd has no property for.
        """
        resources.check()
        now: Bandwidth = files.Cpu(self._directory).get("max", UNLIMITED_BANDWIDTH)
        resources = in_whole_percents(resources, now)
        if properties := limit_properties(resources, now):
            self._bus.set_properties(self.unit, properties)
        self._apply_files(resources)

    def _apply_files(self, resources: LinuxResources) -> None:
        super().apply(resources)

    def remove(self, recursive: bool = True, timeout: float = REMOVE_TIMEOUT) -> None:
        """Stop the unit, which removes its cgroup; see :meth:`Cgroup.remove`.

        Stopping would kill processes, so it begins when there are none.
        """
        self._refuse_root("remove")
        if not recursive and any(True for _ in paths.descendants(self._directory)):
            raise CgroupError(errno.EBUSY, self._directory, "cannot remove", "it has children")
        deadline = time.monotonic() + timeout
        while left := self.processes():
            if time.monotonic() >= deadline:
                reason = f"still in use by {paths.describe_processes(left)}"
                raise CgroupError(
                    errno.EBUSY, self._directory, "cannot remove", reason, "kill them first"
                )
            # The kernel has no event for the last process of a tree without a watch; kill() waits.
            time.sleep(0.01)
        self._bus.stop(self.unit)
        super().remove(recursive, max(0.0, deadline - time.monotonic()))

    def _make_ready(self) -> None:
        # systemd enables the controllers that it knows; hugetlb is none of them.
        super().create()


class SystemdSlice(_Unit):
    """A slice: a pod, a class of pods, all pods."""

    def create(self) -> None:
        """Have systemd start the slice, and those above it."""
        if self.exists():
            # Of a kubelet, which had systemd make it: to ask for a new one first would be in vain.
            self._bus.start(self.unit)
        else:
            self._start_transient()
        self._make_ready()

    def _start_transient(self) -> None:
        from kubeletpy_common.cgroups.systemd.bus import UNIT_EXISTS, UnitError

        try:
            properties = slice_properties(_DESCRIPTION.format(self.unit))
            self._bus.start_transient(self.unit, properties)
        except UnitError as error:
            if error.name != UNIT_EXISTS:
                raise
            # It runs by now, or somebody wrote a unit file for it.
            self._bus.start(self.unit)


class SystemdScope(_Unit):
    """A scope: a container. systemd forgets it, and removes its cgroup, when it becomes empty."""

    def create(self) -> None:
        """Make sure that the scope exists; a new one needs :meth:`create_around`.

        Raises:
            CgroupError: (ENOENT) it does not.
        """
        if not self.exists():
            reason = "a scope begins with a process"
            raise CgroupError(errno.ENOENT, self._directory, "cannot make", reason, "name one")
        self._make_ready()

    def create_around(self, process: int, limits: LinuxResources | None = None) -> None:
        """Have systemd start the scope with a process in it, which it moves there.

        Args:
            process: its id.
            limits: what :meth:`apply` would set next, for which systemd is so asked only once.

        Raises:
            CgroupError: systemd refuses, or the process is gone.
        """
        limits = limits or LinuxResources()
        limits.check()
        limits = in_whole_percents(limits, UNLIMITED_BANDWIDTH)
        properties = scope_properties(
            _DESCRIPTION.format(self.unit), names.slice_of(self.path), process
        )
        properties += limit_properties(limits, UNLIMITED_BANDWIDTH)
        self._bus.start_transient(self.unit, properties)
        self._make_ready()
        self._apply_files(limits)
