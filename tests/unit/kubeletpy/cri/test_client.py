from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TypeVar

import grpc
import grpc.aio
import pytest

from kubeletpy.cri.client import CriClient, CriError, target_of
from kubeletpy.cri.events import ContainerEvents, EventsUnsupported, Resync
from kubeletpy_proto import cri_pb2, cri_pb2_grpc

_Servicer = TypeVar("_Servicer", bound=cri_pb2_grpc.RuntimeServiceServicer)


class Runtime(cri_pb2_grpc.RuntimeServiceServicer):
    """A server of real gRPC over a real socket; what it answers is set by the test."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[str | None] = asyncio.Queue()
        self.streams = 0

    async def Version(
        self, request: cri_pb2.VersionRequest, context: object
    ) -> cri_pb2.VersionResponse:
        return cri_pb2.VersionResponse(runtime_name="test", runtime_api_version="v1")

    async def StopContainer(
        self,
        request: cri_pb2.StopContainerRequest,
        context: grpc.aio.ServicerContext[object, object],
    ) -> cri_pb2.StopContainerResponse:
        remaining = context.time_remaining() or 0
        await context.abort(grpc.StatusCode.NOT_FOUND, f"no {request.container_id} {remaining:.0f}")
        raise AssertionError

    async def Status(
        self, request: cri_pb2.StatusRequest, context: object
    ) -> cri_pb2.StatusResponse:
        await asyncio.Event().wait()
        raise AssertionError

    async def GetContainerEvents(
        self,
        request: cri_pb2.GetEventsRequest,
        context: grpc.aio.ServicerContext[object, object],
    ) -> AsyncIterator[cri_pb2.ContainerEventResponse]:
        self.streams += 1
        await context.send_initial_metadata(())
        while (container := await self.events.get()) is not None:
            yield cri_pb2.ContainerEventResponse(container_id=container)


def new(kind: Callable[[], _Servicer]) -> _Servicer:
    """Make a servicer; the RPCs that it lacks answer UNIMPLEMENTED (the stubs call it abstract)."""
    return kind()


_SERVERS: list[grpc.aio.Server] = []


@pytest.fixture(autouse=True)
async def servers_end() -> AsyncIterator[None]:
    """One that a failed test leaves would keep the interpreter's end waiting for its thread."""
    yield
    for server in _SERVERS:
        await server.stop(None)
    _SERVERS.clear()


async def slow_relay(socket: Path, target: Path, seconds: float) -> asyncio.Server:
    """Pass connections on, after some time in which nothing is heard."""

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(1 << 16):
            writer.write(data)
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(seconds)
        beyond = await asyncio.open_unix_connection(target)
        await asyncio.gather(copy(reader, beyond[1]), copy(beyond[0], writer))

    return await asyncio.start_unix_server(connected, socket)


async def serve(socket: Path, runtime: cri_pb2_grpc.RuntimeServiceServicer) -> grpc.aio.Server:
    server = grpc.aio.server()
    cri_pb2_grpc.add_RuntimeServiceServicer_to_server(runtime, server)
    server.add_insecure_port(f"unix:{socket}")
    await server.start()
    _SERVERS.append(server)
    return server


@pytest.fixture
def socket(tmp_path: Path) -> Path:
    return tmp_path / "cri.sock"


@pytest.fixture
async def client(socket: Path) -> AsyncIterator[CriClient]:
    async with CriClient(f"unix://{socket}", timeout=10) as client:
        yield client


@pytest.mark.parametrize(
    ("endpoint", "target"),
    [("unix:///a/b", "unix:/a/b"), ("unix:/a/b", "unix:/a/b"), ("/a/b", "unix:/a/b")],
)
def test_target(endpoint: str, target: str) -> None:
    assert target_of(endpoint) == target


@pytest.mark.parametrize("endpoint", ["", "tcp://1.2.3.4:5", "unix://relative", "npipe:////./x"])
def test_no_target(endpoint: str) -> None:
    with pytest.raises(ValueError, match="is not a unix socket"):
        target_of(endpoint)


