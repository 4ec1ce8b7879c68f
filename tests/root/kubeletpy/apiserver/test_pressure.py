"""A node that is really full: memory, disk space, inodes, the disk of images."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kubeletpy_common.linux import mounts
from kubeletpy_proto import cri_pb2
from tests.root.kubeletpy.engine.process import NODE, KubeletProcess, condition, wait_for
from tests.root.runtime.cri.node import Node, Place
from tests.support.circumstances import patient

from .cluster import Api, Object, bound

pytestmark = pytest.mark.root
Run = Callable[..., dict[str, Any]]
FOREVER = "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done"
HOLD = "(head -c {size} /dev/zero; exec sleep 1000) | tail -c {size}"
MI = 2**20
PODS_MEMORY = 500 * MI
TRANSITION = int(patient(3))
"""Seconds: pressure has to be seen before it is over."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """The runtime's root is a small disk of its own."""
    made = Place(tmp_path_factory.mktemp("pressure"))
    made.root.mkdir(mode=0o700)
    mounts.mount("images", made.root, "tmpfs", 0, "size=160m,mode=700")
    yield made
    mounts.umount(made.root, 0)


@pytest.fixture
def full(joined: KubeletProcess, api: Api) -> Iterator[KubeletProcess]:
    """A small node: pods have 500 MiB of memory, the disk has 64 MiB and 2000 inodes."""
    joined.stop()
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    configuration = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {"anonymous": {"enabled": False}},
        "systemReserved": {"memory": str(memory - PODS_MEMORY)},
        "evictionHard": {
            "memory.available": "150Mi",
            "nodefs.available": "24Mi",
            "nodefs.inodesFree": "1000",
            "imagefs.available": "70Mi",
        },
        "evictionPressureTransitionPeriod": f"{TRANSITION}s",
        "imageMinimumGCAge": "1s",
        "imageGCHighThresholdPercent": 100,
        "mergeDefaultEvictionSettings": False,
    }
    path = joined.directory / "full.yaml"
    path.write_text(json.dumps(configuration))
    before, joined.flags = joined.flags, (*joined.flags, f"--config={path}")
    mounts.mount("node", joined.root, "tmpfs", 0, "size=64m,nr_inodes=2000,mode=700")
    joined.start()
    wait_for(lambda: "eviction manager started" in joined.log(), "the eviction manager")
    yield joined
    api.must("DELETE", "/api/v1/namespaces/default/pods", {"gracePeriodSeconds": 0})
    wait_for(lambda: not joined.pods(), "all pods to be gone", 60)
    assert joined.stop() == 0
    mounts.umount(joined.root, 0)
    joined.flags = before


def node_condition(api: Api, kind: str) -> Object:
    found = api.must("GET", f"/api/v1/nodes/{NODE}")["status"].get("conditions", [])
    return next((one for one in found if one["type"] == kind), {})


def wait_condition(api: Api, kind: str, status: str, reason: str) -> None:
    def holds() -> bool:
        found = node_condition(api, kind)
        return (found.get("status"), found.get("reason")) == (status, reason)

    wait_for(holds, f"{kind} {status} {reason}", 30)


def wait_evicted(api: Api, name: str) -> str:
    """Wait until a pod is evicted as a disruption; return the message."""
    pod = api.wait(name, lambda one: one["status"].get("phase") == "Failed", "evicted", 40)
    assert pod["status"]["reason"] == "Evicted"
    assert condition(pod, "DisruptionTarget") == "True"
    events = api.must("GET", "/api/v1/namespaces/default/events")["items"]
    message = str(pod["status"]["message"])
    assert message in [one["message"] for one in events if one["reason"] == "Evicted"]
    return message


def wants(memory: str) -> Object:
    return {"requests": {"memory": memory}}


