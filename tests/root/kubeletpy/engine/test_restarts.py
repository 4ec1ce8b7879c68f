"""What the kubelet does not see, or sees late: its own restarts, changed and vanished manifests."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kubeletpy_common.cgroups import detect
from tests.root.kubeletpy.engine.process import (
    KubeletProcess,
    condition,
    container,
    manifest,
    wait_for,
)
from tests.root.runtime.cri.node import Node
from tests.support.circumstances import patient

pytestmark = pytest.mark.root
Run = Callable[..., dict[str, Any]]
FOREVER = "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done"
PROBED = {"exec": {"command": ["true"]}, "periodSeconds": 1}


def identity(pod: Any) -> list[tuple[str, str, int]]:
    return [
        (one["name"], one["containerID"], one["restartCount"])
        for one in pod["status"]["containerStatuses"]
    ]


def transition(pod: Any) -> str:
    return next(
        str(one["lastTransitionTime"])
        for one in pod["status"]["conditions"]
        if one["type"] == "Ready"
    )


def test_kubelet_killed_and_started_again_restarts_nothing(
    kubelet: KubeletProcess, run: Run
) -> None:
    for name in ("one", "two"):
        kubelet.write(name, manifest(name, run("c", FOREVER, readinessProbe=PROBED)))
    before = {name: kubelet.wait_ready(name) for name in ("one", "two")}
    for _ in range(3):
        kubelet.kill()
        kubelet.start()
        for name, pod in before.items():
            now = kubelet.wait_ready(name)
            assert identity(now) == identity(pod)
            assert transition(now) == transition(pod)
    assert "pod without a manifest ended" not in kubelet.log()


def test_politely_stopped_kubelet_leaves_its_pods_running(
    stopped_kubelet: KubeletProcess, node: Node, run: Run
) -> None:
    kubelet = stopped_kubelet
    kubelet.start(terminate=False)
    kubelet.write("stay", manifest("stay", run("c", FOREVER)))
    pod = kubelet.wait_ready("stay")
    assert kubelet.stop() == 0
    kubelet.start()
    assert identity(kubelet.wait_ready("stay")) == identity(pod)


def test_manifest_that_vanished_meanwhile_ends_its_pod_with_its_hook(
    kubelet: KubeletProcess, run: Run
) -> None:
    seen = kubelet.directory / "seen"
    seen.mkdir()
    hook = {"preStop": {"exec": {"command": ["sh", "-c", "echo hook > /seen/log"]}}}
    mount = {"volumeMounts": [{"name": "seen", "mountPath": "/seen"}]}
    volume = {"name": "seen", "hostPath": {"path": str(seen)}}
    kubelet.write(
        "gone", manifest("gone", run("c", FOREVER, lifecycle=hook, **mount), volumes=[volume])
    )
    kubelet.write("kept", manifest("kept", run("c", FOREVER)))
    kubelet.wait_ready("gone")
    kept = kubelet.wait_ready("kept")
    kubelet.kill()
    kubelet.remove("gone")
    kubelet.start()
    kubelet.wait_gone("gone")
    wait_for(lambda: (seen / "log").exists(), "the hook")
    assert identity(kubelet.wait_ready("kept")) == identity(kept)


def test_pod_of_nobody_is_removed(kubelet: KubeletProcess, node: Node) -> None:
    labels = {
        "io.kubernetes.pod.uid": "stranger",
        "io.kubernetes.pod.name": "stranger",
        "io.kubernetes.pod.namespace": "default",
    }
    sandbox = node.run_pod(
        node.pod_config("stranger", labels=labels, cgroup_parent=kubelet.cgroup_parent)
    )
    try:
        wait_for(lambda: sandbox not in sandboxes(node), "the stranger to be removed")
    finally:
        node.remove_pod(sandbox)


def test_sandbox_without_labels_of_a_pod_is_not_touched(
    kubelet: KubeletProcess, node: Node, run: Run
) -> None:
    with node.pod(cgroup_parent=kubelet.cgroup_parent) as sandbox:
        kubelet.write("own", manifest("own", run("c", FOREVER)))
        kubelet.wait_ready("own")
        assert sandbox in sandboxes(node)


def sandboxes(node: Node) -> list[str]:
    from kubeletpy_proto import cri_pb2

    answer = node.runtime.ListPodSandbox(cri_pb2.ListPodSandboxRequest(), timeout=patient(10))
    return [item.id for item in answer.items]


def test_changed_manifest_one_instance_at_any_time(
    kubelet: KubeletProcess, run: Run, tmp_path: Path
) -> None:
    """Each instance takes a lock for its life; a second one beside it would write `clash`."""
    script = (
        "mkdir /seen/lock || echo clash >> /seen/log; echo {n} >> /seen/log; "
        "trap 'sleep 0.3; rmdir /seen/lock; exit 0' TERM; while :; do sleep 1000 & wait; done"
    )
    volume = {"name": "seen", "hostPath": {"path": str(tmp_path)}}
    mount = {"volumeMounts": [{"name": "seen", "mountPath": "/seen"}]}

    def write(number: int) -> None:
        one = run("c", script.replace("{n}", str(number)), **mount)
        kubelet.write("web", manifest("web", one, volumes=[volume]))

    write(0)
    first = kubelet.wait_ready("web")
    for number in range(1, 30):
        write(number)
    pod = kubelet.wait_pod(
        "web",
        lambda pod: (
            pod["metadata"]["uid"] != first["metadata"]["uid"]
            and condition(pod, "Ready") == "True"
            and "echo 29 " in pod["spec"]["containers"][0]["command"][2]
        ),
        "the last version",
    )
    assert container(pod, "c")["restartCount"] == 0
    wait_for(lambda: "29" in (tmp_path / "log").read_text().split(), "its word")
    words = (tmp_path / "log").read_text().split()
    assert "clash" not in words
    assert (words[0], words[-1]) == ("0", "29")


def test_bad_manifest_leaves_the_others_alone(kubelet: KubeletProcess, run: Run) -> None:
    kubelet.write("good", manifest("good", run("c", FOREVER)))
    pod = kubelet.wait_ready("good")
    bad = manifest("bad", run("c", "true"))
    bad["spec"]["containers"][0]["imagePullPolicy"] = "Sometimes"
    kubelet.write("bad", bad)
    kubelet.write("worse", b"{")

    def told() -> bool:
        _, body = kubelet.get("/events")
        messages = [event["message"] for event in json.loads(body)["items"]]
        return any("bad.yaml" in one and "imagePullPolicy" in one for one in messages) and any(
            "worse.yaml" in one for one in messages
        )

    wait_for(told, "events about the bad files")
    assert kubelet.pod("bad") is None
    assert identity(kubelet.wait_ready("good")) == identity(pod)


def test_image_that_is_not_there(kubelet: KubeletProcess, node: Node, run: Run) -> None:
    missing = run("c", "true")
    missing["image"] = f"{node.registry}/tests/none:v1"
    kubelet.write("none", manifest("none", missing, run("d", FOREVER)))
    pod = kubelet.wait_pod(
        "none",
        lambda pod: container(pod, "c")["state"]["waiting"]["reason"] == "ImagePullBackOff",
        "ImagePullBackOff",
    )
    message = container(pod, "c")["state"]["waiting"]["message"]
    assert message.startswith(f'Back-off pulling image "{missing["image"]}": ErrImagePull: ')
    assert "running" in container(pod, "d")["state"]
    assert pod["status"]["phase"] == "Pending"
    reasons = [reason for reason, _ in kubelet.events("none")]
    assert {"Pulling", "Failed", "BackOff"} <= set(reasons)
    node.push("tests/none")
    kubelet.wait_pod(
        "none", lambda pod: "running" not in container(pod, "c")["state"], "its end", 30
    )


def test_sandbox_that_died_is_replaced(kubelet: KubeletProcess, node: Node, run: Run) -> None:
    kubelet.write("web", manifest("web", run("c", FOREVER)))
    before = kubelet.wait_ready("web")
    (sandbox,) = sandboxes(node)
    node.stop_pod(sandbox)
    pod = kubelet.wait_pod(
        "web",
        lambda pod: container(pod, "c")["restartCount"] == 1 and condition(pod, "Ready") == "True",
        "the new sandbox",
    )
    assert pod["metadata"]["uid"] == before["metadata"]["uid"]
    assert "SandboxChanged" in [reason for reason, _ in kubelet.events("web")]


def test_runtime_away_and_back(kubelet: KubeletProcess, node: Node, run: Run) -> None:
    kubelet.write("web", manifest("web", run("c", FOREVER)))
    pod = kubelet.wait_ready("web")
    node.daemon.kill()
    wait_for(lambda: kubelet.get("/healthz")[0] == 500, "the kubelet to notice")
    _, body = kubelet.get("/healthz?verbose")
    assert b"[-]runtime failed: unix://" in body
    node.daemon.start()
    node.connect()
    wait_for(lambda: kubelet.get("/healthz") == (200, b"ok"), "the kubelet to be well")
    assert identity(kubelet.wait_ready("web")) == identity(pod)
    kubelet.write("next", manifest("next", run("c", FOREVER)))
    kubelet.wait_ready("next")


def test_a_runtime_that_comes_later(stopped_kubelet: KubeletProcess, node: Node, run: Run) -> None:
    """Its cgroup driver is followed, too, if it is not that of the settings: KEP-4033."""
    kubelet = stopped_kubelet
    node.daemon.kill()
    try:
        kubelet.start()
        wait_for(lambda: "waiting for the container runtime" in kubelet.log(), "it to be missed")
    finally:
        node.daemon.start()
        node.connect()
    kubelet.write("web", manifest("web", run("c", FOREVER)))
    pod = kubelet.wait_ready("web")
    assert node.place.hierarchy().cgroup(kubelet.pod_cgroup(pod)).exists()
    first = detect().cgroup(f"{kubelet.cgroup_root}/kubepods")
    assert first.exists() == (node.place.driver == "cgroupfs")


def test_second_kubelet_on_the_same_directory_is_refused(kubelet: KubeletProcess) -> None:
    import subprocess
    import sys

    ended = subprocess.run(
        [sys.executable, "-m", "kubeletpy.kubelet_main", f"--root-dir={kubelet.root}"],
        capture_output=True, text=True, timeout=patient(30), check=False,
    )  # fmt: skip
    assert ended.returncode == 1
    assert "is in use by another kubelet" in ended.stderr


def test_directory_of_a_pod_that_nobody_knows_is_removed(
    stopped_kubelet: KubeletProcess,
) -> None:
    left = stopped_kubelet.root / "pods" / "forgotten" / "volumes"
    left.mkdir(parents=True)
    (left / "file").write_text("x")
    stopped_kubelet.start()
    wait_for(lambda: not left.parent.exists(), "the directory to be removed")
