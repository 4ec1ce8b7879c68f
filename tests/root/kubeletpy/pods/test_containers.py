"""Restart rules, the order of the end, user namespaces and stories, with a real runtime."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tests.root.kubeletpy.engine.process import (
    PORT,
    KubeletProcess,
    condition,
    container,
    manifest,
    wait_for,
)
from tests.support.circumstances import patient

pytestmark = pytest.mark.root
Run = Callable[..., dict[str, Any]]
FOREVER = "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done"


def rule(action: str, code: int) -> dict[str, Any]:
    return {"action": action, "exitCodes": {"operator": "In", "values": [code]}}


def test_rules_of_a_container_restart_it_and_all_others(kubelet: KubeletProcess, run: Run) -> None:
    data = {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    # First it is restarted alone, then with all others, then it stays.
    script = (
        "n=$(cat /data/n 2>/dev/null || echo 0); echo $((n+1)) > /data/n; "
        f"case $n in 0) exit 41;; 1) exit 42;; esac; {FOREVER}"
    )
    rules = [rule("Restart", 41), rule("RestartAllContainers", 42)]
    source = run("source", script, restartPolicy="Never", restartPolicyRules=rules, **data)
    kubelet.write("rules", manifest(
        "rules", source, run("beside", FOREVER),
        initContainers=[
            run("first", "echo once >> /data/inits", **data),
            run("sidecar", FOREVER, restartPolicy="Always"),
        ],
        restartPolicy="Never", volumes=[{"name": "data", "emptyDir": {}}],
    ))  # fmt: skip
    pod = kubelet.wait_pod(
        "rules",
        lambda pod: (
            condition(pod, "Ready") == "True" and container(pod, "source")["restartCount"] == 2
        ),
        "all restarted",
    )
    counts = {name: container(pod, name)["restartCount"] for name in ("first", "sidecar", "beside")}
    assert counts == {"first": 1, "sidecar": 1, "beside": 1}
    last = {name: container(pod, name)["lastState"]["terminated"] for name in ("source", "beside")}
    assert last["source"]["exitCode"] == 42
    assert last["beside"]["exitCode"] != 0 or last["beside"]["reason"] == "Completed"
    assert condition(pod, "AllContainersRestarting") == "False"
    inits = kubelet.root / "pods" / pod["metadata"]["uid"] / "volumes"
    assert next(inits.glob("*/data/inits")).read_text() == "once\nonce\n"
    # The story of it is told to whoever asks on this machine.
    told = subprocess.run(
        ["nsenter", f"--net={kubelet.place.netns}", sys.executable, "-m", "kubeletpy", "why",
         "rules", "-o", "json", "--kubelet", f"http://127.0.0.1:{PORT}"],
        capture_output=True, check=True, timeout=patient(30),
    ).stdout  # fmt: skip
    (story,) = json.loads(told)
    assert story["phase"] == "Running"
    assert story["waits"] == []
    assert "Started" in [event["reason"] for event in story["happened"]]


def test_sidecars_end_after_all_others_and_their_hooks_do_not_wait(
    kubelet: KubeletProcess, run: Run
) -> None:
    shared = {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}

    def told(name: str, pause: int = 0, **fields: Any) -> dict[str, Any]:
        script = (
            f"trap 'echo end {name} >> /data/order; exit 0' TERM; "
            "while :; do sleep 1000 & wait; done"
        )
        # The hook of the main container takes its time: the others' do not wait for it.
        command = f"echo hook {name} >> /data/order; sleep {pause}"
        hook = {"exec": {"command": ["sh", "-c", command]}}
        return run(name, script, lifecycle={"preStop": hook}, **shared, **fields)

    order = kubelet.directory / "order"
    order.mkdir()
    kubelet.write("order", manifest(
        "order", told("main", 2),
        initContainers=[
            told("one", restartPolicy="Always"), told("two", restartPolicy="Always"),
        ],
        volumes=[{"name": "data", "hostPath": {"path": str(order)}}],
        terminationGracePeriodSeconds=20,
    ))  # fmt: skip
    kubelet.wait_ready("order")
    kubelet.remove("order")
    kubelet.wait_gone("order")
    lines = (order / "order").read_text().split("\n")[:-1]
    assert sorted(lines[:3]) == ["hook main", "hook one", "hook two"]
    assert lines[3:] == ["end main", "end two", "end one"]


def written(kubelet: KubeletProcess, name: str) -> bool:
    return "/data/x" in kubelet.container_log(name, "c")


def test_pods_with_users_of_their_own(kubelet: KubeletProcess, run: Run) -> None:
    script = f"cat /proc/self/uid_map; touch /data/x; ls -ln /data/x; {FOREVER}"
    data = {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    for name in ("users1", "users2"):
        kubelet.write(name, manifest(
            name, run("c", script, **data), hostUsers=False,
            volumes=[{"name": "data", "emptyDir": {}}],
        ))  # fmt: skip
    firsts = set()
    for name in ("users1", "users2"):
        uid = kubelet.wait_ready(name)["metadata"]["uid"]
        wait_for(partial(written, kubelet, name), "its output")
        mapping, file = kubelet.container_log(name, "c").splitlines()
        inside, outside, length = mapping.split()
        assert (inside, length) == ("0", "65536")
        assert file.split()[2:4] == ["0", "0"]
        kept = json.loads((kubelet.root / "pods" / uid / "userns").read_bytes())
        assert kept["uidMappings"][0]["hostId"] == int(outside)
        # On the node's disk the file is root's: the volume is mapped, not given away.
        (found,) = (kubelet.root / "pods" / uid / "volumes").glob("*/data/x")
        assert found.stat().st_uid == 0
        firsts.add(outside)
    assert len(firsts) == 2
