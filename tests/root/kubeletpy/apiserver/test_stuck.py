"""Pods that cannot be ended: they say so, the node and its other pods go on."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.root.kubeletpy.engine.process import (
    NODE,
    KubeletProcess,
    condition,
    container,
    wait_for,
)
from tests.root.runtime.cri.node import Node
from tests.support.circumstances import patient

from .cluster import Api, Object, bound

pytestmark = pytest.mark.root
Run = Callable[..., dict[str, Any]]
FOREVER = "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done"
FREEZER = Path("/sys/fs/cgroup/freezer")
TOLD = 2.0
"""Seconds within which a fault has to be told."""
ENDS = 10.0
"""Seconds that a kubelet may take to end which leaves its pods running."""


@contextmanager
def frozen(pid: int, token: str) -> Iterator[None]:
    """Keep a process from running, which SIGKILL does not change: it dies once it goes on.

    It is moved in the freezer's hierarchy alone, to where no runtime looks for it.
    """
    home = FREEZER / Path(f"/proc/{pid}/cgroup").read_text().partition(":freezer:/")[2].split()[0]
    place = FREEZER / f"{token}-frozen"
    place.mkdir()
    try:
        (place / "cgroup.procs").write_text(str(pid))
        (place / "freezer.state").write_text("FROZEN")
        wait_for(lambda: (place / "freezer.state").read_text() == "FROZEN\n", "it to be frozen")
        yield
    finally:
        (place / "freezer.state").write_text("THAWED")
        for left in (place / "cgroup.procs").read_text().split():
            (home / "cgroup.procs").write_text(left)
        wait_for(lambda: not (place / "cgroup.procs").read_text(), "the cgroup to be empty")
        place.rmdir()


@contextmanager
def blocked(pid: int, disk: Path) -> Iterator[None]:
    """Keep a process from running that writes to ``disk`` again and again, by freezing that one.

    A frozen process of cgroup v2 does die of SIGKILL; who waits for such a disk does not.
    """
    subprocess.run(["fsfreeze", "--freeze", str(disk)], check=True)
    try:
        status = Path(f"/proc/{pid}/status")
        wait_for(lambda: "State:\tD" in status.read_text(), "it to wait for the disk")
        yield
    finally:
        subprocess.run(["fsfreeze", "--unfreeze", str(disk)], check=True)


@pytest.fixture
def disk(machine: None, tmp_path: Path) -> Iterator[Path]:
    """A file system that can be frozen."""
    image, place = tmp_path / "image", tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mkfs.ext4", "-q", "-O", "^has_journal", str(image), "4M"], check=True)
    subprocess.run(["mount", "-o", "loop", str(image), str(place)], check=True)
    yield place
    subprocess.run(["umount", str(place)], check=True)


def first_process(kubelet: KubeletProcess, pod: Object) -> int:
    """Return the id of the first process of container a, of the machine's point of view."""
    identity = str(container(pod, "a")["containerID"]).partition("://")[2]
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                text = (entry / "cgroup").read_text()
                status = (entry / "status").read_text()
            except OSError:
                continue
            numbers = next(line for line in status.splitlines() if line.startswith("NSpid:"))
            if identity in text and numbers.split()[-1] == "1":
                return int(entry.name)
    raise AssertionError(f"no process of {identity}")


def warnings(api: Api, name: str, reason: str) -> list[str]:
    """Return the messages of the warnings of a pod."""
    found = api.must("GET", "/api/v1/namespaces/default/events")["items"]
    return [
        one["message"]
        for one in found
        if one["involvedObject"].get("name") == name
        and (one["type"], one["reason"]) == ("Warning", reason)
    ]


def node_ready(api: Api) -> bool:
    status = api.must("GET", f"/api/v1/nodes/{NODE}")["status"]
    return condition({"status": status}, "Ready") == "True"


def said(pod: Object, reason: str) -> str:
    """Return what the pod's conditions say for ``reason``, "" if none has it."""
    found = pod["status"].get("conditions", ())
    return next((str(one["message"]) for one in found if one.get("reason") == reason), "")


