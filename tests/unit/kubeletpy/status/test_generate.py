"""PodStatus from what is observed, in tables."""

from __future__ import annotations

from typing import Any

import pytest

from kubeletpy.api.container import EphemeralContainer, ResourceRequirements, VolumeMount
from kubeletpy.api.pod import PodReadinessGate
from kubeletpy.api.quantity import Quantity
from kubeletpy.api.status import LinuxContainerUser, PodCondition, PodStatus
from kubeletpy.pods.actions import decide
from kubeletpy.pods.plan import Desired
from kubeletpy.pods.state import (
    KILL_STEP,
    SANDBOX_STEP,
    ImagePhase,
    ImageState,
    Observed,
    Outcome,
    ProbeResults,
    StepFailure,
    Terminal,
)
from kubeletpy.status.generate import Node, pod_status
from tests.unit.kubeletpy.pods.build import NOW, PROBE, box, container, desired, observed, record

NODE = Node(("192.168.1.2", "fd00::2"), "kubeletpy")


def status_of(
    wanted: Desired, seen: Observed, now: float = NOW, previous: PodStatus | None = None
) -> PodStatus:
    return pod_status(
        wanted, seen, decide(wanted, seen, now), node=NODE, now=now, previous=previous
    )


def word(status: PodStatus, kind: str) -> str:
    return next(one.status for one in status.conditions if one.type == kind)


RUNNING = record("a", "running")
FAILED_PULL = ImageState(ImagePhase.FAILED, reason="ErrImagePull", message="no", failed_at=NOW)
CASES: list[tuple[str, Desired, Observed, str, str]] = [
    ("no sandbox", desired("a"), observed(), "Pending", "False"),
    ("sandbox", desired("a"), observed(box()), "Pending", "False"),
    ("created", desired("a"), observed(box(), record("a", "created")), "Pending", "False"),
    ("running", desired("a"), observed(box(), RUNNING), "Running", "True"),
    ("one is missing", desired("a", "b"), observed(box(), RUNNING), "Pending", "False"),
    (
        "init runs",
        desired("a", init=("b",)),
        observed(box(), record("b", "running")),
        "Pending",
        "False",
    ),
    (
        "image cannot be had",
        desired("a"),
        observed(box(), images={"a": FAILED_PULL}),
        "Pending",
        "False",
    ),
    (
        "crashing",
        desired("a"),
        observed(box(), record("a", "exited", 1, exit_code=1, backoff=10.0)),
        "Running",
        "False",
    ),
    (
        "sandbox lost",
        desired("a"),
        observed(box(ready=False), record("a", "exited", exit_code=137)),
        "Running",
        "False",
    ),
    (
        "succeeded",
        desired("a", restart_policy="Never"),
        observed(box(ready=False), record("a", "exited")),
        "Succeeded",
        "False",
    ),
    (
        "failed",
        desired("a", restart_policy="Never"),
        observed(box(ready=False), record("a", "exited", exit_code=1)),
        "Failed",
        "False",
    ),
    (
        "at its end, but a sidecar still runs",
        desired("a", init=(container("b", restart_policy="Always"),), restart_policy="Never"),
        observed(box(), record("a", "exited"), record("b", "running")),
        "Running",
        "False",
    ),
    (
        "not ready",
        desired(container("a", readiness_probe=PROBE)),
        observed(box(), RUNNING),
        "Running",
        "False",
    ),
    (
        "ready",
        desired(container("a", readiness_probe=PROBE)),
        observed(box(), RUNNING, probes={"a-0": ProbeResults(readiness=Outcome.SUCCESS)}),
        "Running",
        "True",
    ),
    (
        "not started",
        desired(container("a", startup_probe=PROBE)),
        observed(box(), RUNNING),
        "Running",
        "False",
    ),
]


@pytest.mark.parametrize(
    ("wanted", "seen", "phase", "ready"), [case[1:] for case in CASES], ids=[c[0] for c in CASES]
)
def test_phase_and_readiness(wanted: Desired, seen: Observed, phase: str, ready: str) -> None:
    status = status_of(wanted, seen)
    assert (status.phase, word(status, "Ready"), word(status, "ContainersReady")) == (
        phase, ready, ready,
    )  # fmt: skip
    assert word(status, "PodScheduled") == "True"


def test_addresses_and_class() -> None:
    wanted = desired("a")
    wanted.pod.spec.containers[0].resources = ResourceRequirements(requests={"cpu": Quantity("1")})
    status = status_of(wanted, observed(box(ips=("10.0.0.1", "fd::1")), RUNNING, started_at=NOW))
    assert (status.host_ip, status.pod_ip) == ("192.168.1.2", "10.0.0.1")
    assert [one.ip for one in status.pod_ips] == ["10.0.0.1", "fd::1"]
    assert status.qos_class == "Burstable"
    assert status.start_time is not None
    assert status.start_time.timestamp() == NOW


