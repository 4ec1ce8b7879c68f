"""Logs and streams through the API server, and who may ask the kubelet itself."""

from __future__ import annotations

import http.client
import json
import re
import socket
import ssl
from pathlib import Path
from typing import Any

import pytest

from kubeletpy_common.linux.namespaces import in_namespace
from tests.root.kubeletpy.engine.process import KubeletProcess, wait_for
from tests.support.circumstances import patient
from tests.support.kubectl import Kubectl

from .cluster import Api, bound

pytestmark = pytest.mark.root
SCRIPT = "echo started; while :; do echo hello | nc -l -p 8080; done"


@pytest.fixture
def kubectl(api: Api, tmp_path: Path) -> Kubectl:
    return Kubectl(api.kubeconfig, tmp_path)


def test_kubectl_reaches_into_a_pod(
    joined: KubeletProcess, api: Api, kubectl: Kubectl, run: Any
) -> None:
    api.create(bound("web", run("main", SCRIPT)))
    api.wait_ready("web")
    with in_namespace(api.netns):
        assert kubectl("logs", "web", "-c", "main") == "started\n"
        done = kubectl.run("exec", "web", "-c", "main", "--", "sh", "-c", "echo out; exit 7")
        assert (done.returncode, done.stdout) == (7, "out\n")
        many = "x" * 300_000
        assert kubectl("exec", "-i", "web", "-c", "main", "--", "cat", stdin=many) == many
        with kubectl.running("port-forward", "pod/web", ":8080") as forward:
            line = forward.until("Forwarding from 127.0.0.1:")[-1]
            found = re.search(r"127\.0\.0\.1:(\d+) ->", line)
            assert found is not None
            with socket.create_connection(("127.0.0.1", int(found[1])), 10) as client:
                client.settimeout(10)
                assert client.recv(100) == b"hello\n"
        with kubectl.running("logs", "-f", "web") as follower:
            assert follower.until("started") == ["started"]
            kubectl("delete", "pod", "web", "--wait=false")
            # The log ends with its container.
            follower.process.wait(patient(20))


def ask(netns: Path, path: str, token: str = "") -> tuple[int, str]:
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with in_namespace(netns):
        connection = http.client.HTTPSConnection(
            "127.0.0.1", 10250, timeout=patient(20), context=context
        )
        connection.connect()
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def test_the_api_server_says_who_may_ask(
    joined: KubeletProcess, api: Api, kubectl: Kubectl
) -> None:
    wait_for(lambda: "API served" in joined.log(), "the API of the node")
    rule = {"apiGroups": [""], "resources": ["nodes/metrics"], "verbs": ["get"]}
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": "scrapers"},
        "rules": [rule],
    }
    with in_namespace(api.netns):
        kubectl("create", "serviceaccount", "scraper")
        kubectl("create", "-f", "-", stdin=json.dumps(role))
        binding = ("--clusterrole=scrapers", "--serviceaccount=default:scraper")
        kubectl("create", "clusterrolebinding", "scrapers", *binding)
        # What `kubectl create token` asks, which the one of Debian 12 does not know.
        path = "/api/v1/namespaces/default/serviceaccounts/scraper/token"
        asked = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}
        made = kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(asked))
        token = json.loads(made)["status"]["token"]
    assert ask(api.netns, "/metrics/resource") == (401, "Unauthorized")
    assert ask(api.netns, "/metrics/resource", "wrong") == (401, "Unauthorized")
    status, text = ask(api.netns, "/metrics/resource", token)
    assert status == 200
    assert "node_cpu_usage_seconds_total" in text
    status, text = ask(api.netns, "/pods", token)
    assert status == 403
    assert text == (
        "Forbidden (user=system:serviceaccount:default:scraper, verb=get, resource=nodes, "
        "subresource(s)=[pods proxy])\n"
    )
    status, text = ask(api.netns, "/stats/summary", token)
    assert (status, "subresource(s)=[stats]" in text) == (403, True)
