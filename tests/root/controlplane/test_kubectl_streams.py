"""Logs, exec, attach and port-forward by kubectl, to a kubelet that is not the machine's own."""

from __future__ import annotations

import json
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.root.controlplane.server import ApiServer, api_server
from tests.support.kubectl import Kubectl
from tests.support.kubelet import Kubelet, kubelet_beside, node_status

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiServer]:
    """One that reaches kubelets by their addresses, and not by names that nobody knows."""
    flag = "--kubelet-preferred-address-types=InternalIP"
    with api_server(tmp_path_factory.mktemp("apiserver"), flag) as running:
        yield running


@pytest.fixture(scope="module")
def kubelet(server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubelet]:
    """A kubelet that takes the certificates of the server's authority only."""
    authority = server.directory / "data" / "pki" / "ca.crt"
    with kubelet_beside(tmp_path_factory.mktemp("kubelet"), authority) as beside:
        yield beside


@pytest.fixture
def pods(admin: Kubectl, kubectl: Kubectl, kubelet: Kubelet, namespace: str) -> Iterator[Kubectl]:
    """Kubectl in a namespace with the pods ``one`` and ``two``, of as many containers."""
    node = f"node-{namespace}"
    made = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": node}}
    admin("create", "-f", "-", stdin=json.dumps(made))
    value = admin.json("get", "node", node)
    value.setdefault("status", {}).update(node_status(kubelet.port))
    path = f"/api/v1/nodes/{node}/status"
    admin("replace", "--raw", path, "-f", "-", stdin=json.dumps(value))
    done = kubectl.run("create", "serviceaccount", "default")
    assert done.returncode == 0 or "already exists" in done.stderr, done.stderr
    for name, containers in (("one", ["server"]), ("two", ["server", "waiting"])):
        listed = [{"name": each, "image": "example.com/none:1"} for each in containers]
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name},
            "spec": {"nodeName": node, "containers": listed},
        }
        kubectl("create", "-f", "-", stdin=json.dumps(pod))
        path = f"/api/v1/namespaces/{namespace}/pods/{name}/status"
        value = kubectl.json("get", "pod", name)
        value["status"]["phase"] = "Running"
        kubectl("replace", "--raw", path, "-f", "-", stdin=json.dumps(value))
    yield kubectl
    admin("delete", "node", node)


def test_logs(pods: Kubectl, kubelet: Kubelet) -> None:
    assert pods("logs", "one", "--tail=2", "--timestamps") == "two\nthree\n"
    assert "tailLines=2" in kubelet.asked[-1][1]
    assert "timestamps=true" in kubelet.asked[-1][1]
    assert kubelet.clients[-1] == "kube-apiserver-kubelet-client"
    with pods.running("logs", "one", "-f") as follower:
        assert follower.until("three") == ["one", "two", "three"]
    refused = pods("logs", "two", "-c", "waiting", code=1)
    assert "Error from server (BadRequest): container is waiting to start" in refused


def test_exec_gives_input_output_errors_and_the_exit_status(pods: Kubectl) -> None:
    assert pods("exec", "one", "-i", "--", "tr", "a-z", "A-Z", stdin="words\n") == "WORDS\n"
    done = pods.run("exec", "one", "--", "sh", "-c", "echo out; echo err >&2; exit 7")
    assert (done.returncode, done.stdout) == (7, "out\n")
    assert done.stderr.startswith("err\n")
    assert "command terminated with exit code 7" in done.stderr
    many = "x" * 300_000
    assert pods("exec", "one", "-i", "--", "cat", stdin=many) == many


def test_attach(pods: Kubectl) -> None:
    assert "hello" in pods("attach", "one", "-i", stdin="hello\n")


def test_port_forward(pods: Kubectl) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def shout() -> None:
            while True:
                try:
                    peer, _ = listener.accept()
                except OSError:
                    return
                with peer:
                    peer.sendall(peer.recv(1024).upper())

        thread = threading.Thread(target=shout, daemon=True)
        thread.start()
        port = listener.getsockname()[1]
        with pods.running("port-forward", "pod/one", f":{port}") as forward:
            line = forward.until("Forwarding from 127.0.0.1:")[-1]
            found = re.search(r"127\.0\.0\.1:(\d+) ->", line)
            assert found is not None
            for word in (b"first", b"second"):
                with socket.create_connection(("127.0.0.1", int(found[1])), 10) as client:
                    client.settimeout(10)
                    client.sendall(word)
                    assert client.recv(1024) == word.upper()
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(10)


def test_the_kubelet_says_who_asked(kubelet: Kubelet, pods: Kubectl, server: ApiServer) -> None:
    assert Path(server.kubeconfig).stat().st_mode & 0o777 == 0o600
    assert pods("logs", "one").startswith("one\n")
    assert "Authorization" not in kubelet.asked[-1][2]
