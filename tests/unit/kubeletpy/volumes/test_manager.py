from __future__ import annotations

import asyncio
import os
import resource
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from kubeletpy.api.pod import Pod
from kubeletpy.api.quantity import Quantity
from kubeletpy.api.volumes import EmptyDirVolumeSource
from kubeletpy.cri.node import NodeFacts
from kubeletpy.volumes.cleanup import remove_tree
from kubeletpy.volumes.empty_dir import memory_size
from kubeletpy.volumes.files import PodFiles, orphan_logs
from kubeletpy.volumes.manager import PodVolumes

from ..api.pods import make_pod, with_container

SCRATCH = {
    "volumes": [{"name": "scratch", "emptyDir": {}}],
    **with_container(volumeMounts=[{"name": "scratch", "mountPath": "/scratch"}]),
}


def mount(volumes: PodVolumes, pod: Pod) -> dict[str, str]:
    mounted = asyncio.run(volumes.mount(pod))
    return {name: record.path for name, record in mounted.items()}


@pytest.fixture
def node(tmp_path: Path) -> NodeFacts:
    return NodeFacts(name="n", root_dir=tmp_path / "root", pod_logs=tmp_path / "logs")


def test_empty_dir_on_disk(node: NodeFacts) -> None:
    volumes, pod = PodVolumes(node), make_pod(**SCRATCH)
    path = Path(mount(volumes, pod)["scratch"])
    assert path.stat().st_mode & 0o7777 == 0o777
    # Open to every user of the pod, but to none of the node.
    for directory in (node.root_dir / "pods", node.root_dir / "pods" / pod.metadata.uid):
        assert directory.stat().st_mode & 0o7777 == 0o750
    (path / "file").write_text("kept")
    path.chmod(0o700)
    # Again, as after a restart of the kubelet: what the pod made of it stays.
    assert mount(PodVolumes(node), pod) == {"scratch": str(path)}
    assert (path / "file").read_text() == "kept"
    assert path.stat().st_mode & 0o7777 == 0o700


def test_directories_logs_and_files(node: NodeFacts) -> None:
    every = PodVolumes(node)
    volumes, pod = every.files, make_pod(hostAliases=[{"ip": "1.2.3.4", "hostnames": ["x"]}])
    volumes.prepare_directories(pod)
    volumes.prepare_directories(pod)
    assert (node.pod_logs / "default_web_11111111-2222").is_dir()
    assert volumes.write_hosts(pod, []) == ""
    hosts = Path(volumes.write_hosts(pod, ["10.88.0.2"]))
    assert "10.88.0.2\tweb\n" in hosts.read_text()
    assert "1.2.3.4\tx\n" in hosts.read_text()
    container = pod.spec.containers[0]
    log = Path(volumes.termination_log(pod, container, 1))
    assert log.stat().st_mode & 0o777 == 0o666
    log.write_text("bye")
    assert Path(volumes.termination_log(pod, container, 1)).read_text() == ""
    assert volumes.termination_log(pod, container, 2) != str(log)
    asyncio.run(every.remove(pod.metadata.uid))
    asyncio.run(every.remove(pod.metadata.uid))
    volumes.remove_logs(pod)
    volumes.remove_logs(pod)
    assert list((node.root_dir / "pods").iterdir()) == []
    assert list(node.pod_logs.iterdir()) == []


def test_orphans(node: NodeFacts) -> None:
    volumes = PodFiles(node)
    assert volumes.orphans([]) == []
    for uid in ("a", "b"):
        pod = make_pod()
        pod.metadata.uid = uid
        volumes.prepare_directories(pod)
    (node.pod_logs / "unrelated").mkdir()
    assert volumes.orphans(["b"]) == ["a"]
    assert orphan_logs(node, ["b"]) == [node.pod_logs / "default_web_a"]
    assert orphan_logs(replace(node, pod_logs=Path("/nonexistent")), []) == []


@pytest.mark.parametrize(
    ("limit", "resources", "node_memory", "size"),
    [
        (None, {}, 1000, 1000),
        ("100", {}, 1000, 100),
        ("5000", {}, 1000, 1000),
        ("100", {"limits": {"memory": "50", "cpu": "1"}}, 1000, 50),
        (None, {"requests": {"memory": "50"}}, 1000, 1000),
        (None, {}, 0, 0),
    ],
)
def test_size_of_a_memory_volume(
    limit: str | None, resources: dict[str, object], node_memory: int, size: int
) -> None:
    pod = make_pod(**with_container(resources=resources))
    source = EmptyDirVolumeSource(medium="Memory", size_limit=Quantity(limit) if limit else None)
    assert memory_size(pod, source, node_memory) == size


def test_removal_never_follows_links(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    canary.mkdir()
    (canary / "file").write_text("alive")
    victim = tmp_path / "victim"
    (victim / "deep").mkdir(parents=True)
    (victim / "link").symlink_to(canary)
    (victim / "deep" / "link").symlink_to("/")
    os.mkfifo(victim / "fifo")
    (victim / os.fsdecode(b"\xff\xfe")).mkdir()
    remove_tree(victim)
    assert not victim.exists()
    assert (canary / "file").read_text() == "alive"
    (tmp_path / "top").symlink_to(canary)
    remove_tree(tmp_path / "top")
    assert (canary / "file").read_text() == "alive"
    assert not (tmp_path / "top").is_symlink()
    remove_tree(tmp_path / "none" / "none")


def test_removal_of_a_tree_deeper_than_descriptors_and_the_stack(tmp_path: Path) -> None:
    depth = sys.getrecursionlimit() + 200
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, depth - 100), hard))
    try:
        remove_a_deep_tree(tmp_path, depth)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def remove_a_deep_tree(tmp_path: Path, depth: int) -> None:
    (tmp_path / "victim").mkdir()
    descriptor = os.open(tmp_path / "victim", os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=descriptor)
        os.close(os.open("f", os.O_CREAT | os.O_WRONLY, dir_fd=descriptor))
        below = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(descriptor)
    remove_tree(tmp_path / "victim")
    assert list(tmp_path.iterdir()) == []
