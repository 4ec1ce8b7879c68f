"""Nodes of a cluster as network namespaces, with pods that the runtime's own code attaches.

::

    n1, n2, n3 -- wire -- router -- n4

The router knows no pods: what leaves a node with a pod's address for n4, or from it, outside of
VXLAN is lost.
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kubeletpy_common.linux.namespaces import in_namespace
from runtime.network.bridge import BridgeNetwork, NetworkConfig

from .apiserver import ApiServer, Json
from .proxies import REPOSITORY, inside_mounts
from .topology import CLUSTER_CIDRS, Namespace

NODES = ("n1", "n2", "n3", "n4")
NEAR = NODES[:3]
PORT = 8080
PATIENCE = 30.0
"""Seconds that anything may take on a slow machine."""
_WIRE = {4: "192.168.77.{}/24", 6: "fd77::{}/64"}
_FAR = {4: "192.168.78.{}/24", 6: "fd78::{}/64"}
_ROUTER = 254


def number(node: str) -> int:
    """Return the number of a node, the last part of its addresses."""
    return int(node.removeprefix("n"))


def address(node: str, family: int, host: int = 0) -> str:
    """Return the address of a node with its prefix length."""
    net = _WIRE if node in NEAR else _FAR
    return net[family].format(host or number(node))


def bare(text: str) -> str:
    """Return an address without prefix length."""
    return text.partition("/")[0]


def cidrs(node: str) -> list[str]:
    """Return the pod CIDRs of a node."""
    return [f"10.244.{number(node)}.0/24", f"fd00:244:{number(node)}::/64"]


@dataclass
class Daemon:
    """One `kubeletpy network`."""

    process: subprocess.Popen[bytes]
    log: Path

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End it; routes stay."""
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            self.process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise AssertionError(f"it did not end by {how.name}\n{self.text()[-4000:]}") from None

    def text(self) -> str:
        """Return its log."""
        return self.log.read_text(errors="replace")


@dataclass
class Pod:
    """A pod: its namespace and addresses by version of IP."""

    node: str
    space: Namespace
    ips: dict[int, str]
    mtu: int


