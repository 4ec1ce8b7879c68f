"""Streams on their way to the runtime: bytes as they are, and no way to anybody else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiohttp import web

from kubeletpy.api.container import Container
from kubeletpy.api.meta import ObjectMeta
from kubeletpy.api.pod import Pod, PodSpec
from kubeletpy.cri import labels
from kubeletpy.server.commands import Commands
from kubeletpy_proto import cri_pb2 as cri

POD = Pod(
    api_version="v1",
    kind="Pod",
    metadata=ObjectMeta(name="web", namespace="default", uid="u1"),
    spec=PodSpec(containers=[Container(name="c")]),
)
HEAD = (
    b"POST /exec/default/web/c?output=1&command=id HTTP/1.1\r\nHost: node\r\n"
    b"Authorization: Bearer secret\r\nConnection: Upgrade\r\nUpgrade: SPDY/3.1\r\n\r\n"
)
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: SPDY/3.1\r\nX-Own: 1\r\n\r\n"
_NAME = labels.CONTAINER_NAME
Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Runtime:
    """One container that runs, and the URL of a streaming server."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.asked: list[cri.ExecRequest] = []

    async def list_containers(self, *, labels: dict[str, str]) -> list[cri.Container]:
        assert labels[_NAME] == "c"
        return [cri.Container(id="id1", state=cri.CONTAINER_RUNNING)]

    async def exec(self, request: cri.ExecRequest) -> str:
        self.asked.append(request)
        return self.url


@asynccontextmanager
async def streaming_server(answer: Answer) -> AsyncIterator[int]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await answer(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


@asynccontextmanager
async def kubelet(url: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    core = SimpleNamespace(cri=Runtime(url), manager=SimpleNamespace(pods=lambda: [POD]))
    application = web.Application()
    commands = Commands(cast(Any, core))
    application.router.add_post("/exec/{namespace}/{pod}/{container}", commands.execute)
    runner = web.AppRunner(application, handler_cancellation=True, shutdown_timeout=1.0)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    reader, writer = await asyncio.open_connection(*runner.addresses[0][:2])
    try:
        async with asyncio.timeout(20):
            yield reader, writer
    finally:
        writer.close()
        await runner.cleanup()


async def test_bytes_go_both_ways_and_the_last_words_arrive() -> None:
    heads: list[bytes] = []

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(SWITCHED + b"hello")
        # Until the client ends its half; the rest is said after that.
        everything = await reader.read()
        writer.write(everything[::-1])
        await writer.drain()

    async with (
        streaming_server(echo) as port,
        kubelet(f"http://127.0.0.1:{port}/exec/token") as (reader, writer),
    ):
        writer.write(HEAD)
        assert await reader.readuntil(b"\r\n\r\n") == SWITCHED
        assert await reader.readexactly(5) == b"hello"
        writer.write(bytes(range(256)) * 1000)
        writer.write_eof()
        assert await reader.read() == (bytes(range(256)) * 1000)[::-1]
    head = heads[0].decode()
    assert head.startswith("POST /exec/token HTTP/1.1\r\n")
    assert f"Host: 127.0.0.1:{port}\r\n" in head
    assert "Upgrade: SPDY/3.1\r\n" in head
    assert "secret" not in head


@pytest.mark.parametrize("status", ["302 Found", "307 Temporary Redirect", "200 OK"])
async def test_redirects_are_followed_by_nobody(status: str) -> None:
    asked: list[bytes] = []

    async def canary(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))

    async with streaming_server(canary) as elsewhere:

        async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            location = f"Location: http://127.0.0.1:{elsewhere}/\r\nContent-Length: 0\r\n\r\n"
            writer.write(f"HTTP/1.1 {status}\r\n{location}".encode())
            await writer.drain()

        async with (
            streaming_server(redirect) as port,
            kubelet(f"http://127.0.0.1:{port}/exec/token") as (reader, writer),
        ):
            writer.write(HEAD)
            head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 500 ")
    assert b"location" not in head.lower()
    assert asked == []


@pytest.mark.parametrize(
    "url",
    [
        "http://192.0.2.1:80/exec/token",
        "http://metadata.example.com/exec/token",
        "ftp://127.0.0.1/exec/token",
        "/exec/token",
        "",
    ],
)
async def test_urls_that_lead_elsewhere_are_refused(url: str) -> None:
    async with kubelet(url) as (reader, writer):
        writer.write(HEAD)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 500 ")
        assert b"the runtime's streaming server at" in await reader.readuntil(b"at")


async def test_a_refusal_of_the_runtime_is_passed_on() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\nContent-Length: 7\r\n\r\nunknown")
        await writer.drain()

    async with (
        streaming_server(refuse) as port,
        kubelet(f"http://127.0.0.1:{port}/exec/token") as (reader, writer),
    ):
        writer.write(HEAD)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 404 ")
        assert await reader.readexactly(7) == b"unknown"


async def test_a_server_that_is_not_there() -> None:
    async with kubelet("http://127.0.0.1:1/exec/token") as (reader, writer):
        writer.write(HEAD)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 500 ")
