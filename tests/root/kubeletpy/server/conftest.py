"""A runtime and a kubelet for a whole module: its tests only look."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.root.kubeletpy.engine.conftest import machine_scope, node, place
from tests.root.kubeletpy.engine.process import KubeletProcess, manifest
from tests.root.kubeletpy.server.client import PORT, READ_ONLY_PORT, Client
from tests.root.runtime.cri.node import Node
from tests.support.certificates import Certificates, write_certificates
from tests.support.machine import Allowances

__all__ = ["machine_scope", "node", "place"]

TALKS = "trap 'echo bye; exit 0' TERM; n=0; while :; do n=$((n+1)); echo $n; sleep 0.1; done"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return write_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def kubelet(
    node: Node,
    certificates: Certificates,
    machine_allowances: Allowances,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[KubeletProcess]:
    """One that knows clients by certificates, with two pods."""
    for kind in ("processes", "mounts", "cgroups", "links", "network namespaces", "files"):
        machine_allowances.allow(kind, "")
    process = KubeletProcess(node.place, tmp_path_factory.mktemp("kubelet"))
    config = process.directory / "config.yaml"
    document = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "port": PORT,
        "readOnlyPort": READ_ONLY_PORT,
        "tlsCertFile": str(certificates.server),
        "tlsPrivateKeyFile": str(certificates.server_key),
        "authentication": {
            "x509": {"clientCAFile": str(certificates.ca)},
            "webhook": {"enabled": False},
        },
        "authorization": {"mode": "AlwaysAllow"},
    }
    config.write_text(json.dumps(document))
    process.flags = (f"--config={config}", f"--cert-dir={process.directory}/pki")
    script = {"image": node.image, "imagePullPolicy": "IfNotPresent"}
    talks = {"name": "talks", "command": ["sh", "-c", TALKS], **script}
    cat = {"name": "cat", "command": ["cat"], "stdin": True, **script}
    serves = "while :; do echo hello | nc -l -p 8080; done"
    server = {"name": "server", "command": ["sh", "-c", serves], **script}
    process.write("web", manifest("web", talks, cat, server))
    process.start()
    process.wait_ready("web")
    yield process
    assert process.stop() == 0, process.log()[-3000:]


@pytest.fixture(scope="module")
def client(kubelet: KubeletProcess, certificates: Certificates) -> Client:
    """Asks the kubelet as ``client``."""
    return Client(kubelet.place.netns, certificates)
