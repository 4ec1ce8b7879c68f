from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence

import grpc
import pytest

from kubeletpy.api.container import (
    Container,
    ExecAction,
    HTTPGetAction,
    HTTPHeader,
    LifecycleHandler,
    SleepAction,
    TCPSocketAction,
)
from kubeletpy.cri.client import CriError
from kubeletpy.hooks.runner import HookError, Hooks
from kubeletpy.probes.http import HttpClient
from kubeletpy_proto import cri_pb2

HOST = "127.0.0.1"


class Execs:
    """Plays ExecSync: exit codes by command, or a failure."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, list[str], int]] = []

    async def exec_sync(
        self, container_id: str, command: Sequence[str], timeout: int
    ) -> cri_pb2.ExecSyncResponse:
        self.asked.append((container_id, list(command), timeout))
        if command[0] == "gone":
            raise CriError("ExecSync", grpc.StatusCode.NOT_FOUND, "no such container")
        if command[0] == "hang":
            await asyncio.Event().wait()
        return cri_pb2.ExecSyncResponse(exit_code=int(command[0] == "false"), stderr=b"a secret")


@pytest.fixture
async def http() -> AsyncIterator[HttpClient]:
    client = HttpClient()
    yield client
    await client.close()


async def run(http: HttpClient, handler: LifecycleHandler, timeout: float = 5) -> Execs:
    execs = Execs()
    await Hooks(execs, http).run(handler, Container(name="c"), "id", HOST, timeout)
    return execs


def command(*words: str) -> LifecycleHandler:
    return LifecycleHandler(exec=ExecAction(command=list(words)))


async def test_exec(http: HttpClient) -> None:
    execs = await run(http, command("true", "x"), 4.2)
    assert execs.asked == [("id", ["true", "x"], 5)]


async def test_failed_exec_is_named_without_its_output(http: HttpClient) -> None:
    with pytest.raises(HookError, match="exec of 'false' exited with 1") as caught:
        await run(http, command("false"))
    assert "secret" not in str(caught.value)
    with pytest.raises(HookError, match="no such container"):
        await run(http, command("gone"))


async def test_a_hook_takes_no_longer_than_it_may(http: HttpClient) -> None:
    with pytest.raises(HookError, match="not done within"):
        await run(http, command("hang"), 0.05)
    with pytest.raises(HookError, match="not done within"):
        await run(http, LifecycleHandler(sleep=SleepAction(seconds=60)), 0.05)


async def test_sleep(http: HttpClient) -> None:
    await run(http, LifecycleHandler(sleep=SleepAction(seconds=0)))


async def test_any_http_answer_is_a_success(http: HttpClient) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, HOST, 0) as server:
        port = server.sockets[0].getsockname()[1]
        await run(http, LifecycleHandler(http_get=HTTPGetAction(path="/", port=port)))
        await run(http, LifecycleHandler(tcp_socket=TCPSocketAction(port=port)))
    for handler in (
        LifecycleHandler(http_get=HTTPGetAction(path="/", port=port)),
        LifecycleHandler(tcp_socket=TCPSocketAction(port=port)),
        LifecycleHandler(tcp_socket=TCPSocketAction(port="none")),
    ):
        with pytest.raises(HookError):
            await run(http, handler)


async def test_https_that_is_answered_in_plain_http_is_sent_again_so(http: HttpClient) -> None:
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.read(4)
        if head == b"GET ":
            asked.append(head + await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, HOST, 0) as server:
        port = server.sockets[0].getsockname()[1]
        headers = [HTTPHeader(name="Authorization", value="x"), HTTPHeader(name="X-A", value="1")]
        action = HTTPGetAction(path="/bye", port=port, scheme="HTTPS", http_headers=headers)
        handler = LifecycleHandler(http_get=action)
        note = await Hooks(Execs(), http).run(handler, Container(name="c"), "id", HOST, 5)
    assert note == (
        f"request to HTTPS lifecycle hook {HOST}:{port} got HTTP response, "
        "retry with HTTP succeeded"
    )
    assert len(asked) == 1
    assert b"X-A: 1" in asked[0]
    assert b"kube-lifecycle/" in asked[0]
    assert b"uthorization" not in asked[0]