@dataclass
class Cluster:
    """All of it.

    Attributes:
        spaces: nodes, wire and router.
        api: the API server, at 127.0.0.1 of every node.
        directory: for logs and databases.
        pods: one on each node, once `attach` was called.
    """

    spaces: dict[str, Namespace]
    api: ApiServer
    directory: Path
    pods: dict[str, Pod] = field(default_factory=dict)
    daemons: dict[str, Daemon] = field(default_factory=dict)
    _count: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @classmethod
    @contextmanager
    def built(cls, directory: Path) -> Iterator[Cluster]:
        """Build it, and take it down at the end of the block."""
        with ExitStack() as stack:
            spaces = {name: Namespace() for name in ("wire", "router", *NODES)}
            for each in spaces.values():
                stack.callback(each.close)
            _wire(spaces)
            api = stack.enter_context(ApiServer.running(*(spaces[name] for name in NODES)))
            made = cls(spaces, api, directory)
            stack.callback(made.close)
            yield made

    def close(self) -> None:
        """End all daemons and let go of pods."""
        for daemon in self.daemons.values():
            daemon.stop(signal.SIGKILL)
        for pod in self.pods.values():
            pod.space.close()

    def register(self, *nodes: str, **fields: Any) -> None:
        """Have Nodes in the API server."""
        self.api.put(*(node_object(each, **fields) for each in nodes or NODES))

    def attach(self, node: str, name: str = "pod", mtu: int | None = None) -> Pod:
        """Make a pod on a node by the runtime's built-in network, as the runtime would."""
        space = Namespace()
        config = NetworkConfig(
            from_node=True, no_masquerade=tuple(CLUSTER_CIDRS.values()),
            node_file=self.directory / f"{node}.json", mtu=mtu,
        )  # fmt: skip

        async def attach() -> tuple[list[str], int]:
            network = BridgeNetwork(config, self.directory / f"{node}.db")
            network.use_pod_cidrs(cidrs(node))
            attachment = await network.attach(f"{name}-{node}", space.path)
            await network.close()
            return attachment.ips, attachment.mtu

        with in_namespace(self.spaces[node].path):
            ips, mtu = asyncio.run(attach())
        made = Pod(node, space, dict(zip((4, 6), ips, strict=True)), mtu)
        self.pods[node if name == "pod" else f"{node}/{name}"] = made
        return made

    def start(self, node: str, *arguments: str, cluster: str = "") -> Daemon:
        """Start the daemon of a node."""
        return self._start(
            node, "proxy.podnetwork", "--node-file", str(self.directory / f"{node}.json"),
            "--cluster-cidr", cluster or ",".join(CLUSTER_CIDRS.values()), *arguments,
        )  # fmt: skip

    def start_proxy(self, node: str, *arguments: str) -> Daemon:
        """Start the proxy of a node."""
        # The machine's own limits of connections are not a namespace's to change.
        return self._start(
            node, "proxy", "--proxy-mode", "nftables", "--conntrack-max-per-core", "0",
            "--conntrack-min", "0", "--conntrack-tcp-timeout-established", "0s",
            "--conntrack-tcp-timeout-close-wait", "0s", "--cluster-cidr",
            ",".join(CLUSTER_CIDRS.values()), *arguments,
        )  # fmt: skip

    def _start(self, node: str, module: str, *arguments: str) -> Daemon:
        kubeconfig = self.directory / "kubeconfig"
        kubeconfig.write_text(json.dumps(_kubeconfig(self.api.address)))
        log = self.directory / f"{node}-{next(self._count)}.log"
        words = [
            sys.executable, "-P", "-m", module, "--kubeconfig", str(kubeconfig),
            "--hostname-override", node, *arguments,
        ]  # fmt: skip
        with in_namespace(self.spaces[node].path), log.open("wb") as file:
            process = subprocess.Popen(
                inside_mounts(words), cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=file,
                stderr=subprocess.STDOUT,
            )  # fmt: skip
        self.daemons[node] = Daemon(process, log)
        return self.daemons[node]

    def start_all(self, *arguments: str, families: tuple[int, ...] = (4, 6)) -> None:
        """Start the daemons of all nodes, and wait until each has its routes and said so.

        Args:
            arguments: of each daemon.
            families: the order of the nodes' addresses.
        """
        for node in NODES:
            self.register(node, addresses=[bare(address(node, each)) for each in families])
        for node in NODES:
            self.start(node, *arguments)
        for node in NODES:
            self.until(
                lambda node=node: self.settled(node),
                f"condition and annotation of {node}, on all nodes",
            )

    def settled(self, node: str) -> bool:
        """Tell whether a node said all of itself, and all daemons heard it."""
        if self.unavailable(node) != "False":
            return False
        said = self.api.node(node)["metadata"]["annotations"]
        # A daemon that heard of all annotations has routes that agree with them.
        return "kubeletpy.dev/pod-network" in said

    def stop_all(self) -> None:
        """End all daemons; routes stay."""
        for daemon in self.daemons.values():
            daemon.stop()
        self.daemons.clear()

    def took_over(self, node: str) -> bool:
        """Tell whether the daemon of a node that was started last has planned once."""
        return (self.directory / f"{node}.json").exists()

    def monitor(self, node: str) -> Callable[[], str]:
        """Note what of ours changes in a node's kernel; the result ends that and returns it."""
        with in_namespace(self.spaces[node].path):
            process = subprocess.Popen(
                ["ip", "monitor", "route", "link", "neigh"], stdout=subprocess.PIPE, text=True
            )

        def end() -> str:
            process.terminate()
            said, _ = process.communicate(timeout=PATIENCE)
            return "\n".join(
                line for line in said.splitlines() if "proto 88" in line or "kubeletpy-vx" in line
            )

        return end

    def run_daemon(self, node: str, *arguments: str) -> str:
        """Run the daemon's program on a node until it ends; return what it printed."""
        words = [sys.executable, "-P", "-m", "proxy.podnetwork", *arguments]
        with in_namespace(self.spaces[node].path):
            done = subprocess.run(
                inside_mounts(words), cwd=REPOSITORY, capture_output=True, text=True, timeout=60
            )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def unavailable(self, node: str) -> str:
        """Return what a Node's condition NetworkUnavailable says."""
        held = self.api.node(node).get("status", {}).get("conditions", [])
        return next((each["status"] for each in held if each["type"] == "NetworkUnavailable"), "")

    def routes(self, node: str) -> dict[str, str]:
        """Return our routes on a node: network to the rest of what `ip` says."""
        lines = self.spaces[node].run("ip route show proto 88; ip -6 route show proto 88")
        parts = (line.partition(" ") for line in lines.splitlines())
        return {network: rest.strip() for network, _, rest in parts}

    def until(self, condition: Any, what: str) -> None:
        """Wait until something holds."""
        end = time.monotonic() + PATIENCE
        while not condition():
            logs = "\n".join(f"{n}: {d.text()[-700:]}" for n, d in self.daemons.items())
            assert time.monotonic() < end, f"not within {PATIENCE} s: {what}\n{logs}"
            time.sleep(0.02)


