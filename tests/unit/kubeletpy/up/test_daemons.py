"""Children and what is left of them, with real processes."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kubeletpy.up.daemons import Daemon
from kubeletpy.up.errors import UpError
from kubeletpy.up.leftovers import end_leftovers, start_ticks, write_pidfile


def daemon(tmp_path: Path, script: str) -> Daemon:
    return Daemon(
        "thing", ["sh", "-c", script], log=tmp_path / "log", pidfile=tmp_path / "1-thing.pid"
    )


async def written(path: Path) -> bool:
    return path.exists() and path.read_text() != ""


async def test_started_and_stopped(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    child = daemon(tmp_path, f"trap 'exit 0' TERM; echo up > {ready}; while :; do sleep 0.01; done")
    await child.start()
    await child.until(lambda: written(ready), 10, "write")
    assert (tmp_path / "1-thing.pid").read_text().startswith(f"{child.pid} ")
    assert os.getsid(child.pid) == child.pid
    assert await child.stop(10)
    assert not child.running
    assert not (tmp_path / "1-thing.pid").exists()
    assert await child.stop(10)


async def test_ready_when_it_says_so(tmp_path: Path) -> None:
    code = (
        "import time; from kubeletpy_common.readiness import tell_ready; "
        "tell_ready('it serves'); time.sleep(60)"
    )
    child = Daemon(
        "thing",
        [sys.executable, "-c", code],
        log=tmp_path / "log",
        pidfile=tmp_path / "1-thing.pid",
        tells_ready=True,
    )
    await child.start()
    await child.ready(20)
    assert child.running
    assert await child.stop(10)


async def test_an_end_instead_of_readiness_shows_the_log(tmp_path: Path) -> None:
    child = Daemon(
        "thing",
        ["sh", "-c", "echo the reason; exit 3"],
        log=tmp_path / "log",
        pidfile=tmp_path / "1-thing.pid",
        tells_ready=True,
    )
    await child.start()
    with pytest.raises(UpError, match=r"ended by itself \(exit status 3\).*\n    the reason"):
        await child.ready(20)
    await child.stop(1)


async def test_killed_when_it_does_not_stop(tmp_path: Path) -> None:
    ready = tmp_path / "ready"
    child = daemon(tmp_path, f"trap '' TERM; echo up > {ready}; while :; do sleep 0.01; done")
    await child.start()
    await child.until(lambda: written(ready), 10, "write")
    assert not await child.stop(0.05)
    assert await child.wait() == -signal.SIGKILL


async def test_end_before_its_time_shows_the_log(tmp_path: Path) -> None:
    child = daemon(tmp_path, "echo the reason; exit 3")
    await child.start()

    async def never() -> bool:
        return False

    with pytest.raises(UpError, match=r"ended by itself \(exit status 3\).*\n    the reason"):
        await child.until(never, 10, "serve")


async def test_deadline_shows_the_log(tmp_path: Path) -> None:
    child = daemon(tmp_path, "echo thinking; exec sleep 60")
    await child.start()

    async def never() -> bool:
        return False

    try:
        with pytest.raises(UpError, match="did not serve within 0 s"):
            await child.until(never, 0.05, "serve")
    finally:
        await child.stop(5)


async def test_missing_program_is_named(tmp_path: Path) -> None:
    child = Daemon("thing", ["/no/such"], log=tmp_path / "log", pidfile=tmp_path / "pid")
    with pytest.raises(UpError, match=r"cannot start the thing .*/no/such"):
        await child.start()
    assert not child.running


def test_killed_parent_takes_its_daemons_along(tmp_path: Path) -> None:
    """The kernel tells them when the parent dies, whatever killed it."""
    script = f"""
import asyncio, os, signal, sys
sys.path.insert(0, {os.getcwd()!r})
from pathlib import Path
from kubeletpy.up.daemons import Daemon
async def main():
    tmp = Path({str(tmp_path)!r})
    child = Daemon(
        "thing",
        ["sleep", "60"],
        log=tmp / "log",
        pidfile=tmp / "1-thing.pid",
        ends_with_us=True,
    )
    await child.start()
    async def started():
        return Path(f"/proc/{{child.pid}}/comm").read_text() == "sleep\\n"
    await child.until(started, 10, "start")
    print(child.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    parent = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, check=False)
    assert parent.returncode == -signal.SIGKILL
    pid = int(parent.stdout)
    with contextlib.suppress(ProcessLookupError):  # it is gone already
        descriptor = os.pidfd_open(pid)
        readable, _, _ = select.select([descriptor], [], [], 10)
        os.close(descriptor)
        assert readable


class TestLeftovers:
    def test_live_process_is_ended(self, tmp_path: Path) -> None:
        with subprocess.Popen(["sleep", "60"]) as process:
            write_pidfile(tmp_path / "1-thing.pid", process.pid)
            assert end_leftovers(tmp_path) == ["1-thing"]
            assert process.wait(5) == -signal.SIGTERM
        assert list(tmp_path.iterdir()) == []

    def test_pid_used_again_by_another_is_left_alone(self, tmp_path: Path) -> None:
        with subprocess.Popen(["sleep", "60"]) as process:
            (tmp_path / "1-thing.pid").write_text(f"{process.pid} 12345\n")
            assert end_leftovers(tmp_path) == []
            assert process.poll() is None
            process.kill()

    @pytest.mark.parametrize("content", ["", "nonsense", "999999999 1", "1"])
    def test_stale_or_broken_files_go(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "1-thing.pid").write_text(content)
        assert end_leftovers(tmp_path) == []
        assert list(tmp_path.iterdir()) == []

    def test_start_ticks(self) -> None:
        assert start_ticks(os.getpid()) == start_ticks(os.getpid())
        assert start_ticks(2**22 + 1) is None
