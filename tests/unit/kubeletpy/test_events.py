from __future__ import annotations

from kubeletpy.events import LONGEST_MESSAGE, Recorder
from tests.unit.kubeletpy.pods.build import pod


def test_same_thing_again_counts_up_and_moves_to_the_end() -> None:
    recorder = Recorder("n")
    for reason in ("A", "B", "A"):
        recorder.warning(pod("a"), reason, "text", "a")
    assert [(event.reason, event.count) for event in recorder.events()] == [("B", 1), ("A", 2)]
    event = recorder.events()[1]
    assert event.involved_object.field_path == "spec.containers{a}"
    assert (event.type, event.source.host) == ("Warning", "n")


def test_ring_is_bounded() -> None:
    recorder = Recorder("n", capacity=3)
    for number in range(10):
        recorder.normal(pod("a"), "R", str(number))
    assert [event.message for event in recorder.events()] == ["7", "8", "9"]


def test_message_is_bounded() -> None:
    recorder = Recorder("n")
    recorder.node("Normal", "R", "x" * 5000)
    assert len(recorder.events()[0].message) == LONGEST_MESSAGE


def test_init_container_is_named_as_such() -> None:
    recorder = Recorder("n")
    recorder.normal(pod("a", init=("i",)), "R", "m", "i")
    assert recorder.events()[0].involved_object.field_path == "spec.initContainers{i}"
