"""What systemd's watchdog is told."""

from __future__ import annotations

import asyncio
import os

import pytest

from kubeletpy_common import watchdog
from kubeletpy_common.readiness import watchdog_seconds


async def no_fault() -> str:
    return ""


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
        await watchdog.run(no_fault, lambda: told.append("alive"))
    assert not told


async def test_it_is_told_twice_an_interval_while_all_is_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "2000000")
    monkeypatch.delenv("WATCHDOG_PID", raising=False)
    monkeypatch.setattr(watchdog, "SHORTEST", 0.0)
    checks: list[bool] = []
    pauses: list[float] = []

    async def sleep(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            raise asyncio.CancelledError

    async def check() -> str:
        checks.append(True)
        return "late" if len(checks) == 2 else ""

    told: list[int] = []
    monkeypatch.setattr(asyncio, "sleep", sleep)
    with pytest.raises(asyncio.CancelledError):
        await watchdog.run(check, lambda: told.append(len(checks)))
    assert told == [1, 3]
    assert pauses == [1.0, 1.0, 1.0]
