"""What containers and clients write, where people and programs read logs."""

from __future__ import annotations

import json
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import pytest

from kubeletpy_proto import cri_pb2 as cri
from tests.root.attacks.attacker import attack, command, python_mounts
from tests.root.runtime.cri.node import SLEEP, Node, refused

pytestmark = pytest.mark.root

ENTRY = re.compile(rb"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z (stdout|stderr) [PF] ", re.ASCII)
FORGED = b"2020-01-01T00:00:00.000000000Z stdout F forged"
POISON = [
    b"\x1b[2J\x1b]0;title\x07\x1b[31mred", b"a\rb", b"nul\0nul", b"\xff\xfe\x80", FORGED,
    b"\r" + FORGED, b"\x0b" + FORGED, b"\x0c" + FORGED, "\u2028".encode() + FORGED,
    "\x85".encode() + FORGED, b"", b" ", b"x" * 40_000,
]  # fmt: skip


@pytest.mark.parametrize("tty", [False, True])
def test_no_entry_of_a_log_can_be_forged(node: Node, tty: bool) -> None:
    """Only a line feed ends a line; whatever else is in it comes behind our own prefix."""
    program = f"""
for data in {POISON!r}:
    os.write(1, data + b"\\n")
    os.write(2, data + b"\\n")
os.write(1, b"\\n" + {FORGED!r})
"""
    with node.pod() as sandbox:
        mounts = python_mounts()
        status = node.run_to_end(sandbox, *command(program), mounts=mounts, tty=tty)
        content = Path(status.log_path).read_bytes()
    lines = content.split(b"\n")
    assert lines.pop() == b""
    assert len(lines) > 2 * len(POISON)
    for line in lines:
        assert ENTRY.match(line), line[:200]
        assert not line.startswith(b"2020")
    # It is live: the forged entries are there, as text.
    assert sum(FORGED in line for line in lines) >= 11


def test_no_line_of_the_daemons_log_can_be_forged(node: Node) -> None:
    """Names, commands and errors that carry line feeds, escapes and other control characters."""
    evil = 'x\n{"msg": "forged"}\r\x1b[2J\x7f\x9b31m\u2028\u202e'
    with node.pod(annotations={evil: evil}, labels={evil: evil}) as sandbox:
        cases: list[tuple[str, dict[str, Any]]] = [
            (f"/bin/{evil}", {}),
            ("true", {"working_dir": f"/{evil}"}),
            ("true", {"working_dir": evil}),
            ("true", {"log_path": f"../{evil}"}),
            ("true", {"image": cri.ImageSpec(image=evil)}),
        ]
        for number, (word, fields) in enumerate(cases):
            config = node.container_config(word, name=f"c{number}", **fields)
            # Some of it can be done, and is; what counts is how the log tells of it.
            with suppress(grpc.RpcError):
                node.start(node.create(sandbox, config))
        refused(lambda: node.run_pod(hostname=evil))
        refused(lambda: node.exec(evil, "true"))
        refused(lambda: node.pull(evil))
    text = node.daemon.log_path.read_bytes()
    # It is live: the text did reach the log.
    assert b"forged" in text
    assert re.search(rb"[^\n\x20-\x7e]", text) is None
    for line in text.splitlines():
        assert json.loads(line)["msg"] != "forged"


@pytest.mark.parametrize("kind", ["link", "directory link", "fifo", "device", "hard name"])
def test_a_log_that_was_swapped_is_not_written_to(node: Node, tmp_path: Path, kind: str) -> None:
    """CVE-2024-5154: once CreateContainer has looked at the path, it is swapped."""
    logs, outside = tmp_path / "logs", tmp_path / "outside"
    for directory in (logs, outside):
        directory.mkdir()
    (outside / "0.log").write_text("canary")
    config = node.pod_config()
    config.log_directory = str(logs)
    sandbox = node.run_pod(config)
    try:
        container = node.create(
            sandbox, node.container_config("echo", "evil", log_path="main/0.log")
        )
        path = logs / "main/0.log"
        if kind == "link":
            path.symlink_to(outside / "0.log")
        elif kind == "directory link":
            path.parent.rmdir()
            path.parent.symlink_to(outside)
        elif kind == "fifo":
            os.mkfifo(path)
        elif kind == "device":
            os.mknod(path, 0o600 | 0o060000, os.stat("/").st_dev)
        else:
            path.mkdir()
        error = refused(lambda: node.start(container))
        assert "log" in (error.details() or "")
        # The shim has not waited for a reader: the pod goes on.
        assert node.run_to_end(sandbox, "true", name="next").exit_code == 0
    finally:
        node.remove_pod(sandbox)
    assert (outside / "0.log").read_text() == "canary"


def test_a_log_that_is_swapped_before_it_is_reopened(node: Node, tmp_path: Path) -> None:
    """The same between a rotation and ReopenContainerLog."""
    canary = tmp_path / "canary"
    canary.write_text("canary")
    with node.pod() as sandbox:
        script = "while :; do echo line; sleep 0.02; done"
        container = node.run(sandbox, "sh", "-c", script)
        path = Path(node.status(container).log_path)
        path.rename(path.with_suffix(".old"))
        path.symlink_to(canary)
        request = cri.ReopenContainerLogRequest(container_id=container)
        refused(lambda: node.runtime.ReopenContainerLog(request, timeout=30))
        size = path.with_suffix(".old").stat().st_size
        path.unlink()
        node.runtime.ReopenContainerLog(request, timeout=30)
        # What it wrote meanwhile went to the old file, and it goes on in the new one.
        assert path.with_suffix(".old").stat().st_size >= size
        assert not path.is_symlink()
        node.stop(container)
    assert canary.read_text() == "canary"


def test_standard_streams_opened_once_more(node: Node) -> None:
    """/dev/stdout opened again, made smaller, non-blocking, read from: the shim goes on."""
    program = """
import fcntl
again = os.open("/dev/stdout", os.O_WRONLY)
os.write(again, b"again\\n")
fcntl.fcntl(1, 1031, 4096)
for fd in (0, 1, 2):
    os.set_blocking(fd, False)
tried("truncate", lambda: os.ftruncate(1, 0))
thief = os.open("/proc/self/fd/2", os.O_RDONLY | os.O_NONBLOCK)
os.close(thief)
# TIOCSTI: input for whoever has the terminal; there is none.
fcntl.fcntl(1, fcntl.F_SETFL, os.O_WRONLY | 0o40000)
os.write(1, b"packet\\n")
"""
    with node.pod() as sandbox:
        container = node.run(sandbox, *SLEEP, name="beside")
        output = attack(node, sandbox, program)
        assert "again" in output
        assert "packet" in output
        assert node.shell(container, "echo alive") == "alive"
        terminal = """
import fcntl, termios
for byte in b"evil":
    tried("inject", lambda: fcntl.ioctl(0, termios.TIOCSTI, bytes([byte])))
"""
        # In a terminal, input may be made up where the kernel allows it: for itself alone.
        output = attack(node, sandbox, terminal, name="tty", tty=True, stdin=True)
        assert output.count("inject") == 4
        assert node.shell(container, "echo alive") == "alive"
