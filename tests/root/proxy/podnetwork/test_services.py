"""Services and NetworkPolicies across nodes, all in the proxy's process: who is seen, who may."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.machine import Allowances
from tests.support.proxylab.mesh import Cluster, address, bare, connects, source_through

pytestmark = pytest.mark.root

WEB, LOCAL, NODE_PORT, LOCAL_PORT = "10.96.0.10", "10.96.0.11", 30080, 30081


@pytest.fixture(scope="module")
def mesh(cluster: Cluster, machine_allowances: Allowances) -> Iterator[Cluster]:
    machine_allowances.allow("processes", "-m\\x00proxy")
    cluster.register()
    for node in ("n1", "n2", "n4"):
        cluster.attach(node)
    cluster.api.put(
        *_service("web", WEB, NODE_PORT, "Cluster", cluster.pods["n4"].ips[4], "n4"),
        *_service("local", LOCAL, LOCAL_PORT, "Local", cluster.pods["n1"].ips[4], "n1"),
    )
    for node in ("n1", "n4"):
        cluster.start_proxy(node, "--pod-network=auto", "--enforce-network-policies")
    cluster.start("n2")
    for node in ("n1", "n2", "n4"):
        cluster.until(lambda node=node: cluster.settled(node), node)
    cluster.until(lambda: WEB in cluster.spaces["n1"].run("nft list ruleset"), "rules of n1")
    yield cluster
    cluster.stop_all()


def _service(
    name: str, ip: str, port: int, policy: str, endpoint: str, node: str
) -> list[dict[str, Any]]:
    meta = {"name": name, "namespace": "default"}
    ports = [{"name": "", "port": 80, "protocol": "TCP", "nodePort": port, "targetPort": 8080}]
    return [
        {
            "kind": "Service", "apiVersion": "v1", "metadata": meta,
            "spec": {
                "type": "NodePort", "clusterIP": ip, "clusterIPs": [ip], "ipFamilies": ["IPv4"],
                "ports": ports, "externalTrafficPolicy": policy,
            },
        },
        {
            "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
            "metadata": {**meta, "labels": {"kubernetes.io/service-name": name}},
            "addressType": "IPv4", "ports": [{"name": "", "port": 8080, "protocol": "TCP"}],
            "endpoints": [
                {"addresses": [endpoint], "nodeName": node, "conditions": {"ready": True}}
            ],
        },
    ]  # fmt: skip


def test_an_endpoint_of_another_node_sees_the_pod(mesh: Cluster) -> None:
    one, four = mesh.pods["n1"], mesh.pods["n4"]
    assert source_through(one.space, four.space, four.ips[4], (WEB, 80)) == one.ips[4]


def test_a_node_port_leads_on_to_another_node_and_the_answer_comes_back(mesh: Cluster) -> None:
    four, where = mesh.pods["n4"], bare(address("n1", 4))
    seen = source_through(mesh.spaces["n2"], four.space, four.ips[4], (where, NODE_PORT))
    # Of n1, by the device: the base address of its pods' network.
    assert seen == "10.244.1.0"


def test_with_the_local_policy_the_client_is_seen(mesh: Cluster) -> None:
    one, where = mesh.pods["n1"], bare(address("n1", 4))
    seen = source_through(mesh.spaces["n2"], one.space, one.ips[4], (where, LOCAL_PORT))
    assert seen == bare(address("n2", 4))


def test_a_policy_tells_pods_of_other_nodes_apart(mesh: Cluster) -> None:
    four = mesh.pods["n4"]
    mesh.api.put(
        {"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "default"}},
        *(_pod(mesh, *each) for each in (("n1", "friend"), ("n2", "other"), ("n4", "web"))),
        {
            "kind": "NetworkPolicy", "apiVersion": "networking.k8s.io/v1",
            "metadata": {"name": "friends", "namespace": "default"},
            "spec": {
                "podSelector": {"matchLabels": {"app": "web"}},
                "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "friend"}}}]}],
            },
        },
    )  # fmt: skip
    stranger = mesh.pods["n2"].space
    mesh.until(lambda: not connects(stranger, four.space, four.ips[4]), "the policy")
    for to in ((four.ips[4], 8080), (WEB, 80)):
        seen = source_through(mesh.pods["n1"].space, four.space, four.ips[4], to)
        assert seen == mesh.pods["n1"].ips[4]
    assert not connects(stranger, four.space, four.ips[4])


def _pod(mesh: Cluster, node: str, app: str) -> dict[str, Any]:
    ip = mesh.pods[node].ips[4]
    return {
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {"name": f"pod-{node}", "namespace": "default", "labels": {"app": app}},
        "spec": {"nodeName": node},
        "status": {"phase": "Running", "podIP": ip, "podIPs": [{"ip": ip}]},
    }  # fmt: skip
