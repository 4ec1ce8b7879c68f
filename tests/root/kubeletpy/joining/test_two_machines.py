"""Two network namespaces are two machines: a server, and a node that joins it by token.

The node's kubelet and runtime are real; what they know of the server is what the join command says.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest

from controlplane.network_changes import follow_addresses
from kubeletpy.joining import JoinError, check_join, discover, write_bootstrap_kubeconfig
from kubeletpy.joining.checks import Identity
from kubeletpy_common.apiclient.client import ApiClient
from kubeletpy_common.apiclient.errors import ApiError
from kubeletpy_common.apiclient.kubeconfig import read_kubeconfig
from kubeletpy_common.linux.namespaces import CLONE_NEWNET, enter
from tests.root.kubeletpy.engine.process import wait_for
from tests.root.runtime.cri.node import Place, network_namespace, running_node
from tests.support.circumstances import patient
from tests.support.kubectl import find_kubectl
from tests.support.machine import Allowances, Scope

pytestmark = pytest.mark.root

Result = TypeVar("Result")
NAME, SERVER, NODE, NOBODY = "second", "10.99.0.1", "10.99.0.2", "10.99.0.9"
URL = f"https://{SERVER}:6443"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("two"))


@pytest.fixture(scope="module")
def machine_scope(place: Place) -> Scope:
    default = Scope.of_environment()
    return Scope(strict=default.strict, names=(place.token,), directories=())


def there(netns: Path, work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """Return what a coroutine returns that is run on a machine."""

    def run() -> Result:
        enter(netns, CLONE_NEWNET)
        return asyncio.run(work())

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(run).result()


class Machines:
    """The server's namespace and the node's, and what runs in them."""

    def __init__(self, directory: Path, server: Path, node: Path) -> None:
        self.directory = directory
        self.server = server
        self.node = node
        self._processes: list[subprocess.Popen[bytes]] = []
        self.kubeconfig = directory / "data" / "admin.kubeconfig"

    def run(self, netns: Path, *command: str) -> str:
        done = subprocess.run(
            ["nsenter", f"--net={netns}", *command], capture_output=True, text=True, check=False,
            timeout=patient(60),
        )  # fmt: skip
        assert done.returncode == 0, (command, done.stderr)
        return done.stdout

    def start(self, netns: Path, name: str, module: str, *flags: str) -> None:
        with open(self.directory / f"{name}.log", "ab") as log:
            self._processes.append(subprocess.Popen(
                ["nsenter", f"--net={netns}", sys.executable, "-P", "-m", module, *flags],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            ))  # fmt: skip

    def stop(self) -> None:
        for process in reversed(self._processes):
            process.terminate()
            try:
                process.wait(patient(20))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def kubectl(self, *arguments: str) -> str:
        return self.run(
            self.server, find_kubectl(), f"--kubeconfig={self.kubeconfig}",
            f"--cache-dir={self.directory}/cache", *arguments,
        )  # fmt: skip

    def log(self, name: str) -> str:
        return (self.directory / f"{name}.log").read_text()[-4000:]


@contextlib.contextmanager
def machines(place: Place, directory: Path) -> Iterator[Machines]:
    """Link the node's namespace to one of the server, and run the server in it."""
    server = directory / "server-netns"
    with network_namespace(server):
        made = Machines(directory, server, place.netns)
        made.run(server, "ip", "link", "add", "lan", "type", "veth", "peer", "name", "lan", "netns",
                 str(place.netns))  # fmt: skip
        for netns, address in ((server, SERVER), (place.netns, NODE)):
            made.run(netns, "ip", "address", "add", f"{address}/24", "dev", "lan")
            made.run(netns, "ip", "link", "set", "lan", "up")
        try:
            made.start(
                server, "apiserver", "controlplane", f"--data-dir={directory}/data",
                "--bind-address=0.0.0.0", f"--advertise-address={SERVER}",
                "--kubelet-certificate-authority=own",
                "--kubelet-preferred-address-types=InternalIP,Hostname",
            )  # fmt: skip
            wait_for(made.kubeconfig.exists, "the API server's kubeconfig", 30)
            wait_for(lambda: _answers(made), "the API server", 30)
            names = ("bootstrap-signer-controller", "token-cleaner-controller",
                     "kubelet-serving-approving-controller", "node-ipam-controller")  # fmt: skip
            made.start(
                server, "controllers", "controlplane.controllers",
                f"--kubeconfig={made.kubeconfig}", f"--controllers={','.join(names)}",
                "--no-leader-elect", "--healthz-port=-1", "--allocate-node-cidrs",
                "--cluster-cidr=10.244.0.0/16,fd44::/56",
                "--service-cluster-ip-range=10.96.0.0/16",
            )  # fmt: skip
            yield made
        finally:
            made.stop()


