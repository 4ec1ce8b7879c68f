"""A spawner that dies while it, or what it forked, is at work."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
from pathlib import Path

import pytest

from kubeletpy_common.linux.libc import check, libc
from runtime.shim.messages import SandboxSpec
from runtime.spawner.client import Spawner, SpawnError
from runtime.spawner.sandbox import destroy_sandbox_mounts
from tests.support.circumstances import patient

pytestmark = pytest.mark.root
_PIDFD_GETFD = 438


def stolen(pid: int, path: Path) -> int:
    """Return a descriptor of a process's open file: the same one, with its lock."""
    [number] = [
        int(one.name) for one in Path(f"/proc/{pid}/fd").iterdir() if os.readlink(one) == str(path)
    ]
    process = os.pidfd_open(pid)
    try:
        arguments = (ctypes.c_long(each) for each in (_PIDFD_GETFD, process, number, 0))
        return check(libc.syscall(*arguments), "pidfd_getfd", str(path))
    finally:
        os.close(process)


async def test_a_sandbox_has_failed_only_when_nobody_works_on_it_any_more(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    directory = tmp_path / "sandbox"
    directory.mkdir(mode=0o700)
    spawner = Spawner(lock)
    await spawner.start()
    pid = spawner.pid
    assert pid is not None
    # In the place of a process that the spawner forked, and that is still within a mount.
    at_work = stolen(pid, lock)
    os.kill(pid, signal.SIGSTOP)
    making = asyncio.create_task(
        spawner.spawn_sandbox(SandboxSpec("pod", directory, "pod-host"), timeout=patient(30))
    )
    try:
        await asyncio.sleep(0)
        os.kill(pid, signal.SIGKILL)
        done, _ = await asyncio.wait({making}, timeout=0.5)
        assert not done, "who undoes the sandbox now races with what is still made of it"
    finally:
        os.close(at_work)
    with pytest.raises(SpawnError, match="has ended meanwhile"):
        async with asyncio.timeout(patient(30)):
            await making
    try:
        assert spawner.pid not in (None, pid), "and the next one is there"
        async with asyncio.timeout(patient(30)):
            made = await spawner.spawn_sandbox(SandboxSpec("pod", directory, "pod-host"))
        os.kill(made.shim_pid, signal.SIGKILL)
    finally:
        destroy_sandbox_mounts(directory)
        await spawner.close()
