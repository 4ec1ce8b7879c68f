"""A node joins our API server with a token, is Ready, loses its runtime and gets it back."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubeletpy_common.ports import free_port
from tests.root.controlplane.server import ApiServer, api_server
from tests.root.kubeletpy.engine.process import wait_for
from tests.root.runtime.cri.node import Place, running_node
from tests.support.circumstances import patient
from tests.support.kubectl import find_kubectl
from tests.support.machine import Allowances, Scope

pytestmark = pytest.mark.root

NAME = "joining"
TOKEN = ("abcdef", "0123456789abcdef")
NOTICED = 2.0
"""Seconds within which a dead runtime must be told."""


@dataclass
class Joined:
    """A kubelet that joins ``api`` with a token."""

    api: ApiServer
    directory: Path
    place: Place
    process: subprocess.Popen[bytes]

    def kubectl(self, *arguments: str, text: str = "") -> str:
        done = subprocess.run(
            [find_kubectl(), f"--kubeconfig={self.api.kubeconfig}",
             f"--cache-dir={self.directory}/cache", *arguments],
            input=text, capture_output=True, text=True, timeout=patient(30), check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def ready(self) -> dict[str, Any]:
        """Return the condition Ready of the node, {} while there is none."""
        nodes = json.loads(self.kubectl("get", "nodes", "-o", "json"))["items"]
        conditions = nodes[0]["status"]["conditions"] if nodes else []
        return next((one for one in conditions if one["type"] == "Ready"), {})

    def stop(self) -> None:
        """End it politely, while its runtime is there: nothing of it may be left."""
        self.process.terminate()
        assert self.process.wait(patient(30)) == 0, self.log()[-3000:]
        assert "broke" not in self.log()

    def log(self) -> str:
        return (self.directory / "kubelet.log").read_text()


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("joining"))


@pytest.fixture(scope="module")
def machine_scope(place: Place) -> Scope:
    default = Scope.of_environment()
    return Scope(strict=default.strict, names=(place.token,), directories=())


@contextmanager
def kubelet(api: ApiServer, place: Place, directory: Path) -> Iterator[Joined]:
    config = yaml.safe_load(api.kubeconfig.read_text())
    config["users"][0]["user"] = {"token": ".".join(TOKEN)}
    bootstrap = directory / "bootstrap.kubeconfig"
    bootstrap.write_text(yaml.safe_dump(config))
    with open(directory / "kubelet.log", "ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "kubeletpy.kubelet_main",
             f"--kubeconfig={directory}/kubelet.kubeconfig", f"--bootstrap-kubeconfig={bootstrap}",
             f"--cert-dir={directory}/pki", f"--root-dir={directory}/kubelet",
             "--rotate-certificates", "--rotate-server-certificates", "--healthz-port=0",
             f"--hostname-override={NAME}", "--node-ip=127.0.0.1", "--address=127.0.0.1",
             f"--port={free_port()}", f"--pod-logs-dir={directory}/logs",
             f"--cgroup-root={place.cgroup}-kubelet", "--terminate-pods-on-exit",
             f"--container-runtime-endpoint=unix://{place.socket}"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip
    joined = Joined(api, directory, place, process)
    try:
        yield joined
    finally:
        process.kill()
        process.wait(patient(10))


def secret() -> str:
    identifier, key = TOKEN
    return json.dumps({
        "apiVersion": "v1", "kind": "Secret", "type": "bootstrap.kubernetes.io/token",
        "metadata": {"name": f"bootstrap-token-{identifier}", "namespace": "kube-system"},
        "stringData": {
            "token-id": identifier, "token-secret": key,
            "usage-bootstrap-authentication": "true",
            "auth-extra-groups": "system:bootstrappers:nodes",
        },
    })  # fmt: skip


def test_a_node_joins_and_follows_its_runtime(
    place: Place, machine: None, machine_allowances: Allowances, tmp_path: Path
) -> None:
    for name in ("-m runtime", "spawner", "unpacker"):
        machine_allowances.allow("processes", name)
    with api_server(tmp_path) as api, kubelet(api, place, tmp_path) as joined:
        joined.kubectl("apply", "-f", "-", text=secret())
        # There is no runtime yet: the node registers, and says so.
        ready = wait_for(joined.ready, "the node")
        assert (ready["status"], ready["reason"]) == ("False", "KubeletNotReady")
        assert "container runtime" in ready["message"]
        certificate = tmp_path / "pki" / "kubelet-client-current.pem"
        assert certificate.is_symlink()
        with running_node(place) as node:
            wait_for(lambda: joined.ready().get("status") == "True", "a ready node")
            owner = json.loads(
                joined.kubectl("get", "lease", NAME, "-n", "kube-node-lease", "-o", "json")
            )["metadata"]["ownerReferences"][0]
            assert (owner["kind"], owner["name"]) == ("Node", NAME)
            approve(joined)
            node.daemon.kill()
            ready = wait_for(
                lambda: one if (one := joined.ready())["status"] == "False" else None,
                "a node that is not ready", NOTICED,
            )  # fmt: skip
            assert ready["message"].startswith("container runtime is down")
            node.daemon.start()
            wait_for(lambda: joined.ready().get("status") == "True", "a node that is ready again")
            joined.stop()


def approve(joined: Joined) -> None:
    """Approve the request for the serving certificate; it comes as the file of the Go kubelet."""
    selector = "--field-selector=spec.signerName=kubernetes.io/kubelet-serving"
    name = wait_for(lambda: joined.kubectl("get", "csr", selector, "-o", "name"), "a request")
    joined.kubectl("certificate", "approve", name.strip().partition("/")[2])
    current = joined.directory / "pki" / "kubelet-server-current.pem"
    wait_for(current.exists, "the serving certificate")
