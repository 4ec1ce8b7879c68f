"""What systemd's watchdog is told."""

from __future__ import annotations

import asyncio
import os

import pytest

from kubeletpy_common import watchdog
from kubeletpy_common.readiness import watchdog_seconds


@pytest.mark.parametrize(
    ("usec", "pid", "seconds"),
    [("", "", 0.0), ("4000000", "", 4.0), ("4000000", "self", 4.0), ("4000000", "1", 0.0)],
)
def test_who_is_watched(
    monkeypatch: pytest.MonkeyPatch, usec: str, pid: str, seconds: float
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()) if pid == "self" else pid)
    assert watchdog_seconds() == seconds


@pytest.mark.parametrize("usec", ["", "1000000", "many"])
async def test_nothing_is_told_without_a_watchdog_that_can_be_kept(
    monkeypatch: pytest.MonkeyPatch, usec: str
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    told: list[str] = []
    async with asyncio.timeout(10):
        await watchdog.run(lambda: told.append("alive"))
    assert not told


@pytest.mark.parametrize("late", [0.0, 50.0])
async def test_it_is_told_twice_an_interval_however_late_the_loop_is(
    monkeypatch: pytest.MonkeyPatch, late: float
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "2000000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    loop = asyncio.get_running_loop()
    clock = [0.0]
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        clock[0] += seconds + late
        if len(pauses) == 3:
            raise asyncio.CancelledError

    told: list[str] = []
    monkeypatch.setattr(loop, "time", lambda: clock[0])
    monkeypatch.setattr(asyncio, "sleep", sleep)
    with pytest.raises(asyncio.CancelledError):
        await watchdog.run(lambda: told.append("alive"))
    assert told == ["alive"] * 3
    assert pauses == [1.0] * 3
