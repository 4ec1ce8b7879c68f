"""One cluster for all of these tests: API server, registry, the node's two services."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.root.controlplane import server as servers
from tests.root.kubeletpy.apiserver.cluster import Api
from tests.root.kubeletpy.engine.process import condition, wait_for
from tests.support.ociimage import busybox_image, push
from tests.support.registry import DockerRegistry

from . import host

servers.READY_SECONDS = host.SECONDS


@pytest.fixture(scope="module")
def machine_allowances() -> None:
    """Nothing is compared: an installed node stays, and is thrown away with the machine."""


@pytest.fixture
def machine() -> None:
    """Nothing is compared."""


@dataclass(frozen=True)
class Cluster:
    """API server and node.

    Attributes:
        api: as its administrator uses it.
        image: a busybox.
    """

    api: Api
    image: str

    def node(self) -> Any:
        """Return the node, or None."""
        status, answer = self.api.ask("GET", f"/api/v1/nodes/{host.NODE}")
        return answer if status == 200 else None

    def ready(self) -> Any:
        """Return the condition Ready of the node, {} while there is none."""
        conditions = (self.node() or {"status": {}})["status"].get("conditions", [])
        return next((one for one in conditions if one["type"] == "Ready"), {})

    def wait_ready(self) -> None:
        """Wait for a ready node."""
        try:
            wait_for(lambda: self.ready().get("status") == "True", "a ready node", host.SECONDS)
        except AssertionError as error:
            logs = host.log_of(host.KUBELET) + host.log_of(host.RUNTIME)
            raise AssertionError(f"{error}: {self.ready()}\n{logs}") from None

    def create(self, name: str, script: str, **spec: Any) -> None:
        """Create a pod of one container that runs a script."""
        container = {"name": "main", "image": self.image, "command": ["sh", "-c", script]}
        container |= spec.pop("container", {})
        self.api.create({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"nodeName": host.NODE, "terminationGracePeriodSeconds": 1,
                     "automountServiceAccountToken": False,
                     "containers": [container], **spec},
        })  # fmt: skip

    def run(self, name: str, script: str, **spec: Any) -> Any:
        """Create a pod and wait until it is ready; return it."""
        self.create(name, script, **spec)
        return self.api.wait(
            name, lambda pod: condition(pod, "Ready") == "True", "Ready", host.SECONDS
        )

    def remove(self, name: str) -> None:
        """Delete a pod and wait until it is gone."""
        self.api.delete(name)
        self.api.wait_gone(name, host.SECONDS)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    host.set_up_network()
    host.start_logind()
    # 16 huge pages, before the kubelet looks.
    Path("/proc/sys/vm/nr_hugepages").write_text("16")
    directory = tmp_path_factory.mktemp("cluster")
    flag = "--kubelet-preferred-address-types=InternalIP"
    (directory / "registry").mkdir()
    with (
        DockerRegistry(directory / "registry") as registry,
        servers.api_server(directory, flag, program=("controlplane",)) as server,
    ):
        push(busybox_image({}, config={}), registry.host, "tests/busybox", "v1")
        api = Api(Path("/proc/self/ns/net"), server.kubeconfig)
        api.must("POST", "/api/v1/namespaces/kube-system/secrets", token())
        host.install(api.url, server.directory / "data/pki/ca.crt")
        host.run("systemctl", "start", host.KUBELET)
        cluster = Cluster(api, f"{registry.host}/tests/busybox:v1")
        cluster.wait_ready()
        yield cluster
        host.run("systemctl", "stop", host.KUBELET, host.RUNTIME)


def token() -> Any:
    identifier, key = host.TOKEN
    return json.loads(json.dumps({
        "apiVersion": "v1", "kind": "Secret", "type": "bootstrap.kubernetes.io/token",
        "metadata": {"name": f"bootstrap-token-{identifier}", "namespace": "kube-system"},
        "stringData": {
            "token-id": identifier, "token-secret": key,
            "usage-bootstrap-authentication": "true",
            "auth-extra-groups": "system:bootstrappers:nodes",
        },
    }))  # fmt: skip
