"""What must not happen to pods: the kubelet, the API server and the runtime come and go."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import pytest

from kubeletpy.cri import labels
from kubeletpy_proto import cri_pb2
from tests.root.kubeletpy.engine.process import (
    NODE,
    KubeletProcess,
    condition,
    container,
    manifest,
    wait_for,
)
from tests.root.runtime.cri.node import Node
from tests.support.circumstances import patient

from .cluster import Api, bound
from .faults import Faults, Mode, write_kubeconfig

pytestmark = pytest.mark.root
Run = Callable[..., dict[str, Any]]
FOREVER = "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done"
PROBED = {"exec": {"command": ["true"]}, "periodSeconds": 1}
PODS = int(os.environ.get("KUBELETPY_RESTART_PODS", "50"))
ROUNDS = int(os.environ.get("KUBELETPY_RESTART_ROUNDS", "20"))


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


def events_of_pods(api: Api, names: Collection[str]) -> Counter[tuple[str, str]]:
    """Return how many events there are, by pod and reason."""
    counts: Counter[tuple[str, str]] = Counter()
    for one in api.must("GET", "/api/v1/namespaces/default/events")["items"]:
        if one["involvedObject"]["kind"] == "Pod" and one["involvedObject"]["name"] in names:
            counts[one["involvedObject"]["name"], one["reason"]] += one["count"]
    return counts


def all_ready(api: Api, count: int) -> bool:
    found = api.must("GET", "/api/v1/namespaces/default/pods")["items"]
    return len(found) == count and all(condition(pod, "Ready") == "True" for pod in found)


@pytest.mark.timeout(600)
def test_restarts_and_crashes_of_the_kubelet_are_not_noticed(
    joined: KubeletProcess, api: Api, run: Run
) -> None:
    joined.stop()
    joined.start(terminate=False)
    names = [f"p{number}" for number in range(PODS)]
    for number, name in enumerate(names):
        probe = {"readinessProbe": PROBED} if number % 2 else {}
        api.create(bound(name, run("a", FOREVER, **probe), dnsPolicy="Default"))
    wait_for(lambda: all_ready(api, PODS), "all pods to be ready", 120)
    before = identities(api)
    # The events of the starts are on their way still.
    quiet = wait_for(lambda: _settled(api, names), "events to be written", 60)
    with api.watch() as versions:
        for number in range(ROUNDS):
            joined.kill()
            joined.start(terminate=False)
            wait_for(lambda: len(joined.pods()) == PODS, "the pods to be adopted")
            assert joined.stop() == 0
            joined.start(terminate=number == ROUNDS - 1)
            wait_for(lambda: len(joined.pods()) == PODS, "the pods to be adopted")
        assert identities(api) == before
        unready = [
            (event["type"], event["object"]["metadata"]["name"])
            for event in versions
            if event["type"] == "DELETED" or condition(event["object"], "Ready") != "True"
        ]
    assert unready == []
    assert events_of_pods(api, names) == quiet


def _settled(api: Api, names: Collection[str]) -> Counter[tuple[str, str]] | None:
    """Return the events of pods once each has those of its start."""
    found = events_of_pods(api, names)
    return found if all(found[name, "Started"] for name in names) else None


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


def test_500_edits_of_a_static_pod_leave_one_instance(
    joined: KubeletProcess, faults: Faults, api: Api, node: Node, run: Run
) -> None:
    """Whatever version it is of, and whatever the API server does meanwhile."""
    shared = joined.directory / "shared"
    shared.mkdir()
    volumes = [{"name": "s", "hostPath": {"path": str(shared), "type": "Directory"}}]
    script = f"echo $V >>/shared/ran; {FOREVER}"
    modes = (Mode.AWAY, Mode.THROUGH, Mode.BROKEN, Mode.THROUGH, Mode.FORGETFUL)
    for number in range(500):
        if number % 50 == 0:
            faults.switch(modes[number // 50 % len(modes)])
        one = run(
            "a", script, env=[{"name": "V", "value": str(number)}],
            volumeMounts=[{"name": "s", "mountPath": "/shared"}],
        )  # fmt: skip
        joined.write("edited", manifest("edited", one, volumes=volumes))
        assert running(node, f"edited-{NODE}") <= 1
        if number % 50 == 49:
            # Let one of them come to run, so that there is something to end.
            at = str(number)
            wait_for(lambda at=at: ran_last(shared) == at, "the version to run")  # type: ignore[misc]
    faults.switch(Mode.THROUGH)
    found = api.wait(
        f"edited-{NODE}",
        lambda pod: (
            pod["spec"]["containers"][0]["env"][0]["value"] == "499"
            and condition(pod, "Ready") == "True"
        ),
        "mirrored",
        60,
    )
    assert container(found, "a")["restartCount"] == 0
    assert running(node, f"edited-{NODE}") == 1
    numbers = [int(text) for text in (shared / "ran").read_text().split()]
    assert numbers == sorted(numbers)


def ran_last(shared: Path) -> str:
    """Return the version that started last."""
    ran = shared / "ran"
    # A shell has opened it before it writes.
    versions = ran.read_text().split() if ran.exists() else []
    return versions[-1] if versions else ""


def running(node: Node, name: str) -> int:
    """Return how many containers of a pod run, as the runtime says."""
    state = cri_pb2.ContainerStateValue(state=cri_pb2.CONTAINER_RUNNING)
    selector = {labels.POD_NAME: name}
    wanted = cri_pb2.ContainerFilter(state=state, label_selector=selector)
    request = cri_pb2.ListContainersRequest(filter=wanted)
    return len(node.runtime.ListContainers(request, timeout=patient(20)).containers)


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
