"""Tables of decisions: what shall be, what is -> what to do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from kubeletpy.pods.actions import decide
from kubeletpy.pods.plan import SUCCEEDED, Actions, Desired
from kubeletpy.pods.state import (
    ImagePhase,
    ImageState,
    KillReason,
    Observed,
    Outcome,
    ProbeResults,
)

from .build import NOW, PROBE, box, container, desired, observed, record

SIDECAR = container("s", restart_policy="Always")
SLOW_SIDECAR = container("s", restart_policy="Always", startup_probe=PROBE)


def summary(actions: Actions) -> dict[str, Any]:
    """The actions as plain values, what is empty left out."""
    found: dict[str, Any] = {
        "kill_pod": bool(actions.kill_pod),
        "sandbox": actions.create_sandbox,
        "kill": [one.id for one in actions.kill],
        "reset": [f"{'kill ' if one.kill else ''}{one.id}" for one in actions.reset],
        "pull": list(actions.pull),
        "start": [f"{one.name}-{one.attempt}" for one in actions.start],
        "remove": [*actions.remove_containers, *actions.remove_sandboxes],
        "terminal": actions.terminal.phase if actions.terminal else None,
    }
    return {
        key: value
        for key, value in found.items()
        if value is not None and value is not False and value != []
    }


CASES: list[tuple[str, Desired, Observed, dict[str, Any]]] = [
    ("nothing there", desired("a"), observed(), {"sandbox": 0}),
    ("sandbox ready", desired("a", "b"), observed(box()), {"start": ["a-0", "b-0"]}),
    ("all run", desired("a"), observed(box(), record("a", "running")), {}),
    (
        "sandbox not ready, container dead",
        desired("a"),
        observed(box(ready=False), record("a", "exited", exit_code=137)),
        {"sandbox": 1},
    ),
    (
        "sandbox not ready, container alive: end it first",
        desired("a"),
        observed(box(ready=False), record("a", "running")),
        {"kill_pod": True},
    ),
    (
        "sandbox has no address",
        desired("a"),
        observed(box(ips=())),
        {"kill_pod": True},
    ),
    (
        "no address needed",
        desired("a", host_network=True),
        observed(box(ips=(), host_network=True)),
        {"start": ["a-0"]},
    ),
    ("two ready sandboxes", desired("a"), observed(box(0), box(1)), {"kill_pod": True}),
    (
        "after a new sandbox the number goes on",
        desired("a"),
        observed(box(0, ready=False), box(1), record("a", "exited", exit_code=137)),
        {"start": ["a-1"]},
    ),
    (
        "old sandbox without containers is removed",
        desired("a"),
        observed(box(0, ready=False), box(1), record("a", "running", sandbox=1)),
        {"remove": ["s0"]},
    ),
    # Restart policies.
    *(
        (
            f"{policy} and exit code {code}",
            desired("a", restart_policy=policy),
            observed(box(), record("a", "exited", exit_code=code)),
            expected,
        )
        for policy, code, expected in (
            ("Always", 0, {"start": ["a-1"]}),
            ("Always", 1, {"start": ["a-1"]}),
            ("OnFailure", 0, {"kill_pod": True, "terminal": "Succeeded"}),
            ("OnFailure", 1, {"start": ["a-1"]}),
            ("Never", 0, {"kill_pod": True, "terminal": "Succeeded"}),
            ("Never", 1, {"kill_pod": True, "terminal": "Failed"}),
        )
    ),
    (
        "Never: one failed, one still runs",
        desired("a", "b", restart_policy="Never"),
        observed(box(), record("a", "exited", exit_code=1), record("b", "running")),
        {},
    ),
    (
        "Never: one has not been started yet",
        desired("a", "b", restart_policy="Never"),
        observed(box(), record("a", "exited")),
        {"start": ["b-0"]},
    ),
    (
        "Never: the runtime has lost all of it",
        desired("a", restart_policy="Never"),
        observed(attempts={"a": 0}),
        {"terminal": "Failed"},
    ),
    (
        "Never: the runtime has lost all of it, before its container ever ran",
        desired("a", init=("i",), restart_policy="Never"),
        observed(attempts={"i": 0}),
        {"sandbox": 0},
    ),
    (
        "OnFailure: the runtime has lost all of it",
        desired("a", restart_policy="OnFailure"),
        observed(attempts={"a": 0}),
        {"sandbox": 0},
    ),
    (
        "Never: the sandbox is lost",
        desired("a", restart_policy="Never"),
        observed(box(ready=False), record("a", "exited", exit_code=137)),
        {"terminal": "Failed"},
    ),
    (
        "Never: the sandbox is lost after all succeeded",
        desired("a", restart_policy="Never"),
        observed(box(ready=False), record("a", "exited")),
        {"terminal": "Succeeded"},
    ),
    (
        "Never: the sandbox is lost before any container",
        desired("a", restart_policy="Never"),
        observed(box(ready=False)),
        {"sandbox": 1},
    ),
    (
        "Never: the sandbox is lost between init and regular containers",
        desired("a", init=("b",), restart_policy="Never"),
        observed(box(ready=False), record("b", "exited")),
        {"terminal": "Failed"},
    ),
    (
        "OnFailure: the sandbox is lost, one has succeeded: it is not run again",
        desired("a", "b", restart_policy="OnFailure"),
        observed(
            box(0, ready=False), box(1), record("a", "exited"), record("b", "exited", exit_code=137)
        ),
        {"start": ["b-1"]},
    ),
    (
        "OnFailure: the sandbox is lost after all succeeded",
        desired("a", restart_policy="OnFailure"),
        observed(box(ready=False), record("a", "exited")),
        {"terminal": "Succeeded"},
    ),
    (
        "created, never started: in its place, same number",
        desired("a", restart_policy="Never"),
        observed(box(), record("a", "created")),
        {"start": ["a-0"]},
    ),
    (
        "unknown state: end it first",
        desired("a"),
        observed(box(), record("a", "unknown")),
        {"kill": ["a-0"]},
    ),
    (
        "unknown state and ended: start the next",
        desired("a"),
        observed(box(), record("a", "unknown"), killed={"a-0": KillReason.UNKNOWN_STATE}),
        {"start": ["a-1"]},
    ),
    (
        "unknown state, ended, Never",
        desired("a", restart_policy="Never"),
        observed(
            box(ready=False), record("a", "unknown"), killed={"a-0": KillReason.UNKNOWN_STATE}
        ),
        {"terminal": "Failed"},
    ),
    # Probes and changes.
    (
        "liveness failed",
        desired(container("a", liveness_probe=PROBE)),
        observed(
            box(), record("a", "running"), probes={"a-0": ProbeResults(liveness=Outcome.FAILURE)}
        ),
        {"kill": ["a-0"]},
    ),
    (
        "startup failed",
        desired(container("a", startup_probe=PROBE)),
        observed(
            box(), record("a", "running"), probes={"a-0": ProbeResults(startup=Outcome.FAILURE)}
        ),
        {"kill": ["a-0"]},
    ),
    (
        "readiness failed: nothing",
        desired(container("a", readiness_probe=PROBE)),
        observed(
            box(), record("a", "running"), probes={"a-0": ProbeResults(readiness=Outcome.FAILURE)}
        ),
        {},
    ),
    (
        "ended by liveness with exit code 0 is restarted under OnFailure",
        desired("a", restart_policy="OnFailure"),
        observed(box(), record("a", "exited"), killed={"a-0": KillReason.LIVENESS}),
        {"start": ["a-1"]},
    ),
    (
        "ended by liveness under Never: failed, whatever the exit code",
        desired("a", restart_policy="Never"),
        observed(box(), record("a", "exited"), killed={"a-0": KillReason.LIVENESS}),
        {"kill_pod": True, "terminal": "Failed"},
    ),
    (
        "definition changed",
        desired("a", restart_policy="Never"),
        observed(box(), record("a", "running", spec_hash="old")),
        {"kill": ["a-0"]},
    ),
    (
        "ended because it changed: restarted under any policy",
        desired("a", restart_policy="Never"),
        observed(box(), record("a", "exited", spec_hash="old"), killed={"a-0": KillReason.CHANGED}),
        {"start": ["a-1"]},
    ),
    # Init containers.
    (
        "init first",
        desired("a", init=("i",)),
        observed(box(), images={"i": ImageState(ImagePhase.PRESENT)}),
        {"start": ["i-0"]},
    ),
    ("init runs", desired("a", init=("b",)), observed(box(), record("b", "running")), {}),
    (
        "init done",
        desired("a", init=("b", "c")),
        observed(box(), record("b", "exited")),
        {"start": ["c-0"]},
    ),
    (
        "all init done",
        desired("a", init=("b", "c")),
        observed(box(), record("b", "exited"), record("c", "exited")),
        {"start": ["a-0"]},
    ),
    (
        "an earlier one is gone from the runtime, the later one proves it",
        desired("a", init=("b", "c")),
        observed(box(), record("c", "exited")),
        {"start": ["a-0"]},
    ),
    (
        "all init ones are gone, the regular one proves them",
        desired("a", init=("b", "c")),
        observed(box(), record("a", "running")),
        {},
    ),
    (
        "init failed under Always: again",
        desired("a", init=("b",)),
        observed(box(), record("b", "exited", exit_code=1)),
        {"start": ["b-1"]},
    ),
    (
        "init failed under Never",
        desired("a", init=("b",), restart_policy="Never"),
        observed(box(), record("b", "exited", exit_code=1)),
        {"kill_pod": True, "terminal": "Failed"},
    ),
    (
        "init ran in the old sandbox: again in the new one",
        desired("a", init=("b",)),
        observed(
            box(0, ready=False), box(1), record("b", "exited"), record("a", "exited", exit_code=137)
        ),
        {"start": ["b-1"]},
    ),
    # Sidecars.
    (
        "sidecar first",
        desired("a", init=(SIDECAR,)),
        observed(box(), images={"s": ImageState(ImagePhase.PRESENT)}),
        {"start": ["s-0"]},
    ),
    (
        "sidecar runs",
        desired("a", init=(SIDECAR,)),
        observed(box(), record("s", "running")),
        {"start": ["a-0"]},
    ),
    (
        "sidecar has not started yet",
        desired("a", init=(SLOW_SIDECAR,)),
        observed(box(), record("s", "running")),
        {},
    ),
    (
        "sidecar has started",
        desired("a", init=(SLOW_SIDECAR,)),
        observed(
            box(), record("s", "running"), probes={"s-0": ProbeResults(startup=Outcome.SUCCESS)}
        ),
        {"start": ["a-0"]},
    ),
    (
        "sidecar died beside running ones, policy Never: restarted all the same",
        desired("a", init=(SIDECAR,), restart_policy="Never"),
        observed(
            box(),
            record("s", "exited"),
            record("a", "running"),
            images={"s": ImageState(ImagePhase.PRESENT)},
        ),
        {"start": ["s-1"]},
    ),
    (
        "all regular ones done: the sidecar ends with the pod",
        desired("a", init=(SIDECAR,), restart_policy="Never"),
        observed(box(), record("s", "running"), record("a", "exited")),
        {"kill_pod": True, "terminal": "Succeeded"},
    ),
    # Ends.
    (
        "deadline passed",
        desired("a", active_deadline_seconds=10),
        observed(box(), record("a", "running"), started_at=NOW - 10),
        {"kill_pod": True, "terminal": "Failed"},
    ),
    (
        "an end is for good, even if the runtime forgot all of it",
        desired("a"),
        observed(concluded=SUCCEEDED),
        {"terminal": "Succeeded"},
    ),
    # Garbage.
    (
        "one dead container a name is kept",
        desired("a"),
        observed(
            box(), record("a", "running", 3), record("a", "exited", 2), record("a", "exited", 1)
        ),
        {"remove": ["a-1"]},
    ),
    (
        "the newest is kept also if it is dead",
        desired("a", restart_policy="OnFailure"),
        observed(box(), record("a", "exited", 1), record("a", "exited", 0)),
        {"kill_pod": True, "terminal": "Succeeded", "remove": ["a-0"]},
    ),
]


@pytest.mark.parametrize(
    ("wanted", "seen", "expected"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_decision(wanted: Desired, seen: Observed, expected: dict[str, Any]) -> None:
    for name in ("s", "i"):
        if name not in seen.images:
            seen = with_image(seen, name)
    assert summary(decide(wanted, seen, NOW)) == expected


def with_image(seen: Observed, name: str) -> Observed:
    return replace(seen, images={**seen.images, name: ImageState(ImagePhase.PRESENT)})
