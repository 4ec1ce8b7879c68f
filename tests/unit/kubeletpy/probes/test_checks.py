"""Single runs of probes, against real servers on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
import grpc.aio
import pytest
from aiohttp import web

from kubeletpy.api.container import (
    Container,
    ContainerPort,
    EnvVar,
    ExecAction,
    GRPCAction,
    HTTPGetAction,
    HTTPHeader,
    Probe,
    TCPSocketAction,
)
from kubeletpy.cri.client import CriError
from kubeletpy.pods.state import Outcome
from kubeletpy.probes.checks import Checker, port_of
from kubeletpy.probes.http import LARGEST_BODY, HttpClient
from kubeletpy_proto import cri_pb2

HOST = "127.0.0.1"


class Execs:
    """Plays ExecSync."""

    def __init__(self, answer: cri_pb2.ExecSyncResponse | CriError) -> None:
        self.answer = answer
        self.command: list[str] = []

    async def exec_sync(
        self, container_id: str, command: Sequence[str], timeout: int
    ) -> cri_pb2.ExecSyncResponse:
        self.command = list(command)
        if isinstance(self.answer, CriError):
            raise self.answer
        return self.answer


@pytest.fixture
async def http() -> AsyncIterator[HttpClient]:
    client = HttpClient()
    yield client
    await client.close()


@pytest.fixture
async def server() -> AsyncIterator[tuple[int, list[web.Request]]]:
    seen: list[web.Request] = []

    async def answer(request: web.Request) -> web.StreamResponse:
        seen.append(request)
        path = request.path
        if path.startswith("/status/"):
            return web.Response(status=int(path.rpartition("/")[2]), text="body")
        if path == "/big":
            return web.Response(body=b"x" * (LARGEST_BODY * 20))
        if path == "/slow":
            await asyncio.sleep(30)
        if path == "/here":
            raise web.HTTPFound("/status/200")
        if path == "/away":
            raise web.HTTPFound("http://127.0.0.2:1/status/500")
        if path == "/round":
            raise web.HTTPFound("/round")
        return web.Response(text="ok")

    application = web.Application()
    application.router.add_get("/{path:.*}", answer)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, HOST, 0)
    await site.start()
    yield runner.addresses[0][1], seen
    await runner.cleanup()


async def check(http: HttpClient, probe: Probe, execs: Any = None) -> tuple[Outcome, str]:
    result = await Checker(execs, http).check(probe, Container(name="c"), "id", HOST)
    return result.outcome, result.output


@pytest.mark.parametrize(
    ("path", "outcome", "text"),
    [
        ("/status/200", Outcome.SUCCESS, "body"),
        ("/status/399", Outcome.SUCCESS, "Probe terminated redirects, Response body: body"),
        ("/status/400", Outcome.FAILURE, "HTTP probe failed with statuscode: 400"),
        ("/status/500", Outcome.FAILURE, "HTTP probe failed with statuscode: 500"),
        ("/here", Outcome.SUCCESS, "body"),
        ("/away", Outcome.SUCCESS, "Probe terminated redirects"),
        ("/round", Outcome.FAILURE, "redirects"),
        ("status/200?a=b%20c", Outcome.SUCCESS, "body"),
    ],
)
async def test_http(
    http: HttpClient, server: tuple[int, Any], path: str, outcome: Outcome, text: str
) -> None:
    found, output = await check(http, Probe(http_get=HTTPGetAction(path=path, port=server[0])))
    assert found is outcome
    assert text in output


async def test_a_redirect_elsewhere_is_a_warning(http: HttpClient, server: tuple[int, Any]) -> None:
    for path, warning in (("/away", True), ("/here", False)):
        probe = Probe(http_get=HTTPGetAction(path=path, port=server[0]))
        result = await Checker(None, http).check(probe, Container(name="c"), "id", HOST)  # type: ignore[arg-type]
        assert (result.outcome, result.warning) == (Outcome.SUCCESS, warning)


async def test_http_body_is_read_to_a_bound(http: HttpClient, server: tuple[int, Any]) -> None:
    _, output = await check(http, Probe(http_get=HTTPGetAction(path="/big", port=server[0])))
    assert len(output) <= 1024


@pytest.mark.slow
async def test_http_timeout(http: HttpClient, server: tuple[int, Any]) -> None:
    probe = Probe(http_get=HTTPGetAction(path="/slow", port=server[0]), timeout_seconds=1)
    outcome, output = await check(http, probe)
    assert (outcome, "within 1 s" in output) == (Outcome.FAILURE, True)


async def test_http_headers(http: HttpClient, server: tuple[int, Any]) -> None:
    headers = [HTTPHeader(name="Host", value="web.example"), HTTPHeader(name="X-A", value="1")]
    action = HTTPGetAction(path="/", port=server[0], http_headers=headers)
    await check(http, Probe(http_get=action))
    request = server[1][0]
    assert (request.host, request.headers["X-A"]) == ("web.example", "1")
    assert request.headers["User-Agent"].startswith("kube-probe/")
    assert request.headers["Accept"] == "*/*"
    empty = HTTPGetAction(
        path="/", port=server[0], http_headers=[HTTPHeader(name="accept", value="")]
    )
    await check(http, Probe(http_get=empty))
    assert "Accept" not in server[1][1].headers


async def test_header_cannot_smuggle_another(http: HttpClient, server: tuple[int, Any]) -> None:
    header = HTTPHeader(name="X", value="a\r\nY: b")
    action = HTTPGetAction(path="/", port=server[0], http_headers=[header])
    outcome, _ = await check(http, Probe(http_get=action))
    assert outcome is not Outcome.SUCCESS
    assert server[1] == []


@pytest.mark.parametrize("field", ["http_get", "tcp_socket"])
async def test_refused_connection(http: HttpClient, field: str) -> None:
    listener = await asyncio.start_server(lambda *_: None, HOST, 0)
    port = listener.sockets[0].getsockname()[1]
    listener.close()
    await listener.wait_closed()
    kind: Any = HTTPGetAction if field == "http_get" else TCPSocketAction
    outcome, output = await check(http, Probe(**{field: kind(port=port)}))
    assert outcome is Outcome.FAILURE
    before = f'Get "http://{HOST}:{port}/": ' if field == "http_get" else ""
    assert output == f"{before}dial tcp {HOST}:{port}: connect: connection refused"


async def test_tcp(http: HttpClient, server: tuple[int, Any]) -> None:
    assert await check(http, Probe(tcp_socket=TCPSocketAction(port=server[0]))) == (
        Outcome.SUCCESS,
        "",
    )


@pytest.mark.parametrize(
    ("answer", "outcome", "text"),
    [
        (cri_pb2.ExecSyncResponse(stdout=b"fine"), Outcome.SUCCESS, "fine"),
        (cri_pb2.ExecSyncResponse(stderr=b"no\xff", exit_code=1), Outcome.FAILURE, "no"),
        (cri_pb2.ExecSyncResponse(stdout=b"x" * 5000), Outcome.SUCCESS, "x" * 1024),
        (
            CriError("ExecSync", grpc.StatusCode.DEADLINE_EXCEEDED, ""),
            Outcome.FAILURE,
            "command timed out",
        ),
        (CriError("ExecSync", grpc.StatusCode.UNAVAILABLE, "gone"), Outcome.UNKNOWN, "gone"),
    ],
)
async def test_exec(
    http: HttpClient, answer: cri_pb2.ExecSyncResponse | CriError, outcome: Outcome, text: str
) -> None:
    found, output = await check(http, Probe(exec=ExecAction(command=["x"])), Execs(answer))
    assert found is outcome
    assert text in output


async def test_exec_knows_the_variables_that_are_written_out(http: HttpClient) -> None:
    execs = Execs(cri_pb2.ExecSyncResponse())
    one = Container(name="c", env=[EnvVar(name="A", value="1")])
    probe = Probe(exec=ExecAction(command=["x", "$(A)", "$(B)", "$$(A)"]))
    await Checker(execs, http).check(probe, one, "id", HOST)
    assert execs.command == ["x", "1", "$(B)", "$(A)"]


async def test_grpc_refused(http: HttpClient) -> None:
    server = grpc.aio.server()
    port = server.add_insecure_port(f"{HOST}:0")
    await server.start()
    try:
        _, unknown = await check(http, Probe(grpc=GRPCAction(port=port)))
    finally:
        await server.stop(None)
    assert "does not implement the grpc health protocol (grpc.health.v1.Health)" in unknown
    outcome, away = await check(http, Probe(grpc=GRPCAction(port=port)))
    assert outcome is Outcome.FAILURE
    assert away.startswith(f'error: failed to connect service at "{HOST}:{port}"')


@pytest.mark.parametrize(
    ("answer", "outcome", "text"),
    [
        (b"\x08\x01", Outcome.SUCCESS, "service healthy"),
        (b"\x08\x02", Outcome.FAILURE, 'service unhealthy (responded with "NOT_SERVING")'),
        (b"", Outcome.FAILURE, 'service unhealthy (responded with "UNKNOWN")'),
    ],
)
async def test_grpc(http: HttpClient, answer: bytes, outcome: Outcome, text: str) -> None:
    asked: list[bytes] = []

    async def health(request: bytes, _: Any) -> bytes:
        asked.append(request)
        return answer

    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(
        health, request_deserializer=bytes, response_serializer=bytes
    )
    handlers = grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": handler})
    server.add_generic_rpc_handlers((handlers,))
    port = server.add_insecure_port(f"{HOST}:0")
    await server.start()
    try:
        found = await check(http, Probe(grpc=GRPCAction(port=port, service="db")))
        unnamed = await check(http, Probe(grpc=GRPCAction(port=port)))
    finally:
        await server.stop(None)
    assert (found, unnamed) == ((outcome, text), (outcome, text))
    assert asked == [b"\n\x02db", b""]


@pytest.mark.parametrize("port", ["nope", 0, 70000, "0"])
def test_bad_ports(port: int | str) -> None:
    with pytest.raises(ValueError, match="port"):
        port_of(port, Container(name="c", ports=[ContainerPort(name="web", container_port=80)]))


def test_ports_by_name_and_number() -> None:
    container = Container(name="c", ports=[ContainerPort(name="web", container_port=80)])
    assert [port_of(port, container) for port in ("web", 81, "82")] == [80, 81, 82]
