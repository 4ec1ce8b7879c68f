"""A full disk below the kubelet, and a full table of processes: who needs one of them says so."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from kubeletpy_common.cgroups import detect
from kubeletpy_common.linux import mounts
from tests.root.kubeletpy.engine.process import KubeletProcess, condition, container, wait_for
from tests.support.disks import filled

from .cluster import Api, Object, bound
from .test_stuck import node_ready, story

pytestmark = pytest.mark.root
Run = Callable[..., dict[str, Any]]
FOREVER = "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done"
PROCESSES = 60
"""How many the pods of the node may have together."""


@pytest.fixture
def small(joined: KubeletProcess, api: Api) -> Iterator[KubeletProcess]:
    """A node whose root and log directories are small disks, and which has few processes."""
    joined.stop()
    files = (Path("/proc/sys/kernel") / name for name in ("pid_max", "threads-max"))
    reserved = min(int(path.read_text()) for path in files) - PROCESSES
    configuration = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "systemReserved": {"pid": str(reserved)},
        "evictionHard": {"nodefs.available": "0%", "memory.available": "0%"},
    }
    path = joined.directory / "small.yaml"
    path.write_text(json.dumps(configuration))
    before, joined.flags = joined.flags, (*joined.flags, f"--config={path}")
    joined.logs.mkdir(exist_ok=True)
    for directory in (joined.root, joined.logs):
        mounts.mount("small", directory, "tmpfs", 0, "size=8m,mode=700")
    joined.start(terminate=False)
    yield joined
    api.must("DELETE", "/api/v1/namespaces/default/pods", {"gracePeriodSeconds": 0})
    wait_for(lambda: not joined.pods(), "all pods to be gone", 60)
    joined.stop()
    for directory in (joined.root, joined.logs):
        mounts.umount(directory, 0)
    joined.flags = before


def identity(pod: Object) -> tuple[str, int]:
    status = container(pod, "a")
    return status["containerID"], status["restartCount"]


def says(pod: Object, *words: str) -> bool:
    """Whether the status of a pod has one of these words, as a cause in it or a condition."""
    text = json.dumps(pod["status"])
    return any(word in text for word in words)


def test_full_disks(small: KubeletProcess, api: Api, run: Run) -> None:
    """Of the node, which holds the kubelet's records and volumes, and of logs."""
    api.create(bound("old", run("a", "while :; do echo line; sleep 0.1; done")))
    pod = api.wait_ready("old")
    before = identity(pod)
    log = small.logs / f"default_old_{pod['metadata']['uid']}" / "a" / "0.log"
    with filled(small.root), filled(small.logs):
        api.create(bound("new", run("a", FOREVER)))
        api.wait("new", lambda pod: says(pod, "No space left on device"), "the cause", 10)
        assert "No space left on device" in json.dumps(story(small, "new")["waits"])
        assert node_ready(api)
        # What is known of the old one outlives the kubelet, though nothing can be written.
        small.kill()
        small.start(terminate=False)
        wait_for(lambda: len(small.pods()) == 2, "the pods to be adopted")
        assert identity(api.wait_ready("old")) == before
        size = log.stat().st_size
    api.wait_ready("new")
    wait_for(lambda: log.stat().st_size > size, "the log to go on")
    assert identity(api.wait_ready("old")) == before
    assert node_ready(api)


def test_a_full_table_of_processes(small: KubeletProcess, api: Api, run: Run) -> None:
    # A shell that cannot fork ends, and what it was itself is free again.
    fork = "(while sleep 1000 & do :; done); sleep 1000 & exec sleep 1000"
    api.create(bound("hog", run("a", fork)))
    api.wait("hog", lambda pod: pod["status"].get("phase") == "Running", "running")
    limit = detect().cgroup(small.pods_cgroup()).controller_directory("pids")
    assert limit is not None

    def full() -> bool:
        return int((limit / "pids.current").read_text()) >= PROCESSES

    assert (limit / "pids.max").read_text().strip() == str(PROCESSES)
    wait_for(full, "all processes to be there")
    policy = {"terminationMessagePolicy": "FallbackToLogsOnError"}
    api.create(bound("new", run("a", FOREVER, **policy)))
    # Its first process is put among those of the node, which the kernel allows; it cannot fork.
    api.wait("new", lambda pod: says(pod, "temporarily unavailable"), "the cause", 10)
    wait_for(lambda: "CrashLoopBackOff" in json.dumps(story(small, "new")["waits"]), "told by why")
    assert node_ready(api)
    found = api.must("GET", "/api/v1/nodes/n1")
    # As with the Go kubelet, that is about the processes of the whole machine.
    assert condition(found, "PIDPressure") == "False"
    api.delete("hog", gracePeriodSeconds=0)
    api.wait_gone("hog")
    api.wait_ready("new", 40)
