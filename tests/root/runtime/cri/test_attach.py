"""Attach through the real daemon: input, copies of output, and clients that do not keep up."""

from __future__ import annotations

import asyncio

import pytest

from kubeletpy_proto import cri_pb2 as cri
from tests.root.runtime.cri.node import Node, wait_until
from tests.root.runtime.cri.stream_clients import attach_url, channels, in_network_of, spdy
from tests.support.circumstances import patient

pytestmark = pytest.mark.root

OUT = {"stdout": True, "stderr": True}
ALL = {"stdin": True, **OUT}


def test_input_goes_in_and_output_to_every_client_and_the_log(node: Node) -> None:
    with node.pod() as sandbox:
        container = node.run(sandbox, "cat", stdin=True)
        urls = [attach_url(node, container, **streams) for streams in (ALL, OUT)]

        async def scenario() -> None:
            async with channels(urls[0]) as writer, channels(urls[1]) as reader:
                await writer.until(1, b"")
                await reader.until(1, b"")
                # Attached for certain is only who has seen output.
                for client in (writer, reader):
                    while b"hello\n" not in client.received[1]:
                        await writer.send(0, b"hello\n")
                        await client.until(1, b"hello\n")
                # The end of input is the end of this client's visit, not of the container.
                await writer.send(255, b"\0")
                assert (await writer.to_end())["status"] == "Success"

        in_network_of(node, scenario())
        status = node.status(container)
        assert status.state == cri.CONTAINER_RUNNING
        assert "hello" in node.output(status)

        again = attach_url(node, container, **ALL)

        async def second() -> None:
            async with spdy(again) as client:
                await client.open(streamType="error")
                stdin = await client.open(streamType="stdin")
                stdout = await client.open(streamType="stdout")
                await client.open(streamType="stderr")
                await client.send(stdin, b"once more\n")
                await client.until(stdout, b"once more\n")

        in_network_of(node, second())


def test_stdin_once_ends_with_the_first_client(node: Node) -> None:
    with node.pod() as sandbox:
        script = "cat; echo the end >&2; sleep 0.2; exit 4"
        container = node.run(sandbox, "sh", "-c", script, stdin=True, stdin_once=True)
        url = attach_url(node, container, **ALL)

        async def scenario() -> None:
            async with channels(url) as client:
                await client.send(0, b"words\n")
                await client.send(255, b"\0")
                assert (await client.to_end())["status"] == "Success"
            assert client.received[1] == b"words\n"
            assert client.received[2] == b"the end\n"

        in_network_of(node, scenario())
        assert node.wait_exited(container).exit_code == 4


def test_stdin_once_ends_when_its_client_vanishes(node: Node) -> None:
    with node.pod() as sandbox:
        container = node.run(sandbox, "cat", stdin=True, stdin_once=True)
        url = attach_url(node, container, **ALL)

        async def scenario() -> None:
            async with channels(url) as client:
                await client.send(0, b"words\n")
                await client.until(1, b"words\n")

        in_network_of(node, scenario())
        assert node.wait_exited(container).exit_code == 0


def test_a_terminal_is_typed_into_and_resized(node: Node) -> None:
    with node.pod() as sandbox:
        container = node.run(sandbox, "sh", tty=True, stdin=True)
        url = attach_url(node, container, tty=True, stdin=True, stdout=True)
        script = b'until [ "$(stty size)" = "33 99" ]; do sleep 0.02; done; echo got "it"\n'

        async def scenario() -> None:
            async with channels(url) as client:
                await client.until(1, b"")
                await client.send(4, b'{"Width":99,"Height":33}')
                await client.send(0, script)
                await client.until(1, b"got it\r\n")
                await client.send(0, b"exit 6\n")
                assert (await client.to_end())["status"] == "Success"

        in_network_of(node, scenario())
        assert node.wait_exited(container).exit_code == 6


def test_a_client_gets_megabytes_to_the_end(node: Node) -> None:
    with node.pod() as sandbox:
        script = "read go; seq 1 1000000"
        container = node.run(sandbox, "sh", "-c", script, stdin=True)
        url = attach_url(node, container, **ALL)

        async def scenario() -> bytes:
            async with channels(url) as client:
                await client.send(0, b"go\n")
                status = await client.to_end()
                assert status["status"] == "Success", status
                return bytes(client.received[1])

        expected = "".join(f"{n}\n" for n in range(1, 1_000_001)).encode()
        assert in_network_of(node, scenario()) == expected


def test_a_slow_client_is_cut_off_and_nobody_waits_for_it(node: Node) -> None:
    with node.pod() as sandbox:
        script = "read go; head -c 60000000 /dev/zero | tr '\\0' x | fold -w 5000; echo; echo done"
        container = node.run(sandbox, "sh", "-c", script, stdin=True)
        url = attach_url(node, container, **ALL)

        async def scenario() -> None:
            async with channels(url) as client:
                await client.send(0, b"go\n")
                # It does not read while the container writes, which ends all the same.
                await asyncio.to_thread(node.wait_exited, container)
                status = await client.to_end()
                assert status["status"] == "Failure"
                assert "too slowly" in status["message"]

        in_network_of(node, scenario())
        lines = node.output(node.status(container)).splitlines()
        assert lines[-1] == "done"
        assert sum(len(line) for line in lines) == 60_000_000 + 4


def test_a_stopped_daemon_ends_sessions_and_does_not_wait_for_them(node: Node) -> None:
    with node.pod() as sandbox:
        container = node.run(sandbox, "cat", stdin=True)
        urls = [attach_url(node, container, **ALL) for _ in range(3)]

        async def scenario() -> None:
            async with channels(urls[0]) as one, channels(urls[1]), spdy(urls[2]) as three:
                for kind in ("error", "stdin", "stdout", "stderr"):
                    await three.open(streamType=kind)
                await one.send(0, b"before\n")
                await one.until(1, b"before\n")
                async with asyncio.timeout(patient(8)):
                    assert await asyncio.to_thread(node.daemon.stop) == 0
                assert await one.to_end() == {}

        in_network_of(node, scenario())
        node.daemon.start()
        node.connect()
        assert node.status(container).state == cri.CONTAINER_RUNNING


def test_a_killed_daemon_takes_sessions_along_and_no_container(node: Node) -> None:
    with node.pod() as sandbox:
        container = node.run(sandbox, "cat", stdin=True)
        attached = attach_url(node, container, **ALL)
        request = cri.ExecRequest(container_id=container, cmd=["sleep", "7654"], **ALL)
        executed = node.runtime.Exec(request).url

        def sleepers() -> str:
            return node.shell(container, "ps | grep -c '[s]leep 7654' || true")

        async def scenario() -> None:
            async with channels(attached) as one, channels(executed):
                await one.send(0, b"before\n")
                await one.until(1, b"before\n")
                await asyncio.to_thread(wait_until, lambda: sleepers() == "1", "the command", 10)
                await asyncio.to_thread(node.restart)
                assert await one.to_end() == {}

        in_network_of(node, scenario())
        wait_until(lambda: sleepers() == "0", "the command to be killed", 10)
        again = attach_url(node, container, **ALL)

        async def second() -> None:
            async with channels(again) as client:
                await client.send(0, b"after\n")
                await client.until(1, b"after\n")

        in_network_of(node, second())
