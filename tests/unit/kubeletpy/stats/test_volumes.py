"""What volumes hold."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from kubeletpy.api.volumes import (
    EmptyDirVolumeSource,
    HostPathVolumeSource,
    PersistentVolumeClaimVolumeSource,
    Volume,
)
from kubeletpy.csi.client import Usage
from kubeletpy.stats.node import Filesystem
from kubeletpy.stats.volumes import VolumeMeasures
from kubeletpy.volumes.errors import VolumeError
from kubeletpy.volumes.plugin import MountRecord

DISK = Filesystem(100, 50, 10, 5, 50, 5)
CLAIM = PersistentVolumeClaimVolumeSource(claim_name="data")


class Driver:
    """Tells of one volume."""

    def __init__(self) -> None:
        self.asked = 0

    async def usage(self, uid: str, record: MountRecord) -> Usage:
        self.asked += 1
        if record.name == "mute":
            raise VolumeError("mute", "the driver does not tell")
        return Usage(capacity=7, used=3)


def measures(*records: MountRecord) -> tuple[VolumeMeasures, Driver]:
    async def filesystem(path: Path) -> Filesystem:
        return DISK

    async def tree(path: Path, *, good: float) -> tuple[int, int]:
        assert good == 60
        return 4, 2

    driver = Driver()
    volumes = SimpleNamespace(
        mounted=lambda uid: {one.name: one for one in records},
        plugins=SimpleNamespace(named=lambda name: driver),
    )
    configuration = SimpleNamespace(volume_stats_agg_period=60)
    core = SimpleNamespace(volumes=volumes, settings=SimpleNamespace(configuration=configuration))
    collector = SimpleNamespace(filesystem=filesystem, tree=tree)
    return VolumeMeasures(cast(Any, core), cast(Any, collector)), driver


def record(name: str, plugin: str = "kubernetes.io/any", *, block: bool = False) -> MountRecord:
    return MountRecord(name=name, spec_name=name, plugin=plugin, path="/x", block=block)


async def test_kinds_of_volumes() -> None:
    found, _ = measures(record("a"), record("b", block=True))
    directory = Volume(name="a", empty_dir=EmptyDirVolumeSource())
    assert await found.measure("u", directory) == Filesystem(100, 50, 10, 5, 4, 2)
    assert await found.measure("u", Volume(name="a", persistent_volume_claim=CLAIM)) == DISK
    host = Volume(name="a", host_path=HostPathVolumeSource(path="/"))
    assert await found.measure("u", host) is None
    assert await found.measure("u", Volume(name="b", persistent_volume_claim=CLAIM)) is None
    assert await found.measure("u", Volume(name="none", persistent_volume_claim=CLAIM)) is None


async def test_drivers_are_asked_rarely() -> None:
    csi = "kubernetes.io/csi"
    found, driver = measures(record("a", csi, block=True), record("mute", csi))
    volume = Volume(name="a", persistent_volume_claim=CLAIM)
    for _ in range(2):
        told = await found.measure("u", volume)
        assert told == Filesystem(7, None, None, None, 3, None)
    assert driver.asked == 1
    mute = Volume(name="mute", persistent_volume_claim=CLAIM)
    assert [await found.measure("u", mute) for _ in range(2)] == [None, None]
    assert driver.asked == 2
