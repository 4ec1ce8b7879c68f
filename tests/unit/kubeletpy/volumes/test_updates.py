"""The manager with plugins and an API server of plain data."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from kubeletpy.api.pod import Pod
from kubeletpy.cri.node import NodeFacts
from kubeletpy.events import Recorder
from kubeletpy.volumes import manager as manager_module
from kubeletpy.volumes.errors import VolumeError, VolumesError
from kubeletpy.volumes.manager import PodVolumes
from kubeletpy.volumes.objects import NoObjects, ObjectMissing
from kubeletpy.volumes.plugin import MountRecord, SetUp, VolumeRequest, VolumeSource

from ..api.pods import make_pod, with_container


class Cluster(NoObjects):
    """ConfigMaps by name."""

    def __init__(self) -> None:
        self.config_maps: dict[str, dict[str, str]] = {}
        self.registered: set[str] = set()
        self.read = asyncio.Event()

    def register(self, pod: Pod) -> None:
        self.registered.add(pod.metadata.uid)

    def unregister(self, uid: str) -> None:
        self.registered.discard(uid)

    async def get(self, resource: str, namespace: str, name: str) -> dict[str, Any]:
        await asyncio.sleep(0)
        if name not in self.config_maps:
            raise ObjectMissing(name)
        self.read.set()
        return {"data": self.config_maps[name]}


@dataclass
class Recording:
    """A plugin that writes down its calls."""

    name: str = "example.com/recording"
    mount_options: bool = False
    follows: bool = True
    again: float | None = None
    calls: list[str] = field(default_factory=list)
    act: Callable[[], Awaitable[None]] | None = None

    def supports(self, source: VolumeSource) -> bool:
        return source.inline is not None and source.inline.csi is not None

    def path(self, request: VolumeRequest) -> str:
        return str(request.directory / "mount")

    def read_only(self, request: VolumeRequest) -> bool:
        return True

    async def set_up(self, request: VolumeRequest) -> SetUp:
        self.calls.append(f"set up {request.name}")
        if self.act is not None:
            await self.act()
        return SetUp(again_after=self.again)

    async def tear_down(self, uid: str, record: MountRecord) -> None:
        self.calls.append(f"tear down {uid} {record.name} {record.path.rsplit('/', 3)[1:]}")


CONFIGURED = {
    "volumes": [
        {"name": "conf", "configMap": {"name": "conf"}},
        {"name": "unused", "configMap": {"name": "nowhere"}},
    ],
    **with_container(volumeMounts=[{"name": "conf", "mountPath": "/conf"}]),
}
DRIVEN = {
    "volumes": [{"name": "vol", "csi": {"driver": "x"}}],
    **with_container(volumeMounts=[{"name": "vol", "mountPath": "/vol"}]),
}


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


@pytest.fixture
def volumes(tmp_path: Path, cluster: Cluster) -> PodVolumes:
    return PodVolumes(NodeFacts(name="n", root_dir=tmp_path), cluster, Recorder("n"))


async def settled(volumes: PodVolumes, uid: str) -> None:
    """Wait until the update that is under way has ended."""
    update = volumes._pods[uid].update
    if update is not None:
        await update


def test_a_config_map_that_changes(volumes: PodVolumes, cluster: Cluster) -> None:
    pod = make_pod(**CONFIGURED)
    uid = pod.metadata.uid

    async def scenario() -> None:
        volumes.track(pod)
        assert cluster.registered == {uid}
        missing = '^MountVolume.SetUp failed for volume "conf" : configmap "conf" not found$'
        with pytest.raises(VolumesError, match=missing):
            await volumes.mount(pod)
        assert volumes.mounted(uid) == {}
        cluster.config_maps["conf"] = {"key": "1"}
        mounted = await volumes.mount(pod)
        assert mounted.keys() == {"conf"}
        assert mounted["conf"].read_only
        file = Path(mounted["conf"].path) / "key"
        assert file.read_text() == "1"
        cluster.config_maps["conf"] = {"key": "2"}
        volumes.changed(uid)
        await settled(volumes, uid)
        assert file.read_text() == "2"
        await volumes.remove(uid)
        assert not cluster.registered
        assert not file.exists()
        volumes.changed(uid)

    asyncio.run(scenario())


def test_an_update_that_fails_is_told_and_the_old_content_stays(
    volumes: PodVolumes, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manager_module, "FIRST_RETRY", 0.001)
    pod = make_pod(**CONFIGURED)
    cluster.config_maps["conf"] = {"key": "1"}

    async def scenario() -> None:
        mounted = await volumes.mount(pod)
        file = Path(mounted["conf"].path) / "key"
        gone = cluster.config_maps.pop("conf")
        volumes.changed(pod.metadata.uid)
        await settled(volumes, pod.metadata.uid)
        assert file.read_text() == "1"
        recorder = volumes.context.recorder
        assert recorder is not None
        assert recorder.events()[0].message == (
            'MountVolume.SetUp failed for volume "conf" : configmap "conf" not found'
        )
        cluster.config_maps["conf"] = {**gone, "key": "2"}
        cluster.read.clear()
        async with asyncio.timeout(30):
            await cluster.read.wait()
        await settled(volumes, pod.metadata.uid)
        assert file.read_text() == "2"
        await volumes.remove(pod.metadata.uid)

    asyncio.run(scenario())


def test_a_plugin_of_another_package(volumes: PodVolumes, tmp_path: Path) -> None:
    plugin = Recording()
    volumes.add(plugin)
    pod = make_pod(**DRIVEN)
    uid = pod.metadata.uid

    async def first() -> None:
        volumes.track(pod)
        mounted = await volumes.mount(pod)
        assert mounted["vol"].path.endswith("volumes/example.com~recording/vol/mount")
        pod.metadata.labels["changed"] = "yes"
        volumes.track(make_pod(**DRIVEN))
        await settled(volumes, uid)

    async def second() -> None:
        # The next kubelet knows of the pod only what is on disk.
        other = PodVolumes(NodeFacts(name="n", root_dir=tmp_path))
        with pytest.raises(VolumeError, match=r"plugin example\.com/recording, which mounted it"):
            await other.unmount(uid)
        other.add(plugin)
        assert other.mounted(uid).keys() == {"vol"}
        await other.remove(uid)

    asyncio.run(first())
    asyncio.run(second())
    torn = f"tear down {uid} vol ['example.com~recording', 'vol', 'mount']"
    assert plugin.calls == ["set up vol", "set up vol", torn]


def test_a_volume_that_is_to_be_renewed_by_time(volumes: PodVolumes) -> None:
    plugin = Recording(again=0.001)
    volumes.add(plugin)
    pod = make_pod(**DRIVEN)

    async def scenario() -> None:
        thrice = asyncio.Event()

        async def count() -> None:
            if len(plugin.calls) == 3:
                thrice.set()

        plugin.act = count
        await volumes.mount(pod)
        async with asyncio.timeout(30):
            await thrice.wait()
        await volumes.remove(pod.metadata.uid)
        assert plugin.calls[-1].startswith("tear down")

    asyncio.run(scenario())


def test_a_volume_that_hangs_holds_up_its_own_pod_only(
    volumes: PodVolumes, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached, hanging = asyncio.Event(), asyncio.Event()
    plugin = Recording()
    volumes.add(plugin)
    cluster.config_maps["conf"] = {"key": "1"}
    stuck, other = make_pod(**DRIVEN), make_pod(**CONFIGURED)
    other.metadata.uid = "other"

    async def hang() -> None:
        reached.set()
        await hanging.wait()

    plugin.act = hang

    async def scenario() -> None:
        task = asyncio.create_task(volumes.mount(stuck))
        await reached.wait()
        await volumes.mount(other)
        assert not task.done()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        monkeypatch.setattr(manager_module, "MOUNT_TIMEOUT", 0.01)
        with pytest.raises(VolumesError, match='volume "vol" : not done in'):
            await volumes.mount(stuck)
        for uid in (stuck.metadata.uid, "other"):
            await volumes.remove(uid)

    asyncio.run(scenario())


def test_records_that_cannot_be_read_are_set_aside(volumes: PodVolumes, cluster: Cluster) -> None:
    cluster.config_maps["conf"] = {"key": "1"}
    pod = make_pod(**CONFIGURED)
    path = volumes.files.paths(pod.metadata.uid).mounts

    async def scenario() -> None:
        await volumes.mount(pod)
        path.write_text("{")
        again = PodVolumes(NodeFacts(name="n", root_dir=path.parents[2]), cluster)
        assert again.mounted(pod.metadata.uid) == {}
        assert path.with_suffix(".corrupt").exists()
        assert (await again.mount(pod)).keys() == {"conf"}
        await again.remove(pod.metadata.uid)
        assert not path.parent.exists()

    asyncio.run(scenario())
