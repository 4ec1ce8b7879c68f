"""Restart policies and rules of single containers (KEP-5307), and of all at once (KEP-5532)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kubeletpy.api.container import (
    Container,
    ContainerRestartRule,
    ContainerRestartRuleOnExitCodes,
    EphemeralContainer,
)
from kubeletpy.pods.actions import decide
from kubeletpy.pods.plan import FAILED, StartContainer
from kubeletpy.pods.restarts import restarts
from kubeletpy.pods.state import ImagePhase, ImageState, KillReason, StepFailure

from .build import NOW, PRESENT, box, container, desired, observed, pod, record


def rule(action: str, operator: str, *values: int) -> ContainerRestartRule:
    codes = ContainerRestartRuleOnExitCodes(operator=operator, values=list(values))
    return ContainerRestartRule(action=action, exit_codes=codes)


RESTART_42 = rule("Restart", "In", 42)
ALL_42 = rule("RestartAllContainers", "In", 42)


@pytest.mark.parametrize(
    ("pod_policy", "own_policy", "rules", "code", "expected"),
    [
        ("Always", None, [], 0, True),
        ("OnFailure", None, [], 0, False),
        ("OnFailure", None, [], 1, True),
        ("Never", None, [], 1, False),
        ("Never", "Always", [], 0, True),
        ("Never", "OnFailure", [], 0, False),
        ("Never", "OnFailure", [], 3, True),
        ("Always", "Never", [], 1, False),
        ("Never", "Never", [RESTART_42], 42, True),
        ("Never", "Never", [RESTART_42], 1, False),
        ("Always", "Never", [rule("Restart", "NotIn", 1, 2)], 1, False),
        ("Always", "Never", [rule("Restart", "NotIn", 1, 2)], 3, True),
        ("Never", "Never", [ALL_42], 42, True),
        # The first rule that matches counts; one with an action unknown here falls to the policy.
        ("Never", "Never", [rule("Later", "In", 42), RESTART_42], 42, False),
        ("Never", "Never", [ContainerRestartRule(action="Restart")], 42, False),
        # Without a policy of its own the rules of a container do not count.
        ("Never", None, [RESTART_42], 42, False),
    ],
)
def test_policy_and_rules(
    pod_policy: str,
    own_policy: str | None,
    rules: list[ContainerRestartRule],
    code: int,
    expected: bool,
) -> None:
    one = container("a", restart_policy=own_policy, restart_policy_rules=rules)
    assert restarts(pod(one, restart_policy=pod_policy).spec, one, code) is expected


def names(actions: Any) -> list[str]:
    return [f"{one.name}-{one.attempt}" for one in actions.start]


def test_one_container_restarts_and_the_other_does_not() -> None:
    wanted = desired(
        container("a", restart_policy="Never", restart_policy_rules=[RESTART_42]),
        container("b", restart_policy="Never"),
    )
    ended = record("a", "exited", exit_code=42)
    other = record("b", "exited", exit_code=1)
    actions = decide(wanted, observed(box(), ended, other), NOW)
    assert names(actions) == ["a-1"]
    assert actions.terminal is None
    ended = record("a", "exited", exit_code=2)
    assert decide(wanted, observed(box(), ended, other), NOW).terminal == FAILED


def test_a_pod_with_policy_always_ends_when_none_of_its_containers_restarts() -> None:
    wanted = desired(container("a", restart_policy="Never"))
    actions = decide(wanted, observed(box(), record("a", "exited")), NOW)
    assert actions.terminal is not None
    assert actions.terminal.phase == "Succeeded"


@pytest.mark.parametrize(
    ("own_policy", "code", "start", "failed"),
    [
        (None, 1, [], True),
        ("OnFailure", 1, ["i-1"], False),
        ("Never", 42, ["i-1"], False),
        ("Never", 1, [], True),
    ],
)
def test_init_containers_have_policies_of_their_own(
    own_policy: str | None, code: int, start: list[str], failed: bool
) -> None:
    rules = [RESTART_42] if own_policy else []
    first = container("i", restart_policy=own_policy, restart_policy_rules=rules)
    wanted = desired("a", init=(first,), restart_policy="Never")
    images = dict.fromkeys("ai", PRESENT)
    seen = observed(box(), record("i", "exited", exit_code=code), images=images)
    actions = decide(wanted, seen, NOW)
    assert names(actions) == start
    assert (actions.terminal == FAILED) is failed


def test_a_lost_sandbox_is_made_anew_only_if_something_of_it_may_run_again() -> None:
    own = container("a", restart_policy="Never", restart_policy_rules=[RESTART_42])
    wanted = desired(own, restart_policy="Never")
    lost = box(ready=False)
    assert decide(wanted, observed(lost, record("a", "running")), NOW).kill_pod
    assert decide(wanted, observed(lost, record("a", "exited", exit_code=42)), NOW).create_sandbox
    assert (
        decide(wanted, observed(lost, record("a", "exited", exit_code=137)), NOW).terminal == FAILED
    )


def sidecar(name: str) -> Container:
    return container(name, restart_policy="Always")


SOURCE = container("a", restart_policy="Never", restart_policy_rules=[ALL_42])


def test_all_containers_restart() -> None:
    wanted = desired(SOURCE, "b", init=("i", sidecar("s")), restart_policy="Never")
    seen = observed(
        box(),
        record("i", "exited"),
        record("s", "running"),
        record("a", "exited", attempt=1, exit_code=42),
        record("a", "exited", exit_code=1),
        record("b", "running"),
    )
    actions = decide(wanted, seen, NOW)
    assert [(one.id, one.kill) for one in actions.reset] == [
        ("a-0", False), ("b-0", True), ("i-0", False), ("s-0", True), ("a-1", False),
    ]  # fmt: skip
    assert not actions.start
    assert not actions.kill
    assert actions.initialized
    # As long as the container that asked for it is there, what is left is removed.
    numbers = {"a": 1, "b": 0, "i": 0, "s": 0}
    rest = observed(box(), record("a", "exited", attempt=1, exit_code=42), attempts=numbers)
    assert [one.id for one in decide(wanted, rest, NOW).reset] == ["a-1"]
    # Then they start anew, under numbers that were not used yet.
    images = dict.fromkeys("abis", PRESENT)
    begun = observed(box(), images=images, attempts=numbers)
    assert names(decide(wanted, begun, NOW)) == ["i-1"]


FAILED_PULL = ImageState(ImagePhase.FAILED, reason="ErrImagePull", failed_at=NOW, retry_at=NOW + 9)


@pytest.mark.parametrize(
    ("image", "pull", "start", "reset"),
    [
        (PRESENT, (), ["b-0"], []),
        (None, ("b",), [], []),
        (ImageState(ImagePhase.PULLING), (), [], []),
        # What cannot start is not waited for.
        (FAILED_PULL, (), [], ["a-0"]),
    ],
)
def test_the_others_start_before_one_that_ended_at_once_restarts_all(
    image: ImageState | None, pull: tuple[str, ...], start: list[str], reset: list[str]
) -> None:
    wanted = desired(SOURCE, "b", restart_policy="Never")
    source = record("a", "exited", exit_code=42)
    images = {} if image is None else {"b": image}
    seen = observed(box(), source, images=images, attempts={"a": 0})
    actions = decide(wanted, seen, NOW)
    assert (actions.pull, names(actions)) == (pull, start)
    assert [one.id for one in actions.reset] == reset
    failed = replace(seen, failures={"b": StepFailure("R", "m", 1, NOW + 5)})
    assert [one.id for one in decide(wanted, failed, NOW).reset] == ["a-0"]
    # No container starts in a sandbox that is not there, or while init containers run.
    gone = replace(seen, sandboxes=())
    assert decide(wanted, gone, NOW).start == ()


def test_init_containers_that_restart_all_do_not_wait_for_regular_ones() -> None:
    first = container("i", restart_policy="Never", restart_policy_rules=[ALL_42])
    wanted = desired("b", init=(first,), restart_policy="Never")
    seen = observed(box(), record("i", "exited", exit_code=42), attempts={"i": 0})
    assert [one.id for one in decide(wanted, seen, NOW).reset] == ["i-0"]


def test_a_reset_that_failed_waits() -> None:
    wanted = desired(SOURCE, restart_policy="Never")
    seen = observed(box(), record("a", "exited", exit_code=42))
    failed = replace(seen, failures={"\0reset": StepFailure("R", "m", 1, NOW + 5)})
    actions = decide(wanted, failed, NOW)
    assert actions.reset == ()
    assert actions.wake_at == NOW + 5
    assert decide(wanted, failed, NOW + 5).reset


def test_a_source_killed_by_its_probe_counts_by_its_exit_code() -> None:
    wanted = desired(SOURCE, restart_policy="Never")
    ended = record("a", "exited", exit_code=42)
    seen = observed(box(), ended, killed={ended.id: KillReason.LIVENESS})
    assert decide(wanted, seen, NOW).reset


DEBUGGER = EphemeralContainer(name="d", image="d:1", target_container_name="a")


def test_an_ephemeral_container_is_started_once() -> None:
    wanted = desired("a", init=("i",), ephemeral_containers=[DEBUGGER])
    images = dict.fromkeys("aid", PRESENT)
    seen = observed(box(), record("i", "running"), images=images)
    # While init containers still run; its target is not there yet.
    assert decide(wanted, seen, NOW).start == (StartContainer("d", 0, 0.0),)
    running = (box(), record("i", "exited"), record("a", "running"))
    started = decide(wanted, observed(*running, images=images), NOW).start
    assert started == (StartContainer("d", 0, 0.0, target="a-0"),)
    for phase in ("created", "running", "exited"):
        again = decide(wanted, observed(*running, record("d", phase), images=images), NOW)
        assert again.start == ()
    forgotten = observed(*running, images=images, attempts={"d": 0})
    assert decide(wanted, forgotten, NOW).start == ()


def test_an_ephemeral_container_holds_up_nobody() -> None:
    wanted = desired("a", ephemeral_containers=[DEBUGGER], restart_policy="Never")
    seen = observed(box(), images={"a": PRESENT})
    actions = decide(wanted, seen, NOW)
    assert actions.pull == ("d",)
    assert names(actions) == ["a-0"]
    # It does not keep a pod alive whose containers have ended.
    over = observed(box(), record("a", "exited"), record("d", "running"), images={})
    actions = decide(wanted, over, NOW)
    assert actions.kill_pod
    assert actions.terminal is not None
    assert actions.terminal.phase == "Succeeded"
