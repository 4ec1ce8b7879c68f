from __future__ import annotations

from typing import Any

from controlplane.controllers.serviceendpoints.triggers import trigger_time
from tests.support.services import pod, service

MADE = "2026-01-01T00:00:00Z"


def at(number: int, moment: str) -> dict[str, Any]:
    ready = {"type": "Ready", "status": "True", "lastTransitionTime": moment}
    return pod(number, status={"conditions": [ready]})


def test_the_first_time_is_that_of_the_service_then_that_of_the_first_change() -> None:
    moment, seen = trigger_time(None, service(), [at(1, "2026-01-01T00:01:00Z")])
    assert moment == MADE
    moment, again = trigger_time(seen, service(), [at(1, "2026-01-01T00:01:00Z")])
    assert (moment, again) == ("", seen)
    pods = [at(1, "2026-01-01T00:03:00Z"), at(2, "2026-01-01T00:02:00Z"),
            pod(3, status={"conditions": []})]  # fmt: skip
    moment, seen = trigger_time(seen, service(), pods)
    assert moment == "2026-01-01T00:02:00Z"
    # One that goes is no change that has a time.
    assert trigger_time(seen, service(), pods[:1])[0] == ""


def test_a_service_made_anew_is_a_change() -> None:
    _, seen = trigger_time(None, service(), [])
    later = service(metadata={"creationTimestamp": "2026-02-01T00:00:00Z"})
    assert trigger_time(seen, later, [])[0] == "2026-02-01T00:00:00Z"
