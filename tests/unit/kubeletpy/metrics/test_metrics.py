"""What the kubelet counts of itself."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import cast

import pytest
from prometheus_client import generate_latest

from kubeletpy.api.container import Container
from kubeletpy.api.events import NORMAL, new_event, pod_reference
from kubeletpy.api.meta import ObjectMeta
from kubeletpy.api.pod import Pod, PodSpec
from kubeletpy.api.status import (
    ContainerState,
    ContainerStateRunning,
    ContainerStateTerminated,
    ContainerStatus,
    PodStatus,
)
from kubeletpy.core import Core
from kubeletpy.events import Recorder
from kubeletpy.metrics.ends import Ends
from kubeletpy.metrics.install import KubeletMetrics, bucket, count_pods, volume_metrics
from kubeletpy.metrics.instruments import Instruments, operation_type
from kubeletpy.metrics.starts import Starts, pull_seconds
from kubeletpy.pods.measures import Measures
from kubeletpy.settings import Settings
from kubeletpy.stats.node import Filesystem


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        ("RunPodSandbox", "run_podsandbox"),
        ("ListPodSandbox", "list_podsandbox"),
        ("PodSandboxStatus", "podsandbox_status"),
        ("ContainerStatus", "container_status"),
        ("ExecSync", "exec_sync"),
        ("PullImage", "pull_image"),
        ("Version", "version"),
        ("ListContainerStats", "list_container_stats"),
        ("UpdateContainerResources", "update_container_resources"),
    ],
)
def test_names_of_operations(call: str, expected: str) -> None:
    assert operation_type(call) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/metrics", "metrics"),
        ("/metrics/cadvisor", "metrics/cadvisor"),
        ("/metrics/none", "other"),
        ("/exec/a/b/c", "exec"),
        ("/stats/summary", "stats"),
        ("/../etc", "other"),
        ("/", "other"),
    ],
)
def test_paths_have_few_labels(path: str, expected: str) -> None:
    assert bucket(path) == expected


def test_no_series_tells_when_it_was_made() -> None:
    instruments = Instruments()
    instruments.operations.labels("version").inc()
    text = generate_latest(instruments.registry).decode()
    assert 'kubelet_runtime_operations_total{operation_type="version"} 1.0' in text
    assert "_created" not in text


def make_pod(made: float | None = None) -> Pod:
    meta = ObjectMeta(name="web", namespace="default", uid="u1")
    meta.creation_timestamp = datetime.fromtimestamp(made, UTC) if made is not None else None
    spec = PodSpec(containers=[Container(name="a"), Container(name="b")])
    return Pod(api_version="v1", kind="Pod", metadata=meta, spec=spec)


def status(*running: str) -> PodStatus:
    state = ContainerState(running=ContainerStateRunning())
    listed = [
        ContainerStatus(
            name=name,
            ready=False,
            restart_count=0,
            image="",
            image_id="",
            state=state if name in running else ContainerState(),
        )
        for name in ("a", "b")
    ]
    return PodStatus(phase="Pending", container_statuses=listed)


def test_the_start_of_a_pod_is_told_once() -> None:
    now = 100.0
    starts, pod = Starts(lambda: now), make_pod(made=98.0)
    assert starts.status(pod, status()) is None
    message = 'Successfully pulled image "x" in 1.5s (2s including waiting). Image size: 1 bytes.'
    starts.event(new_event(pod_reference(pod), NORMAL, "Pulled", message, host="n1"))
    now = 103.0
    assert starts.status(pod, status("a")) is None
    now = 104.0
    started = starts.status(pod, status("a", "b"))
    assert started is not None
    assert (started.since_seen, started.since_made, started.pulls) == (4.0, 6.0, 1.5)
    assert starts.status(pod, status("a", "b")) is None


def ended(name: str, code: int, reason: str) -> ContainerStatus:
    state = ContainerState(terminated=ContainerStateTerminated(exit_code=code, reason=reason))
    return ContainerStatus(
        name=name, ready=False, restart_count=0, image="", image_id="", state=state
    )


def test_each_end_of_a_container_is_told_once() -> None:
    ends, pod = Ends(), make_pod()
    assert ends.status(pod, status("a", "b")) == []
    over = PodStatus(
        phase="Running",
        init_container_statuses=[ended("i", 0, "Completed")],
        container_statuses=[ended("a", 139, "Error"), status("b").container_statuses[1]],
    )
    told = [("init_container", "0", "Completed"), ("container", "139", "Error")]
    assert ends.status(pod, over) == told
    assert ends.status(pod, over) == []
    # It runs again, and ends again.
    assert ends.status(pod, status("a")) == []
    assert ends.status(pod, over) == told
    ends.gone(pod)
    assert ends.status(pod, over) == told


def test_pods_that_ran_before_the_kubelet_are_no_starts() -> None:
    starts, pod = Starts(lambda: 1.0), make_pod()
    assert starts.status(pod, status("a", "b")) is None
    assert starts.status(pod, status()) is None
    assert starts.status(pod, status("a", "b")) is None


def test_pods_with_user_namespaces_are_counted() -> None:
    measures, recorder = Measures(), Recorder("n1")
    core = SimpleNamespace(
        facts=SimpleNamespace(name="n1"), cri=SimpleNamespace(on_call=[]), api=None,
        tools=SimpleNamespace(measures=measures), recorder=recorder, on_status=[], on_gone=[],
        settings=Settings(),
    )  # fmt: skip
    metrics = KubeletMetrics(cast(Core, core), nothing)

    def counted() -> tuple[float | None, ...]:
        registry = metrics._instruments.registry
        return tuple(
            registry.get_sample_value(f"kubelet_started_{name}_total")
            for name in ("pods", "user_namespaced_pods", "user_namespaced_pods_errors")
        )

    plain, mapped = make_pod(), make_pod()
    mapped.spec.host_users, mapped.metadata.uid = False, "u2"
    for one in (plain, mapped):
        measures.sandbox(one, True)
        recorder.warning(one, "Failed", "Error: CreateContainerError", "a")
        recorder.warning(one, "Failed", "Error: CreateContainerError", "a")
    assert counted() == (2, 1, 1)
    measures.sandbox(mapped, False)
    assert counted() == (3, 2, 2)
    # What fails once the pod runs is no failure to start it.
    measures.sandbox(mapped, True)
    metrics._published(mapped, status())
    metrics._published(mapped, status("a", "b"))
    recorder.warning(mapped, "Failed", "Error: CreateContainerError", "a")
    assert counted() == (4, 3, 2)


async def nothing() -> list[tuple[str, str, Filesystem]]:
    return []


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ('Successfully pulled image "x" in 250ms (1s including waiting).', 0.25),
        ('Successfully pulled image "x" in 1m2.5s (1m3s including waiting).', 62.5),
        ('Container image "x" already present on machine', 0.0),
        ('Successfully pulled image "x" in soon (', 0.0),
    ],
)
def test_seconds_of_pulls(message: str, expected: float) -> None:
    assert pull_seconds(message) == expected


def test_pods_and_containers_are_counted() -> None:
    one, two = make_pod(), make_pod()
    one.status, two.status = status("a", "b"), status()
    running, states = count_pods([one, two])
    assert (running, dict(states)) == (1, {"running": 2})


def test_volumes_of_claims() -> None:
    text = volume_metrics([("default", "data", Filesystem(9, 8, 7, 6, 1, None))])
    assert 'kubelet_volume_stats_capacity_bytes{namespace="default"' in text
    assert 'persistentvolumeclaim="data"} 9' in text
    assert "inodes_used" not in text
    assert volume_metrics([]) == ""
