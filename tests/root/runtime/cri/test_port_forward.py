"""PortForward through the real daemon, by SPDY and by SPDY inside a WebSocket."""

from __future__ import annotations

import asyncio
import os

import pytest

from kubeletpy_proto import cri_pb2 as cri
from tests.root.runtime.cri.node import Node
from tests.root.runtime.cri.stream_clients import (
    Spdy,
    forward_url,
    in_network_of,
    spdy,
    tunnel,
)

pytestmark = pytest.mark.root

PROTOCOL = "portforward.k8s.io"
CAT = ("sh", "-c", "nc -ll -p 7007 -e cat & wait")
BYTES = os.urandom(1 << 20)


async def _open(client: Spdy, port: int, request: int) -> tuple[int, int]:
    headers = {"port": str(port), "requestID": str(request)}
    error = await client.open(streamType="error", **headers)
    await client.send(error, fin=True)
    return error, await client.open(streamType="data", **headers)


async def _echo(client: Spdy, request: int, data: bytes) -> None:
    await _finish_echo(client, await _begin_echo(client, request), data)


async def _begin_echo(client: Spdy, request: int) -> tuple[int, int]:
    error, stream = await _open(client, 7007, request)
    await client.send(stream, b"first")
    await client.until(stream, b"first")
    return error, stream


async def _finish_echo(client: Spdy, streams: tuple[int, int], data: bytes) -> None:
    error, stream = streams
    await client.send(stream, data, fin=True)
    assert await client.all_of(stream) == b"first" + data
    assert await client.all_of(error) == b""


def wait_for_port(node: Node, container: str, port: int) -> None:
    script = f"until netstat -ltn | grep -q :{port}; do sleep 0.02; done"
    assert node.exec(container, "sh", "-c", script, timeout=10).exit_code == 0


def test_many_connections_at_once_by_spdy(node: Node) -> None:
    with node.pod() as sandbox:
        wait_for_port(node, node.run(sandbox, *CAT), 7007)
        url = forward_url(node, sandbox)

        async def scenario() -> None:
            async with spdy(url, PROTOCOL) as client, asyncio.TaskGroup() as group:
                # One after the other: busybox's nc lets one connection wait, and the kernel drops
                # the attempts of others for seconds.
                opened = [await _begin_echo(client, number) for number in range(20)]
                for streams in opened:
                    group.create_task(_finish_echo(client, streams, BYTES))

        in_network_of(node, scenario())


def test_connections_inside_a_websocket(node: Node) -> None:
    with node.pod() as sandbox:
        wait_for_port(node, node.run(sandbox, *CAT), 7007)
        url = forward_url(node, sandbox)

        async def scenario() -> None:
            async with tunnel(url) as client:
                for number in range(3):
                    await _echo(client, number, BYTES)

        in_network_of(node, scenario())


def test_a_port_where_nobody_listens_is_told_and_the_rest_goes_on(node: Node) -> None:
    with node.pod() as sandbox:
        wait_for_port(node, node.run(sandbox, *CAT), 7007)
        url = forward_url(node, sandbox)

        async def scenario() -> None:
            async with spdy(url, PROTOCOL) as client:
                error, stream = await _open(client, 9, 0)
                text = (await client.all_of(error)).decode()
                assert "forward port 9 of pod" in text
                assert "refused" in text
                await client.all_of(stream)
                assert stream in client.reset
                await _echo(client, 1, b"still there")

        in_network_of(node, scenario())


def test_a_service_on_ipv6_loopback_is_reached(node: Node) -> None:
    with node.pod() as sandbox:
        serve = "mkdir /www; echo over six > /www/six; exec httpd -f -p [::1]:7007 -h /www"
        wait_for_port(node, node.run(sandbox, "sh", "-c", serve), 7007)
        url = forward_url(node, sandbox)

        async def scenario() -> bytes:
            async with spdy(url, PROTOCOL) as client:
                _, stream = await _open(client, 7007, 0)
                await client.send(stream, b"GET /six HTTP/1.0\r\n\r\n")
                return await client.all_of(stream)

        assert in_network_of(node, scenario()).endswith(b"over six\n")


def test_a_pod_in_the_hosts_network(node: Node) -> None:
    host = cri.NamespaceOption(network=cri.NODE, pid=cri.CONTAINER)
    with node.pod(namespaces=host, hostname="") as sandbox:
        container = node.run(sandbox, *CAT, security={"namespace_options": host})
        wait_for_port(node, container, 7007)
        url = forward_url(node, sandbox)

        async def scenario() -> None:
            async with spdy(url, PROTOCOL) as client:
                await _echo(client, 0, b"on the host")

        in_network_of(node, scenario())


def test_streams_that_make_no_sense_are_refused(node: Node) -> None:
    with node.pod() as sandbox:
        url = forward_url(node, sandbox)

        async def scenario() -> None:
            async with spdy(url, PROTOCOL) as client:
                bad = [
                    await client.open(streamType="data", port="0", requestID="1"),
                    await client.open(streamType="data", port="65536", requestID="2"),
                    await client.open(streamType="stdin", port="80", requestID="3"),
                ]
                for stream in bad:
                    await client.ended[stream].wait()
                    assert stream in client.reset

        in_network_of(node, scenario())
