from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest
from aiohttp.test_utils import TestClient, TestServer

from kubeletpy.cri.client import CriError
from kubeletpy.events import Recorder
from kubeletpy.server import health
from kubeletpy.server.app import Api, is_local
from kubeletpy.server.health import check_loop, check_runtime
from kubeletpy_proto import cri_pb2
from tests.unit.kubeletpy.pods.build import pod

Client = TestClient[Any, Any]


class Faults:
    def __init__(self) -> None:
        self.runtime = ""

    async def check(self) -> str:
        return self.runtime


@pytest.fixture
def faults() -> Faults:
    return Faults()


@pytest.fixture
async def client(faults: Faults) -> AsyncIterator[Client]:
    recorder = Recorder("n")
    recorder.normal(pod("a"), "Started", "Container started", "a")
    api = Api(
        {"syncloop": check_loop, "runtime": faults.check}, lambda: [pod("a")], recorder.events
    )
    async with TestClient(TestServer(api.application())) as found:
        yield found


async def test_healthz(client: Client, faults: Faults) -> None:
    answer = await client.get("/healthz")
    assert (answer.status, await answer.text()) == (200, "ok")
    verbose = await (await client.get("/healthz?verbose")).text()
    assert verbose == "[+]ping ok\n[+]syncloop ok\n[+]runtime ok\nhealthz check passed\n"
    faults.runtime = "socket gone"
    answer = await client.get("/healthz")
    assert answer.status == 500
    assert "[-]runtime failed: socket gone\n" in await answer.text()
    assert (await client.get("/healthz/runtime")).status == 500
    assert (await client.get("/healthz/syncloop")).status == 200
    assert (await client.get("/healthz/ping")).status == 200
    assert (await client.get("/healthz/none")).status == 404


async def test_lists(client: Client) -> None:
    pods = json.loads(await (await client.get("/pods")).read())
    assert (pods["kind"], pods["items"][0]["metadata"]["name"]) == ("PodList", "web")
    events = json.loads(await (await client.get("/events")).read())
    assert (events["kind"], events["items"][0]["reason"]) == ("EventList", "Started")


@pytest.mark.parametrize("path", ["/pods", "/events"])
async def test_lists_are_for_loopback_only(client: Client, path: str) -> None:
    answer = await client.get(path, headers={"Host": "evil.example:10248"})
    assert answer.status == 403


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/pods"), ("DELETE", "/healthz"), ("GET", "/x")]
)
async def test_nothing_else_is_served(client: Client, method: str, path: str) -> None:
    assert (await client.request(method, path)).status in (404, 405)


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("127.0.0.1:10248", True),
        ("127.8.0.1", True),
        ("localhost", True),
        ("[::1]:10248", True),
        ("::1", True),
        ("10.0.0.1:10248", False),
        ("localhost.evil.example", False),
        ("", False),
    ],
)
def test_local_hosts(host: str, local: bool) -> None:
    assert is_local(host) is local


class Runtime:
    endpoint = "unix:///x"

    def __init__(self, answer: Callable[[], Awaitable[cri_pb2.StatusResponse]]) -> None:
        self.status = answer


async def test_runtime_that_is_away_or_not_ready() -> None:
    async def away() -> cri_pb2.StatusResponse:
        raise CriError("Status", grpc.StatusCode.UNAVAILABLE, "connection refused")

    async def unready() -> cri_pb2.StatusResponse:
        condition = cri_pb2.RuntimeCondition(
            type="RuntimeReady", status=False, reason="Boot", message="soon"
        )
        return cri_pb2.StatusResponse(status=cri_pb2.RuntimeStatus(conditions=[condition]))

    async def well() -> cri_pb2.StatusResponse:
        return cri_pb2.StatusResponse()

    faults = [await check_runtime(Runtime(one)) for one in (away, unready, well)]  # type: ignore[arg-type]
    assert "connection refused" in faults[0]
    assert "Boot: soon" in faults[1]
    assert faults[2] == ""


async def test_blocked_loop_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    import asyncio

    assert await check_loop() == ""
    monkeypatch.setattr(health, "LONGEST_LAG", 0.1)
    asyncio.get_running_loop().call_soon(time.sleep, 0.2)
    assert "late" in await check_loop()
