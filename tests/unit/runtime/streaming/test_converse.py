"""A command's streams against a client, with real pipes."""

from __future__ import annotations

import asyncio
import os

import pytest

from runtime.streaming.buffers import ByteBuffer
from runtime.streaming.commands import Process, converse
from runtime.streaming.descriptors import Readable, Writable
from runtime.streaming.status import Outcome


class Client:
    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self.stdin = ByteBuffer()
        self.output: dict[str, bytes] = {"stdout": b"", "stderr": b""}

    async def read_stdin(self) -> bytes:
        return await self.stdin.get()

    async def read_size(self) -> tuple[int, int] | None:
        return None

    async def write(self, stream: str, data: bytes) -> None:
        self.output[stream] += data

    async def finish(self, outcome: Outcome) -> None:
        raise AssertionError("told by the server, not by the conversation")


class World:
    """A process that is played by the test, and its client."""

    def __init__(self) -> None:
        self.client = Client()
        stdin, stdin_writing = os.pipe()
        stdout, self.stdout = os.pipe()
        self.stdin = stdin
        self.end: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        outputs = {"stdout": Readable(stdout)}
        self.process = Process(self.end, outputs, Writable(stdin_writing))

    def close(self) -> None:
        self.process.close()
        os.close(self.stdin)
        os.close(self.stdout)


async def test_the_exit_code_comes_after_all_output() -> None:
    world = World()
    task = asyncio.create_task(converse(world.process, world.client, 60))
    os.write(world.stdout, b"x" * 60000)
    world.end.set_result(Outcome(exit_code=3))
    # The writing end stays open: somebody else holds it, and is not waited for.
    assert await asyncio.wait_for(task, 30) == Outcome(exit_code=3)
    assert world.client.output["stdout"] == b"x" * 60000
    world.close()


async def test_the_end_of_input_closes_it() -> None:
    world = World()
    task = asyncio.create_task(converse(world.process, world.client, 60))
    await world.client.stdin.put(b"words")
    world.client.stdin.end()
    reader = Readable(os.dup(world.stdin))
    assert await reader.read() == b"words"
    assert await reader.read() == b""
    reader.close()
    world.end.set_result(Outcome())
    assert await asyncio.wait_for(task, 30) == Outcome()
    world.close()


@pytest.mark.parametrize("stays", [True, False])
async def test_the_end_of_input_can_mean_something_else(stays: bool) -> None:
    world = World()

    async def on_stdin_end() -> bool:
        return stays

    world.process.on_stdin_end = on_stdin_end
    task = asyncio.create_task(converse(world.process, world.client, 60))
    world.client.stdin.end()
    done, _ = await asyncio.wait({task}, timeout=0.2 if stays else 30)
    assert bool(done) is not stays
    if stays:
        world.end.set_result(Outcome(exit_code=1))
    assert await asyncio.wait_for(task, 30) == Outcome(exit_code=int(stays))
    world.close()


async def test_a_client_that_leaves_ends_it() -> None:
    world = World()
    task = asyncio.create_task(converse(world.process, world.client, 60))
    world.client.stdin.fail(ConnectionResetError("gone"))
    assert await asyncio.wait_for(task, 30) is None
    world.close()


async def test_a_process_that_does_not_read_is_waited_for_and_cancellable() -> None:
    world = World()
    task = asyncio.create_task(converse(world.process, world.client, 60))
    writing = asyncio.create_task(world.client.stdin.put(b"x" * (1 << 20)))
    await writing
    world.client.gone.set()
    assert await asyncio.wait_for(task, 30) is None
    world.close()


async def test_an_idle_session_is_ended() -> None:
    world = World()
    outcome = await asyncio.wait_for(converse(world.process, world.client, 0.05), 30)
    assert outcome is not None
    assert "idle" in outcome.error
    world.close()
