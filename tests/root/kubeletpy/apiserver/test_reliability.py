"""What must not happen to pods: the kubelet, the API server and the runtime come and go."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
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

from .cluster import Api, bound
from .faults import Faults, Mode, write_kubeconfig

pytestmark = pytest.mark.root
Run = Callable[..., dict[str, Any]]
FOREVER = "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done"
PROBED = {"exec": {"command": ["true"]}, "periodSeconds": 1}


@pytest.fixture
def faults(joined: KubeletProcess, api: Api) -> Iterator[Faults]:
    """The kubelet reaches its API server through these; in the end they let everything through."""
    made = Faults(api.url, api.context)
    with made.serving(api.netns):
        joined.stop()
        kubeconfig = joined.directory / "faulty"
        write_kubeconfig(kubeconfig, made.url)
        straight, joined.flags = joined.flags, (f"--kubeconfig={kubeconfig}",)
        joined.start()
        yield made
        made.switch(Mode.THROUGH)
        joined.kill()
        joined.flags = straight


def identities(api: Api) -> dict[str, list[tuple[str, int]]]:
    found = api.must("GET", "/api/v1/namespaces/default/pods")["items"]
    return {
        pod["metadata"]["name"]: [
            (one["containerID"], one["restartCount"]) for one in pod["status"]["containerStatuses"]
        ]
        for pod in found
    }


def all_ready(api: Api, count: int) -> bool:
    found = api.must("GET", "/api/v1/namespaces/default/pods")["items"]
    return len(found) == count and all(condition(pod, "Ready") == "True" for pod in found)


@pytest.mark.parametrize("mode", [Mode.AWAY, Mode.BROKEN, Mode.SLOW, Mode.FORGETFUL])
def test_pods_go_on_whatever_the_api_server_does(
    joined: KubeletProcess, faults: Faults, api: Api, run: Run, mode: Mode
) -> None:
    """Meanwhile a container ends; it is restarted at once, and told once it can be told."""
    once = "[ -e /once/done ] || { touch /once/done; sleep 3; exit 3; }; " + FOREVER
    mount = {"name": "once", "mountPath": "/once"}
    volumes = [{"name": "once", "emptyDir": {}}]
    still = run("still", FOREVER)
    api.create(bound("web", run("a", once, volumeMounts=[mount]), still, volumes=volumes))
    api.create(bound("deleted", run("a", FOREVER)))
    api.wait_ready("deleted")
    before = api.wait("web", lambda pod: pod["status"].get("phase") == "Running", "running")
    faults.switch(mode)
    api.delete("deleted")
    api.create(bound("late", run("a", FOREVER)))
    wait_for(lambda: restarts(joined, "web") == 1, "a restart without being told")
    wait_for(lambda: mode in faults.seen, "a request to fail")
    faults.switch(Mode.THROUGH)
    after = api.wait(
        "web",
        lambda pod: container(pod, "a")["restartCount"] == 1 and condition(pod, "Ready") == "True",
        "told",
    )
    assert container(after, "a")["lastState"]["terminated"]["exitCode"] == 3
    same = container(after, "still")["containerID"]
    assert same == container(before, "still")["containerID"]
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    api.wait_gone("deleted")
    api.wait_ready("late")


def restarts(kubelet: KubeletProcess, name: str) -> int:
    """Return how often container a was restarted, as the kubelet itself says."""
    for pod in kubelet.pods():
        if pod["metadata"]["name"] == name:
            status = container(pod, "a")
            return int(status["restartCount"]) if "running" in status["state"] else 0
    return 0


def test_the_runtime_is_killed_and_comes_back(
    joined: KubeletProcess, api: Api, node: Node, run: Run
) -> None:
    for name in ("one", "two"):
        api.create(bound(name, run("a", FOREVER, readinessProbe=PROBED)))
        api.wait_ready(name)
    before = identities(api)

    def ready() -> dict[str, str]:
        found = api.must("GET", f"/api/v1/nodes/{NODE}")["status"].get("conditions", [])
        return next((one for one in found if one["type"] == "Ready"), {})

    wait_for(lambda: ready().get("status") == "True", "the node to be Ready")
    node.daemon.kill()
    wait_for(lambda: ready().get("status") == "False", "the node to be NotReady", 60)
    assert "untime" in ready()["message"], json.dumps(ready())
    node.daemon.start()
    node.connect()
    wait_for(lambda: ready().get("status") == "True", "the node to be Ready again", 60)
    wait_for(lambda: all_ready(api, 2), "the pods to be ready")
    assert identities(api) == before