def _answers(made: Machines) -> bool:
    async def ask() -> bool:
        async with ApiClient(read_kubeconfig(made.kubeconfig)) as client:
            try:
                await client.get("/api/v1/namespaces/kube-public/configmaps/cluster-info")
            except ApiError:
                return False
            return True

    return there(made.server, ask)


def join(made: Machines, words: Sequence[str], kubeconfig: Path) -> None:
    """Do what the join command says, but for the installation."""
    given = dict(zip(words[::2], words[1::2], strict=True))

    async def work() -> None:
        found = await discover(
            given["--server"], given["--token"], [given["--ca-cert-hash"]], patience=30
        )
        notes = await check_join(
            found, given["--token"], node=NAME, identity=Identity("a", "b", "c")
        )
        assert notes == ()
        write_bootstrap_kubeconfig(kubeconfig, found, given["--token"])

    there(made.node, work)


def refused(made: Machines, kind: str, server: str, token: str, *hashes: str) -> None:
    with pytest.raises(JoinError) as caught:
        there(made.node, lambda: discover(server, token, hashes, patience=0))
    assert caught.value.kind == kind, caught.value


def test_a_machine_joins_by_the_printed_command(
    place: Place, machine: None, machine_allowances: Allowances, tmp_path: Path
) -> None:
    for name in ("-m runtime", "spawner", "unpacker"):
        machine_allowances.allow("processes", name)
    with running_node(place) as node_runtime, machines(place, tmp_path) as made:
        text = made.run(
            made.server, sys.executable, "-P", "-c",
            "from kubeletpy.cli import main; main()", "token", "create",
            f"--kubeconfig={made.kubeconfig}", "--print-join-command",
        )  # fmt: skip
        assert re.match(rf"kubeletpy install node --server {URL} --token \S+ --ca-cert-hash", text)
        words = text.split()[3:]
        token = words[3]
        _wrong(made, token)
        bootstrap = tmp_path / "bootstrap.kubeconfig"
        begun = time.monotonic()
        join(made, words, bootstrap)
        discovered = time.monotonic()
        made.start(
            made.node, "kubelet", "kubeletpy.kubelet_main",
            f"--kubeconfig={tmp_path}/kubelet.kubeconfig", f"--bootstrap-kubeconfig={bootstrap}",
            f"--cert-dir={tmp_path}/pki", f"--root-dir={tmp_path}/kubelet",
            "--rotate-certificates", "--rotate-server-certificates", "--healthz-port=0",
            f"--hostname-override={NAME}", f"--node-ip={NODE}", f"--pod-logs-dir={tmp_path}/logs",
            "--anonymous-auth=false", f"--client-ca-file={tmp_path}/data/pki/ca.crt",
            f"--cgroup-root={place.cgroup}-kubelet", "--terminate-pods-on-exit",
            f"--container-runtime-endpoint=unix://{place.socket}",
        )  # fmt: skip
        wait_for(lambda: _ready(made), "a ready node", 40)
        print(f"discovered and checked in {discovered - begun:.1f} s, node Ready after "
              f"{time.monotonic() - begun:.1f} s")  # fmt: skip
        node = json.loads(made.kubectl("get", "node", NAME, "-o", "json"))
        assert [one.partition("/")[2] for one in node["spec"]["podCIDRs"]] == ["24", "64"]
        # Through the server, by an address, its certificate verified by the cluster's authority.
        serving = tmp_path / "pki" / "kubelet-server-current.pem"
        wait_for(serving.exists, "the serving certificate", 30)
        assert made.kubectl("get", "--raw", f"/api/v1/nodes/{NAME}/proxy/healthz") == "ok"
        _reads_by_the_nodes_certificate(made, tmp_path / "kubelet.kubeconfig")
        _streams(made, node_runtime.image)


