"""The API server as a user starts it: a process of its own, on a port that is free."""

from __future__ import annotations

import os
import re
import select
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from kubeletpy_common.readiness import READY, VARIABLE
from tests.support.circumstances import patient

READY_SECONDS = patient(30)
_STOP_SECONDS = patient(15)


@dataclass
class ApiServer:
    """One that serves.

    Attributes:
        process: its process.
        directory: of its data, its log and its clients' caches.
        url: where it listens.
    """

    process: subprocess.Popen[bytes]
    directory: Path
    url: str

    @property
    def kubeconfig(self) -> Path:
        """The administrator's."""
        return self.directory / "data" / "admin.kubeconfig"

    def log(self) -> str:
        """Return what it has written so far."""
        return (self.directory / "apiserver.log").read_text(errors="replace")


@contextmanager
def api_server(
    directory: Path, *arguments: str, program: Sequence[str] = ("kubeletpy", "apiserver")
) -> Iterator[ApiServer]:
    """Run a server below ``directory`` within the block; it must end well when told to.

    Args:
        directory: of everything it writes; an earlier one's data is taken up.
        program: module, and what comes before the flags.
        arguments: flags of ``kubeletpy apiserver`` besides the port and the directory.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        # In the abstract namespace: no path to be too long, and no file to remove.
        listener.bind("")
        address = listener.getsockname()[1:].decode()
        command = [sys.executable, "-P", "-m", *program, "--secure-port=0"]
        with open(directory / "apiserver.log", "ab") as log:
            process = subprocess.Popen(
                [*command, f"--data-dir={directory}/data", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, VARIABLE: f"@{address}"},
            )
        server = ApiServer(process, directory, "")
        try:
            server.url = _await_ready(listener, server)
            yield server
        finally:
            server.process.terminate()
            try:
                status = server.process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                server.process.kill()
                server.process.wait()
                raise
    assert status in (0, -9), f"the API server ended with {status}:\n{server.log()}"


def _await_ready(listener: socket.socket, server: ApiServer) -> str:
    ended = os.pidfd_open(server.process.pid)
    try:
        ready = select.select([listener.fileno(), ended], [], [], READY_SECONDS)[0]
    finally:
        os.close(ended)
    if listener.fileno() not in ready:
        what = "ended" if ready else "did not get ready"
        raise AssertionError(f"the API server {what}:\n{server.log()}")
    text = listener.recv(4096).decode()
    assert READY in text
    found = re.search(r"https?://\S+", text)
    assert found is not None, text
    return found[0]
