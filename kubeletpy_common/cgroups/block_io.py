"""Limits of block devices: OCI ``blockIO`` as writes to control files of either version (pure)."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from kubeletpy_common.cgroups.errors import CgroupError

_MIN_WEIGHT, _MAX_WEIGHT = 10, 1000
# OCI's name, what io.max of v2 calls it, and the file of v1.
_THROTTLES: Final = (
    ("throttleReadBpsDevice", "rbps", "blkio.throttle.read_bps_device"),
    ("throttleWriteBpsDevice", "wbps", "blkio.throttle.write_bps_device"),
    ("throttleReadIOPSDevice", "riops", "blkio.throttle.read_iops_device"),
    ("throttleWriteIOPSDevice", "wiops", "blkio.throttle.write_iops_device"),
)

Write = tuple[str, str]
"""A control file's name and the text to write."""


@dataclass(frozen=True)
class DeviceLimit:
    """A number for one block device."""

    major: int
    minor: int
    value: int

    def __str__(self) -> str:
        return f"{self.major}:{self.minor}"


@dataclass(frozen=True)
class BlockIoLimits:
    """OCI ``linux.resources.blockIO`` (runtime-spec, config-linux.md, "Block IO").

    Attributes:
        weight: 10 to 1000; None leaves what is.
        weights: of single devices, likewise.
        throttles: what io.max of v2 calls a limit (``rbps``, ``wbps``: bytes a second; ``riops``,
            ``wiops``: requests a second), and of which device; 0 takes it away.
    """

    weight: int | None = None
    weights: tuple[DeviceLimit, ...] = ()
    throttles: tuple[tuple[str, DeviceLimit], ...] = ()

    @classmethod
    def from_oci(cls, value: Mapping[str, Any]) -> BlockIoLimits | None:
        """Read the OCI object; None if it says nothing.

        Raises:
            CgroupError: (EINVAL) a number out of range; (EOPNOTSUPP) weights of leaves, which
                kernels have no more.
        """
        if value.get("leafWeight") or any(
            one.get("leafWeight") for one in value.get("weightDevice") or ()
        ):
            raise _refused(errno.EOPNOTSUPP, "leafWeight", "Linux has none since 5.0")
        weights = tuple(_device(one, "weight") for one in value.get("weightDevice") or ())
        for weight in (value.get("weight") or None, *(one.value for one in weights)):
            if weight is not None and not _MIN_WEIGHT <= weight <= _MAX_WEIGHT:
                raise _refused(errno.EINVAL, f"weight {weight}", "it must be from 10 to 1000")
        throttles = tuple(
            (name, _device(one, "rate"))
            for key, name, _ in _THROTTLES
            for one in value.get(key) or ()
        )
        found = cls(value.get("weight") or None, weights, throttles)
        return None if found == cls() else found

    def v2_writes(self, has: Callable[[str], bool]) -> Iterator[Write]:
        """Give the writes for v2.

        Weights are those of the BFQ scheduler where the kernel has it, else of io.cost, whose
        scale is 1 to 10000.

        Args:
            has: whether a control file is there.
        """
        bfq = has("io.bfq.weight")
        file = "io.bfq.weight" if bfq else "io.weight"
        weights = [] if self.weight is None else [("default", self.weight)]
        weights += [(str(device), device.value) for device in self.weights]
        for name, weight in weights:
            yield file, f"{name} {weight if bfq else io_weight(weight)}"
        for name, device in self.throttles:
            yield "io.max", f"{device} {name}={device.value or 'max'}"

    def v1_writes(self, has: Callable[[str], bool]) -> Iterator[Write]:
        """Give the writes for v1; see :meth:`v2_writes`."""
        stem = "blkio.bfq.weight" if has("blkio.bfq.weight") else "blkio.weight"
        if self.weight is not None:
            yield stem, str(self.weight)
        for device in self.weights:
            yield f"{stem}_device", f"{device} {device.value}"
        files = {name: file for _, name, file in _THROTTLES}
        for name, device in self.throttles:
            yield files[name], f"{device} {device.value}"


def io_weight(weight: int) -> int:
    """Convert a weight of v1 (10 to 1000) to one of io.weight (1 to 10000), as runc does."""
    return 1 + (weight - _MIN_WEIGHT) * 9999 // (_MAX_WEIGHT - _MIN_WEIGHT)


def _device(value: Mapping[str, Any], key: str) -> DeviceLimit:
    numbers = (value.get("major"), value.get("minor"), value.get(key))
    for number in numbers:
        if not isinstance(number, int) or isinstance(number, bool) or not 0 <= number < 1 << 64:
            raise _refused(errno.EINVAL, repr(dict(value)), f"it needs major, minor and {key}")
    major, minor, limit = numbers
    return DeviceLimit(int(major or 0), int(minor or 0), int(limit or 0))


def _refused(number: int, what: str, reason: str) -> CgroupError:
    return CgroupError(number, "resources", f"blockIO: {what} is refused", reason, "correct it")
