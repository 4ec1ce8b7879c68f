from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from kubeletpy.api.pod import Pod
from kubeletpy.cri.node import NodeFacts
from kubeletpy.volumes.errors import VolumesError
from kubeletpy.volumes.manager import PodVolumes

from ..api.pods import make_pod, with_container
from .test_manager import mount


def pod_with(*items: dict[str, object]) -> Pod:
    pod = make_pod(
        volumes=[{"name": "info", "downwardAPI": {"items": list(items)}}],
        **with_container(
            resources={"limits": {"cpu": "1500m"}},
            volumeMounts=[{"name": "info", "mountPath": "/info"}],
        ),
    )
    pod.metadata.labels = {"b": "2", "a": "1"}
    return pod


def test_files(tmp_path: Path) -> None:
    volumes = PodVolumes(NodeFacts(name="n", root_dir=tmp_path))
    pod = pod_with(
        {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}, "mode": 0o400},
        {"path": "deep/er/name", "fieldRef": {"fieldPath": "metadata.name"}},
        {"path": "cpu", "resourceFieldRef": {
            "containerName": "main", "resource": "limits.cpu", "divisor": "1m"}},
    )  # fmt: skip
    directory = Path(mount(volumes, pod)["info"])
    assert (directory / "labels").read_text() == 'a="1"\nb="2"'
    assert (directory / "labels").stat().st_mode & 0o777 == 0o400
    assert (directory / "deep/er/name").read_text() == "web"
    assert (directory / "deep/er/name").stat().st_mode & 0o777 == 0o644
    assert (directory / "cpu").read_text() == "1500"
    assert (directory / "labels").readlink() == Path("..data/labels")
    before = (directory / "..data").readlink()
    mount(volumes, pod)
    assert (directory / "..data").readlink() == before
    asyncio.run(volumes.remove(pod.metadata.uid))
    assert list((tmp_path / "pods").iterdir()) == []


def test_unknown_container(tmp_path: Path) -> None:
    reference = {"containerName": "none", "resource": "limits.cpu"}
    pod = pod_with({"path": "cpu", "resourceFieldRef": reference})
    volumes = PodVolumes(NodeFacts(name="n", root_dir=tmp_path))
    message = r'^MountVolume.SetUp failed for volume "info" : container none not found$'
    with pytest.raises(VolumesError, match=message):
        mount(volumes, pod)
