from __future__ import annotations

import pytest

from kubeletpy.pods.backoff import IMAGE_PULL, STEP, CrashLoop, go_duration


def test_delays_of_a_crash_loop_are_those_of_the_go_kubelet() -> None:
    loop, carried, waited = CrashLoop(), 0.0, []
    for _ in range(8):
        delay = loop.delay(carried, started_at=100.0, finished_at=101.0)
        waited.append(delay)
        carried = loop.carried_by_next(delay)
    assert waited == [0, 10, 20, 40, 80, 160, 300, 300]


@pytest.mark.parametrize(("ran", "delay"), [(600.0, 300.0), (600.1, 0.0)])
def test_ten_minutes_forget_it(ran: float, delay: float) -> None:
    assert CrashLoop().delay(300.0, started_at=50.0, finished_at=50.0 + ran) == delay


def test_container_that_never_started_forgets_nothing() -> None:
    assert CrashLoop().delay(40.0, started_at=0.0, finished_at=1e9) == 40.0


def test_a_lower_maximum_holds_for_what_is_carried() -> None:
    loop = CrashLoop(maximum=15.0)
    assert loop.delay(300.0, 1.0, 2.0) == 15.0
    assert loop.carried_by_next(10.0) == 15.0


@pytest.mark.parametrize(
    ("failures", "image", "step"),
    [(1, 10, 1), (2, 20, 2), (5, 160, 16), (6, 300, 32), (7, 300, 60), (10_000, 300, 60)],
)
def test_retries(failures: int, image: float, step: float) -> None:
    assert IMAGE_PULL.delay(failures) == image
    assert STEP.delay(failures) == step


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (10, "10s"), (80, "1m20s"), (300, "5m0s"), (3600, "1h0m0s"), (3725.4, "1h2m5s")],
)
def test_go_duration(seconds: float, text: str) -> None:
    assert go_duration(seconds) == text
