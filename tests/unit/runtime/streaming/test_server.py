"""The streaming server by itself, with processes that the tests play."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest

from runtime.config import StreamingSettings
from runtime.streaming.commands import CommandRequest, Process
from runtime.streaming.descriptors import Readable
from runtime.streaming.port_forward import ForwardRequest
from runtime.streaming.server import StreamingServer
from runtime.streaming.status import Outcome

# For 127.0.0.1, made by openssl for this test alone; good for a hundred years.
CERTIFICATE = """\
-----BEGIN CERTIFICATE-----
MIIBkTCCATagAwIBAgIUYO5ikqfZ45qI6ivpMxJ4ALz4kpcwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMTA5NDA0OVoYDzIxMjYxMDI4
MDk0MDQ5WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAARZcPHujb345+32ES58w+X+B4uOQsCZZ5c3FP5vVfzfnVTdmfDkzYsK
WFVSMDrQtNLsRMtS5eskArHOlzYoTWofo2QwYjAdBgNVHQ4EFgQUsDbd1oPT0GL9
AESAx56n3zdcyskwHwYDVR0jBBgwFoAUsDbd1oPT0GL9AESAx56n3zdcyskwDwYD
VR0TAQH/BAUwAwEB/zAPBgNVHREECDAGhwR/AAABMAoGCCqGSM49BAMCA0kAMEYC
IQCJ+8+b9umAdqJZEYIJT2wNOu/E3NTng/NmegXojjQVdgIhAJypnzTJ6RWQSm/o
8o10BDbb6ktQLmeJ5neR045lw9aX
-----END CERTIFICATE-----
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgx02rOnkulBF6V3b+
UIGfRYaLNuk2GkHa+IKSxEaMFPGhRANCAARZcPHujb345+32ES58w+X+B4uOQsCZ
Z5c3FP5vVfzfnVTdmfDkzYsKWFVSMDrQtNLsRMtS5eskArHOlzYoTWof
-----END PRIVATE KEY-----
"""


@asynccontextmanager
async def serving(**settings: object) -> AsyncIterator[StreamingServer]:
    server = StreamingServer(StreamingSettings(**settings))  # type: ignore[arg-type]
    await server.start()
    try:
        async with asyncio.timeout(20):
            yield server
    finally:
        await server.close()


def command(words: bytes, opened: asyncio.Event | None = None) -> CommandRequest:
    """One that writes ``words`` and ends, or tells that it runs and goes on for ever."""

    @asynccontextmanager
    async def run() -> AsyncIterator[Process]:
        reading, writing = os.pipe()
        os.write(writing, words)
        end: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        if opened is None:
            end.set_result(Outcome())
        else:
            opened.set()
        process = Process(end, {"stdout": Readable(reading)})
        try:
            yield process
        finally:
            process.close()
            os.close(writing)

    return CommandRequest("exec", "container", frozenset({"stdout"}), False, run)


async def _run(url: str, tls: ssl.SSLContext | bool = True) -> list[bytes]:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(url, protocols=("v5.channel.k8s.io",), ssl=tls) as socket,
    ):
        return [bytes(message.data) async for message in socket]


async def test_tls(tmp_path: Path) -> None:
    pem = tmp_path / "server.pem"
    pem.write_text(CERTIFICATE)
    async with serving(tls_cert=pem) as server:
        url = server.issue(command(b"secret"))
        assert url.startswith("https://127.0.0.1:")
        context = ssl.create_default_context(cafile=str(pem))
        messages = await _run(url, context)
        assert messages[1:] == [b"\x01secret", b'\x03{"metadata":{},"status":"Success"}']


async def test_sessions_are_bounded() -> None:
    async with serving(max_sessions=1) as server:
        opened = asyncio.Event()
        first = asyncio.create_task(_run(server.issue(command(b"x", opened))))
        await opened.wait()
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await _run(server.issue(command(b"y")))
        assert refused.value.status == 503
        first.cancel()


async def test_an_idle_session_is_told_so() -> None:
    async with serving(idle_seconds=0.05) as server:
        messages = await _run(server.issue(command(b"", asyncio.Event())))
        assert b"idle" in messages[-1]


async def test_closing_the_server_ends_sessions() -> None:
    async with serving() as server:
        opened = asyncio.Event()
        task = asyncio.create_task(_run(server.issue(command(b"x", opened))))
        await opened.wait()
        await server.close()
        assert server.sessions == 0
        await task


@pytest.mark.parametrize("stream", ["exec", "portforward"])
async def test_an_unknown_protocol_is_refused(stream: str) -> None:
    async def connect(port: int) -> None:
        raise AssertionError(port)

    async with serving() as server, aiohttp.ClientSession() as session:
        request = command(b"") if stream == "exec" else ForwardRequest("pod", connect)  # type: ignore[arg-type]
        headers = {"Connection": "Upgrade", "Upgrade": "SPDY/3.1",
                   "X-Stream-Protocol-Version": "v9.channel.k8s.io"}  # fmt: skip
        async with session.post(server.issue(request), headers=headers) as answer:
            assert answer.status == 403
            assert "v9.channel.k8s.io" in await answer.text()


async def test_streams_that_never_come_are_given_up() -> None:
    async with serving(creation_seconds=0.1) as server:
        url = server.issue(command(b""))
        host, port = url.split("/")[2].split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            f"POST /{url.split('/', 3)[3]} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\n"
            "Upgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n\r\n".encode()
        )
        assert b"101 Switching" in await reader.readuntil(b"\r\n\r\n")
        assert await reader.read() == b""
        writer.close()
