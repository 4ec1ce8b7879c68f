from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from kubeletpy.api.container import Container, ExecAction, Probe
from kubeletpy.api.pod import Pod
from kubeletpy.events import Recorder
from kubeletpy.pods.state import ContainerRecord, Outcome, ProbeResults
from kubeletpy.probes.checks import Result
from kubeletpy.probes.worker import MOST_TRIES, Kind, PodProbes, Threshold, due
from tests.unit.kubeletpy.pods.build import container, pod, record

S, F, U = Outcome.SUCCESS, Outcome.FAILURE, Outcome.UNKNOWN


def probe(**fields: Any) -> Probe:
    return Probe(exec=ExecAction(command=["x"]), **{"period_seconds": 1, **fields})


@pytest.mark.parametrize(
    ("success", "failure", "outcomes", "counted"),
    [
        (1, 1, [S, F, S], [S, F, S]),
        (1, 3, [F, F, F, F], [None, None, F, F]),
        (1, 3, [F, F, S, F, F, F], [None, None, S, None, None, F]),
        (2, 1, [S, S, F, S, S], [None, S, F, None, S]),
        (1, 2, [F, U, F], [None, None, F]),
        (0, 0, [F, S], [F, S]),
    ],
)
def test_thresholds(
    success: int, failure: int, outcomes: list[Outcome], counted: list[Outcome | None]
) -> None:
    threshold = Threshold(success, failure)
    assert [threshold.feed(outcome) for outcome in outcomes] == counted


ALL = container("a", startup_probe=probe(), liveness_probe=probe(), readiness_probe=probe())


@pytest.mark.parametrize(
    ("one", "results", "ending", "kinds"),
    [
        (container("a"), ProbeResults(), False, set()),
        (ALL, ProbeResults(), False, {Kind.STARTUP}),
        (ALL, ProbeResults(startup=F), False, set()),
        (ALL, ProbeResults(startup=S), False, {Kind.LIVENESS, Kind.READINESS}),
        (ALL, ProbeResults(startup=S, liveness=F), False, {Kind.READINESS}),
        (ALL, ProbeResults(startup=S), True, {Kind.READINESS}),
        (ALL, ProbeResults(), True, set()),
        (container("a", liveness_probe=probe()), ProbeResults(), False, {Kind.LIVENESS}),
    ],
)
def test_what_is_due(one: Container, results: ProbeResults, ending: bool, kinds: set[Kind]) -> None:
    assert due(one, results, ending) == kinds


class Script:
    """Answers probes from a list, the last one for ever; tells when it was asked."""

    def __init__(self, *outcomes: Outcome) -> None:
        self.outcomes = list(outcomes)
        self.asked = 0

    async def check(
        self, probe: Probe, container: Container, container_id: str, address: str
    ) -> Result:
        self.asked += 1
        return Result(self.outcomes[min(self.asked, len(self.outcomes)) - 1], "text")


class Harness:
    def __init__(self, made: Pod, script: Script) -> None:
        self.changed = asyncio.Event()
        self.recorder = Recorder("n")
        self.script = script
        self.probes = PodProbes(made, script, self.recorder, self.changed.set)

    async def change(self) -> ProbeResults:
        async with asyncio.timeout(30):
            await self.changed.wait()
        self.changed.clear()
        return self.probes.results["a-0"]


def running(started_ago: float = 100.0) -> ContainerRecord:
    return record("a", "running", started_at=time.time() - started_ago)


@pytest.fixture
async def harnesses() -> AsyncIterator[list[Harness]]:
    made: list[Harness] = []
    yield made
    for harness in made:
        await harness.probes.close()


@pytest.mark.slow
async def test_failures_count_up_to_the_threshold(harnesses: list[Harness]) -> None:
    harness = Harness(pod(container("a", liveness_probe=probe(failure_threshold=2))), Script(F))
    harnesses.append(harness)
    harness.probes.sync([running()], "10.0.0.1")
    assert (await harness.change()).liveness is F
    assert harness.script.asked == 2
    event = harness.recorder.events()[0]
    assert (event.reason, event.message, event.count) == (
        "Unhealthy",
        "Liveness probe failed: text",
        2,
    )