def _wrong(made: Machines, token: str) -> None:
    """What is wrong is named before anything is changed."""
    refused(made, "refused", f"{SERVER}:6444", token)
    refused(made, "unreachable", f"{NOBODY}:6443", token)
    refused(made, "token-unknown", URL, "zzzzzz.0123456789abcdef")
    refused(made, "token-secret", URL, f"{token[:7]}{'0' * 16}")
    refused(made, "hash", URL, token, f"sha256:{'0' * 64}")


def _streams(made: Machines, image: str) -> None:
    """Logs and exec go by the server to the node's kubelet."""
    command = ["sh", "-c", "echo from afar; trap 'exit 0' TERM; sleep 1000 & wait"]
    spec = {
        "nodeName": NAME, "terminationGracePeriodSeconds": 1,
        "tolerations": [{"operator": "Exists"}],
        "containers": [{"name": "main", "image": image, "command": command}],
    }  # fmt: skip
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "far"}, "spec": spec}
    file = made.directory / "pod.json"
    file.write_text(json.dumps(pod))
    made.kubectl("apply", "-f", str(file))
    made.kubectl("wait", "--for=condition=Ready", "pod/far", "--timeout=40s")
    assert made.kubectl("logs", "far") == "from afar\n"
    assert made.kubectl("exec", "far", "--", "echo", "executed") == "executed\n"
    made.kubectl("delete", "pod", "far", "--timeout=40s")


def _ready(made: Machines) -> bool:
    nodes = json.loads(made.kubectl("get", "nodes", "-o", "json"))["items"]
    conditions = nodes[0]["status"]["conditions"] if nodes else []
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _reads_by_the_nodes_certificate(made: Machines, kubeconfig: Path) -> None:
    """As the node's proxy, policies and network of pods do."""
    assert "kubelet-client-current.pem" in kubeconfig.read_text()

    async def work() -> None:
        async with ApiClient(read_kubeconfig(kubeconfig)) as client:
            await client.get("/apis/discovery.k8s.io/v1/endpointslices")
            await client.get("/apis/networking.k8s.io/v1/networkpolicies")
            with pytest.raises(ApiError) as caught:
                await client.get("/api/v1/secrets")
            assert caught.value.code == 403

    there(made.node, work)


def test_addresses_that_come_and_go_are_heard_of(machine: None, tmp_path: Path) -> None:
    path = tmp_path / "netns"

    async def change(word: str) -> None:
        for number in range(5):
            command = ("ip", "address", word, f"192.0.2.{number}/32", "dev", "lo")
            process = await asyncio.create_subprocess_exec(*command)
            assert await process.wait() == 0

    async def work() -> None:
        heard: asyncio.Queue[None] = asyncio.Queue()
        following = asyncio.create_task(follow_addresses(lambda: heard.put(None)))
        # It listens once it waits.
        await asyncio.sleep(0)
        for word in ("add", "del"):
            await change(word)
            async with asyncio.timeout(patient(30)):
                await heard.get()
        following.cancel()

    with network_namespace(path):
        there(path, work)