async def test_errors_are_mapped(socket: Path, client: CriClient) -> None:
    server = await serve(socket, new(Runtime))
    assert (await client.version()).runtime_name == "test"
    with pytest.raises(CriError) as caught:
        await client.stop_container("c1", grace=30)
    assert caught.value.not_found
    # The grace is on top of the time that the call itself may take.
    assert caught.value.message == "no c1 40"
    assert str(caught.value) == "CRI StopContainer: NOT_FOUND: no c1 40"
    with pytest.raises(CriError) as caught:
        await client.list_images()
    assert caught.value.unimplemented
    await server.stop(None)


async def test_every_call_has_a_deadline(socket: Path) -> None:
    server = await serve(socket, new(Runtime))
    async with CriClient(f"unix://{socket}", timeout=0.2) as client:
        with pytest.raises(CriError) as caught:
            await asyncio.wait_for(client.status(), 10)
    assert caught.value.timed_out
    await server.stop(None)


async def test_a_client_outlives_the_runtime(socket: Path, client: CriClient) -> None:
    with pytest.raises(CriError) as caught:
        await client.version()
    assert caught.value.unavailable
    for _ in range(2):
        server = await serve(socket, new(Runtime))
        # gRPC's own way to wait for the connection; what is asked is that it comes back.
        await client.runtime.Version(cri_pb2.VersionRequest(), wait_for_ready=True, timeout=10)
        assert (await client.version()).runtime_name == "test"
        await server.stop(None)


async def test_a_runtime_may_take_its_time_to_greet(tmp_path: Path, socket: Path) -> None:
    """As one does that has much to do, when its client connects."""
    await serve(tmp_path / "real.sock", new(Runtime))
    relay = await slow_relay(socket, tmp_path / "real.sock", seconds=0.5)
    async with CriClient(f"unix://{socket}", timeout=10) as client:
        assert (await client.version()).runtime_name == "test"
    relay.close()
    await relay.wait_closed()


async def test_events(socket: Path, client: CriClient) -> None:
    runtime = new(Runtime)
    server = await serve(socket, runtime)
    events = aiter(ContainerEvents(client))

    async def following() -> object:
        return await asyncio.wait_for(anext(events), 10)

    assert isinstance(await following(), Resync)
    # By the time of the first list the runtime has the stream, so nothing falls in between.
    assert runtime.streams == 1
    runtime.events.put_nowait("a")
    runtime.events.put_nowait("b")
    for expected in ("a", "b"):
        event = await following()
        assert isinstance(event, cri_pb2.ContainerEventResponse)
        assert event.container_id == expected
    runtime.events.put_nowait(None)
    resync = await following()
    assert isinstance(resync, Resync)
    assert "closed" in resync.reason
    await server.stop(None)
    restarted = new(Runtime)
    server = await serve(socket, restarted)
    assert isinstance(await following(), Resync)
    restarted.events.put_nowait("c")
    event = await following()
    assert isinstance(event, cri_pb2.ContainerEventResponse)
    assert event.container_id == "c"
    await events.aclose()  # type: ignore[attr-defined]
    await server.stop(None)


async def test_a_runtime_without_events(socket: Path, client: CriClient) -> None:
    server = await serve(socket, new(cri_pb2_grpc.RuntimeServiceServicer))
    with pytest.raises(EventsUnsupported):
        await asyncio.wait_for(anext(aiter(ContainerEvents(client))), 10)
    await server.stop(None)


async def test_a_runtime_whose_header_comes_late(socket: Path, client: CriClient) -> None:
    class Late(Runtime):
        async def GetContainerEvents(
            self, request: cri_pb2.GetEventsRequest, context: object
        ) -> AsyncIterator[cri_pb2.ContainerEventResponse]:
            yield cri_pb2.ContainerEventResponse(container_id=str(await self.events.get()))

    runtime = new(Late)
    server = await serve(socket, runtime)
    events = aiter(ContainerEvents(client))
    assert isinstance(await asyncio.wait_for(anext(events), 10), Resync)
    runtime.events.put_nowait("x")
    event = await asyncio.wait_for(anext(events), 10)
    assert isinstance(event, cri_pb2.ContainerEventResponse)
    await events.aclose()  # type: ignore[attr-defined]
    await server.stop(None)
