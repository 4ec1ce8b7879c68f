"""The servers that are measured, each a process of its own with TLS and a static token."""

from __future__ import annotations

import shutil
import ssl
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from kubeletpy_common.ports import free_port
from tests.root.controlplane.server import api_server
from tests.support.etcd import running_etcd

TOKEN: Final = "benchmark"
_START_SECONDS: Final = 60.0


@dataclass(frozen=True)
class Server:
    """One that serves.

    Attributes:
        url: where.
        pid: of its process.
    """

    url: str
    pid: int

    def memory_mib(self) -> float:
        """Return what its process alone needs (unique set size)."""
        return float(psutil.Process(self.pid).memory_full_info().uss) / (1 << 20)


Start = Callable[[Path], AbstractContextManager[Server]]


def unchecked() -> ssl.SSLContext:
    """Return TLS that takes any certificate: the servers are ours, on loopback."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


@contextmanager
def on_sqlite(directory: Path) -> Iterator[Server]:
    """Run ours on SQLite."""
    with api_server(directory, f"--token-auth-file={_tokens(directory)}") as server:
        yield Server(server.url, server.process.pid)


@contextmanager
def on_etcd(directory: Path) -> Iterator[Server]:
    """Run ours on an etcd of one member."""
    with (
        running_etcd(directory) as (member,),
        api_server(
            directory, f"--token-auth-file={_tokens(directory)}", f"--etcd-servers={member.url}"
        ) as server,
    ):
        yield Server(server.url, server.process.pid)


def kube_apiserver(program: str) -> Start:
    """Return how to run a kube-apiserver on an etcd of one member."""

    @contextmanager
    def start(directory: Path) -> Iterator[Server]:
        key = directory / "sa.key"
        key.write_bytes(
            ec.generate_private_key(ec.SECP256R1()).private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.TraditionalOpenSSL,
                serialization.NoEncryption(),
            )
        )
        port = free_port()
        with running_etcd(directory) as (member,), open(directory / "kas.log", "wb") as log:
            process = subprocess.Popen(
                [program, f"--etcd-servers={member.url}", f"--secure-port={port}",
                 "--bind-address=127.0.0.1", f"--cert-dir={directory}",
                 f"--token-auth-file={_tokens(directory)}", "--authorization-mode=RBAC",
                 "--service-account-issuer=https://bench", f"--service-account-key-file={key}",
                 f"--service-account-signing-key-file={key}", "--advertise-address=127.0.0.1",
                 "--disable-admission-plugins=ServiceAccount"],
                stdout=log, stderr=log,
            )  # fmt: skip
            try:
                _await_ready(f"https://127.0.0.1:{port}", process)
                yield Server(f"https://127.0.0.1:{port}", process.pid)
            finally:
                process.terminate()
                process.wait(30)

    return start


def found(program: str) -> dict[str, Start]:
    """Return what can be measured here, by name.

    Args:
        program: a kube-apiserver; "": the one in PATH, if any.
    """
    servers: dict[str, Start] = {"SQLite": on_sqlite, "etcd": on_etcd}
    path = shutil.which(program or "kube-apiserver")
    if path is not None:
        servers["kube-apiserver"] = kube_apiserver(path)
    elif program:
        raise SystemExit(f"{program} is no program")
    return servers


def _tokens(directory: Path) -> Path:
    path = directory / "tokens.csv"
    path.write_text(f'{TOKEN},bench,1,"system:masters"\n')
    return path


def _await_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    request = urllib.request.Request(f"{url}/readyz", headers={"Authorization": f"Bearer {TOKEN}"})
    while True:
        try:
            urllib.request.urlopen(request, timeout=2, context=unchecked()).close()
            return
        except OSError as error:
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"kube-apiserver does not get ready: {error}") from error
            time.sleep(0.1)
