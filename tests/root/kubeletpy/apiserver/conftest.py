"""An API server and a runtime a module, a kubelet that has joined a test."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from kubeletpy_common.linux.namespaces import in_namespace
from tests.root.controlplane.server import api_server
from tests.root.kubeletpy.engine.conftest import machine_scope, node, place, run
from tests.root.kubeletpy.engine.process import KubeletProcess, wait_for
from tests.root.runtime.cri.node import Node
from tests.support.machine import Allowances

from .cluster import Api

__all__ = ["machine_scope", "node", "place", "run"]


@pytest.fixture(scope="module")
def api(node: Node, machine_allowances: Allowances, tmp_path_factory: Any) -> Iterator[Api]:
    """Our API server, in the network of the node."""
    machine_allowances.allow("processes", "apiserver")
    directory = tmp_path_factory.mktemp("apiserver")
    with contextlib.ExitStack() as stack:
        with in_namespace(node.place.netns):
            # A node has an address, and that is the one its default route sends from.
            for command in (
                "ip link add uplink type veth peer name beyond",
                "ip link set beyond up",
                "ip address add 10.88.0.1/24 dev uplink",
                "ip link set uplink up",
                "ip route add default via 10.88.0.2",
            ):
                subprocess.run(command.split(), check=True)
            flag = "--kubelet-preferred-address-types=InternalIP"
            server = stack.enter_context(api_server(directory, flag))
        yield Api(node.place.netns, server.kubeconfig)


@pytest.fixture
def joined(node: Node, api: Api, machine: None, tmp_path_factory: Any) -> Iterator[KubeletProcess]:
    """A kubelet of that API server; in the end it ends its pods, and nothing may be left."""
    process = KubeletProcess(node.place, tmp_path_factory.mktemp("kubelet"))
    kubeconfig = process.directory / "kubeconfig"
    kubeconfig.write_text(api.kubeconfig.read_text())
    authority = api.kubeconfig.parent / "pki" / "ca.crt"
    process.flags = (
        f"--kubeconfig={kubeconfig}",
        "--node-ip=127.0.0.1",
        f"--client-ca-file={authority}",
    )
    process.start()
    yield process
    if process.ended:
        # One that is told to end its pods before it knows the runtime cannot.
        position = len(process.log())
        process.start()
        wait_for(lambda: '"kubelet started"' in process.log()[position:], "the runtime to be known")
    path = "/api/v1/namespaces/default/pods"
    api.must("DELETE", path, {"gracePeriodSeconds": 0})
    code = process.stop()
    assert code == 0, process.log()[-3000:]
    left = {str(path.relative_to(process.root)) for path in process.root.rglob("*")}
    assert left == {"lock"}, process.log()[-3000:]
    for defect in ("worker broke", "step broke", "part of the kubelet broke"):
        assert defect not in process.log()
