"""``kubeletpy cri exec``, ``attach`` and ``port-forward`` as a person uses them."""

from __future__ import annotations

import os
import pty
import select
import signal
import socket
import subprocess
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from kubeletpy_common.linux.namespaces import in_namespace
from tests.root.runtime.cri.node import SLEEP, Node
from tests.root.runtime.cri.test_cri_cli import CHECKOUT, command, read_line
from tests.root.runtime.cri.test_port_forward import CAT, wait_for_port
from tests.support.circumstances import patient

pytestmark = pytest.mark.root

SECONDS = patient(30)


def run(node: Node, *arguments: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    with in_namespace(node.place.netns):
        return subprocess.run(
            command(node, "cri", *arguments), input=data, capture_output=True, cwd=CHECKOUT,
            timeout=patient(60), check=False,
        )  # fmt: skip


def test_exec_streams_bytes_both_ways_and_passes_the_exit_code_on(node: Node) -> None:
    with node.pod() as sandbox:
        node.run(sandbox, *SLEEP, name="host")
        data = os.urandom(3_000_000)
        # cat ends only because the end of the input arrives.
        script = "echo begins >&2; cat; exit 7"
        done = run(node, "exec", "-i", "host", "--", "sh", "-c", script, data=data)
        assert (done.returncode, done.stderr) == (7, b"begins\n")
        assert done.stdout == data
        done = run(node, "exec", "host", "echo", "-n", "-r", "--help")
        assert (done.stdout, done.returncode) == (b"-r --help", 0)
        missing = run(node, "exec", "host", "nowhere")
        assert missing.returncode == 1
        assert b"nowhere" in missing.stderr
        assert b"Traceback" not in missing.stderr


@contextmanager
def on_terminal(node: Node, *arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """Run a command on a terminal of 100 by 40; yields it and the terminal's other end."""
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (40, 100))
    with in_namespace(node.place.netns):
        process = subprocess.Popen(
            command(node, "cri", *arguments), stdin=slave, stdout=slave, stderr=slave,
            cwd=CHECKOUT, start_new_session=True,
        )  # fmt: skip
    try:
        yield process, master
    finally:
        process.kill()
        process.wait()
        os.close(master)
        os.close(slave)


def until(master: int, text: bytes) -> bytes:
    """Read from a terminal until ``text`` has come."""
    found = b""
    deadline = time.monotonic() + SECONDS
    while text not in found:
        ready, _, _ = select.select([master], [], [], max(0, deadline - time.monotonic()))
        assert ready, f"{text!r} did not come: {found!r}"
        found += os.read(master, 4096)
    return found


def test_exec_on_a_terminal(node: Node) -> None:
    with node.pod() as sandbox:
        node.run(sandbox, *SLEEP, name="host")
        with on_terminal(node, "exec", "-it", "host", "sh") as (process, master):
            before = termios.tcgetattr(master)[3]
            assert before & termios.ECHO
            until(master, b"# ")
            os.write(master, b"echo pr''ompt\r")
            until(master, b"prompt\r\n")
            assert not termios.tcgetattr(master)[3] & (termios.ECHO | termios.ISIG)
            os.write(master, b"stty size; echo s''ized\r")
            assert b"40 100" in until(master, b"sized\r\n")
            termios.tcsetwinsize(master, (50, 120))
            os.kill(process.pid, signal.SIGWINCH)
            script = b"until stty size | grep -q '50 120'; do :; done; echo re''sized\r"
            os.write(master, script)
            until(master, b"resized\r\n")
            # Ctrl-C is for the command there, not for us.
            # The trap is set by then; a shell that is about to fork may lose the signal.
            waits = b"trap 'exit 3' INT; echo as''leep; while :; do sleep 1; done"
            os.write(master, b'sh -c "' + waits + b'"\r')
            until(master, b"asleep\r\n")
            os.write(master, b"\x03")
            until(master, b"# ")
            os.write(master, b"echo g''oes on; exit 3\r")
            until(master, b"goes on\r\n")
            assert process.wait(patient(20)) == 3
            assert termios.tcgetattr(master)[3] == before


def test_attach_takes_part_and_ends_with_the_container(node: Node) -> None:
    with node.pod() as sandbox:
        node.run(sandbox, "sh", "-c", "read line; echo got $line; exit 5", name="asks", stdin=True)
        with in_namespace(node.place.netns):
            process = subprocess.Popen(
                command(node, "cri", "attach", "-i", "asks"),
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=CHECKOUT,
            )  # fmt: skip
        try:
            assert process.stdin is not None
            process.stdin.write(b"something\n")
            process.stdin.flush()
            assert read_line(process, SECONDS) == b"got something\n"
            # Its input goes on; the container's end is the session's.
            assert process.wait(patient(20)) == 0
        finally:
            process.kill()
            process.communicate()


def test_port_forward(node: Node) -> None:
    with node.pod() as sandbox:
        wait_for_port(node, node.run(sandbox, *CAT), 7007)
        with in_namespace(node.place.netns):
            process = subprocess.Popen(
                command(node, "cri", "port-forward", sandbox, ":7007", ":81"),
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=CHECKOUT, bufsize=0,
            )  # fmt: skip
        try:
            ports = [int(read_line(process, SECONDS).split()[0].rpartition(b":")[2])
                     for _ in range(2)]  # fmt: skip
            data = os.urandom(500_000)
            with in_namespace(node.place.netns):
                for _ in range(2):
                    assert exchange(ports[0], data) == data
                # Nobody listens on 81.
                assert exchange(ports[1], b"x") == b""
            assert b"port 81:" in read_line(process, SECONDS)
            process.send_signal(signal.SIGINT)
            assert process.wait(patient(20)) == 0
        finally:
            process.kill()
            process.communicate()


def exchange(port: int, data: bytes) -> bytes:
    """Send everything, end our half, and return what comes back until the end."""
    with socket.create_connection(("127.0.0.1", port), SECONDS) as connection:
        received = bytearray()
        left = memoryview(data)
        connection.setblocking(False)
        deadline = time.monotonic() + SECONDS
        while True:
            assert time.monotonic() < deadline
            readable, writable, _ = select.select([connection], [connection] if left else [], [], 1)
            if writable:
                left = left[connection.send(left[:65536]) :]
                if not left:
                    connection.shutdown(socket.SHUT_WR)
            if readable:
                try:
                    chunk = connection.recv(65536)
                except ConnectionResetError:
                    return bytes(received)
                if not chunk:
                    return bytes(received)
                received += chunk
