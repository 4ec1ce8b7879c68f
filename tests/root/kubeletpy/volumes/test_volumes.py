from __future__ import annotations

import asyncio
import ctypes
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kubeletpy.api.pod import Pod
from kubeletpy.cri.node import NodeFacts
from kubeletpy.volumes import mountinfo, ownership, subpath
from kubeletpy.volumes.cleanup import remove_tree
from kubeletpy.volumes.errors import VolumeError
from kubeletpy.volumes.manager import PodVolumes
from kubeletpy_common.linux import mounts
from tests.unit.kubeletpy.api.pods import make_pod, with_container

pytestmark = pytest.mark.root

MEMORY = {
    "volumes": [{"name": "mem", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}],
    **with_container(volumeMounts=[{"name": "mem", "mountPath": "/mem"}]),
}
DISK = {
    "volumes": [{"name": "disk", "emptyDir": {}}],
    **with_container(volumeMounts=[{"name": "disk", "mountPath": "/disk"}]),
}


@pytest.fixture
def volumes(tmp_path: Path) -> Iterator[PodVolumes]:
    volumes = PodVolumes(
        NodeFacts(
            name="n", root_dir=tmp_path / "root", pod_logs=tmp_path / "logs", memory_bytes=2**30
        )
    )
    yield volumes
    for uid in volumes.files.orphans([]):
        asyncio.run(volumes.remove(uid))


def mount(volumes: PodVolumes, pod: Pod) -> dict[str, str]:
    mounted = asyncio.run(volumes.mount(pod))
    return {name: record.path for name, record in mounted.items()}


def mounted(path: Path | str) -> str | None:
    mount = mountinfo.mounted_at(path)
    return mount.fstype if mount else None


def test_memory_volume(volumes: PodVolumes) -> None:
    pod = make_pod(**MEMORY)
    path = Path(mount(volumes, pod)["mem"])
    assert mounted(path) == "tmpfs"
    assert path.stat().st_mode & 0o7777 == 0o1777
    status = os.statvfs(path)
    assert status.f_blocks * status.f_frsize == 2**20
    (path / "kept").write_text("x")
    with pytest.raises(OSError, match="No space"):
        (path / "full").write_bytes(b"\0" * 2**21)
    mount(volumes, pod)
    assert (path / "kept").read_text() == "x"
    assert len(mountinfo.below(path)) == 1
    asyncio.run(volumes.unmount(pod.metadata.uid))
    asyncio.run(volumes.unmount(pod.metadata.uid))
    assert mounted(path) is None
    asyncio.run(volumes.remove(pod.metadata.uid))
    assert not path.exists()


def test_group_of_the_file_system(volumes: PodVolumes) -> None:
    pod = make_pod(
        securityContext={"fsGroup": 4321},
        volumes=[*MEMORY["volumes"], *DISK["volumes"]],
        **with_container(
            volumeMounts=[
                {"name": "mem", "mountPath": "/mem"},
                {"name": "disk", "mountPath": "/disk"},
            ]
        ),
    )
    modes = {"mem": 0o3777, "disk": 0o2777}
    for name, path in mount(volumes, pod).items():
        status = Path(path).stat()
        assert (status.st_gid, status.st_mode & 0o7777) == (4321, modes[name])
        (Path(path) / "file").touch()
        assert (Path(path) / "file").stat().st_gid == 4321


def test_a_busy_volume_is_named_and_not_forced(volumes: PodVolumes) -> None:
    pod = make_pod(**MEMORY)
    path = Path(mount(volumes, pod)["mem"])
    with (path / "open").open("w"):
        with pytest.raises(VolumeError, match=str(path)):
            asyncio.run(volumes.remove(pod.metadata.uid))
        assert mounted(path) == "tmpfs"
        assert (path / "open").exists()
    asyncio.run(volumes.remove(pod.metadata.uid))
    assert not path.exists()


def test_removal_stops_at_what_is_mounted(tmp_path: Path) -> None:
    """CVE-2017-1002102: what is bound into a pod's directory is not the pod's to delete."""
    canary, victim = tmp_path / "canary", tmp_path / "victim"
    canary.mkdir()
    (canary / "file").write_text("alive")
    (victim / "bound").mkdir(parents=True)
    # Of the same file system: the device number does not tell.
    mounts.mount(canary, victim / "bound", None, mounts.MS_BIND)
    try:
        with pytest.raises(VolumeError, match="mount point"):
            remove_tree(victim)
        assert (canary / "file").read_text() == "alive"
    finally:
        mounts.umount(victim / "bound")
    remove_tree(victim)
    assert (canary / "file").read_text() == "alive"


def test_stacked_and_nested_mounts_are_unmounted(volumes: PodVolumes, tmp_path: Path) -> None:
    pod = make_pod(**DISK)
    path = Path(mount(volumes, pod)["disk"])
    canary = tmp_path / "canary"
    (canary / "sub").mkdir(parents=True)
    (canary / "file").write_text("alive")
    mounts.mount("tmpfs", path, "tmpfs")
    mounts.mount(canary, path, None, mounts.MS_BIND)
    mounts.mount("tmpfs", path / "sub", "tmpfs")
    asyncio.run(volumes.remove(pod.metadata.uid))
    assert not path.exists()
    assert (canary / "file").read_text() == "alive"
    assert mountinfo.below(tmp_path) == []


