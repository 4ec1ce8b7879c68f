"""`kubeletpy network` with many nodes, and what its ways cost packets.

    sudo .venv/bin/python -m benchmarks.podnetwork [--nodes 1000] [--quick] [-o json]

Nodes are objects of a small API server, of which four are network namespaces
(``tests/support/proxylab/mesh.py``). A change ends when the kernel announces the route. Packets go
between namespaces of one machine, so that only ratios to the bare link mean something.
"""

from __future__ import annotations

import argparse
import json
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import psutil
from rich.console import Console
from rich.table import Table

from kubeletpy_common import netlink
from kubeletpy_common.linux.namespaces import in_namespace
from proxy.podnetwork import wire
from proxy.podnetwork.kernel import Kernel, watch_socket
from tests.support.proxylab.apiserver import Json
from tests.support.proxylab.mesh import Cluster, address, bare, bulk, node_object
from tests.support.proxylab.topology import CLUSTER_CIDRS, Namespace

_CLUSTER: Final = f"10.0.0.0/8,{CLUSTER_CIDRS[6]}"
_DEVICE: Final = "kubeletpy-vx"
_DEADLINE: Final = 300.0
FIGURES: Final = {
    "first_sync": "first sync, from the start of the process, s",
    "first_sync_cpu": "... CPU of it, s",
    "restart": "restart until it took over all, s",
    "joined": "a node joins: Node to route in the kernel, ms",
    "left": "a node leaves: Node to route gone, ms",
    "change_cpu": "... CPU of either, ms",
    "returned": "a route that somebody removed is back, ms",
    "memory": "memory, PSS, MiB",
    "idle": "CPU at rest, %",
    "busy": "CPU with 20 statuses of nodes a second, %",
    "rate_bare": "one TCP connection, bare link, Gbit/s",
    "rate_host-gw": "... pod to pod, host-gw",
    "rate_vxlan": "... pod to pod, VXLAN",
    "latency_bare": "UDP there and back, bare link, us",
    "latency_host-gw": "... pod to pod, host-gw",
    "latency_vxlan": "... pod to pod, VXLAN",
}


def other(number: int) -> Json:
    """Return a Node without a machine, about as large as real ones; each fifth is on the wire."""
    near = number % 5 == 0 and number // 5 < 200
    last = (
        f"192.168.77.{50 + number // 5}" if near else f"172.{16 + number // 250}.{number % 250}.9"
    )
    made = node_object(
        "n9", addresses=[last],
        cidrs=[
            f"10.{16 + number // 256}.{number % 256}.0/24", f"fd00:244:{0x1000 + number:x}::/64",
        ],
    )  # fmt: skip
    made["metadata"] |= {"name": f"other-{number}", "uid": f"uid-{number}"}
    made["status"]["images"] = [
        {"names": [f"registry.example/image-{i}@sha256:{'0' * 64}"], "sizeBytes": i}
        for i in range(50)
    ]
    return made


class Announcements:
    """What the kernel of a namespace says of routes."""

    def __init__(self, space: Namespace) -> None:
        with in_namespace(space.path):
            self._socket = watch_socket()
        self._socket.settimeout(_DEADLINE)

    def until(self, network: bytes, *, there: bool) -> float:
        """Return when a route to a network came or went."""
        wanted = netlink.RTM_NEWROUTE if there else netlink.RTM_DELROUTE
        while True:
            data = self._socket.recv(1 << 16)
            if int.from_bytes(data[4:6], sys.byteorder) != wanted:
                continue
            seen = wire.route_seen(data)
            if seen is not None and seen.key.network == network:
                return time.monotonic()

    def close(self) -> None:
        """Hear no more."""
        self._socket.close()


def _network(node: Json) -> bytes:
    return socket.inet_aton(node["spec"]["podCIDRs"][0].partition("/")[0])


def _wait_routes(cluster: Cluster, node: str, count: int) -> None:
    with in_namespace(cluster.spaces[node].path):
        kernel = Kernel(_DEVICE)
    end = time.monotonic() + _DEADLINE
    try:
        while len(kernel.read()[0].routes) != count:
            assert time.monotonic() < end, cluster.daemons[node].text()[-3000:]
            time.sleep(0.05)
    finally:
        kernel.close()


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _share(process: psutil.Process, seconds: float) -> float:
    before, begun = _cpu(process), time.monotonic()
    time.sleep(seconds)
    return 100 * (_cpu(process) - before) / (time.monotonic() - begun)


