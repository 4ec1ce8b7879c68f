"""What volumes hold: by their file system, by counting, or by the word of a CSI driver."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from kubeletpy.api.volumes import Volume
from kubeletpy.core import Core
from kubeletpy.volumes.errors import VolumeError
from kubeletpy.volumes.plugin import MountRecord

from .collector import Collector
from .node import Filesystem

if TYPE_CHECKING:
    from kubeletpy.csi.client import Usage

_CSI: Final = "kubernetes.io/csi"
_SHORTEST: Final = 10.0
_COUNTED: Final = ("config_map", "secret", "projected", "downward_api", "empty_dir")
"""Volumes in the kubelet's directory: what is in them is counted."""


class VolumeMeasures:
    """Measures volumes of pods.

    Args:
        core: the kubelet's parts.
        collector: measures file systems.
    """

    def __init__(self, core: Core, collector: Collector) -> None:
        self._core = core
        self._collector = collector
        self._told: dict[tuple[str, str], tuple[float, Filesystem | None]] = {}

    @property
    def _good(self) -> float:
        return max(float(self._core.settings.configuration.volume_stats_agg_period), _SHORTEST)

    async def measure(self, uid: str, volume: Volume) -> Filesystem | None:
        """Return what a pod's volume holds; None: that cannot be known, or is nobody's to know."""
        record = self._core.volumes.mounted(uid).get(volume.name)
        if record is None or volume.host_path is not None:
            return None
        if record.plugin == _CSI:
            return await self._told_by_driver(uid, record)
        if not record.path or record.block:
            return None
        found = await self._collector.filesystem(Path(record.path))
        if found is None or all(getattr(volume, name) is None for name in _COUNTED):
            return found
        counted = await self._collector.tree(Path(record.path), good=self._good)
        if counted is None:
            return found
        return replace(found, used=counted[0], inodes_used=counted[1])

    async def _told_by_driver(self, uid: str, record: MountRecord) -> Filesystem | None:
        key, now = (uid, record.name), time.monotonic()
        self._told = {key: kept for key, kept in self._told.items() if now - kept[0] < self._good}
        if key in self._told:
            return self._told[key][1]
        plugin = self._core.volumes.plugins.named(_CSI)
        # By name, so that a kubelet without CSI volumes does not load what they need.
        ask = getattr(plugin, "usage", None)
        found = None
        if ask is not None:
            try:
                found = of_driver(await ask(uid, record))
            except (VolumeError, TimeoutError):
                # The driver cannot tell, or is away: then there are no figures, as in Go.
                pass
        self._told[key] = (now, found)
        return found


def of_driver(usage: Usage) -> Filesystem:
    """Return what a driver tells (pure)."""
    return Filesystem(
        usage.capacity,
        usage.available,
        usage.inodes,
        usage.inodes_free,
        usage.used,
        usage.inodes_used,
    )
