"""Decisions about time: back-off, pulls, failed steps, deadlines; and what is said about them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from kubeletpy.api.container import Container
from kubeletpy.pods.actions import decide
from kubeletpy.pods.plan import FAILED, SUCCEEDED, Desired
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

from .build import NOW, PROBE, box, container, desired, observed, record


def test_grace_of_the_probe_wins() -> None:
    wanted = desired(container("a", liveness_probe=PROBE))
    seen = observed(
        box(), record("a", "running"), probes={"a-0": ProbeResults(liveness=Outcome.FAILURE)}
    )
    kill = decide(wanted, seen, NOW).kill[0]
    assert kill.grace == 3
    assert kill.message == "Container a failed liveness probe, will be restarted"


@pytest.mark.parametrize(
    ("carried", "age", "starts", "next_carried", "text"),
    [
        (0.0, 0.0, True, 10.0, ""),
        (10.0, 0.0, False, None, "10s"),
        (10.0, 9.9, False, None, "10s"),
        (10.0, 10.0, True, 20.0, ""),
        (160.0, 0.0, False, None, "2m40s"),
        (300.0, 299.0, False, None, "5m0s"),
        (300.0, 300.0, True, 300.0, ""),
    ],
)
def test_back_off(
    carried: float, age: float, starts: bool, next_carried: float | None, text: str
) -> None:
    ended = record("a", "exited", 1, exit_code=1, backoff=carried)
    actions = decide(desired("a"), observed(box(), ended), NOW + age)
    if starts:
        assert [one.backoff for one in actions.start] == [next_carried]
        return
    assert actions.start == ()
    assert actions.wake_at == NOW + carried
    waiting = actions.waiting["a"]
    assert waiting.reason == "CrashLoopBackOff"
    message = f"back-off {text} restarting failed container=a pod=web_default(u1), next attempt at "
    assert waiting.message.startswith(message)
    assert waiting.message.endswith("Z")


def test_back_off_ends_after_ten_minutes_of_running() -> None:
    ended = record("a", "exited", 5, exit_code=1, backoff=300.0, started_at=NOW - 601)
    (start,) = decide(desired("a"), observed(box(), ended), NOW).start
    assert (start.attempt, start.backoff) == (6, 10.0)


def test_back_off_is_not_of_another_definition() -> None:
    ended = record("a", "exited", 5, exit_code=1, backoff=300.0, spec_hash="old")
    assert decide(desired("a"), observed(box(), ended), NOW).start


def test_clock_set_back_does_not_hold_up_a_restart() -> None:
    ended = record("a", "exited", 5, exit_code=1, backoff=10.0)
    assert decide(desired("a"), observed(box(), ended), NOW - 3600).start


def test_containers_keep_their_order_while_an_image_is_pulled() -> None:
    images = {"a": ImageState(ImagePhase.PULLING), "b": ImageState(ImagePhase.PRESENT)}
    actions = decide(desired("a", "b", "c"), observed(box(), images=images), NOW)
    assert actions.start == ()
    assert actions.pull == ("c",)


def test_failed_pull_does_not_hold_up_the_others() -> None:
    failed = ImageState(
        ImagePhase.FAILED, reason="ErrImagePull", message="no", failed_at=NOW, retry_at=NOW + 10
    )
    images = {"a": failed, "b": ImageState(ImagePhase.PRESENT)}
    seen = observed(box(), images=images)
    actions = decide(desired("a", "b"), seen, NOW)
    assert [one.name for one in actions.start] == ["b"]
    assert actions.waiting["a"].reason == "ErrImagePull"
    assert actions.wake_at == NOW + 1
    later = decide(desired("a", "b"), seen, NOW + 2)
    assert later.waiting["a"].reason == "ImagePullBackOff"
    assert later.waiting["a"].message == 'Back-off pulling image "a:1": ErrImagePull: no'
    assert later.wake_at == NOW + 10
    assert decide(desired("a", "b"), seen, NOW + 10).pull == ("a",)


@pytest.mark.parametrize(
    ("step", "wanted", "seen"),
    [
        (SANDBOX_STEP, desired("a"), observed()),
        ("a", desired("a"), observed(box())),
        (KILL_STEP, desired("a"), observed(box(0), box(1))),
        (
            "a-0",
            desired(container("a", liveness_probe=PROBE)),
            observed(
                box(),
                record("a", "running"),
                probes={"a-0": ProbeResults(liveness=Outcome.FAILURE)},
            ),
        ),
        ("a-0", desired("a"), observed(box(), record("a", "running", 2), record("a", "exited", 1),
                                       record("a", "exited", 0))),
    ],
)  # fmt: skip
def test_failed_step_waits_for_its_time(step: str, wanted: Desired, seen: Observed) -> None:
    failure = StepFailure("CreateContainerError", "no room", 1, NOW + 2)
    seen = replace(seen, failures={step: failure})
    actions = decide(wanted, seen, NOW)
    assert actions.idle
    assert actions.wake_at == NOW + 2
    assert not decide(wanted, seen, NOW + 2).idle


def test_failed_start_is_shown() -> None:
    failure = StepFailure("CreateContainerError", "no room", 1, NOW + 2)
    actions = decide(desired("a"), observed(box(), failures={"a": failure}), NOW)
    assert actions.waiting["a"].reason == "CreateContainerError"
    assert actions.waiting["a"].message == "no room"


def test_deadline_wakes_and_explains() -> None:
    wanted = desired("a", active_deadline_seconds=10)
    seen = observed(box(), record("a", "running"), started_at=NOW - 4)
    assert decide(wanted, seen, NOW).wake_at == NOW + 6
    terminal = decide(wanted, seen, NOW + 6).terminal
    assert terminal is not None
    assert terminal.reason == "DeadlineExceeded"


def test_concluded_pod_is_left_alone_once_nothing_lives() -> None:
    for concluded in (SUCCEEDED, FAILED, Terminal("Failed", "DeadlineExceeded")):
        seen = observed(box(ready=False), record("a", "exited"), concluded=concluded)
        assert decide(desired("a"), seen, NOW).idle


def test_initialized_only_when_regular_containers_may_start() -> None:
    wanted = desired("a", init=("b",))
    assert not decide(wanted, observed(), NOW).initialized
    assert not decide(wanted, observed(box(), record("b", "running")), NOW).initialized
    assert decide(wanted, observed(box(), record("b", "exited")), NOW).initialized


def test_all_of_a_container_is_named_in_messages() -> None:
    made: Container = container("a", liveness_probe=PROBE)
    seen = observed(
        box(), record("a", "running"), probes={"a-0": ProbeResults(liveness=Outcome.FAILURE)}
    )
    kill = decide(desired(made, restart_policy="Never"), seen, NOW).kill[0]
    assert kill.message == "Container a failed liveness probe"
