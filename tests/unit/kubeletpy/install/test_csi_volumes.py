"""What drivers hold when a node is removed: they let go of it, or it is told."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest

from kubeletpy.csi import data
from kubeletpy.csi.requests import CsiVolume
from kubeletpy.install import removing
from kubeletpy.install.changes import Memory
from kubeletpy.install.csi_volumes import held, release
from kubeletpy.install.removing import Plan, Remover
from kubeletpy.up.progress import Progress
from tests.support.csi_driver import CsiDriver
from tests.support.device_plugin import Registrar

from . import installations

_MODULE = "kubeletpy.install.csi_volumes"
DRIVER = "disks.example.com"


@dataclass
class Node:
    """A ``--root-dir``, with one driver."""

    root: Path
    driver: CsiDriver

    def publish(self, uid: str, name: str, handle: str, mode: str = "Persistent") -> Path:
        directory = self.root / f"pods/{uid}/volumes/kubernetes.io~csi/{name}"
        (directory / "mount").mkdir(parents=True)
        data.save(directory, {
            "specVolID": name, "volumeHandle": handle, "driverName": DRIVER,
            "volumeLifecycleMode": mode,
        })  # fmt: skip
        return directory

    def stage(self, name: str, handle: str, *, block: bool = False) -> Path:
        volume = CsiVolume(driver=DRIVER, handle=handle, block=block)
        layout = data.Layout(self.root)
        layout.staging_path(volume, name).mkdir(parents=True)
        data.save(layout.staged(volume), {
            "specVolID": name, "volumeHandle": handle, "driverName": DRIVER,
            "block": "true" if block else "false",
        })  # fmt: skip
        return layout.staged(volume)


@pytest.fixture
async def node() -> AsyncIterator[Node]:
    # A path that is short enough for sockets.
    root = Path(tempfile.mkdtemp(prefix="kpy-"))
    (root / "plugins_registry").mkdir()
    driver = await CsiDriver(root / "csi.sock", root / "volumes").start()
    registrar = Registrar(
        root / "plugins_registry/x-reg.sock", "CSIPlugin", DRIVER, str(root / "csi.sock"), "1.0.0"
    )
    await registrar.start()
    yield Node(root, driver)
    await registrar.stop()
    await driver.stop()
    shutil.rmtree(root)


async def test_a_driver_lets_go_of_all_in_order(node: Node) -> None:
    left = [
        node.publish("u1", "pv1", "h1"), node.publish("u2", "pv1", "h1"),
        node.publish("u1", "scratch", "csi-1", "Ephemeral"), node.stage("pv1", "h1"),
    ]  # fmt: skip
    outcome = await release(node.root, 30)
    assert outcome.forced == []
    assert node.driver.names() == ["unpublish"] * 3 + ["unstage"]
    assert [call["volumeId"] for _, call in node.driver.calls] == ["h1", "csi-1", "h1", "h1"]
    assert node.driver.calls[0][1]["targetPath"] == str(left[0] / "mount")
    assert node.driver.calls[3][1]["stagingTargetPath"] == str(left[3] / "globalmount")
    assert [path for path in left if path.exists()] == []
    assert held(node.root) == ([], [])
    # Again is no harm.
    assert (await release(node.root, 30)).released == []


async def test_raw_devices_are_elsewhere(node: Node) -> None:
    node.publish("u1", "pv2", "h2")
    node.stage("pv2", "h2", block=True)
    await release(node.root, 30)
    published, staged = (call for _, call in node.driver.calls)
    devices = node.root / "plugins/kubernetes.io/csi/volumeDevices"
    assert published["targetPath"] == str(devices / "publish/pv2/u1")
    assert staged["stagingTargetPath"] == str(devices / "staging/pv2")


async def test_what_was_unpublished_before_is_not_again(node: Node) -> None:
    directory = node.publish("u1", "pv1", "h1")
    known = data.load(directory)
    assert known is not None
    data.save(directory, known | {data.UNPUBLISHED: "true"})
    node.stage("pv1", "h1")
    await release(node.root, 30)
    assert node.driver.names() == ["unstage"]


async def test_a_driver_that_refuses_or_is_gone_is_told_and_its_volume_unmounted(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    unmounted: list[Path] = []
    monkeypatch.setattr(f"{_MODULE}.mountinfo.mounted_at", lambda path: object())
    monkeypatch.setattr(f"{_MODULE}.mounts.umount", lambda path, flags: unmounted.append(path))
    directory = node.publish("u1", "pv1", "h1")
    node.driver.fault["unpublish"] = (grpc.StatusCode.INTERNAL, "device is busy")
    outcome = await release(node.root, 30)
    [told] = outcome.forced
    assert f"h1 (pv1) of driver {DRIVER}" in told
    assert "device is busy" in told
    assert "was unmounted" in told
    assert unmounted == [directory / "mount"]
    shutil.rmtree(node.root / "plugins_registry")
    [told] = (await release(node.root, 30)).forced
    assert "its driver does not run" in told


async def test_what_is_staged_goes_where_another_runtime_has_no_pods_of_ours(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = node.stage("pv1", "h1")
    monkeypatch.setattr(removing, "_KUBELET", node.root)
    one = installations.node(runtime_endpoint="unix:///nobody/containerd.sock", proxy=False)
    remover = Remover(Plan(one, Memory()), Progress(), has_systemd=False)
    await asyncio.to_thread(remover._end_pods)
    assert node.driver.names() == ["unstage"]
    assert not left.exists()
    assert remover.done == ["1 volumes were given back to their drivers"]
    assert remover.notes == []


async def test_a_driver_that_hangs_takes_no_longer_than_there_is_time(node: Node) -> None:
    node.publish("u1", "pv1", "h1")
    outcome = await release(node.root, 0.0)
    [told] = outcome.forced
    assert "in time" in told
