"""The last status of pods that are terminated: never better than what is known."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kubeletpy.api.status import PodStatus
from kubeletpy.pods.actions import alive, decide
from kubeletpy.pods.plan import Desired
from kubeletpy.pods.state import ContainerPhase, ContainerRecord, Observed, newest_first
from kubeletpy.sources.updates import API_SOURCE, CONFIG_SOURCE
from kubeletpy.status.generate import Node, pod_status
from tests.support.circumstances import examples
from tests.unit.kubeletpy.pods.build import NOW, box, desired

NAMES = ("a", "b")
PHASES = st.sampled_from(list(ContainerPhase))


def of_api(wanted: Desired) -> Desired:
    wanted.pod.metadata.annotations[CONFIG_SOURCE] = API_SOURCE
    return wanted


def record(name: str, attempt: int, phase: ContainerPhase, code: int = 0) -> ContainerRecord:
    return ContainerRecord(
        id=f"{name}{attempt}", sandbox_id="s0", name=name, attempt=attempt, phase=phase,
        created_at=NOW + attempt, started_at=NOW + attempt, finished_at=NOW + attempt,
        exit_code=code,
    )  # fmt: skip


def observed(*records: ContainerRecord, ready: bool = False) -> Observed:
    boxes, ordered = newest_first([box(0, ready=ready)], list(records))
    return Observed(sandboxes=boxes, containers=ordered, ending=True, started_at=NOW)


def status_of(wanted: Desired, seen: Observed, previous: PodStatus | None = None) -> PodStatus:
    actions = decide(wanted, seen, NOW + 100)
    assert actions.idle
    return pod_status(wanted, seen, actions, node=Node(), now=NOW + 100, previous=previous)


@given(
    runs=st.dictionaries(
        st.tuples(st.sampled_from(("i", *NAMES)), st.integers(0, 2)),
        st.tuples(PHASES, st.sampled_from([0, 0, 1, 137])),
    ),
    init=st.booleans(),
    ready=st.booleans(),
    policy=st.sampled_from(["Always", "OnFailure", "Never"]),
)
@settings(max_examples=examples(200), deadline=None)
def test_success_is_never_claimed_wrongly(
    runs: dict[tuple[str, int], tuple[ContainerPhase, int]], init: bool, ready: bool, policy: str
) -> None:
    wanted = of_api(desired(*NAMES, init=("i",) if init else (), restart_policy=policy))
    records = [record(name, attempt, *run) for (name, attempt), run in runs.items()]
    seen = observed(*records, ready=ready)
    status = status_of(wanted, seen)
    last = [seen.latest(name) for name in NAMES]
    done = all(one is not None and one.exited and one.exit_code == 0 for one in last)
    if alive(seen):
        assert status.phase in ("Pending", "Running")
        return
    assert status.phase == ("Succeeded" if done else "Failed")
    for one, known in zip(status.container_statuses, last, strict=True):
        ended = one.state.terminated
        if known is not None and known.exited:
            assert ended is not None
            assert ended.exit_code == known.exit_code
        elif ended is not None:
            assert (ended.exit_code, ended.reason) == (137, "ContainerStatusUnknown")
        assert not one.ready


@pytest.mark.parametrize("policy", ["Always", "Never"])
def test_a_static_pod_stays_what_it_was(policy: str) -> None:
    seen = observed(record("a", 0, ContainerPhase.EXITED))
    assert status_of(desired("a", restart_policy=policy), seen).phase == "Running"


def test_a_pod_that_never_started_failed() -> None:
    status = status_of(of_api(desired("a")), observed())
    assert status.phase == "Failed"
    ended = status.container_statuses[0].state.terminated
    assert ended is not None
    assert ended.message == "The container could not be located when the pod was terminated"


def test_what_initialization_kept_from_starting_goes_on_to_wait() -> None:
    failed = record("i", 0, ContainerPhase.EXITED, 1)
    status = status_of(of_api(desired("a", init=("i", "j"))), observed(failed))
    assert status.phase == "Failed"
    first, second = status.init_container_statuses
    assert first.state.terminated is not None
    assert second.state.waiting is not None
    assert status.container_statuses[0].state.waiting is not None


def test_ends_that_were_told_are_not_forgotten() -> None:
    wanted = of_api(desired("a"))
    before = status_of(wanted, observed(record("a", 2, ContainerPhase.EXITED, 0)))
    assert before.phase == "Succeeded"
    seen = Observed(ending=True, started_at=NOW, concluded=decide(
        wanted, observed(record("a", 2, ContainerPhase.EXITED, 0)), NOW
    ).terminal)  # fmt: skip
    after = status_of(wanted, seen, before)
    assert after.phase == "Succeeded"
    assert after.container_statuses[0].state == before.container_statuses[0].state
