"""Exec through the real daemon, by WebSocket and by SPDY."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import grpc
import psutil
import pytest

from kubeletpy_common.spdy.frames import Ping
from kubeletpy_proto import cri_pb2 as cri
from tests.root.runtime.cri.node import SLEEP, Node, refused, wait_until
from tests.root.runtime.cri.stream_clients import (
    attach_url,
    channels,
    exec_url,
    forward_url,
    in_network_of,
    spdy,
)

pytestmark = pytest.mark.root

BOTH = {"stdout": True, "stderr": True}
ALL = {"stdin": True, **BOTH}
MEGABYTES = os.urandom(8 << 20)


@pytest.fixture(scope="module")
def settings() -> str:
    return "[streaming]\nping_seconds = 0.3\n"


@pytest.fixture
def container(node: Node) -> Iterator[str]:
    with node.pod() as sandbox:
        yield node.run(sandbox, *SLEEP)


def sleepers(node: Node, container: str, seconds: int) -> str:
    return node.shell(container, f"ps | grep -c '[s]leep {seconds}' || true")


@pytest.mark.parametrize("protocol", ["v4.channel.k8s.io", "v5.channel.k8s.io"])
def test_websocket_tells_output_and_exit_code(node: Node, container: str, protocol: str) -> None:
    url = exec_url(node, container, "sh", "-c", "echo out; echo err >&2; exit 7")

    async def scenario() -> None:
        async with channels(url, protocol) as client:
            status = await client.to_end()
        assert client.received[1] == b"out\n"
        assert client.received[2] == b"err\n"
        assert (status["status"], status["reason"]) == ("Failure", "NonZeroExitCode")
        assert status["details"]["causes"] == [{"reason": "ExitCode", "message": "7"}]

    in_network_of(node, scenario())


def test_websocket_v5_half_closes_stdin(node: Node, container: str) -> None:
    url = exec_url(node, container, "sha256sum", **ALL)

    async def scenario() -> None:
        async with channels(url) as client:
            for start in range(0, len(MEGABYTES), 1 << 20):
                await client.send(0, MEGABYTES[start : start + (1 << 20)])
            await client.send(255, b"\0")
            status = await client.to_end()
        assert status["status"] == "Success"
        digest = hashlib.sha256(MEGABYTES).hexdigest()
        assert client.received[1].decode().split()[0] == digest

    in_network_of(node, scenario())


def test_spdy_carries_megabytes_each_way(node: Node, container: str) -> None:
    url = exec_url(node, container, "sh", "-c", "tee /dev/stderr; exit 3", **ALL)

    async def scenario() -> None:
        async with spdy(url) as client:
            error = await client.open(streamType="error")
            stdin = await client.open(streamType="stdin")
            stdout = await client.open(streamType="stdout")
            stderr = await client.open(streamType="stderr")
            await client.frame(Ping(1))
            await client.send(stdin, MEGABYTES, fin=True)
            status = await client.all_of(error)
            assert await client.all_of(stdout) == MEGABYTES
            assert await client.all_of(stderr) == MEGABYTES
            assert b'"reason":"ExitCode","message":"3"' in status
            assert 1 in client.pings

    in_network_of(node, scenario())


@pytest.mark.parametrize("name", ["v3.channel.k8s.io", "v2.channel.k8s.io"])
def test_old_protocols_tell_the_exit_in_words(node: Node, container: str, name: str) -> None:
    url = exec_url(node, container, "sh", "-c", "exit 5")

    async def scenario() -> bytes:
        async with spdy(url, name) as client:
            error = await client.open(streamType="error")
            await client.open(streamType="stdout")
            await client.open(streamType="stderr")
            return await client.all_of(error)

    assert b"exit code 5" in in_network_of(node, scenario())


def test_a_terminal_has_the_size_that_the_client_says(node: Node, container: str) -> None:
    script = 'tty; until [ "$(stty size)" = "40 120" ]; do sleep 0.02; done; stty size; cat'
    url = exec_url(node, container, "sh", "-c", script, tty=True, stdin=True, stdout=True)

    async def scenario() -> None:
        async with spdy(url) as client:
            error = await client.open(streamType="error")
            stdin = await client.open(streamType="stdin")
            stdout = await client.open(streamType="stdout")
            resize = await client.open(streamType="resize")
            await client.send(resize, b'{"Width":80,"Height":24}\n{"Wid')
            await client.send(resize, b'th":120,"Height":40}\n')
            await client.until(stdout, b"40 120\r\n")
            await client.send(stdin, b"typed\n\x04")
            assert b'"Success"' in await client.all_of(error)
            output = await client.all_of(stdout)
            assert output.startswith(b"/dev/pts/")
            assert output.endswith(b"typed\r\ntyped\r\n")

    in_network_of(node, scenario())


def test_a_terminal_is_the_containers_own_and_hangs_up(node: Node, container: str) -> None:
    script = "ls /dev/pts; sleep 4321"
    url = exec_url(node, container, "sh", "-c", script, tty=True, stdin=True, stdout=True)

    async def scenario() -> None:
        async with channels(url) as client:
            await client.send(4, b'{"Width":100,"Height":30}')
            await client.until(1, b"ptmx")
            assert client.received[1].split() == [b"0", b"ptmx"]

    in_network_of(node, scenario())
    wait_until(lambda: sleepers(node, container, 4321) == "0", "the command to be killed", 10)


def _in_terminal(node: Node, container: str, script: str) -> tuple[dict[str, Any], bytes]:
    url = exec_url(node, container, "sh", "-c", script, tty=True, stdin=True, stdout=True)

    async def scenario() -> tuple[dict[str, Any], bytes]:
        async with channels(url) as client:
            status = await client.to_end()
            return status, bytes(client.received[1])

    return in_network_of(node, scenario())


MAPPED = [cri.IDMapping(host_id=400_000, container_id=0, length=65_536)]
USERNS = cri.NamespaceOption(
    pid=cri.CONTAINER, userns_options=cri.UserNamespace(mode=cri.POD, uids=MAPPED, gids=MAPPED)
)


@pytest.mark.parametrize("namespaces", [None, USERNS], ids=["host users", "mapped users"])
@pytest.mark.parametrize("uid", [0, 1000])
def test_a_terminal_belongs_to_its_user(
    node: Node, namespaces: cri.NamespaceOption | None, uid: int
) -> None:
    security: dict[str, Any] = {"run_as_user": cri.Int64Value(value=uid)}
    security |= {"namespace_options": namespaces} if namespaces else {}
    with node.pod(namespaces=namespaces) as sandbox:
        container = node.run(sandbox, *SLEEP, security=security)
        script = "stat -c %u $(tty); echo again > $(tty); echo and > /dev/tty"
        status, output = _in_terminal(node, container, script)
        assert status["status"] == "Success"
        assert output.split() == [str(uid).encode(), b"again", b"and"]


def test_a_terminal_whose_output_nobody_wants_blocks_nobody(node: Node, container: str) -> None:
    script = "head -c 1000000 /dev/zero | tr '\\0' x; exit 8"
    url = exec_url(node, container, "sh", "-c", script, tty=True, stdin=True)

    async def scenario() -> None:
        async with channels(url) as client:
            status = await client.to_end()
        assert status["details"]["causes"][0]["message"] == "8"
        assert 1 not in client.received

    in_network_of(node, scenario())


def test_no_terminal_comes_from_beyond_the_containers_devpts(node: Node) -> None:
    # CVE-2025-52565 and its like: what the container puts at /dev/pts must not be followed.
    with node.pod(privileged=True) as sandbox:
        container = node.run(sandbox, *SLEEP, security={"privileged": True})
        moves = (
            "umount /dev/pts && rmdir /dev/pts && ln -s /proc/1/root/tmp /dev/pts",
            "rm /dev/pts && mkdir /dev/pts && touch /dev/pts/ptmx",
            "rm /dev/pts/ptmx && mknod /dev/pts/ptmx c 1 3",
            "rm /dev/pts/ptmx && ln -s /dev/null /dev/pts/ptmx",
        )
        for move in moves:
            node.shell(container, move)
            status, _ = _in_terminal(node, container, "tty")
            assert (status["status"], status["reason"]) == ("Failure", "InternalError"), move
            assert "open the terminal" in status["message"]


def test_a_program_that_is_missing_is_told(node: Node, container: str) -> None:
    url = exec_url(node, container, "/no/such/program")

    async def scenario() -> None:
        async with channels(url) as client:
            status = await client.to_end()
        assert (status["status"], status["reason"]) == ("Failure", "InternalError")
        assert "/no/such/program" in status["message"]

    in_network_of(node, scenario())


def test_a_client_that_leaves_takes_its_command_along(node: Node, container: str) -> None:
    urls = [exec_url(node, container, "sleep", "5432", **ALL) for _ in range(2)]

    async def scenario() -> None:
        async with channels(urls[0]) as one, spdy(urls[1]) as two:
            await one.until(1, b"")
            for kind in ("error", "stdin", "stdout", "stderr"):
                await two.open(streamType=kind)
            running = lambda: sleepers(node, container, 5432) == "2"  # noqa: E731
            await asyncio.to_thread(wait_until, running, "both commands", 10)

    in_network_of(node, scenario())
    wait_until(lambda: sleepers(node, container, 5432) == "0", "both commands to be killed", 10)


def test_a_client_that_leaves_while_nobody_reads_its_input_is_noticed(
    node: Node, container: str
) -> None:
    urls = [exec_url(node, container, "sleep", "3456", **ALL) for _ in range(2)]

    async def scenario() -> None:
        async with channels(urls[0]) as one, spdy(urls[1]) as two:
            for kind in ("error", "stdin", "stdout", "stderr"):
                await two.open(streamType=kind)
            floods = {asyncio.create_task(two.send(3, MEGABYTES + MEGABYTES))}
            floods |= {asyncio.create_task(one.send(0, MEGABYTES[: 1 << 20])) for _ in range(16)}
            _, waiting = await asyncio.wait(floods, timeout=1)
            assert len(waiting) > 2, "somebody takes all of the input"
            for flood in floods:
                flood.cancel()
            one.socket._response.connection.transport.abort()  # type: ignore[union-attr]

    in_network_of(node, scenario())
    wait_until(lambda: sleepers(node, container, 3456) == "0", "both commands to be killed", 10)


def test_output_does_not_wait_for_what_a_command_left_behind(node: Node, container: str) -> None:
    url = exec_url(node, container, "sh", "-c", "sleep 6543 & echo done")

    async def scenario() -> None:
        async with channels(url) as client:
            assert (await client.to_end())["status"] == "Success"
        assert client.received[1] == b"done\n"

    in_network_of(node, scenario())


def test_many_sessions_at_once(node: Node, container: str) -> None:
    urls = [exec_url(node, container, "cat", **ALL) for _ in range(60)]

    async def one(url: str, number: int) -> None:
        async with channels(url) as client:
            text = f"session {number}\n".encode() * 1000
            await client.send(0, text)
            await client.send(255, b"\0")
            assert (await client.to_end())["status"] == "Success"
            assert client.received[1] == text

    async def scenario() -> None:
        async with asyncio.TaskGroup() as group:
            for number, url in enumerate(urls):
                group.create_task(one(url, number))

    in_network_of(node, scenario())


def test_a_token_serves_once_and_for_its_purpose(node: Node, container: str) -> None:
    url = exec_url(node, container, "true")
    other = exec_url(node, container, "true")

    async def scenario() -> None:
        async with channels(url) as client:
            await client.to_end()
        async with aiohttp.ClientSession() as session:
            wrong = [url, other.replace("/exec/", "/attach/"), other, other[:-43] + "A" * 43]
            for address in wrong:
                async with session.get(address, headers={"Upgrade": "SPDY/3.1"}) as answer:
                    assert answer.status == 404
            async with session.get(exec_url(node, container, "true")) as answer:
                assert answer.status == 400

    in_network_of(node, scenario())
    token = url.rsplit("/", 1)[1]
    assert token not in node.daemon.log()


def test_what_is_refused(node: Node, container: str) -> None:
    code = grpc.StatusCode
    with node.pod() as sandbox:
        created = node.create(sandbox, node.container_config(*SLEEP))
        nobody = "0" * 64
        for call, expected in (
            (lambda: exec_url(node, container, "true", tty=True, **BOTH), code.INVALID_ARGUMENT),
            (lambda: exec_url(node, container, "true", tty=True), code.INVALID_ARGUMENT),
            (lambda: exec_url(node, container), code.INVALID_ARGUMENT),
            (lambda: exec_url(node, nobody, "true"), code.NOT_FOUND),
            (lambda: exec_url(node, created, "true"), code.FAILED_PRECONDITION),
            (lambda: attach_url(node, container), code.INVALID_ARGUMENT),
            (lambda: attach_url(node, container, tty=True, stdout=True), code.INVALID_ARGUMENT),
            (lambda: attach_url(node, created, stdout=True), code.FAILED_PRECONDITION),
            (lambda: forward_url(node, nobody), code.NOT_FOUND),
        ):  # fmt: skip
            assert refused(call).code() is expected
        node.stop_pod(sandbox)
        assert refused(lambda: forward_url(node, sandbox)).code() is code.FAILED_PRECONDITION


def test_a_thousand_sessions_leave_nothing_behind(node: Node, container: str) -> None:
    pod = node.runtime.ContainerStatus(
        cri.ContainerStatusRequest(container_id=container, verbose=True)
    )
    assert pod.status.id == container
    daemon = psutil.Process(node.daemon.pid)
    inside = psutil.Process(_pid_of(node, container))
    shim = inside.parent()
    assert shim is not None
    assert "shim" in shim.name()

    async def some(count: int) -> None:
        for number in range(count):
            tty = {"tty": True, "stdin": True, "stdout": True} if number % 2 else BOTH
            async with channels(exec_url(node, container, "true", **tty)) as client:
                await client.to_end()

    def size(process: psutil.Process) -> tuple[int, int, float]:
        memory = process.memory_full_info().uss / (1 << 20)
        return process.num_fds(), process.num_threads(), memory

    in_network_of(node, some(200))
    before = size(daemon), size(shim)
    for _ in range(4):
        in_network_of(node, some(200))

    def is_as_before() -> bool:
        pairs = zip(before, (size(daemon), size(shim)), strict=True)
        return all(new[:2] <= old[:2] and new[2] < old[2] + 1.5 for old, new in pairs)

    # What the last session held may go a moment after its client has heard of the end.
    wait_until(is_as_before, f"daemon and shim to be as before: {before}", 10)
    assert node.shell(container, "ls /dev/pts") == "ptmx"


def _pid_of(node: Node, container: str) -> int:
    cgroup = next(
        Path("/sys/fs/cgroup").glob(f"**{node.place.cgroup}/**/*{container}*/cgroup.procs")
    )
    return int(cgroup.read_text().split()[0])
