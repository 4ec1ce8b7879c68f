"""Limits of RDMA devices (pure, but for the writing): both versions have the same file, `rdma.max`.

Source: OCI runtime specification 1.2, config-linux.md, "RDMA"; Documentation/admin-guide/
cgroup-v2.rst and cgroup-v1/rdma.rst.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from kubeletpy_common.cgroups.errors import CgroupError
from kubeletpy_common.cgroups.interfaces import ControlFiles

FILE: Final = "rdma.max"
_DEVICE: Final = re.compile(r"[A-Za-z0-9_.:-]{1,63}")
"""Of names like ``mlx5_0``; the kernel has at most 63 bytes (IB_DEVICE_NAME_MAX)."""
_LARGEST: Final = (1 << 32) - 1


@dataclass(frozen=True, slots=True)
class RdmaLimit:
    """Of one device; None leaves what is.

    Attributes:
        handles: of the host channel adapter, that may be open.
        objects: of it, that may be made.
    """

    handles: int | None = None
    objects: int | None = None

    def line(self, device: str) -> str:
        """Return what `rdma.max` takes."""
        pairs = (("hca_handle", self.handles), ("hca_object", self.objects))
        return " ".join([device, *(f"{key}={value}" for key, value in pairs if value is not None)])


def from_oci(devices: Mapping[str, Any]) -> dict[str, RdmaLimit]:
    """Read ``linux.resources.rdma``.

    Raises:
        CgroupError: (EINVAL) a name that is none of a device, no limit at all, or a bad one.
    """
    found = {}
    for device, limits in devices.items():
        given = limits if isinstance(limits, Mapping) else {}
        handles, objects = given.get("hcaHandles"), given.get("hcaObjects")
        reason = ""
        if not _DEVICE.fullmatch(device):
            reason = "that is no name of an RDMA device, such as mlx5_0"
        elif handles is None and objects is None:
            reason = "neither hcaHandles nor hcaObjects is given"
        elif not all(_is_count(value) for value in (handles, objects) if value is not None):
            reason = f"hcaHandles and hcaObjects are numbers from 0 to {_LARGEST}"
        if reason:
            action = f"rdma {device!r} = {limits!r} is refused"
            raise CgroupError(errno.EINVAL, "linux.resources", action, reason, "correct it")
        found[device] = RdmaLimit(handles, objects)
    return found


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST


def apply(directory: Path | None, limits: Mapping[str, RdmaLimit], where: str) -> None:
    """Limit the devices in a cgroup, in the order given.

    Args:
        directory: of the cgroup in the hierarchy of the controller; None: it is in none.
        limits: by device.
        where: what the cgroup is called, for errors.

    Raises:
        CgroupError: (ENODEV) without the controller, or without such a device; or what else the
            kernel says.
    """
    if not limits:
        return
    control = ControlFiles(directory) if directory is not None else None
    if control is None or not control.has(FILE):
        raise CgroupError(
            errno.ENODEV, directory or where, f"cannot limit the RDMA devices {', '.join(limits)}",
            "the cgroup has no controller rdma",
            "use a kernel with CONFIG_CGROUP_RDMA; on v1 mount it (mount -t cgroup -o rdma cgroup "
            "<directory>), on v2 enable it above (cgroup.subtree_control); or leave rdma out",
        )  # fmt: skip
    for device, limit in limits.items():
        try:
            control.set_property(FILE, limit.line(device))
        except CgroupError as error:
            if error.errno != errno.ENODEV:
                raise
            raise CgroupError(
                errno.ENODEV, directory or where, f"cannot limit the RDMA device {device}",
                "this machine has none of that name", "see: ls /sys/class/infiniband",
            ) from error  # fmt: skip
