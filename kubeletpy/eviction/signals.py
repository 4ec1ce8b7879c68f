"""Signals and thresholds of eviction (pure).

https://kubernetes.io/docs/concepts/scheduling-eviction/node-pressure-eviction/
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from kubeletpy.api.quantity import Family, Quantity
from kubeletpy_common.settings.durations import ConfigurationError, duration

PODS = "pods"


class Signal(StrEnum):
    """What is watched."""

    MEMORY = "memory.available"
    ALLOCATABLE_MEMORY = "allocatableMemory.available"
    NODE_FS = "nodefs.available"
    NODE_FS_INODES = "nodefs.inodesFree"
    IMAGE_FS = "imagefs.available"
    IMAGE_FS_INODES = "imagefs.inodesFree"
    CONTAINER_FS = "containerfs.available"
    CONTAINER_FS_INODES = "containerfs.inodesFree"
    PIDS = "pid.available"


MEMORY_PRESSURE, DISK_PRESSURE, PID_PRESSURE = "MemoryPressure", "DiskPressure", "PIDPressure"
_MEMORY = frozenset({Signal.MEMORY, Signal.ALLOCATABLE_MEMORY})
_INODES = frozenset({Signal.NODE_FS_INODES, Signal.IMAGE_FS_INODES, Signal.CONTAINER_FS_INODES})


def resource_of(signal: Signal) -> str:
    """Return the resource that a signal is about, as messages name it."""
    if signal in _MEMORY:
        return "memory"
    if signal is Signal.PIDS:
        return "pids"
    return "inodes" if signal in _INODES else "ephemeral-storage"


def condition_of(signal: Signal) -> str:
    """Return the node condition that a signal sets."""
    if signal in _MEMORY:
        return MEMORY_PRESSURE
    return PID_PRESSURE if signal is Signal.PIDS else DISK_PRESSURE


@dataclass(frozen=True, slots=True)
class Amount:
    """An absolute amount, or a share of the capacity (0 to 1)."""

    quantity: Quantity | None = None
    share: float = 0.0

    def of(self, capacity: int) -> int:
        """Return it in units (bytes, inodes, processes)."""
        return int(self.quantity) if self.quantity is not None else int(capacity * self.share)


@dataclass(frozen=True, slots=True)
class Threshold:
    """Eviction begins when less than ``value`` is available for ``grace`` seconds.

    Attributes:
        grace: 0: a hard threshold.
        reclaim: how much more is reclaimed once eviction has begun.
    """

    signal: Signal
    value: Amount
    grace: float = 0.0
    reclaim: Amount | None = None

    @property
    def hard(self) -> bool:
        """Whether pods are ended at once, without their own grace."""
        return self.grace == 0


@dataclass(frozen=True, slots=True)
class Observation:
    """A signal's value: what is available of which capacity, in units."""

    available: int
    capacity: int


def parse_thresholds(
    hard: Mapping[str, str],
    soft: Mapping[str, str],
    graces: Mapping[str, str],
    reclaims: Mapping[str, str],
    enforce: Sequence[str] = (),
) -> list[Threshold]:
    """Return the thresholds of a configuration.

    Args:
        hard, soft, graces, reclaims: evictionHard, evictionSoft, evictionSoftGracePeriod and
            evictionMinimumReclaim.
        enforce: enforceNodeAllocatable; with ``pods`` the hard threshold of memory is one of the
            cgroup of all pods as well.

    Raises:
        ConfigurationError: one cannot be understood.
    """
    found = _parse("evictionHard", hard)
    for one in _parse("evictionSoft", soft):
        text = graces.get(one.signal)
        if text is None:
            raise ConfigurationError(
                "grace period must be specified for the soft eviction threshold "
                f"{one.signal}: set evictionSoftGracePeriod"
            )
        found.append(replace(one, grace=float(duration(text))))
    for name in reclaims:
        _signal("evictionMinimumReclaim", name)
    found = [
        replace(one, reclaim=_amount("evictionMinimumReclaim", one.signal, reclaims[one.signal]))
        if one.signal in reclaims
        else one
        for one in found
    ]
    if PODS in enforce:
        found += [
            replace(one, signal=Signal.ALLOCATABLE_MEMORY)
            for one in found
            if one.signal is Signal.MEMORY and one.hard
        ]
    return found


def _parse(field: str, values: Mapping[str, str]) -> list[Threshold]:
    found = []
    for name, text in values.items():
        amount = _amount(field, name, text)
        # 0% and 100% switch a threshold off.
        if amount.quantity is None and not 0 < amount.share < 1:
            continue
        found.append(Threshold(_signal(field, name), amount))
    return found


def _signal(field: str, name: str) -> Signal:
    try:
        signal = Signal(name)
    except ValueError:
        raise ConfigurationError(f"{field}: unsupported eviction signal {name}") from None
    return signal


def _amount(field: str, name: str, text: str) -> Amount:
    match = re.fullmatch(r"([0-9]+(?:\.[0-9]+)?)%", text)
    if match:
        return Amount(share=float(match[1]) / 100)
    try:
        quantity = Quantity(text)
    except ValueError:
        raise ConfigurationError(f"{field}: {name}: {text!r} is no quantity or percentage") from (
            None
        )
    if quantity < Quantity(0):
        raise ConfigurationError(f"{field}: {name}: {text!r} is negative")
    return Amount(quantity)


def with_container_fs(
    thresholds: Sequence[Threshold], *, image_fs: bool, split: bool
) -> list[Threshold]:
    """Return the thresholds with those of containerfs, which are never set but follow (KEP-4191).

    Args:
        thresholds: as configured; what they say of containerfs does not count.
        image_fs: whether images have a file system of their own.
        split: whether writable layers are not there, but on the node's.
    """
    same_as_node = image_fs == split
    sources = {
        Signal.NODE_FS if same_as_node else Signal.IMAGE_FS: Signal.CONTAINER_FS,
        Signal.NODE_FS_INODES if same_as_node else Signal.IMAGE_FS_INODES: (
            Signal.CONTAINER_FS_INODES
        ),
    }
    kept = [one for one in thresholds if one.signal not in sources.values()]
    return kept + [
        replace(one, signal=sources[one.signal]) for one in kept if one.signal in sources
    ]


def describe(resource: str, units: int) -> str:
    """Return an amount of a resource as messages write it: bytes with binary suffixes."""
    binary = resource in ("memory", "ephemeral-storage")
    return str(Quantity(units, Family.BINARY if binary else Family.DECIMAL))