@contextmanager
def _statuses(cluster: Cluster, nodes: list[Json], rate: float) -> Iterator[None]:
    """Have nodes tell their statuses, one after the other."""
    end = threading.Event()

    def run() -> None:
        number = 0
        while not end.wait(1 / rate):
            node = json.loads(json.dumps(nodes[number % len(nodes)]))
            node["status"]["conditions"] = [{"type": "Ready", "lastHeartbeatTime": str(number)}]
            cluster.api.put(node)
            number += 1

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def many(cluster: Cluster, count: int, rounds: int, rest: float) -> dict[str, list[float]]:
    """Measure the daemon of one node beside ``count`` others."""
    nodes = [other(number) for number in range(count)]
    cluster.register("n1")
    cluster.api.put(*nodes)
    begun = time.monotonic()
    daemon = cluster.start("n1", cluster=_CLUSTER)
    _wait_routes(cluster, "n1", 2 * count)
    found: dict[str, list[float]] = {"first_sync": [time.monotonic() - begun]}
    process = psutil.Process(daemon.process.pid)
    found["first_sync_cpu"] = [_cpu(process)]
    listening = Announcements(cluster.spaces["n1"])
    found |= {"joined": [], "left": [], "change_cpu": [], "returned": []}
    for turn in range(rounds):
        node = nodes[turn * 7 % count]
        network = _network(node)
        for figure, change in (("left", cluster.api.delete), ("joined", cluster.api.put)):
            spent, begun = _cpu(process), time.monotonic()
            change(node)
            moment = listening.until(network, there=figure == "joined")
            found[figure].append(1000 * (moment - begun))
            time.sleep(0.3)
            found["change_cpu"].append(1000 * (_cpu(process) - spent))
        if turn < 5:
            # Fewer: who does it again and again is slowed down on purpose.
            time.sleep(0.5)
            cluster.spaces["n1"].run(f"ip route del {node['spec']['podCIDRs'][0]} proto 88")
            begun = listening.until(network, there=False)
            found["returned"].append(1000 * (listening.until(network, there=True) - begun))
    listening.close()
    found["memory"] = [process.memory_full_info().pss / 2**20]
    found["idle"] = [_share(process, rest)]
    with _statuses(cluster, nodes, 20):
        found["busy"] = [_share(process, rest)]
    daemon.stop()
    mark = cluster.directory / "n1.json"
    mark.unlink()
    begun = time.monotonic()
    cluster.start("n1", cluster=_CLUSTER)
    cluster.until(mark.exists, "a restart")
    found["restart"] = [time.monotonic() - begun]
    cluster.stop_all()
    return found


def packets(cluster: Cluster, rounds: int, size: int) -> dict[str, list[float]]:
    """Measure what the ways cost packets between two nodes."""
    found: dict[str, list[float]] = {}
    for way in ("bare", "host-gw", "vxlan"):
        if way == "bare":
            one, two = cluster.spaces["n1"], cluster.spaces["n2"]
            where = bare(address("n2", 4))
        else:
            cluster.start_all("--mode", way)
            # New ones: their MTU is that of the way.
            pods = [cluster.attach(node, way) for node in ("n1", "n2")]
            one, two, where = pods[0].space, pods[1].space, pods[1].ips[4]
        found[f"rate_{way}"] = [8 * size / bulk(one, two, where, size) / 1e9 for _ in range(rounds)]
        found[f"latency_{way}"] = _round_trips(one, two, where, 200 * rounds)
        cluster.stop_all()
    return found


def _round_trips(one: Namespace, two: Namespace, where: str, count: int) -> list[float]:
    with in_namespace(two.path):
        echo = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with in_namespace(one.path):
        asking = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    taken = []
    with echo, asking:
        echo.bind((where, 0))
        asking.connect(echo.getsockname())
        # One thread: the same work for all, and no scheduler between.
        for _ in range(count):
            begun = time.perf_counter()
            asking.send(b"?")
            data, whence = echo.recvfrom(64)
            echo.sendto(data, whence)
            asking.recv(64)
            taken.append(1e6 * (time.perf_counter() - begun))
    return taken


def _print(results: dict[str, list[float]]) -> None:
    table = Table("figure", "median", "90th percentile", "relative to the bare link")
    for figure, title in FIGURES.items():
        if figure not in results:
            continue
        values = sorted(results[figure])
        kind, _, way = figure.partition("_")
        ratio = ""
        if way in ("host-gw", "vxlan"):
            ratio = f"{statistics.median(values) / statistics.median(results[kind + '_bare']):.2f}"
        ninetieth = f"{values[int(0.9 * (len(values) - 1))]:.2f}" if len(values) > 1 else ""
        table.add_row(title, f"{statistics.median(values):.2f}", ninetieth, ratio)
    Console().print(table)


def main() -> None:
    """Measure, and print a table or JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--quick", action="store_true", help="to see that it works")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    given = parser.parse_args()
    rounds, rest, size = (3, 1.0, 32 << 20) if given.quick else (30, 20.0, 512 << 20)
    parts: tuple[Callable[[Cluster], dict[str, list[float]]], ...] = (
        lambda cluster: many(cluster, given.nodes, rounds, rest),
        lambda cluster: packets(cluster, max(rounds // 6, 1), size),
    )
    results: dict[str, Any] = {}
    for part in parts:
        with (
            tempfile.TemporaryDirectory() as directory,
            Cluster.built(Path(directory)) as cluster,
        ):
            results |= part(cluster)
    if given.output == "json":
        print(json.dumps(results))
    else:
        _print(results)


if __name__ == "__main__":
    main()