def node_object(node: str, **fields: Any) -> Json:
    """Return a Node; ``fields`` replace ``cidrs``, ``addresses``, ``created``, ``annotations``."""
    where = fields.get("addresses", [bare(address(node, family)) for family in (4, 6)])
    return {
        "kind": "Node", "apiVersion": "v1",
        "metadata": {
            "name": node, "uid": f"uid-{node}",
            "creationTimestamp": fields.get("created", f"2026-01-01T00:00:0{number(node) % 10}Z"),
            "annotations": fields.get("annotations", {}),
        },
        "spec": {"podCIDRs": fields.get("cidrs", cidrs(node))},
        "status": {"addresses": [{"type": "InternalIP", "address": each} for each in where]},
    }  # fmt: skip


def _kubeconfig(server: str) -> Json:
    return {
        "apiVersion": "v1", "kind": "Config", "current-context": "lab",
        "clusters": [{"name": "lab", "cluster": {"server": server}}],
        "users": [{"name": "lab", "user": {"token": "none"}}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": "lab"}}],
    }  # fmt: skip


def _wire(spaces: dict[str, Namespace]) -> None:
    """Connect all."""
    spaces["wire"].run(
        "ip link add br0 type bridge forward_delay 0 mcast_snooping 0; ip link set br0 up"
    )
    router = spaces["router"]
    router.set(ipv4__ip_forward=1, ipv6__conf__all__forwarding=1)
    for name in (*NODES, "router"):
        spaces[name].run("ip link set lo up")
        # A second address stays when the first one of its network goes.
        spaces[name].set(ipv4__conf__all__promote_secondaries=1)
    for name in (*NEAR, "router"):
        _plug(spaces[name], spaces["wire"], "eth0", name)
        spaces["wire"].run(f"ip link set {name} master br0")
    _plug(spaces["n4"], router, "eth0", "far0")
    for family in (4, 6):
        for name in NODES:
            _address(spaces[name], "eth0", address(name, family))
        _address(router, "eth0", _WIRE[family].format(_ROUTER))
        _address(router, "far0", _FAR[family].format(_ROUTER))
        for name in NODES:
            gateway = bare(address(name, family, _ROUTER))
            spaces[name].run(f"ip route add default via {gateway}")
        for cidr in CLUSTER_CIDRS.values():
            router.run(f"ip route replace blackhole {cidr}")


def _plug(space: Namespace, other: Namespace, name: str, there: str) -> None:
    space.run(f"ip link add {name} type veth peer name {there} netns {other.path}")
    space.run(f"ip link set {name} up")
    other.run(f"ip link set {there} up")


def _address(space: Namespace, link: str, text: str) -> None:
    space.run(f"ip addr add {text} dev {link}" + (" nodad" if ":" in text else ""))


@contextmanager
def listening(space: Namespace, where: str, port: int = PORT) -> Iterator[socket.socket]:
    """Listen for TCP at an address of a namespace."""
    with _socket(space, where) as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind((where, port))
        server.listen()
        yield server


def _socket(space: Namespace, where: str) -> socket.socket:
    with in_namespace(space.path):
        made = socket.socket(socket.AF_INET6 if ":" in where else socket.AF_INET)
    made.settimeout(PATIENCE)
    return made


def source_seen(client: Namespace, server: Namespace, where: str, port: int = PORT) -> str:
    """Connect to ``where`` in ``server``, pass a byte each way; return whom the server saw."""
    return source_through(client, server, where, (where, port), port)


def source_through(
    client: Namespace, server: Namespace, where: str, to: tuple[str, int], port: int = PORT
) -> str:
    """Do the same by another address, which leads to ``where``."""
    with listening(server, where, port) as listener, _socket(client, where) as connection:
        connection.connect(to)
        accepted, peer = listener.accept()
        with accepted:
            accepted.settimeout(PATIENCE)
            connection.sendall(b"?")
            assert accepted.recv(1) == b"?"
            accepted.sendall(b"!")
            assert connection.recv(1) == b"!"
    return str(peer[0])


def bulk(client: Namespace, server: Namespace, where: str, size: int = 8 << 20) -> float:
    """Send bytes over one connection; return the seconds until all of them arrived."""
    begun = time.monotonic()
    with listening(server, where) as listener, _socket(client, where) as connection:
        connection.connect((where, PORT))
        accepted, _ = listener.accept()
        with accepted:
            accepted.settimeout(PATIENCE)
            sender = threading.Thread(target=_send, args=(connection, size))
            sender.start()
            left = size
            while left > 0:
                got = len(accepted.recv(1 << 20))
                assert got, f"{left} of {size} bytes did not come"
                left -= got
            sender.join()
    return time.monotonic() - begun


def _send(connection: socket.socket, size: int) -> None:
    connection.sendall(bytes(size))


class Stream:
    """Packets from one pod to another and back, all the time, while the block runs.

    Attributes:
        sent: how many; each waits for its answer.
        lost: how many had none within a second.
    """

    def __init__(self, client: Pod, server: Pod, family: int = 4) -> None:
        self.sent = self.lost = 0
        self._client, self._server, self._where = client, server, server.ips[family]
        self._end = threading.Event()
        self._threads: list[threading.Thread] = []

    def __enter__(self) -> Stream:
        kind = socket.AF_INET6 if ":" in self._where else socket.AF_INET
        with in_namespace(self._server.space.path):
            self._echo = socket.socket(kind, socket.SOCK_DGRAM)
        self._echo.bind((self._where, 0))
        with in_namespace(self._client.space.path):
            self._ask = socket.socket(kind, socket.SOCK_DGRAM)
        self._ask.connect(self._echo.getsockname()[:2])
        self._ask.settimeout(1)
        self._threads = [threading.Thread(target=each) for each in (self._answer, self._run)]
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._threads[1].join(PATIENCE)
        with in_namespace(self._server.space.path):
            last = socket.socket(self._echo.family, socket.SOCK_DGRAM)
        last.sendto(b"", self._echo.getsockname()[:2])
        last.close()
        self._threads[0].join(PATIENCE)
        self._echo.close()
        self._ask.close()

    def _answer(self) -> None:
        while not self._end.is_set():
            data, whence = self._echo.recvfrom(64)
            self._echo.sendto(data, whence)

    def _run(self) -> None:
        while not self._end.wait(0.005):
            self.sent += 1
            try:
                self._ask.send(b"?")
                self._ask.recv(64)
            except OSError:
                self.lost += 1


def datagram(client: Namespace, server: Namespace, where: str, size: int) -> bool:
    """Send so many bytes by UDP in one packet that nobody may break up; tell whether they came.

    Raises:
        TimeoutError: they were sent and did not come.
    """
    ipv6 = ":" in where
    level, option = (socket.IPPROTO_IPV6, 23) if ipv6 else (socket.IPPROTO_IP, 10)
    kind = socket.AF_INET6 if ipv6 else socket.AF_INET
    with in_namespace(server.path):
        receiver = socket.socket(kind, socket.SOCK_DGRAM)
    with in_namespace(client.path):
        sender = socket.socket(kind, socket.SOCK_DGRAM)
    with receiver, sender:
        receiver.settimeout(PATIENCE)
        receiver.bind((where, 0))
        sender.setsockopt(level, option, 2)  # IP_MTU_DISCOVER, IP_PMTUDISC_DO
        sender.connect(receiver.getsockname()[:2])
        try:
            sender.send(bytes(size))
        except OSError as error:
            if error.errno != errno.EMSGSIZE:
                raise
            return False
        return len(receiver.recv(1 << 16)) == size


def connects(client: Namespace, server: Namespace, where: str) -> bool:
    """Tell whether a connection is made within half a second."""
    with listening(server, where), _socket(client, where) as connection:
        connection.settimeout(0.5)
        try:
            connection.connect((where, PORT))
        except TimeoutError:
            return False
        return True
