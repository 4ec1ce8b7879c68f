"""What pods see of the network, of each other and of their name service."""

from __future__ import annotations

import socket
import subprocess

import grpc
import pytest

from kubeletpy_proto import cri_pb2 as cri
from tests.root.runtime.cri.node import SLEEP, Node, refused
from tests.support.circumstances import patient

pytestmark = pytest.mark.root

SERVE = ("sh", "-c", "mkdir /www; echo page > /www/index.html; exec httpd -f -p 80 -h /www")


def test_pods_reach_each_other_over_both_families(node: Node) -> None:
    with node.pod() as one, node.pod() as two:
        node.run(one, *SERVE)
        client = node.run(two, *SLEEP)
        network = node.pod_status(one).network
        for address in (network.ip, f"[{network.additional_ips[0].ip}]"):
            fetch = f"for i in 1 2 3 4 5 6 7 8 9; do wget -qO- http://{address}/ && exit; " \
                    "sleep 0.2; done; exit 1"  # fmt: skip
            assert node.shell(client, fetch) == "page"


def test_containers_of_a_pod_share_its_loopback(node: Node) -> None:
    with node.pod() as sandbox:
        node.run(sandbox, *SERVE, name="server")
        client = node.run(sandbox, *SLEEP, name="client")
        fetch = "for i in 1 2 3 4 5 6 7 8 9; do wget -qO- http://127.0.0.1/ && exit; " \
                "sleep 0.2; done; exit 1"  # fmt: skip
        assert node.shell(client, fetch) == "page"


def test_name_service_and_host_name_are_the_pods(node: Node) -> None:
    dns = cri.DNSConfig(
        servers=["10.96.0.10", "fd00::10"],
        searches=["ns.svc.cluster.local", "cluster.local"],
        options=["ndots:5"],
    )
    with node.pod(name="named", dns_config=dns) as sandbox:
        container = node.run(sandbox, *SLEEP)
        assert node.shell(container, "cat /etc/resolv.conf") == (
            "nameserver 10.96.0.10\nnameserver fd00::10\n"
            "search ns.svc.cluster.local cluster.local\noptions ndots:5"
        )
        assert (
            node.shell(container, "cat /etc/hostname; hostname; echo $HOSTNAME").split()
            == ["named"] * 3
        )


def test_a_pod_in_the_hosts_network_sees_its_links_and_name(node: Node) -> None:
    host = cri.NamespaceOption(network=cri.NODE, pid=cri.CONTAINER)
    with node.pod(namespaces=host, hostname="") as sandbox, node.pod():
        container = node.run(sandbox, *SLEEP, security={"namespace_options": host})
        assert node.pod_status(sandbox).network.ip == ""
        assert node.place.bridge in node.shell(container, "ip -o link")
        assert node.shell(container, "hostname") == socket.gethostname()


def test_pid_modes(node: Node) -> None:
    shared = cri.NamespaceOption(pid=cri.POD)
    with node.pod(namespaces=shared) as sandbox:
        security = {"namespace_options": shared}
        node.run(sandbox, "sleep", "1234", name="first", security=security)
        second = node.run(sandbox, *SLEEP, name="second", security=security)
        assert node.shell(second, "ps | grep -c '[s]leep 1234'") == "1"
        own = node.run(sandbox, *SLEEP, name="own")
        assert node.shell(own, "ps | grep -c '[s]leep 1234' || true") == "0"
        target = {"namespace_options": cri.NamespaceOption(pid=cri.TARGET, target_id=own)}
        debug = node.run(sandbox, *SLEEP, name="debug", security=target)
        assert node.shell(debug, "ls -d /proc/1/exe && grep -c trap /proc/1/cmdline").endswith("1")


def test_ipc_and_shared_memory_are_the_pods(node: Node) -> None:
    with node.pod() as one, node.pod() as two:
        writer = node.run(one, *SLEEP, name="writer")
        reader = node.run(one, *SLEEP, name="reader")
        stranger = node.run(two, *SLEEP)
        node.shell(writer, "echo shared > /dev/shm/note")
        assert node.shell(reader, "cat /dev/shm/note") == "shared"
        assert node.shell(stranger, "ls /dev/shm") == ""


def test_sysctls_are_set_in_the_pod_only(node: Node) -> None:
    sysctls = {
        "kernel.shm_rmid_forced": "1", "net.ipv4.ip_local_port_range": "2000 3000",
        "net.core.somaxconn": "77",
    }  # fmt: skip
    with node.pod(sysctls=sysctls) as sandbox:
        container = node.run(sandbox, *SLEEP)
        script = "cat /proc/sys/kernel/shm_rmid_forced /proc/sys/net/ipv4/ip_local_port_range"
        assert node.shell(container, script).split() == ["1", "2000", "3000"]
    with open("/proc/sys/kernel/shm_rmid_forced") as stream:
        assert stream.read().strip() == "0"


def fetched(node: Node, address: str) -> str:
    """Fetch a page from the node's side, which is where host ports are."""
    script = f"for i in 1 2 3 4 5 6 7 8 9; do curl -sf --max-time 2 {address} && exit; " \
             "sleep 0.2; done; exit 1"  # fmt: skip
    done = subprocess.run(
        ["nsenter", f"--net={node.place.netns}", "sh", "-c", script],
        capture_output=True, text=True, timeout=patient(30), check=True,
    )  # fmt: skip
    return done.stdout.strip()


def test_host_ports_lead_to_the_pod_also_after_a_crash(node: Node) -> None:
    ports = [cri.PortMapping(container_port=80, host_port=8080)]
    with node.pod(name="published", port_mappings=ports) as sandbox:
        node.run(sandbox, *SERVE)
        assert fetched(node, "http://127.0.0.1:8080/") == "page"
        node.restart()
        assert fetched(node, "http://127.0.0.1:8080/") == "page"
        error = refused(lambda: node.run_pod(port_mappings=ports))
        assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
        assert f"pod tests/published (sandbox {sandbox})" in (error.details() or "")
    with node.pod(port_mappings=ports) as sandbox:
        node.run(sandbox, *SERVE)
        assert fetched(node, "http://127.0.0.1:8080/") == "page"


def test_host_ports_mean_nothing_in_the_hosts_network(node: Node) -> None:
    ports = [cri.PortMapping(container_port=80, host_port=8080)]
    host = cri.NamespaceOption(network=cri.NODE, pid=cri.CONTAINER)
    with node.pod(namespaces=host, hostname="", port_mappings=ports), node.pod(port_mappings=ports):
        pass
