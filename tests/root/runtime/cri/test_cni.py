"""A runtime whose pods get their network by the standard CNI plugins."""

from __future__ import annotations

import json

import pytest

from kubeletpy_proto import cri_pb2 as cri
from tests.root.runtime.cri.node import CALL_SECONDS, SLEEP, Node, Place, refused, wait_until
from tests.root.runtime.cri.test_network import SERVE, fetched

pytestmark = pytest.mark.root

PORTS = [cri.PortMapping(container_port=80, host_port=8080)]


@pytest.fixture(scope="module")
def settings(place: Place) -> str:
    configure(place)
    return f'[cni]\nconf_dir = "{place.directory}/net.d"\nbin_dirs = ["/usr/lib/cni"]\n'


def configure(place: Place) -> None:
    directory = place.directory / "net.d"
    directory.mkdir(exist_ok=True)
    ipam = {
        "type": "host-local", "dataDir": f"{place.directory}/leases",
        "ranges": [[{"subnet": "10.76.0.0/24"}]], "routes": [{"dst": "0.0.0.0/0"}],
    }  # fmt: skip
    bridge = {
        "type": "bridge", "bridge": "cni0", "isGateway": True, "ipMasq": True,
        "hairpinMode": True, "ipam": ipam,
    }  # fmt: skip
    portmap = {"type": "portmap", "capabilities": {"portMappings": True}}
    content = {"cniVersion": "1.0.0", "name": "pods", "plugins": [bridge, portmap]}
    (directory / "10-pods.conflist").write_text(json.dumps(content))


def network_condition(node: Node) -> cri.RuntimeCondition:
    status = node.runtime.Status(cri.StatusRequest(), timeout=CALL_SECONDS).status
    [found] = [c for c in status.conditions if c.type == "NetworkReady"]
    return found


def test_pods_are_attached_by_plugins_also_after_a_crash(node: Node) -> None:
    assert network_condition(node).status
    with node.pod(port_mappings=PORTS) as one, node.pod() as two:
        server = node.run(one, *SERVE)
        client = node.run(two, *SLEEP)
        ip = node.pod_status(one).network.ip
        assert ip.startswith("10.76.0.")
        wait_until(
            lambda: node.exec(client, "wget", "-qO-", f"http://{ip}/").exit_code == 0,
            "the server to listen", 10,
        )  # fmt: skip
        assert node.shell(server, "ip -4 -o addr show eth0").count(f"{ip}/24") == 1
        assert fetched(node, "http://127.0.0.1:8080/") == "page"
        node.restart()
        assert node.pod_status(one).network.ip == ip
        assert fetched(node, "http://127.0.0.1:8080/") == "page"
    assert leases(node) == []


def leases(node: Node) -> list[str]:
    directory = node.place.directory / "leases" / "pods"
    return [path.name for path in directory.glob("10.*")]


def test_a_broken_configuration_is_not_ready_and_hurts_no_pod(node: Node) -> None:
    file = node.place.directory / "net.d" / "10-pods.conflist"
    with node.pod() as sandbox:
        container = node.run(sandbox, *SLEEP)
        file.write_text("{")
        try:
            condition = network_condition(node)
            assert (condition.status, condition.reason) == (False, "NetworkPluginNotReady")
            assert "10-pods.conflist" in condition.message
            assert "10-pods.conflist" in (refused(node.run_pod).details() or "")
            assert node.shell(container, "echo alive") == "alive"
            node.stop_pod(sandbox)
        finally:
            configure(node.place)
    assert network_condition(node).status
    assert leases(node) == []


def test_missing_plugin_is_named(node: Node) -> None:
    file = node.place.directory / "net.d" / "05-first.conflist"
    file.write_text(
        json.dumps({"cniVersion": "1.0.0", "name": "x", "plugins": [{"type": "absent"}]})
    )
    try:
        assert "CNI plugin absent" in (refused(node.run_pod).details() or "")
    finally:
        file.unlink()
