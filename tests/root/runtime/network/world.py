"""A node in a network namespace of its own, an outside beyond it, and pods. Nothing is mocked.

The tests' main thread stands in the node's namespace, so that what a test starts, threads and
processes, is there too; the machine's own namespace is never touched.
"""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from kubeletpy_common.linux.namespaces import CLONE_NEWNET, in_namespace, unshare
from tests.support.circumstances import patient

NODE_V4, OUTSIDE_V4 = "198.51.100.1", "198.51.100.2"
NODE_V6, OUTSIDE_V6 = "2001:db8:1::1", "2001:db8:1::2"
PORT = 8080
TIMEOUT_SECONDS = patient(5)


class Namespace:
    """A new network namespace, which ends when it is closed and nothing else holds it."""

    def __init__(self) -> None:
        opened: list[int] = []

        def make() -> None:
            unshare(CLONE_NEWNET)
            opened.append(os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC))

        maker = threading.Thread(target=make)
        maker.start()
        maker.join()
        [self.descriptor] = opened

    @property
    def path(self) -> Path:
        """Where it can be opened, by children of this process too."""
        return Path(f"/proc/{os.getpid()}/fd/{self.descriptor}")

    def run(self, command: str) -> str:
        """Run a shell command inside; return what it printed."""
        with in_namespace(self.path):
            return shell(command)

    def setting(self, name: str) -> str:
        """Return a value below /proc/sys/net inside."""
        with in_namespace(self.path):
            return Path("/proc/sys/net", name).read_text().strip()

    def set(self, name: str, value: str) -> None:
        """Set a value below /proc/sys/net inside."""
        with in_namespace(self.path):
            Path("/proc/sys/net", name).write_text(value)

    def close(self) -> None:
        """Let go of it."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


def shell(command: str) -> str:
    result = subprocess.run(
        ["sh", "-euc", command], capture_output=True, text=True, timeout=patient(30)
    )
    assert result.returncode == 0, f"{command}: {result.stderr}"
    return result.stdout


def links() -> set[str]:
    """The names of the node's links."""
    return {line.split(":")[1].split("@")[0].strip() for line in shell("ip -o link").splitlines()}


def saved_rules() -> list[str]:
    """All netfilter rules and chains of the node, without counters and times."""
    text = shell("iptables-save; ip6tables-save")
    return [line.split(" [")[0] for line in text.splitlines() if not line.startswith("#")]


@contextmanager
def listening(where: Namespace | None, address: str, port: int = PORT) -> Iterator[socket.socket]:
    """Listen for TCP at ``address`` in a namespace (None: the node's)."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with _socket(where, family) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((address, port))
        server.listen()
        yield server


def _socket(where: Namespace | None, family: int) -> socket.socket:
    with in_namespace(where.path if where else "/proc/thread-self/ns/net"):
        made = socket.socket(family, socket.SOCK_STREAM)
    made.settimeout(TIMEOUT_SECONDS)
    return made


def seen_source(
    server: socket.socket, client: Namespace | None, address: str, port: int = PORT
) -> str:
    """Connect from ``client`` to ``address``, pass a byte each way, return the client's address.

    That is the address which ``server`` sees.
    """
    with _socket(client, server.family) as connection:
        connection.connect((address, port))
        accepted, peer = server.accept()
        with accepted:
            accepted.settimeout(TIMEOUT_SECONDS)
            connection.sendall(b"?")
            assert accepted.recv(1) == b"?"
            accepted.sendall(b"!")
            assert connection.recv(1) == b"!"
    return str(peer[0])


@dataclass
class World:
    """The node's namespace, in which the main thread is, and those around it."""

    node: Namespace
    outside: Namespace
    directory: Path
    _pods: list[Namespace] = field(default_factory=list)

    @property
    def database(self) -> Path:
        return self.directory / "network.db"

    def pod(self) -> Namespace:
        """Make a namespace for a pod."""
        pod = Namespace()
        self._pods.append(pod)
        return pod

    def close(self) -> None:
        for namespace in (*self._pods, self.outside, self.node):
            namespace.close()


@contextmanager
def world(directory: Path, mtu: int = 1400) -> Iterator[World]:
    """Stand on a node with an uplink to an outside that knows nothing of pods."""
    made = World(Namespace(), Namespace(), directory)
    try:
        with in_namespace(made.node.path):
            shell(
                f"ip link set lo up; ip link add uplink type veth peer name up0 "
                f"netns /proc/{os.getpid()}/fd/{made.outside.descriptor}; "
                f"ip link set uplink mtu {mtu} up; ip addr add {NODE_V4}/24 dev uplink; "
                f"ip addr add {NODE_V6}/64 dev uplink nodad"
            )
            made.outside.run(
                f"ip link set lo up; ip link set up0 mtu {mtu} up; "
                f"ip addr add {OUTSIDE_V4}/24 dev up0; ip addr add {OUTSIDE_V6}/64 dev up0 nodad"
            )
            shell(
                f"ip route add default via {OUTSIDE_V4}; ip -6 route add default via {OUTSIDE_V6}"
            )
            yield made
    finally:
        made.close()