def story(kubelet: KubeletProcess, name: str) -> Object:
    """Return what ``kubeletpy why`` tells of a pod."""
    status, body = kubelet.get(f"/why?pod={name}&namespace=default")
    assert status == 200, body
    return dict(json.loads(body)[0])


def others_go_on(api: Api, run: Run) -> None:
    """Start a pod and delete it again."""
    api.create(bound("other", run("a", FOREVER)))
    api.wait_ready("other")
    api.delete("other")
    api.wait_gone("other")
    assert node_ready(api)


def test_a_container_that_outlives_sigkill(
    joined: KubeletProcess, api: Api, node: Node, run: Run, disk: Path
) -> None:
    script = "while :; do echo line > /disk/file; sleep 0.1; done"
    mounts = [{"name": "disk", "mountPath": "/disk"}]
    volumes = [{"name": "disk", "hostPath": {"path": str(disk)}}]
    api.create(bound("stuck", run("a", script, volumeMounts=mounts), volumes=volumes))
    pod = api.wait_ready("stuck")
    first = first_process(joined, pod)
    with frozen(first, node.place.token) if FREEZER.exists() else blocked(first, disk):
        api.delete("stuck", gracePeriodSeconds=1)
        # SIGKILL comes two seconds after the stop signal at the earliest, as with the Go kubelet.
        deadline = time.monotonic() + patient(2 + TOLD)
        told = api.wait("stuck", lambda one: said(one, "FailedKillPod"), "held up", 2 + TOLD)
        wait_for(lambda: warnings(api, "stuck", "FailedKillPod"), "an event")
        assert time.monotonic() < deadline
        assert "SIGKILL" in said(told, "FailedKillPod")
        assert "running" in container(told, "a")["state"]
        assert "FailedKillPod" in json.dumps(story(joined, "stuck")["waits"])
        others_go_on(api, run)
        assert api.pod("stuck") is not None
    api.wait_gone("stuck")
    assert node_ready(api)


def test_a_volume_that_cannot_be_unmounted(joined: KubeletProcess, api: Api, run: Run) -> None:
    """A process of the node has a file of it open."""
    volumes = [{"name": "data", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}]
    mounts = [{"name": "data", "mountPath": "/data"}]
    api.create(bound("busy", run("a", FOREVER, volumeMounts=mounts), volumes=volumes))
    pod = api.wait_ready("busy")
    of_pod = joined.root / "pods" / pod["metadata"]["uid"]
    with open(of_pod / "volumes/kubernetes.io~empty-dir/data/held", "w") as held:
        api.delete("busy", gracePeriodSeconds=1)
        # Its only container ends at once.
        told = api.wait("busy", lambda one: said(one, "FailedUnmount"), "held up", 1 + TOLD)
        assert held.name.rpartition("/")[0] in said(told, "FailedUnmount")
        assert "terminated" in container(told, "a")["state"]
        wait_for(lambda: warnings(api, "busy", "FailedUnmount"), "an event")
        waits = story(joined, "busy")["waits"]
        assert [(one["reason"], bool(one["advice"])) for one in waits] == [("FailedUnmount", True)]
        others_go_on(api, run)
        assert os.path.samestat(os.fstat(held.fileno()), os.stat(held.name))
    api.wait_gone("busy")
    wait_for(lambda: not of_pod.exists(), "the files of the pod to be removed")


def test_a_kubelet_whose_streams_are_open_ends_in_time(
    joined: KubeletProcess, api: Api, run: Run
) -> None:
    """Logs are followed and a watch is held while it is told to stop; its pod stays."""
    joined.stop()
    joined.start(terminate=False)
    api.create(bound("followed", run("a", "echo here; " + FOREVER)))
    api.wait_ready("followed")
    connection = api.connect()
    connection.request(
        "GET", "/api/v1/namespaces/default/pods/followed/log?follow=true&container=a"
    )
    answer = connection.getresponse()
    assert (answer.status, answer.readline()) == (200, b"here\n")
    begun = time.monotonic()
    assert joined.stop() == 0
    assert time.monotonic() - begun < patient(ENDS)
    answer.close()
    connection.close()
    joined.start()
    api.wait_ready("followed")
