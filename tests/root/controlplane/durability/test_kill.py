"""The server is killed under load, again and again: nothing acknowledged is lost, half or twice."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.root.controlplane.durability.load import PATH, Watcher, Writer

pytestmark = pytest.mark.root
ROUNDS = int(os.environ.get("KUBELETPY_STORE_KILL_ROUNDS", "200"))
SEED = os.environ.get("KUBELETPY_KILL_SEED") or secrets.token_hex(4)
_SERVER = "tests.root.controlplane.durability.lean_server"


class Starter:
    """Starts servers on one directory."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    async def start(self) -> tuple[int, int]:
        """Return process id and port of a new one; the last one is gone."""
        return await asyncio.to_thread(self._start)

    def _start(self) -> tuple[int, int]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        pid, port = self._process.stdout.readline().split()
        return int(pid), int(port)


@contextmanager
def starter(directory: Path) -> Iterator[Starter]:
    process = subprocess.Popen(
        [sys.executable, "-m", _SERVER, str(directory)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield Starter(process)
        assert process.stdin is not None
        process.stdin.close()


async def listed(http: aiohttp.ClientSession) -> tuple[int, dict[str, dict[str, Any]]]:
    async with http.get(PATH) as answer:
        value = await answer.json()
    found = {item["metadata"]["name"]: item for item in value["items"]}
    return int(value["metadata"]["resourceVersion"]), found


@pytest.mark.timeout(600)
async def test_a_server_that_is_killed_under_load_keeps_its_promises(tmp_path: Path) -> None:
    print(f"KUBELETPY_KILL_SEED={SEED}")
    rng = random.Random(SEED)
    writers = [
        Writer([f"w{n}-{k}" for k in range(4)], random.Random(f"{SEED}/{n}")) for n in range(8)
    ]
    watchers: list[Watcher] = []
    last = 0
    with starter(tmp_path) as server:
        for number in range(ROUNDS + 1):
            pid, port = await server.start()
            async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as http:
                if number == 0:
                    # A revision that watches can begin after.
                    await http.post("/api/v1/namespaces", json={"metadata": {"name": "default"}})
                    watchers = [Watcher(1), Watcher(1)]
                last = await check(http, writers, watchers, last, number)
                clients = [asyncio.create_task(writer.run(http)) for writer in writers]
                clients += [asyncio.create_task(watcher.run(http)) for watcher in watchers]
                await _writes(writers, rng.randrange(25), clients)
                await asyncio.sleep(rng.uniform(0, 0.02))
                os.kill(pid, signal.SIGKILL)
                await asyncio.wait_for(asyncio.gather(*clients), 20)
    total = sum(len(writer.acknowledged) for writer in writers)
    print(f"{ROUNDS} rounds, {total} acknowledged creations and changes, revision {last}")
    assert total > ROUNDS * 5


async def _writes(writers: list[Writer], more: int, clients: list[asyncio.Task[None]]) -> None:
    """Wait until so many more writes are acknowledged, however fast this machine is."""
    goal = sum(len(writer.acknowledged) for writer in writers) + more
    async with asyncio.timeout(30):
        while sum(len(writer.acknowledged) for writer in writers) < goal:
            assert not any(client.done() for client in clients), "the server ended by itself"
            await asyncio.sleep(0.001)


async def check(
    http: aiohttp.ClientSession,
    writers: list[Writer],
    watchers: list[Watcher],
    last: int,
    number: int,
) -> int:
    """Compare what there is after a start with what was promised before.

    Returns:
        the revision now.
    """
    revision, found = await listed(http)
    promised = max((max(w.acknowledged, default=0) for w in writers), default=0)
    seen = max(watcher.revision for watcher in watchers)
    assert revision >= max(last, promised, seen), f"round {number}: {revision} is in the past"
    for writer in writers:
        writer.compare(found)
    state = {name: int(item["data"]["n"]) for name, item in found.items()}
    for watcher in watchers:
        if number and watcher.revision < revision:
            await asyncio.wait_for(watcher.run(http, revision), 20)
        assert watcher.state() == state, f"round {number}"
        for writer in writers:
            for written, told in writer.acknowledged.items():
                kind, *event = watcher.events[written]
                assert (kind != "DELETED", tuple(event)) == (True, told)
    assert watchers[0].events == watchers[1].events
    return revision
