from __future__ import annotations

from collections.abc import Sequence

import aiohttp
import pytest

from runtime.images.settings import RegistryConfig
from runtime.images.tries import Tries, is_away


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("asked", "spent", "bounds"),
    [
        # Pauses of 0.5 and 1 s, a quarter less at most; the second would end too late.
        ([None] * 4, 0.0, [(0.375, 0.5), None]),
        # A slow server has its time; what it takes counts.
        ([None] * 4, 2.0, [(0.375, 0.5), None]),
        # What the registry asks for is heeded, if there is patience for it.
        ([0.2, 0.2, 0.2], 0.0, [(0.2, 0.2), (0.2, 0.2), (0.2, 0.2)]),
        ([1.1], 0.0, [None]),
        ([999.0], 0.0, [None]),
    ],
)
def test_pauses_until_patience_ends(
    asked: Sequence[float | None], spent: float, bounds: Sequence[tuple[float, float] | None]
) -> None:
    clock = Clock()
    tries = Tries(RegistryConfig(), 5, clock)
    for wish, bound in zip(asked, bounds, strict=False):
        pause = tries.next_pause(wish)
        if bound is None:
            assert pause is None
            return
        assert pause is not None
        assert bound[0] <= pause <= bound[1]
        clock.now += pause + spent


def test_tries_end_and_progress_begins_anew() -> None:
    config = RegistryConfig(backoff_seconds=0.001)
    tries = Tries(config, 2, lambda: 0.0)
    assert tries.next_pause() is not None
    tries.progress()
    assert tries.next_pause() is not None
    assert tries.next_pause() is None
    assert tries.told() == "gave up after 2 attempts"


@pytest.mark.parametrize(
    ("error", "away"),
    [
        (TimeoutError(), True),
        (aiohttp.ConnectionTimeoutError(), True),
        (aiohttp.ServerDisconnectedError(), False),
        (aiohttp.ClientPayloadError(), False),
        (ConnectionResetError(), False),
    ],
)
def test_who_is_away_is_not_asked_again(error: BaseException, away: bool) -> None:
    assert is_away(error) is away