def test_host_network_has_the_addresses_of_the_node() -> None:
    wanted = desired("a", host_network=True)
    status = status_of(wanted, observed(box(ips=(), host_network=True), RUNNING))
    assert status.pod_ip == "192.168.1.2"
    assert word(status, "PodReadyToStartContainers") == "True"


def test_ended_pod_keeps_its_address() -> None:
    wanted = desired("a", restart_policy="Never")
    before = status_of(wanted, observed(box(), RUNNING))
    after = status_of(wanted, observed(box(ready=False), record("a", "exited")), previous=before)
    assert after.pod_ip == "10.0.0.1"


def test_transition_times_change_with_the_word_only() -> None:
    wanted = desired("a")
    first = status_of(wanted, observed(box()), NOW)
    second = status_of(wanted, observed(box(), RUNNING), NOW + 5, first)
    third = status_of(wanted, observed(box(), RUNNING), NOW + 9, second)
    times = {
        one.type: one.last_transition_time.timestamp()
        for one in third.conditions
        if one.last_transition_time
    }
    assert times == {
        "PodReadyToStartContainers": NOW,
        "Initialized": NOW,
        "Ready": NOW + 5,
        "ContainersReady": NOW + 5,
        "PodScheduled": NOW,
    }
    assert third == second


@pytest.mark.parametrize(
    ("given", "ready"), [(None, "False"), ("False", "False"), ("True", "True")]
)
def test_readiness_gates(given: str | None, ready: str) -> None:
    wanted = desired("a", readiness_gates=[PodReadinessGate(condition_type="x/gate")])
    others = [] if given is None else [PodCondition(type="x/gate", status=given)]
    status = status_of(wanted, observed(box(), RUNNING), previous=PodStatus(conditions=others))
    assert word(status, "Ready") == ready
    assert word(status, "ContainersReady") == "True"
    assert [one.status for one in status.conditions if one.type == "x/gate"] == [
        one.status for one in others
    ]


def states(status: Any) -> tuple[Any, Any]:
    def short(state: Any) -> Any:
        if state.waiting is not None:
            return state.waiting.reason
        if state.running is not None:
            return "running"
        return state.terminated and (state.terminated.reason, state.terminated.exit_code)

    return short(status.state), short(status.last_state)


ERROR: dict[str, Any] = {"exit_code": 1, "backoff": 10.0}
STATES: list[tuple[str, Desired, Observed, tuple[Any, Any], int]] = [
    ("nothing", desired("a"), observed(), ("ContainerCreating", None), 0),
    ("with init", desired("a", init=("b",)), observed(box()), ("PodInitializing", None), 0),
    ("running", desired("a"), observed(box(), RUNNING), ("running", None), 0),
    (
        "running again",
        desired("a"),
        observed(box(), record("a", "running", 1), record("a", "exited", **ERROR)),
        ("running", ("Error", 1)),
        1,
    ),
    (
        "waits for its back-off",
        desired("a"),
        observed(box(), record("a", "exited", 1, **ERROR)),
        ("CrashLoopBackOff", ("Error", 1)),
        1,
    ),
    (
        "about to start again",
        desired("a"),
        observed(box(), record("a", "exited", exit_code=0)),
        (("Completed", 0), None),
        0,
    ),
    (
        "killed for memory",
        desired("a", restart_policy="Never"),
        observed(box(), record("a", "exited", exit_code=137, reason="OOMKilled")),
        (("OOMKilled", 137), None),
        0,
    ),
    (
        "its image cannot be had",
        desired("a"),
        observed(box(), images={"a": FAILED_PULL}),
        ("ErrImagePull", None),
        0,
    ),
    (
        "lost by the runtime",
        desired("a"),
        observed(box(), record("a", "unknown")),
        (("ContainerStatusUnknown", 137), None),
        0,
    ),
]


@pytest.mark.parametrize(
    ("wanted", "seen", "expected", "restarts"), [c[1:] for c in STATES], ids=[c[0] for c in STATES]
)
def test_container_states(
    wanted: Desired, seen: Observed, expected: tuple[Any, Any], restarts: int
) -> None:
    status = status_of(wanted, seen).container_statuses[0]
    assert states(status) == expected
    assert status.restart_count == restarts


def test_init_container_of_a_lost_sandbox_is_waiting_again() -> None:
    seen = observed(box(0, ready=False), box(1), record("b", "exited"))
    status = status_of(desired("a", init=("b",)), seen).init_container_statuses[0]
    assert states(status) == ("PodInitializing", ("Completed", 0))
    assert not status.ready


