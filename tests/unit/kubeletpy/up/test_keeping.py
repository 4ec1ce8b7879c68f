"""Daemons that end are started again, within reason; with real processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from pathlib import Path

import pytest

from kubeletpy.up import keeping
from kubeletpy.up.daemons import Daemon
from kubeletpy.up.errors import UpError
from kubeletpy.up.keeping import MOST, Keeper


def daemon(tmp_path: Path, script: str) -> Daemon:
    return Daemon(
        "thing", ["sh", "-c", script], log=tmp_path / "log", pidfile=tmp_path / "1-thing.pid"
    )


async def test_one_that_is_killed_is_started_again(tmp_path: Path) -> None:
    child = daemon(tmp_path, "exec sleep 60")
    await child.start()
    said: asyncio.Queue[str] = asyncio.Queue()
    task = asyncio.create_task(Keeper([child], said.put_nowait).run())
    try:
        for _ in range(2):
            before = child.pid
            os.kill(before, signal.SIGKILL)
            async with asyncio.timeout(10):
                assert "ended by itself (signal SIGKILL); it is started again" in await said.get()
                while child.pid == before:  # noqa: ASYNC110 - a process
                    await asyncio.sleep(0.01)
            assert child.running
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await child.stop(5)


async def test_one_that_ends_again_and_again_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "FIRST_PAUSE", 0.001)
    child = daemon(tmp_path, "echo started; exit 3")
    await child.start()
    said: list[str] = []
    async with asyncio.timeout(20):
        with pytest.raises(UpError, match=rf"(?s)exit status 3.*ended {MOST} times within 60 s"):
            await Keeper([child], said.append).run()
    assert len(said) == MOST
    assert child.log.read_text().count("started") == MOST + 1
    await child.stop(5)
