"""The cluster's DNS at a node's address, asked by nodes, pods and strangers, by real packets."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import dns.exception
import dns.message
import dns.query
import dns.rcode
import pytest

from kubeletpy_common.linux.namespaces import in_namespace
from tests.support.circumstances import patient
from tests.support.machine import Allowances
from tests.support.proxylab.mesh import Cluster, Daemon, address, bare, node_object
from tests.support.proxylab.proxies import REPOSITORY
from tests.support.proxylab.topology import Namespace

pytestmark = pytest.mark.root

PORT = 10053
WHERE = {4: "10.96.0.10", 6: "fd00:96::a"}
"""Addresses of the Service."""
NAME = "dns4.default.svc.cluster.local"


@pytest.fixture(scope="module")
def mesh(cluster: Cluster, machine_allowances: Allowances) -> Iterator[Cluster]:
    """Nodes n1 (the server), n2 and n4 with a pod each, and n3, which is not registered."""
    for text in ("-m\\x00proxy", "controlplane.dns"):
        machine_allowances.allow("processes", text)
    cluster.api.delete(node_object("n3"))
    for node in ("n1", "n2", "n4"):
        cluster.attach(node)
        cluster.start_proxy(node, "--pod-network=auto")
    cluster.api.put(
        {"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": "default"}},
        *(each for family in WHERE for each in _service(family)),
    )  # fmt: skip
    cluster.daemons["dns"] = _start_dns(cluster)
    for node in ("n1", "n2", "n4"):
        cluster.until(lambda node=node: cluster.settled(node), node)
        for text in WHERE.values():
            space = cluster.spaces[node]
            cluster.until(lambda: text in space.run("nft list ruleset"), f"rules of {node}")  # noqa: B023
    cluster.until(
        lambda: ask(cluster.spaces["n1"], "127.0.0.1", PORT) is not None, "the DNS answers"
    )
    yield cluster
    cluster.stop_all()


def _start_dns(cluster: Cluster) -> Daemon:
    log = cluster.directory / "dns.log"
    addresses = [bare(address("n1", family)) for family in WHERE]
    words = [
        *(sys.executable, "-P", "-m", "controlplane.dns", "--port", str(PORT)),
        *("--kubeconfig", str(cluster.directory / "kubeconfig"), "--forward", "none"),
        *(f"--bind-address={one}" for one in (*addresses, "127.0.0.1")),
        *("--healthz-port=-1", "--allow-from=cluster"),
    ]
    with in_namespace(cluster.spaces["n1"].path), log.open("wb") as file:
        process = subprocess.Popen(
            words, cwd=REPOSITORY, stdin=subprocess.DEVNULL, stdout=file, stderr=file
        )
    return Daemon(process, log)


def _service(family: int) -> list[dict[str, Any]]:
    meta = {"name": f"dns{family}", "namespace": "default"}
    protocols = ("UDP", "TCP")
    return [
        {
            "kind": "Service", "apiVersion": "v1", "metadata": meta,
            "spec": {
                "type": "ClusterIP", "clusterIP": WHERE[family], "clusterIPs": [WHERE[family]],
                "ipFamilies": [f"IPv{family}"],
                "ports": [{"name": one, "port": 53, "protocol": one, "targetPort": PORT}
                          for one in protocols],
            },
        },
        {
            "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
            "metadata": {**meta, "labels": {"kubernetes.io/service-name": meta["name"]}},
            "addressType": f"IPv{family}",
            "ports": [{"name": one, "port": PORT, "protocol": one} for one in protocols],
            "endpoints": [
                {"addresses": [bare(address("n1", family))], "conditions": {"ready": True}}
            ],
        },
    ]  # fmt: skip


def ask(client: Namespace, where: str, port: int, *, tcp: bool = False) -> str | None:
    """Return the rcode of the answer that a namespace gets; None: none in time."""
    query = dns.message.make_query(NAME, "A")
    how = dns.query.tcp if tcp else dns.query.udp
    with in_namespace(client.path):
        try:
            answer = how(query, where, timeout=patient(5), port=port)
        except (dns.exception.Timeout, OSError):
            return None
    assert bool(answer.answer) == (answer.rcode() == dns.rcode.NOERROR)
    return dns.rcode.to_text(answer.rcode())


def both(client: Namespace, where: str, port: int) -> list[str | None]:
    """Return the rcodes by UDP and TCP."""
    return [ask(client, where, port, tcp=tcp) for tcp in (False, True)]


@pytest.mark.parametrize("family", [4, 6])
@pytest.mark.parametrize("node", ["n1", "n2", "n4"])
def test_nodes_and_pods_are_answered_through_the_service(
    mesh: Cluster, node: str, family: int
) -> None:
    """A pod of another node is seen as that node, one of this node as itself."""
    for client in (mesh.pods[node].space, mesh.spaces[node]):
        assert both(client, WHERE[family], 53) == ["NOERROR", "NOERROR"]
        assert both(client, bare(address("n1", family)), PORT) == ["NOERROR", "NOERROR"]


@pytest.mark.parametrize("family", [4, 6])
def test_strangers_are_refused_until_they_are_nodes(mesh: Cluster, family: int) -> None:
    where = bare(address("n1", family))
    assert both(mesh.spaces["router"], where, PORT) == ["REFUSED", "REFUSED"]
    three = mesh.spaces["n3"]
    assert both(three, where, PORT) == ["REFUSED", "REFUSED"]
    mesh.register("n3")
    mesh.until(lambda: both(three, where, PORT) == ["NOERROR", "NOERROR"], "n3 is a node")
    mesh.api.delete(node_object("n3"))
    mesh.until(lambda: both(three, where, PORT) == ["REFUSED", "REFUSED"], "n3 is gone")


def test_a_flood_of_strangers_keeps_nobody_from_its_answers(mesh: Cluster) -> None:
    """Their connections are not those of clients."""
    where = bare(address("n1", 4))
    router = mesh.spaces["router"]
    script = (
        "import socket,sys\n"
        f"held=[socket.create_connection(('{where}',{PORT}),5) for _ in range(420)]\n"
        "print('held',flush=True)\nsys.stdin.read()\n"
    )
    with in_namespace(router.path):
        flood = subprocess.Popen(
            [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
    try:
        assert flood.stdout is not None
        assert flood.stdout.readline() == b"held\n"
        assert both(mesh.pods["n2"].space, WHERE[4], 53) == ["NOERROR", "NOERROR"]
    finally:
        flood.communicate()
