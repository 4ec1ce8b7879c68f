"""A node to measure: API server, runtime and kubelet, each a process, the kubelet ours or a peer's.

All get the same configuration, so a Go kubelet is measured by the same run as ours.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks import peers
from kubeletpy_common.apiclient.client import ApiClient
from kubeletpy_common.apiclient.kubeconfig import Access, read_kubeconfig
from kubeletpy_common.apiclient.reflector import Reflector, Synced
from kubeletpy_common.cgroups import detect
from kubeletpy_common.linux import mounts
from tests.root.controlplane.server import api_server

NODE = "bench-node"
_STOP_SECONDS = 60.0
_CONFIGURATION = """\
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication: {{anonymous: {{enabled: false}}, webhook: {{enabled: false}},
  x509: {{clientCAFile: "{directory}/ca.crt"}}}}
authorization: {{mode: AlwaysAllow}}
cgroupDriver: cgroupfs
cgroupRoot: {cgroup}
clusterDNS: [10.96.0.10]
clusterDomain: cluster.local
containerRuntimeEndpoint: {endpoint}
enforceNodeAllocatable: []
evictionHard: {{memory.available: "10Mi", nodefs.available: "1%", imagefs.available: "1%"}}
failCgroupV1: false
failSwapOn: false
imageGCHighThresholdPercent: 100
maxPods: 250
podLogsDir: {directory}/pod-logs
port: {port}
healthzPort: {healthz}
registerNode: true
resolvConf: ""
serializeImagePulls: false
"""


@dataclass(frozen=True)
class Node:
    """One that runs.

    Attributes:
        name: a column of the table.
        access: how to reach its API server.
        kubelet, runtime: process ids.
        cgroup: holds kubelet, runtime and pods.
    """

    name: str
    access: Access
    kubelet: int
    runtime: int
    cgroup: str

    def cpu_seconds(self) -> dict[str, float]:
        """Return the CPU time so far of kubelet, runtime, and of all that the node does."""
        return {
            "kubelet": _own_seconds(self.kubelet),
            "runtime": _own_seconds(self.runtime),
            "node": _group_seconds(self.cgroup),
        }

    def memory_mib(self) -> dict[str, float]:
        """Return the proportional set size of kubelet and runtime."""
        return {
            name: psutil.Process(pid).memory_full_info().pss / (1 << 20)
            for name, pid in (("kubelet", self.kubelet), ("runtime", self.runtime))
        }


def _own_seconds(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    # Of children that it has waited for, too: helpers count for whoever starts them.
    return float(times.user + times.system + times.children_user + times.children_system)


def _group_seconds(cgroup: str) -> float:
    stats = detect().cgroup(cgroup).stats().cpu
    if stats is None:
        raise SystemExit(f"{cgroup}: this machine does not account CPU time")
    return stats.usage_ns / 1e9


@contextlib.contextmanager
def running_node(
    name: str, start: peers.Runtime, program: str, directory: Path, cgroup: str, pause: str
) -> Iterator[Node]:
    """Run an API server, a runtime and a kubelet within the block.

    Args:
        name: a column of the table.
        start: starts the runtime.
        program: of a peer's kubelet, "" for ours.
        directory: of everything that is written.
        cgroup: for kubelet, runtime and pods.
        pause: image of sandboxes, for runtimes that need one.
    """
    directory.mkdir()
    with api_server(directory) as server, start(directory / "runtime", cgroup, pause) as peer:
        access = read_kubeconfig(server.kubeconfig)
        (directory / "ca.crt").write_bytes(access.ca)
        ports = (10250, 10248)
        configuration = directory / "kubelet.yaml"
        configuration.write_text(
            _CONFIGURATION.format(
                directory=directory, cgroup=cgroup, endpoint=peer.endpoint,
                port=ports[0], healthz=ports[1],
            )
        )  # fmt: skip
        command = [program] if program else [sys.executable, "-P", "-m", "kubeletpy.kubelet_main"]
        command += [
            f"--config={configuration}", f"--kubeconfig={server.kubeconfig}",
            f"--root-dir={directory}/kubelet", f"--hostname-override={NODE}",
            f"--cert-dir={directory}/pki", "--node-ip=127.0.0.1", "--v=0",
        ]  # fmt: skip
        try:
            with _running(command, directory / "kubelet.log", cgroup) as kubelet:
                runtime = _serving(peer)
                yield Node(name, access, kubelet, runtime, cgroup)
        finally:
            _unmount_below(directory / "kubelet")


def _unmount_below(directory: Path) -> None:
    """Unmount what a kubelet left mounted: its root directory, and volumes of pods."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [Path(line.split()[4]) for line in lines]
    for point in reversed([one for one in points if one.is_relative_to(directory)]):
        mounts.umount(point, mounts.MNT_DETACH)


def _serving(peer: peers.Peer) -> int:
    """Return the process id of the runtime itself: the oldest in its cgroup."""
    found = detect().cgroup(f"{peer.cgroup}/daemon").processes()
    return min(found, key=lambda pid: psutil.Process(pid).create_time())


@contextlib.contextmanager
def _running(command: list[str], log: Path, cgroup: str) -> Iterator[int]:
    home = detect().cgroup(f"{cgroup}/kubelet")
    home.create()
    files = " ".join(map(str, home.procs_files()))
    with open(log, "wb") as output:
        process = subprocess.Popen(
            ["sh", "-c", peers.JOIN, "sh", files, *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        yield process.pid
        if process.poll() is not None:
            raise SystemExit(f"the kubelet ended; see the end of its log:\n{peers.tail(log)}")
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


async def ready(client: ApiClient, seconds: float = 60.0) -> None:
    """Wait until the node is Ready.

    Raises:
        SystemExit: it does not get so.
    """
    deadline = time.monotonic() + seconds
    nodes = Reflector(client, "/api/v1/nodes", field_selector=f"metadata.name={NODE}")
    async for each in nodes:
        found = each.items if isinstance(each, Synced) else [each.object]
        for node in found:
            conditions = node.get("status", {}).get("conditions") or []
            if any(one["type"] == "Ready" and one["status"] == "True" for one in conditions):
                return
        if time.monotonic() > deadline:
            raise SystemExit("the node does not get Ready")
