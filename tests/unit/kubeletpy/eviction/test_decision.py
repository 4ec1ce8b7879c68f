from __future__ import annotations

import pytest

from kubeletpy.api.quantity import Quantity
from kubeletpy.eviction.decision import Past, decide, met
from kubeletpy.eviction.signals import (
    Amount,
    Observation,
    Signal,
    Threshold,
    parse_thresholds,
    with_container_fs,
)
from kubeletpy_common.settings.durations import ConfigurationError

MI = 2**20
HARD = Threshold(Signal.MEMORY, Amount(Quantity("100Mi")))
SOFT = Threshold(Signal.MEMORY, Amount(Quantity("300Mi")), grace=30)
DISK = Threshold(Signal.NODE_FS, Amount(share=0.1), reclaim=Amount(share=0.05))


def memory(available: int) -> dict[Signal, Observation]:
    return {Signal.MEMORY: Observation(available * MI, 1000 * MI)}


def disk(available: int) -> dict[Signal, Observation]:
    return {Signal.NODE_FS: Observation(available, 1000)}


def test_thresholds_of_a_configuration() -> None:
    found = parse_thresholds(
        {"memory.available": "100Mi", "nodefs.available": "10%", "imagefs.available": "0%"},
        {"memory.available": "300Mi"},
        {"memory.available": "30s"},
        {"nodefs.available": "5%"},
        ("pods",),
    )
    assert found == [
        HARD, DISK, SOFT, Threshold(Signal.ALLOCATABLE_MEMORY, Amount(Quantity("100Mi"))),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("hard", "soft", "graces", "reclaims", "message"),
    [
        ({"memory": "1"}, {}, {}, {}, "unsupported eviction signal memory"),
        ({"memory.available": "x"}, {}, {}, {}, "no quantity or percentage"),
        ({"memory.available": "-1"}, {}, {}, {}, "negative"),
        ({}, {"memory.available": "1Mi"}, {}, {}, "grace period must be specified"),
        ({}, {}, {}, {"what": "1Mi"}, "unsupported eviction signal what"),
    ],
)
def test_what_cannot_be_a_threshold(
    hard: dict[str, str],
    soft: dict[str, str],
    graces: dict[str, str],
    reclaims: dict[str, str],
    message: str,
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        parse_thresholds(hard, soft, graces, reclaims)


@pytest.mark.parametrize(
    ("image_fs", "split", "source"),
    [(False, False, 0.1), (True, True, 0.1), (True, False, 0.15)],
)
def test_containerfs_follows(image_fs: bool, split: bool, source: float) -> None:
    thresholds = parse_thresholds(
        {"nodefs.available": "10%", "imagefs.available": "15%", "containerfs.available": "50%"},
        {}, {}, {},
    )  # fmt: skip
    found = with_container_fs(thresholds, image_fs=image_fs, split=split)
    assert [one.value.share for one in found if one.signal is Signal.CONTAINER_FS] == [source]


def test_a_hard_threshold_acts_at_once_a_soft_one_after_its_grace() -> None:
    first = decide([HARD, SOFT], memory(200), Past(), 300, 1000)
    assert first.reclaim is None
    assert first.conditions == {"MemoryPressure"}
    assert first.wake_at == 1030
    second = decide([HARD, SOFT], memory(200), first.past, 300, 1030)
    assert second.reclaim == SOFT
    third = decide([HARD, SOFT], memory(50), second.past, 300, 1031)
    assert (third.reclaim, third.met) == (HARD, (HARD, SOFT))


def test_a_grace_begins_anew_when_it_was_better_in_between() -> None:
    past = decide([SOFT], memory(200), Past(), 300, 1000).past
    past = decide([SOFT], memory(400), past, 300, 1020).past
    assert decide([SOFT], memory(200), past, 300, 1040).reclaim is None


def test_eviction_goes_on_until_the_minimum_reclaim_is_free() -> None:
    past = decide([DISK], disk(99), Past(), 0, 1000).past
    again = decide([DISK], disk(120), past, 0, 1001)
    assert again.reclaim == DISK
    done = decide([DISK], disk(150), again.past, 0, 1002)
    assert done.reclaim is None
    assert not done.conditions
    # Once it is resolved, the reclaim does not count any more.
    assert decide([DISK], disk(120), done.past, 0, 1003).reclaim is None


def test_a_condition_outlives_its_cause_by_the_transition_period() -> None:
    past = decide([HARD], memory(50), Past(), 300, 1000).past
    later = decide([HARD], memory(500), past, 300, 1299)
    assert later.conditions == {"MemoryPressure"}
    assert later.wake_at == 1300
    assert decide([HARD], memory(500), later.past, 300, 1300).conditions == frozenset()


def test_memory_comes_before_everything_else() -> None:
    observations = {**memory(50), **disk(1)}
    assert decide([DISK, HARD], observations, Past(), 0, 0).reclaim == HARD
    assert decide([DISK], observations, Past(), 0, 0).conditions == {"DiskPressure"}


def test_what_cannot_be_observed_is_not_judged() -> None:
    assert met([HARD, DISK], {}) == []


@pytest.mark.parametrize(("available", "is_met"), [(100, False), (99, True)])
def test_less_than(available: int, is_met: bool) -> None:
    assert bool(met([HARD], memory(available))) is is_met
