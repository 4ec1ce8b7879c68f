from __future__ import annotations

from typing import Any

import pytest

from kubeletpy.api.container import Container, ContainerResizePolicy, ResourceRequirements
from kubeletpy.api.quantity import Quantity
from kubeletpy.pods.actions import decide
from kubeletpy.pods.state import RESIZE_STEP, KillReason, StepFailure
from kubeletpy.resize.plan import Actual, Amounts, Resize
from kubeletpy.resources.limits import Limits

from .build import NOW, box, container, desired, observed, record

OLD = Amounts(cpu_request=100, cpu_limit=200, memory_request=1024, memory_limit=2048)
MORE_CPU = Amounts(cpu_request=150, cpu_limit=200, memory_request=1024, memory_limit=2048)
MORE_MEMORY = Amounts(cpu_request=100, cpu_limit=200, memory_request=1024, memory_limit=4096)


def resized(amounts: Amounts, **policies: str) -> Container:
    return container(
        "a",
        resources=ResourceRequirements(
            requests={"cpu": Quantity(f"{amounts.cpu_request}m"),
                      "memory": Quantity(amounts.memory_request)},
            limits={"cpu": Quantity(f"{amounts.cpu_limit}m"),
                    "memory": Quantity(amounts.memory_limit)},
        ),
        resize_policy=[ContainerResizePolicy(name, policy) for name, policy in policies.items()],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("wanted", "policies", "restart"),
    [
        (MORE_CPU, {}, False),
        (MORE_CPU, {"cpu": "NotRequired", "memory": "RestartContainer"}, False),
        (MORE_CPU, {"cpu": "RestartContainer"}, True),
        (MORE_MEMORY, {"cpu": "RestartContainer"}, False),
        (MORE_MEMORY, {"memory": "RestartContainer"}, True),
    ],
)
def test_in_place_or_by_a_restart(wanted: Amounts, policies: dict[str, str], restart: bool) -> None:
    one = desired(resized(wanted, **policies))
    actions = decide(one, observed(box(), record("a", "running", amounts=OLD)), NOW)
    assert actions.resizing
    if restart:
        (kill,) = actions.kill
        assert (kill.reason, kill.message) == (
            KillReason.RESIZE, "Container a resize requires restart",
        )  # fmt: skip
        assert actions.resize is None
    else:
        assert not actions.kill
        assert actions.resize is not None
        (change,) = actions.resize.containers
        assert (change.name, change.now, change.wanted) == ("a", OLD, wanted)


@pytest.mark.parametrize(
    "thing",
    [
        record("a", "running", amounts=MORE_CPU),
        # Not known what it has: nothing is done on a guess.
        record("a", "running"),
        # It will have the right size when it starts.
        record("a", "exited", amounts=OLD),
    ],
)
def test_nothing_to_change(thing: Any) -> None:
    actions = decide(desired(resized(MORE_CPU)), observed(box(), thing), NOW)
    assert actions.resize is None
    assert not actions.resizing


def test_what_was_changed_in_place_counts() -> None:
    running = record("a", "running", amounts=OLD)
    actual = Actual(amounts={running.id: MORE_CPU})
    actions = decide(desired(resized(MORE_CPU)), observed(box(), running, actual=actual), NOW)
    assert actions.resize is None


def test_a_container_that_restarted_for_it_waits_for_nothing() -> None:
    ended = record("a", "exited", amounts=OLD, exit_code=137, backoff=300.0)
    state = observed(box(), ended, killed={ended.id: KillReason.RESIZE})
    for policy in ("Always", "OnFailure", "Never"):
        wanted = desired(resized(MORE_CPU, cpu="RestartContainer"), restart_policy=policy)
        actions = decide(wanted, state, NOW)
        assert [start.name for start in actions.start] == ["a"], policy


@pytest.mark.parametrize(
    ("now", "wanted", "change"),
    [
        (Limits(102), Limits(102), False),
        (Limits(102), Limits(204), True),
        (Limits(102, None), Limits(102, -1), False),
        (Limits(102, 10_000), Limits(102), True),
        (Limits(102, memory_bytes=5), Limits(102, memory_bytes=6), True),
    ],
)
def test_cgroup_of_the_pod(now: Limits, wanted: Limits, change: bool) -> None:
    state = observed(
        box(), record("a", "running", amounts=OLD), actual=Actual(pod=now, wanted=wanted)
    )
    actions = decide(desired(resized(OLD)), state, NOW)
    assert actions.resize == (Resize((), True) if change else None)


def test_a_failed_change_is_tried_again_later() -> None:
    state = observed(
        box(),
        record("a", "running", amounts=OLD),
        failures={RESIZE_STEP: StepFailure("ResizeError", "", 1, NOW + 7)},
    )
    actions = decide(desired(resized(MORE_CPU)), state, NOW)
    assert actions.resize is None
    assert actions.resizing
    assert actions.wake_at == NOW + 7
    assert decide(desired(resized(MORE_CPU)), state, NOW + 7).resize is not None


def test_amounts_as_text() -> None:
    assert Amounts.parse(OLD.text()) == OLD
    for text in ("", "1 2 3", "1 2 3 x", "1 2 3 -4"):
        assert Amounts.parse(text) is None