def test_what_the_runtime_forgot_is_known_from_the_status_before() -> None:
    wanted = desired("a")
    before = status_of(wanted, observed(box(), RUNNING))
    gone = status_of(wanted, observed(box(), attempts={"a": 0}), previous=before)
    assert states(gone.container_statuses[0]) == (
        "ContainerCreating", ("ContainerStatusUnknown", 137),
    )  # fmt: skip
    assert gone.container_statuses[0].restart_count == 1
    assert gone.phase == "Running"
    again = observed(box(), record("a", "running", 1), attempts={"a": 1})
    after = status_of(wanted, again, previous=gone)
    assert states(after.container_statuses[0]) == ("running", ("ContainerStatusUnknown", 137))
    # It stays so in all later statuses.
    assert status_of(wanted, again, previous=after) == after


@pytest.mark.parametrize(
    ("read_only", "mode", "supported", "expected"),
    [
        (False, None, True, None),
        (True, None, True, "Disabled"),
        (True, "IfPossible", True, "Enabled"),
        (True, "IfPossible", False, "Disabled"),
        (True, "Enabled", True, "Enabled"),
    ],
)
def test_mounts_of_a_container(
    read_only: bool, mode: str | None, supported: bool, expected: str | None
) -> None:
    mount = VolumeMount(name="v", mount_path="/v", read_only=read_only, recursive_read_only=mode)
    wanted, seen = desired(container("a", volume_mounts=[mount])), observed(box(), RUNNING)
    node = Node((), "kubeletpy", supported)
    status = pod_status(wanted, seen, decide(wanted, seen, NOW), node=node, now=NOW)
    assert [
        (one.name, one.mount_path, one.read_only, one.recursive_read_only)
        for one in status.container_statuses[0].volume_mounts
    ] == [("v", "/v", read_only, expected)]


def test_user_of_a_container() -> None:
    seen = observed(box(), record("a", "running", user=(1000, 2000, (2000, 5))))
    user = status_of(desired("a"), seen).container_statuses[0].user
    assert user is not None
    assert user.linux == LinuxContainerUser(uid=1000, gid=2000, supplemental_groups=[2000, 5])


def test_identity_of_a_container() -> None:
    seen = observed(box(), record("a", "running", image="web:1", image_id="web@sha256:1"))
    status = status_of(desired("a"), seen).container_statuses[0]
    assert (status.container_id, status.image, status.image_id) == (
        "kubeletpy://a-0", "web:1", "web@sha256:1",
    )  # fmt: skip


def test_reason_of_the_end_is_told() -> None:
    end = Terminal("Failed", "DeadlineExceeded", "too long")
    status = status_of(desired("a"), observed(box(ready=False), concluded=end))
    assert (status.phase, status.reason, status.message) == (
        "Failed",
        "DeadlineExceeded",
        "too long",
    )


def test_what_the_runtime_lost_without_a_trace_has_failed() -> None:
    status = status_of(desired("a", restart_policy="Never"), observed(attempts={"a": 0}))
    assert status.phase == "Failed"
    [one] = status.container_statuses
    assert one.state.terminated is not None
    assert (one.state.terminated.exit_code, one.state.terminated.reason) == (
        137,
        "ContainerStatusUnknown",
    )


def test_what_holds_up_the_end_is_a_condition() -> None:
    failure = StepFailure("FailedKillPod", "it lives", 0, 0.0)
    status = status_of(desired("a"), observed(box(), failures={KILL_STEP: failure}))
    found = status.conditions[0]
    assert (found.status, found.reason, found.message) == ("True", "FailedKillPod", "it lives")


def test_a_sandbox_that_cannot_be_made_is_a_condition() -> None:
    failure = StepFailure("FailedMount", "no such volume", 2, NOW + 2)
    status = status_of(desired("a"), observed(failures={SANDBOX_STEP: failure}))
    found = status.conditions[0]
    assert (found.type, found.status, found.reason, found.message) == (
        "PodReadyToStartContainers", "False", "FailedMount", "no such volume",
    )  # fmt: skip


def test_order_of_statuses() -> None:
    wanted = desired("b", "a", init=("d", "c"))
    status = status_of(wanted, observed(box()))
    assert [one.name for one in status.container_statuses] == ["a", "b"]
    assert [one.name for one in status.init_container_statuses] == ["d", "c"]
    ready = next(one for one in status.conditions if one.type == "ContainersReady")
    assert ready.message == "containers with unready status: [b a]"


def test_an_ephemeral_container_is_neither_started_nor_ready() -> None:
    wanted = desired("a", ephemeral_containers=[EphemeralContainer(name="d", image="d:1")])
    seen = observed(box(), RUNNING, record("d", "running"))
    (status,) = status_of(wanted, seen).ephemeral_container_statuses
    assert (status.started, status.ready) == (None, False)
    assert states(status) == ("running", None)
