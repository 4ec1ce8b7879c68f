"""``kubeletpy up`` as a user starts it, in a network namespace of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.root.e2e.running import STAYS, Directories, Up, kubectl, output_of, start

pytestmark = [pytest.mark.root, pytest.mark.timeout(300)]


@contextlib.contextmanager
def _network_of(pid: int) -> Iterator[list[str]]:
    """Give the beginning of a command that runs in the network of a process, also after it."""
    with open(f"/proc/{pid}/ns/net") as held:
        yield ["nsenter", f"--net=/proc/{os.getpid()}/fd/{held.fileno()}"]


async def _pods_reach_the_api_server(up: Up, kubeconfig: Path) -> None:
    """Ask https://kubernetes.default.svc from a pod's network with the pod's own credentials."""
    inside = ("exec", "deployment/web", "--")
    directory = "/var/run/secrets/kubernetes.io/serviceaccount"
    token = await kubectl(up, kubeconfig, *inside, "cat", f"{directory}/token")
    authority = kubeconfig.parent / "pod-ca.crt"
    authority.write_text(await kubectl(up, kubeconfig, *inside, "cat", f"{directory}/ca.crt"))
    network = (await kubectl(up, kubeconfig, *inside, "readlink", "/proc/self/ns/net")).strip()
    pid = next(
        path.parent.parent.name for path in Path("/proc").glob("[0-9]*/ns/net")
        if _link(path) == network
    )  # fmt: skip
    asked = json.dumps({"kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1"})
    answer = await output_of(
        *("nsenter", f"--net=/proc/{pid}/ns/net", "curl", "-sS", "--max-time", "20"),
        *("--cacert", str(authority), "--resolve", "kubernetes.default.svc:443:10.96.0.1"),
        *("-H", f"Authorization: Bearer {token}", "-H", "Content-Type: application/json"),
        *("-d", asked, "https://kubernetes.default.svc/apis/authentication.k8s.io/v1/"
          "selfsubjectreviews"),
    )  # fmt: skip
    user = json.loads(answer)["status"]["userInfo"]["username"]
    assert user == "system:serviceaccount:default:default"


def _link(path: Path) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


async def test_tour_shows_a_running_pod_and_leaves_nothing(directories: Directories) -> None:
    up = await start(directories, "--once", "-o", "json")
    code, output = await up.end()
    assert code == 0, up.progress
    found = json.loads(output)

    api = found["apiServer"]
    assert api["url"] == "https://127.0.0.1:6443"
    assert api["version"].startswith("v1.36")
    assert api["nodeRegistered"] is True
    assert found["node"]

    pod = found["pod"]
    assert pod["name"].startswith("web-")
    assert pod["phase"] == "Running"
    assert pod["ready"] is True
    assert pod["qosClass"] == "Burstable"
    assert len(pod["ips"]) == 2, "one address of each family"
    states = {entry["name"]: entry["state"] for entry in pod["containers"]}
    assert states == {"first-page": "terminated", "server": "running", "writer": "running"}
    assert all(entry["restarts"] == 0 for entry in pod["containers"])

    # The init container's page, with the fields of the pod that its environment got.
    assert f"Hello from {pod['name']} at {pod['ips'][0]}" in found["page"]["body"]
    assert "16777216 bytes of memory" in found["log"][-1]
    # Only the container's own processes, the first of them being PID 1 of its namespace.
    processes = found["exec"]["output"].splitlines()
    assert processes[1].split()[:2] == ["1", "root"]
    assert len(processes) <= 5

    cluster = found["cluster"]
    assert cluster["page"].startswith("hello from web-")
    assert (cluster["replicas"], cluster["scaled"]) == (3, 5)
    assert cluster["healed"] not in ("", cluster["lost"])

    assert not directories.data.exists()
    assert not directories.run.exists()


async def test_node_stays_until_it_is_interrupted(directories: Directories) -> None:
    up = await start(directories)
    await up.until("export KUBECONFIG=")
    kubeconfig = directories.run / "kubeconfig"
    assert f"export KUBECONFIG={kubeconfig}\n" in up.errors[-1]
    assert kubeconfig.stat().st_mode & 0o777 == 0o600
    listed = await kubectl(up, kubeconfig, "get", "namespaces", "-o", "name")
    assert "namespace/kube-system" in listed.splitlines()
    status = '{.items[*].status.conditions[?(@.type=="Ready")].status}'
    assert await kubectl(up, kubeconfig, "get", "nodes", "-o", f"jsonpath={status}") == "True"
    await _pods_reach_the_api_server(up, kubeconfig)
    with _network_of(up.process.pid) as network:
        up.process.send_signal(signal.SIGINT)
        code, output = await up.end()
        rules = await output_of(*network, "nft", "list", "ruleset")
        links = await output_of(*network, "ip", "-brief", "link")
    assert code == 0, up.progress
    assert "Running, Ready" in output
    assert "10.96." not in rules, "rules of Services stay"
    assert "10.88." not in rules, "rules of pods stay"
    assert len(links.splitlines()) == 1, links
    assert not directories.run.exists()
    assert (directories.data / "logs" / "kubelet.log").exists(), "images and logs are kept"


@pytest.mark.parametrize("stage", ["Starting the runtime", "Starting the kubelet", STAYS])
async def test_second_start_takes_up_what_a_killed_one_left(
    directories: Directories, stage: str
) -> None:
    first = await start(directories)
    await first.until(stage)
    namespace = os.open(f"/proc/{first.process.pid}/ns/net", os.O_RDONLY)
    try:
        first.process.send_signal(signal.SIGKILL)
        await first.process.wait()
        # The network of the pod that still runs is in the namespace of the first start.
        again = await asyncio.create_subprocess_exec(
            *("nsenter", f"--net=/proc/self/fd/{namespace}"),
            *(sys.executable, "-P", "-m", "kubeletpy", "up", "--once", "-o", "json"),
            *("--data-dir", str(directories.data), "--run-dir", str(directories.run)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=[namespace],
        )
        second = Up(again, [])
        code, output = await second.end()
    finally:
        os.close(namespace)
    assert code == 0, second.progress
    assert json.loads(output)["pod"]["ready"] is True
    assert not directories.data.exists()


async def test_without_root_one_line_says_so(directories: Directories) -> None:
    process = await asyncio.create_subprocess_exec(
        # Nobody there, and yet able to read an interpreter that is only root's.
        *("unshare", "--user"),
        *(sys.executable, "-P", "-m", "kubeletpy", "up", "--once"),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    up = Up(process, [])
    code, _ = await up.end()
    assert code == 1
    assert up.progress.splitlines() == [
        "kubeletpy: `up` needs root, for namespaces, mounts and cgroups; use sudo"
    ]


async def test_taken_port_is_named(directories: Directories) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", "kubeletpy", "up", "--once"),
            *("--registry-port", str(port), "--apiserver-port", "0"),
            *("--data-dir", str(directories.data), "--run-dir", str(directories.run)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        up = Up(process, [])
        code, _ = await up.end()
    assert code == 1
    assert f"port {port} for the registry is taken" in up.progress
    assert not directories.run.exists()
