"""Reloads of systemd are heard, also in pieces, and after its connection was lost."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path

from kubeletpy_common.cgroups.systemd.reloads import reloads
from runtime.cri.reloads import needs_repair

SECONDS = 30


async def test_reloads_are_heard(tmp_path: Path) -> None:
    clients: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert (await reader.readline()).startswith(b"\0AUTH EXTERNAL ")
        assert await reader.readline() == b"BEGIN\r\n"
        writer.write(b"OK 1234\r\n")
        await writer.drain()
        clients.put_nowait(writer)

    path = str(tmp_path / "private")
    server = await asyncio.start_unix_server(serve, path)
    async with server, asyncio.timeout(SECONDS), aclosing(reloads(path)) as heard:
        await anext(heard)
        client = await clients.get()
        # Others pass; one that comes in two pieces is heard.
        for piece in (b"..PropertiesChanged..", b"..Relo", b"ading.."):
            client.write(piece)
            await client.drain()
            await asyncio.sleep(0)
        await anext(heard)
        # `daemon-reexec`: the connection is lost, and made again.
        client.close()
        await anext(heard)
        client = await clients.get()
        client.write(b"Reloading")
        await client.drain()
        await anext(heard)
        client.close()


async def test_a_socket_that_comes_later(tmp_path: Path) -> None:
    path = str(tmp_path / "private")
    done = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readline()
        writer.write(b"OK 1\r\n")
        await done.wait()
        writer.close()

    async def listen() -> None:
        async with aclosing(reloads(path)) as heard:
            await anext(heard)

    async with asyncio.timeout(SECONDS):
        listening = asyncio.create_task(listen())
        await asyncio.sleep(0)
        server = await asyncio.start_unix_server(serve, path)
        await listening
        done.set()
        server.close()


def test_who_needs_it() -> None:
    assert needs_repair({"memory.oom.group": "1", "memory.high": "5"})
    assert not needs_repair({"memory.high": "5"})
    assert not needs_repair({})
