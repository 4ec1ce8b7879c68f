"""The story of a pod: what it waits for, since when, what was tried, what comes next."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kubeletpy.api.events import WARNING, new_event, pod_reference
from kubeletpy.api.pod import PodReadinessGate
from kubeletpy.api.status import ContainerStatus, PodStatus
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
)
from kubeletpy.why.story import Doing, Known, Story, Wait, tell
from kubeletpy.why.text import render
from kubeletpy.why.words import words_of
from tests.unit.kubeletpy.pods.build import NOW, PROBE, box, container, desired, observed, record


def known(wanted: Desired, seen: Observed, **more: Any) -> Known:
    status = PodStatus(phase="Pending")
    return Known(
        desired=wanted, observed=seen, actions=decide(wanted, seen, NOW),
        **{"status": status, **more},
    )  # fmt: skip


def waits(wanted: Desired, seen: Observed, **more: Any) -> list[Wait]:
    return tell(known(wanted, seen, **more)).waits


PULL = ImageState(
    ImagePhase.FAILED, reason="ErrImagePull", message="manifest unknown", failed_at=NOW - 5,
    retry_at=NOW + 35, since=NOW - 60, tried=3,
)  # fmt: skip
PROBED = container("a", readiness_probe=PROBE, startup_probe=PROBE)
STARTED = ProbeResults(startup=Outcome.SUCCESS)
CASES: list[tuple[str, Desired, Observed, list[tuple[str, str, float, int, str, float]]]] = [
    ("runs", desired("a"), observed(box(), record("a", "running")), []),
    (
        "no sandbox",
        desired("a"),
        observed(failures={SANDBOX_STEP: StepFailure("FailedMount", "no", 2, NOW + 2, NOW - 9)}),
        [("its sandbox (cgroup, volumes, network)", "FailedMount", NOW - 9, 2, "no", NOW + 2)],
    ),
    (
        "no image",
        desired("a"),
        observed(box(), images={"a": PULL}),
        [("container a: its image", "ImagePullBackOff", NOW - 60, 3, "manifest unknown",
          NOW + 35)],
    ),
    (
        "no image, being asked for again",
        desired("a"),
        observed(box(), images={"a": replace(PULL, phase=ImagePhase.PULLING)}),
        [("container a: its image", "ImagePullBackOff", NOW - 60, 3, "manifest unknown", 0.0)],
    ),
    (
        "crashes",
        desired("a"),
        observed(box(), record("a", "exited", 2, exit_code=3, reason="Error", message="oh",
                               backoff=20.0)),
        [("container a to be started again", "CrashLoopBackOff", NOW, 3,
          "it ended with exit code 3 (Error): oh", NOW + 20)],
    ),
    (
        "cannot be made",
        desired("a"),
        observed(box(), failures={
            "a": StepFailure("CreateContainerConfigError", "no key", 4, NOW + 8, NOW - 15)}),
        [("container a to be started", "CreateContainerConfigError", NOW - 15, 4, "no key",
          NOW + 8)],
    ),
    (
        "init container runs",
        desired("a", init=("i",)),
        observed(box(), record("i", "running")),
        [("init container i to end", "InitContainer", NOW - 5, 0, "", 0.0)],
    ),
    (
        "has not started",
        desired(PROBED),
        observed(box(), record("a", "running")),
        [("container a to pass its startup probe", "Startup", NOW - 5, 0, "", 0.0)],
    ),
    (
        "is not ready",
        desired(PROBED),
        observed(box(), record("a", "running"), probes={"a-0": STARTED}),
        [("container a to pass its readiness probe", "Readiness", NOW - 5, 0, "", 0.0)],
    ),
    (
        "a gate is closed",
        desired("a", readiness_gates=[PodReadinessGate(condition_type="x/gate")]),
        observed(box(), record("a", "running")),
        [("condition x/gate, a readiness gate", "ReadinessGate", 0.0, 0, "it is not set", 0.0)],
    ),
    (
        "ended, but cannot be given back",
        desired("a", restart_policy="Never"),
        observed(box(ready=False), record("a", "exited"),
                 failures={KILL_STEP: StepFailure("FailedUnmount", "busy", 1, NOW + 1, NOW)}),
        [("the end of what still runs of it, and its volumes to be unmounted", "FailedUnmount",
          NOW, 1, "busy", NOW + 1)],
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("wanted", "seen", "expected"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_what_a_pod_waits_for(wanted: Desired, seen: Observed, expected: list[Any]) -> None:
    found = waits(wanted, seen)
    assert [
        (one.what, one.reason, one.since, one.tried, one.cause, one.next_at) for one in found
    ] == expected
    assert all(one.advice for one in found)


def test_a_runtime_that_is_away_comes_first() -> None:
    found = waits(desired("a"), observed(), runtime_fault="connection refused")
    assert (found[0].reason, found[0].cause) == ("RuntimeNotReachable", "connection refused")


def test_a_pod_that_ends_waits_for_its_end_only() -> None:
    seen = observed(box(), images={"a": PULL})
    story = tell(known(desired("a"), seen, ending_until=NOW + 30))
    assert story.waits == []
    assert story.ending_until == NOW + 30


def test_advice_names_the_pod() -> None:
    seen = observed(box(), record("a", "exited", 1, exit_code=1, backoff=10.0))
    (found,) = waits(desired("a"), seen)
    assert found.advice.endswith("kubectl logs -n default web -c a --previous")


def test_events_of_the_pod_are_told_and_name_the_cause_of_a_probe() -> None:
    wanted = desired(PROBED)
    own, other = pod_reference(wanted.pod, "a"), pod_reference(wanted.pod, "a")
    other.uid = "u2"
    events = [
        new_event(reference, WARNING, "Unhealthy", f"Readiness probe failed: {text}", host="n")
        for reference, text in ((own, "first"), (own, "last"), (other, "else"))
    ]
    seen = observed(box(), record("a", "running"), probes={"a-0": STARTED})
    story = tell(known(wanted, seen), events)
    assert story.waits[0].cause == "Readiness probe failed: last"
    assert [one.message for one in story.happened] == [
        "Readiness probe failed: first", "Readiness probe failed: last",
    ]  # fmt: skip
    assert story.happened[0].container == "a"


def test_text() -> None:
    status = PodStatus(
        phase="Pending",
        container_statuses=[
            ContainerStatus(name="a", ready=False, restart_count=0, image="", image_id="")
        ],
    )
    seen = observed(box(), images={"a": PULL})
    doing = [Doing("getting the image of container b", NOW - 3)]
    told = known(desired("a"), seen, status=status, doing=doing)
    event = new_event(pod_reference(told.desired.pod), WARNING, "Failed", "no", host="n")
    assert event.last_timestamp is not None
    story = tell(told, [event])
    story = replace(story, happened=[replace(story.happened[0], at=NOW - 90, count=4)])
    assert render(story, NOW).splitlines() == [
        "default/web: Pending, 0/1 containers ready",
        "",
        "Under way:",
        "  - getting the image of container b, for 3s",
        "",
        "It waits for:",
        "  - container a: its image (ImagePullBackOff, for 1m0s)",
        "      cause:  manifest unknown",
        "      tried:  3 times",
        "      next:   in 35s, at 13:47:15 UTC",
        "      advice: check the name of the image, the registry, and the pull secrets of the pod",
        "",
        "What happened:",
        "  - 1m30s ago (x4): ! Failed: no",
    ]


def test_text_of_a_pod_that_is_well_and_of_one_that_ends() -> None:
    story = Story(namespace="ns", name="a", uid="u", phase="Running", ready="1/1",
                  started_at=NOW - 10)  # fmt: skip
    assert render(story, NOW) == (
        "ns/a: Running, 1/1 containers ready, for 10s\n\nIt waits for nothing.\n"
    )
    ending = replace(story, ending_until=NOW + 5, reason="Evicted", message="full")
    assert "  Evicted: full\nIt is being terminated, within 5s." in render(ending, NOW)
    assert "overdue since 3s" in render(replace(story, ending_until=NOW - 3), NOW)


@pytest.mark.parametrize(
    ("wanted", "seen", "words"),
    [
        (desired("a"), observed(), "making the sandbox: cgroup, volumes, network"),
        (desired("a", "b"), observed(box()), "starting containers a, b"),
        (desired("a"), observed(box(0), box(1)), "ending all that runs of the pod: "),
        (
            desired("a"),
            observed(box(0, ready=False), box(1), record("a", "running", sandbox=1)),
            "removing containers that nobody needs any more",
        ),
    ],
)
def test_words(wanted: Desired, seen: Observed, words: str) -> None:
    assert words_of(decide(wanted, seen, NOW)).startswith(words)
