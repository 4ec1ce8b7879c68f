"""Pods of an API server on a real runtime: run, reported, deleted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.root.kubeletpy.engine.process import (
    NODE,
    KubeletProcess,
    condition,
    container,
    manifest,
    wait_for,
)

from .cluster import Api, bound

pytestmark = pytest.mark.root
Run = Callable[..., dict[str, Any]]
FOREVER = "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done"


def test_a_bound_pod_runs_and_is_deleted(joined: KubeletProcess, api: Api, run: Run) -> None:
    with api.watch() as events:
        api.create(bound("web", run("a", FOREVER)))
        pod = api.wait_ready("web")
        assert pod["status"]["podIP"].startswith("10.87.0.")
        assert pod["status"]["observedGeneration"] == pod["metadata"]["generation"]
        assert condition(pod, "PodReadyToStartContainers") == "True"
        api.delete("web")
        api.wait_gone("web")
        versions = [event["object"] for event in events if event["type"] != "DELETED"]
    phases = [version["status"].get("phase") for version in versions]
    assert phases == sorted(phases, key=["Pending", "Running", "Succeeded"].index)
    last = container(versions[-1], "a")["state"]
    assert last["terminated"]["exitCode"] == 0
    assert phases[-1] == "Succeeded"


def test_events_reach_the_api_server(joined: KubeletProcess, api: Api, run: Run) -> None:
    api.create(bound("loud", run("a", FOREVER)))
    api.wait_ready("loud")

    def reasons() -> set[str]:
        found = api.must("GET", "/api/v1/namespaces/default/events")["items"]
        return {one["reason"] for one in found if one["involvedObject"]["name"] == "loud"}

    wait_for(lambda: reasons() >= {"Pulled", "Created", "Started"}, "events of the pod")
    api.delete("loud")
    api.wait_gone("loud")


def test_a_static_pod_has_a_mirror(joined: KubeletProcess, api: Api, run: Run) -> None:
    joined.write("still", manifest("still", run("a", FOREVER)))
    first = api.wait_ready(f"still-{NODE}")
    assert first["metadata"]["ownerReferences"][0]["kind"] == "Node"
    # A restarted kubelet finds it again; whoever deletes it deletes nothing else.
    identity = container(first, "a")["containerID"]
    joined.kill()
    joined.start()
    assert api.wait_ready(f"still-{NODE}")["metadata"]["uid"] == first["metadata"]["uid"]
    api.delete(f"still-{NODE}")
    again = api.wait(
        f"still-{NODE}",
        lambda pod: (
            pod["metadata"]["uid"] != first["metadata"]["uid"] and condition(pod, "Ready") == "True"
        ),
        "made anew",
    )
    assert container(again, "a")["containerID"] == identity
    joined.remove("still")
    api.wait_gone(f"still-{NODE}")
