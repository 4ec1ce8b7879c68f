"""Preemption and the parts of the kubelet that have a say."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from kubeletpy.admission.admission import Admission, view_of
from kubeletpy.admission.preemption import NotEnough, victims
from kubeletpy.api.codec import decode
from kubeletpy.api.pod import Pod
from kubeletpy.api.status import PodCondition
from kubeletpy.events import Recorder
from kubeletpy.pods.state import Terminal

CRITICAL = 2_000_000_000
NODE = view_of(
    {
        "metadata": {"name": "n1"},
        "status": {"allocatable": {"cpu": "2", "memory": "1Gi", "pods": "5"}},
    }
)


def pod(
    name: str, cpu: str = "", *, limit: bool = False, priority: int | None = 0, api: bool = True
) -> Pod:
    amounts = {"cpu": cpu, "memory": "1Mi"} if cpu else {}
    resources = {"requests": amounts, "limits": amounts if limit else {}}
    annotations = {"kubernetes.io/config.source": "api" if api else "file"}
    containers = [{"name": "a", "image": "i", "resources": resources}]
    return decode(
        {
            "metadata": {"name": name, "namespace": "x", "uid": name, "annotations": annotations},
            "spec": {"priority": priority, "containers": containers},
        },
        Pod,
    )


MASTER = pod("master", "1", priority=CRITICAL)
FREE = pod("free")
SMALL, BIG = pod("small", "500m"), pod("big", "1")
SURE = pod("sure", "1", limit=True)
GUARD = pod("guard", "1", priority=CRITICAL)


@pytest.mark.parametrize(
    ("others", "missing", "going"),
    [
        ([FREE, SMALL, BIG], {"cpu": 400}, ["small"]),
        ([FREE, SMALL, BIG], {"cpu": 900}, ["big"]),
        ([FREE, SMALL, BIG], {"cpu": 1200}, ["big", "small"]),
        ([FREE, SMALL, BIG], {"pods": 1}, ["free"]),
        ([SMALL, SURE], {"cpu": 500}, ["small"]),
        ([SMALL, SURE], {"cpu": 600}, ["sure"]),
        ([BIG, SURE], {"cpu": 1000}, ["big"]),
    ],
)
def test_victims(others: list[Pod], missing: dict[str, int], going: list[str]) -> None:
    assert [one.metadata.name for one in victims(MASTER, others, missing)] == going


@pytest.mark.parametrize(
    "others", [[], [GUARD], [pod("static", "1", priority=None, api=False)], [SMALL]]
)
def test_there_may_be_none(others: list[Pod]) -> None:
    with pytest.raises(NotEnough):
        victims(MASTER, others, {"cpu": 1000})


@dataclass
class Denied:
    reason: str
    message: str


class Bench:
    def __init__(self) -> None:
        self.ended: list[str] = []
        self.asked: list[str] = []
        self.answer: Denied | Exception | None = None
        self.recorder = Recorder("n1")
        self.admission = Admission(
            lambda: NODE, self.fresh, [self.admitter], self.end, self.recorder
        )

    async def fresh(self) -> None:
        return None

    async def admitter(self, pod: Pod) -> Denied | None:
        self.asked.append(pod.metadata.name)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    async def end(self, pod: Pod, terminal: Terminal, disruption: PodCondition) -> None:
        assert terminal.reason == "Preempting"
        assert disruption.type == "DisruptionTarget"
        self.ended.append(pod.metadata.name)


async def test_a_pod_that_does_not_fit_is_refused_and_ends_nobody() -> None:
    bench = Bench()
    refused = await bench.admission.admit(SMALL, [BIG, SURE])
    assert refused is not None
    assert refused.reason == "OutOfcpu"
    assert (bench.ended, bench.asked) == ([], [])


async def test_a_critical_pod_ends_others() -> None:
    bench = Bench()
    assert await bench.admission.admit(MASTER, [BIG, SURE]) is None
    assert bench.ended == ["big"]
    assert bench.asked == ["master"]
    assert [event.reason for event in bench.recorder.events()] == ["Preempting"]


async def test_a_critical_pod_that_cannot_have_room_is_refused() -> None:
    bench = Bench()
    refused = await bench.admission.admit(MASTER, [GUARD, GUARD])
    assert refused is not None
    assert refused.reason == "UnexpectedAdmissionError"
    assert "no set of running pods found" in refused.message


@pytest.mark.parametrize(
    ("answer", "reason", "text"),
    [
        (Denied("TopologyAffinityError", "no"), "TopologyAffinityError", "no"),
        (OSError("broken"), "UnexpectedAdmissionError", "broken"),
    ],
)
async def test_parts_have_a_say(answer: Denied | Exception, reason: str, text: str) -> None:
    bench = Bench()
    bench.answer = answer
    refused = await bench.admission.admit(SMALL, [])
    assert refused is not None
    assert refused.reason == reason
    assert text in refused.message