def test_memory(full: KubeletProcess, api: Api, run: Run) -> None:
    """Who uses more than it asked for goes, though another one uses nearly as much."""
    hold = run("a", HOLD.format(size=150 * MI), resources=wants("200Mi"))
    api.create(bound("modest", hold))
    api.create(bound("idle", run("a", FOREVER)))
    before = [api.wait_ready(name) for name in ("modest", "idle")]
    api.create(bound("hog", run("a", HOLD.format(size=250 * MI), resources=wants("20Mi"))))
    message = wait_evicted(api, "hog")
    expected = (
        r"The node was low on resource: memory\. Threshold quantity: 150Mi, available: \d+Ki\. "
        r"Container a was using \d+Ki, request is 20Mi, has larger consumption of memory\. "
    )
    assert re.fullmatch(expected, message), message
    wait_condition(api, "MemoryPressure", "True", "KubeletHasInsufficientMemory")
    # A pod without requests is not let in meanwhile.
    api.create(bound("late", run("a", FOREVER)))
    late = api.wait("late", lambda one: one["status"].get("phase") == "Failed", "refused")
    assert late["status"]["reason"] == "Evicted"
    assert late["status"]["message"] == (
        "Pod was rejected: The node had condition: [MemoryPressure]. "
    )
    wait_condition(api, "MemoryPressure", "False", "KubeletHasSufficientMemory")
    assert [api.wait_ready(name)["status"] for name in ("modest", "idle")] == [
        pod["status"] for pod in before
    ]
    assert node_condition(api, "Ready")["status"] == "True"


def test_disks(full: KubeletProcess, api: Api, node: Node, run: Run) -> None:
    """Images that nobody uses go first; then the pods that fill the disks, each for its own."""
    directory = full.directory / "start"
    directory.mkdir()
    volumes = [
        {"name": "d", "emptyDir": {}},
        {"name": "start", "hostPath": {"path": str(directory)}},
    ]
    mounts = [{"name": name, "mountPath": f"/{name}"} for name in ("d", "start")]

    def pod(name: str, script: str) -> Object:
        once = f"until [ -e /start/now ]; do sleep 0.1; done; {script}; {FOREVER}"
        return bound(name, run("a", once, volumeMounts=mounts), volumes=volumes)

    some = "head -c 3000000 /dev/zero > /d/some; for i in 1 2 3 4; do : > /d/$i; done"
    api.create(pod("modest", some))
    before = api.wait_ready("modest")
    names = [f"unused{number}" for number in range(3)]
    for name in names:
        image = node.push(name, {"blob": os.urandom(16 * MI)})
        api.create(bound(name, {**run("a", FOREVER), "image": image}))
        api.wait_ready(name)
        api.delete(name)
        api.wait_gone(name)
    wait_condition(api, "DiskPressure", "True", "KubeletHasDiskPressure")
    wait_for(lambda: len(listed(node, names)) < len(names), "unused images to be removed")
    wait_condition(api, "DiskPressure", "False", "KubeletHasNoDiskPressure")
    hogs = {
        "space": ("head -c 45000000 /dev/zero > /d/big", "ephemeral-storage", "24Mi"),
        "inodes": ("i=0; while [ $i -lt 1100 ]; do : > /d/$i; i=$((i+1)); done", "inodes", "1k"),
        "layer": ("head -c 100000000 /dev/zero > /big", "ephemeral-storage", "70Mi"),
    }
    for name, (script, _, _) in hogs.items():
        api.create(pod(name, script))
        api.wait_ready(name)
    (directory / "now").touch()
    for name, (_, resource, quantity) in hogs.items():
        start = f"The node was low on resource: {resource}. Threshold quantity: {quantity}, "
        message = wait_evicted(api, name)
        assert message.startswith(start), message
    # What they had written is given back at once, though they are still there to be looked at.
    wait_condition(api, "DiskPressure", "False", "KubeletHasNoDiskPressure")
    assert api.wait_ready("modest")["status"] == before["status"]


def listed(node: Node, names: list[str]) -> list[str]:
    """Return which of these images the runtime has."""
    images = node.images.ListImages(cri_pb2.ListImagesRequest(), timeout=patient(20)).images
    tags = [tag for image in images for tag in image.repo_tags]
    return [name for name in names if any(f"/{name}:" in tag for tag in tags)]
