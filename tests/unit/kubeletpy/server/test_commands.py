"""What goes on to the runtime's streaming server, and what does not."""

from __future__ import annotations

import pytest
from aiohttp.test_utils import make_mocked_request

from kubeletpy.server.commands import is_here, passed_headers, ports_of, streams_of
from kubeletpy.server.finding import Refused

UPGRADE = {"Connection": "Upgrade", "Upgrade": "SPDY/3.1"}


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("localhost", True),
        ("192.0.2.7", True),
        ("192.0.2.8", False),
        ("169.254.169.254", False),
        ("0.0.0.0", False),
        ("localhost.example.com", False),
        ("metadata", False),
        ("", False),
    ],
)
def test_only_this_machine_is_connected_to(host: str, expected: bool) -> None:
    assert is_here(host, lambda: ["192.0.2.7", "fe80::1"]) is expected


def test_who_asks_is_not_told_to_the_runtime() -> None:
    headers = [
        ("Host", "node:10250"),
        ("Authorization", "Bearer secret"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Protocol", "v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.c2Vj"),
        ("X-Stream-Protocol-Version", "v4.channel.k8s.io"),
    ]
    assert passed_headers(headers) == [
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Protocol", "v5.channel.k8s.io"),
        ("X-Stream-Protocol-Version", "v4.channel.k8s.io"),
    ]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("input=1&output=1", {"stdin": True, "stdout": True, "stderr": False, "tty": False}),
        ("output=1&error=1&tty=1",
         {"stdin": False, "stdout": True, "stderr": False, "tty": True}),
    ],
)  # fmt: skip
def test_streams(query: str, expected: dict[str, bool]) -> None:
    request = make_mocked_request("POST", f"/exec/a/b/c?{query}", headers=UPGRADE)
    assert streams_of(request) == expected


@pytest.mark.parametrize("query", ["", "output=true", "tty=1"])
def test_no_stream_at_all_is_refused(query: str) -> None:
    request = make_mocked_request("POST", f"/exec/a/b/c?{query}", headers=UPGRADE)
    with pytest.raises(Refused, match="at least 1 of stdin, stdout, stderr"):
        streams_of(request)


def test_plain_requests_are_refused() -> None:
    for headers in ({}, {"Upgrade": "SPDY/3.1"}, {"Connection": "keep-alive, Upgrade"}):
        with pytest.raises(Refused, match="Upgrade request required"):
            ports_of(make_mocked_request("POST", "/portForward/a/b", headers=headers))


@pytest.mark.parametrize(
    ("query", "expected"), [("", []), ("port=80&port=81", [80, 81]), ("port=80,81", [80, 81])]
)
def test_ports(query: str, expected: list[int]) -> None:
    request = make_mocked_request("GET", f"/portForward/a/b?{query}", headers=UPGRADE)
    assert ports_of(request) == expected


@pytest.mark.parametrize("port", ["0", "65536", "-1", "x", "9999999999999"])
def test_what_is_no_port(port: str) -> None:
    request = make_mocked_request("GET", f"/portForward/a/b?port={port}", headers=UPGRADE)
    with pytest.raises(Refused):
        ports_of(request)