def pod_with_sub_path(sub_path: str) -> Pod:
    return make_pod(
        volumes=[{"name": "disk", "emptyDir": {}}],
        **with_container(
            volumeMounts=[
                {"name": "disk", "mountPath": "/whole"},
                {"name": "disk", "mountPath": "/part", "subPath": sub_path},
            ]
        ),
    )


def sub_paths(volumes: PodVolumes, pod: Pod) -> dict[int, str]:
    return volumes.sub_paths(pod, pod.spec.containers[0], {})


def test_sub_path_is_made_and_bound(volumes: PodVolumes) -> None:
    pod = pod_with_sub_path("a/b")
    whole = Path(mount(volumes, pod)["disk"])
    part = Path(sub_paths(volumes, pod)[1])
    assert (whole / "a" / "b").stat().st_mode & 0o7777 == 0o777
    (whole / "a" / "b" / "file").write_text("seen")
    assert (part / "file").read_text() == "seen"
    assert sub_paths(volumes, pod) == {1: str(part)}
    assert len(mountinfo.below(part)) == 1
    # Replaced by the pod: the next start of the container sees the new one.
    (whole / "a" / "b").rename(whole / "a" / "old")
    assert list(Path(sub_paths(volumes, pod)[1]).iterdir()) == []
    assert len(mountinfo.below(part)) == 1
    asyncio.run(volumes.remove(pod.metadata.uid))
    assert not whole.exists()


def test_sub_path_of_a_file_and_through_an_inner_link(volumes: PodVolumes) -> None:
    pod = pod_with_sub_path("link/file")
    whole = Path(mount(volumes, pod)["disk"])
    (whole / "real").mkdir()
    (whole / "real" / "file").write_text("seen")
    (whole / "link").symlink_to("real")
    assert Path(sub_paths(volumes, pod)[1]).read_text() == "seen"


@pytest.mark.parametrize("target", ["/", "/etc", "../../../..", "nowhere"])
def test_sub_path_does_not_leave_the_volume(volumes: PodVolumes, target: str) -> None:
    """CVE-2017-1002101."""
    pod = pod_with_sub_path("link/inner")
    whole = Path(mount(volumes, pod)["disk"])
    (whole / "link").symlink_to(target)
    with pytest.raises(VolumeError, match="subPath 'link/inner'"):
        sub_paths(volumes, pod)
    assert mountinfo.below(whole.parents[2]) == []


def test_sub_path_under_a_race(tmp_path: Path) -> None:
    """CVE-2021-25741: a component swapped for a link to the host, all the time."""
    volume, outside = tmp_path / "volume", tmp_path / "outside"
    (volume / "dir" / "inner").mkdir(parents=True)
    (volume / "dir" / "inner" / "mine").touch()
    (outside / "inner").mkdir(parents=True)
    (outside / "inner" / "canary").touch()
    (volume / "evil").symlink_to(outside)
    stop = threading.Event()
    exchange = _exchange(volume / "dir", volume / "evil")
    attacker = threading.Thread(
        target=lambda: [exchange() for _ in iter(stop.is_set, True)], name="attacker"
    )
    attacker.start()
    target = tmp_path / "target"
    refused = bound = 0
    try:
        for _ in range(1000):
            try:
                subpath.prepare("volume", str(volume), "dir/inner", target)
            except VolumeError:
                refused += 1
                continue
            bound += 1
            assert os.listdir(target) == ["mine"]
            mounts.umount(target)
    finally:
        stop.set()
        attacker.join()
        while mountinfo.mounted_at(target) is not None:
            mounts.umount(target)
    # The race was on: both outcomes were seen, and never a third one.
    assert refused
    assert bound
    assert os.listdir(outside / "inner") == ["canary"]


def _exchange(first: Path, second: Path) -> Callable[[], int]:
    """Return what swaps two paths in one step (renameat2, RENAME_EXCHANGE)."""
    libc = ctypes.CDLL(None, use_errno=True)
    one, other = os.fsencode(first), os.fsencode(second)
    return lambda: int(libc.renameat2(-100, one, -100, other, 2))


def test_ownership_under_a_race(tmp_path: Path) -> None:
    """A pod that swaps its files for links does not get the node's changed with its own."""
    volume, outside = tmp_path / "volume", tmp_path / "outside"
    (volume / "dir").mkdir(parents=True)
    outside.mkdir(mode=0o700)
    for directory in (volume, volume / "dir", outside):
        (directory / "file").touch(mode=0o600)
    (volume / "link").symlink_to(outside / "file")
    (volume / "evil").symlink_to(outside)
    swaps = [
        _exchange(volume / "file", volume / "link"),
        _exchange(volume / "dir", volume / "evil"),
    ]
    stop = threading.Event()
    attacker = threading.Thread(
        target=lambda: [swap() for _ in iter(stop.is_set, True) for swap in swaps]
    )
    attacker.start()
    try:
        for group in range(4000, 4300):
            ownership.change(volume, group)
    finally:
        stop.set()
        attacker.join()
    ownership.change(volume, 4321)
    for path in (volume / "file", volume / "link", volume / "dir", volume / "evil"):
        assert path.lstat().st_gid == 4321
    for path, mode in ((outside, 0o700), (outside / "file", 0o600)):
        assert (path.stat().st_gid, path.stat().st_mode & 0o7777) == (0, mode)
