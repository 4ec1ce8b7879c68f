"""Pods of an API server on a real runtime: run, reported, deleted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.root.kubeletpy.engine.process import KubeletProcess, condition, container

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
