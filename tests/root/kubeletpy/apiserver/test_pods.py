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
FOREVER = "trap 'exit 0' TERM; touch /trapped; while :; do sleep 1000 & wait; done"
# The first process of a container does not see a SIGTERM that it has no trap for yet.
TRAPPED = {"exec": {"command": ["test", "-e", "/trapped"]}, "periodSeconds": 1}


def test_a_bound_pod_runs_and_is_deleted(joined: KubeletProcess, api: Api, run: Run) -> None:
    with api.watch() as events:
        api.create(bound("web", run("a", FOREVER, readinessProbe=TRAPPED)))
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


def test_a_pod_that_does_not_fit_is_refused(joined: KubeletProcess, api: Api, run: Run) -> None:
    wait_for(lambda: api.ask("GET", f"/api/v1/nodes/{NODE}")[0] == 200, "the node")
    huge = run("a", FOREVER, resources={"requests": {"cpu": "1000"}})
    api.create(bound("huge", huge))
    refused = api.wait("huge", lambda pod: pod["status"].get("phase") == "Failed", "refused")
    assert refused["status"]["reason"] == "OutOfcpu"
    assert refused["status"]["message"].startswith(
        "Pod was rejected: Node didn't have enough resource: cpu, requested: 1000000, used: 0,"
    )
    api.delete("huge")
    api.wait_gone("huge")


def test_changes_reach_a_running_pod(joined: KubeletProcess, api: Api, run: Run) -> None:
    created = api.create(bound("web", run("a", FOREVER), run("b", FOREVER)))
    before = api.wait_ready("web")
    spec = {"activeDeadlineSeconds": 600}
    changed = api.patch("web", {"metadata": {"labels": {"new": "yes"}}, "spec": spec})
    generation = changed["metadata"]["generation"]
    assert generation > created["metadata"]["generation"]
    after = api.wait(
        "web", lambda pod: pod["status"].get("observedGeneration") == generation, "observed"
    )
    assert all(one["observedGeneration"] == generation for one in after["status"]["conditions"])
    for name in ("a", "b"):
        assert container(after, name)["containerID"] == container(before, name)["containerID"]
    api.patch("web", {"spec": {"activeDeadlineSeconds": 1}})
    ended = api.wait("web", lambda pod: pod["status"]["phase"] == "Failed", "past its deadline")
    assert ended["status"]["reason"] == "DeadlineExceeded"
    assert container(ended, "a")["state"]["terminated"]["exitCode"] == 0
    api.delete("web")
    api.wait_gone("web")


def test_a_grace_is_shortened_and_a_deletion_forced(
    joined: KubeletProcess, api: Api, run: Run
) -> None:
    stubborn = run("a", "trap '' TERM; echo up; while :; do sleep 1 & wait; done")
    for name, grace in (("patient", 600), ("forced", 6)):
        api.create(bound(name, stubborn, terminationGracePeriodSeconds=grace))
        api.wait_ready(name)
    api.delete("patient")
    api.wait("patient", lambda pod: "deletionTimestamp" in pod["metadata"], "going")
    api.delete("patient", gracePeriodSeconds=1)
    api.wait_gone("patient", 10)
    api.delete("forced", gracePeriodSeconds=0)
    assert api.pod("forced") is None
    # The old instance still has its grace; nobody waits for it.
    api.create(bound("forced", run("b", FOREVER)))
    api.wait_ready("forced", 5)
    assert container(api.pod("forced") or {}, "b")["restartCount"] == 0