async def test_startup_guards_the_others(harnesses: list[Harness]) -> None:
    made = pod(container("a", startup_probe=probe(), readiness_probe=probe()))
    harness = Harness(made, Script(S))
    harnesses.append(harness)
    harness.probes.sync([running()], "10.0.0.1")
    first = await harness.change()
    assert (first.startup, first.readiness) == (S, U)
    harness.probes.sync([running()], "10.0.0.1")
    assert (await harness.change()).readiness is S


async def test_initial_delay_counts_from_the_start(harnesses: list[Harness]) -> None:
    one = container("a", readiness_probe=probe(initial_delay_seconds=3600))
    harness = Harness(pod(one), Script(S))
    harnesses.append(harness)
    harness.probes.sync([running(started_ago=10)], "10.0.0.1")
    await asyncio.sleep(0.05)
    assert harness.script.asked == 0
    late = Harness(pod(one), Script(S))
    harnesses.append(late)
    late.probes.sync([running(started_ago=3601)], "10.0.0.1")
    assert (await late.change()).readiness is S


async def test_ended_container_is_not_asked_and_is_forgotten(harnesses: list[Harness]) -> None:
    harness = Harness(pod(container("a", readiness_probe=probe())), Script(S))
    harnesses.append(harness)
    harness.probes.sync([running()], "10.0.0.1")
    await harness.change()
    harness.probes.sync([], "10.0.0.1")
    assert harness.probes.results == {}
    assert not harness.probes._tasks


@pytest.mark.slow
async def test_seeded_results_stand_until_the_next_word(harnesses: list[Harness]) -> None:
    harness = Harness(pod(container("a", readiness_probe=probe())), Script(F))
    harnesses.append(harness)
    harness.probes.seed("a-0", ProbeResults(readiness=S))
    harness.probes.sync([running()], "10.0.0.1")
    assert harness.probes.results["a-0"].readiness is S
    assert (await harness.change()).readiness is F


@pytest.mark.slow
async def test_probe_that_breaks_goes_on(harnesses: list[Harness]) -> None:
    class Broken(Script):
        async def check(
            self, probe: Probe, container: Container, container_id: str, address: str
        ) -> Result:
            self.asked += 1
            if self.asked <= MOST_TRIES:
                raise RuntimeError("defect")
            return Result(S)

    harness = Harness(pod(container("a", readiness_probe=probe())), Broken())
    harnesses.append(harness)
    harness.probes.sync([running()], "10.0.0.1")
    assert (await harness.change()).readiness is S
    assert [event.message for event in harness.recorder.events()] == [
        "Readiness probe errored and resulted in unknown state: RuntimeError('defect')"
    ]


async def test_a_run_that_cannot_be_made_is_tried_again_at_once(harnesses: list[Harness]) -> None:
    slow = probe(period_seconds=100)
    harness = Harness(pod(container("a", readiness_probe=slow)), Script(U, U, S))
    harnesses.append(harness)
    harness.probes.sync([running()], "10.0.0.1")
    assert (await harness.change()).readiness is S
    assert harness.recorder.events() == []


async def test_a_warning_is_an_event_and_a_success(harnesses: list[Harness]) -> None:
    class Warns(Script):
        async def check(self, *_: Any) -> Result:
            return Result(S, "Probe terminated redirects", warning=True)

    harness = Harness(pod(container("a", readiness_probe=probe())), Warns())
    harnesses.append(harness)
    harness.probes.sync([running()], "10.0.0.1")
    assert (await harness.change()).readiness is S
    event = harness.recorder.events()[0]
    assert (event.reason, event.message) == (
        "ProbeWarning", "Readiness probe warning: Probe terminated redirects",
    )  # fmt: skip
