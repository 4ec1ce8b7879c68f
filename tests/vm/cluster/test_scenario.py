"""A cluster's life: pods of all nodes reach each other, nodes are cut off, lose power, come back.

The tests build on each other, in this order; the first that fails ends the run.
"""

from __future__ import annotations

import ipaddress
import json
import subprocess
from collections.abc import Iterator

import pytest

from tests.vm.cluster import objects
from tests.vm.cluster.cluster import TOKEN, Cluster, provision
from tests.vm.cluster.guest import Guest, GuestError

pytestmark = pytest.mark.root

_AWAY_SECONDS = 400.0  # the node controller's 50 s of grace, on emulated machines


@pytest.fixture(scope="module")
def machine_allowances() -> None:
    """Nothing is compared: what machines leave goes with them."""


def pods_of(cluster: Cluster, name: str) -> dict[str, dict[str, object]]:
    """Return the pods of a DaemonSet by node, those that are not on their way out."""
    items = cluster.get("pods", "-l", f"app={name}")["items"]
    return {
        pod["spec"]["nodeName"]: pod for pod in items if "deletionTimestamp" not in pod["metadata"]
    }


def addresses_of(cluster: Cluster, name: str) -> dict[str, list[str]]:
    """Return the addresses of a DaemonSet's pods by node."""
    return {
        node: [one["ip"] for one in pod["status"]["podIPs"]]  # type: ignore[index]
        for node, pod in pods_of(cluster, name).items()
    }


def ask_from(cluster: Cluster, node: str, url: str) -> str:
    """Return what a pod of a node gets from a URL, without the end of the line."""
    pod = pods_of(cluster, objects.CLIENTS)[node]
    name = pod["metadata"]["name"]  # type: ignore[index]
    wget = ("timeout", "60", "wget", "-q", "-O", "-", url)
    return cluster.kubectl("exec", name, "--", *wget).strip()


def url(address: str, port: int) -> str:
    host = f"[{address}]" if ":" in address else address
    return f"http://{host}:{port}/"


def answers_outside(cluster: Cluster, guest: Guest) -> set[str]:
    """Return who answers at the node port of a machine, asked from no node."""
    found = set()
    # So often that it is next to impossible to miss one of them.
    for _ in range(12 * len(cluster.guests)):
        done = cluster.outside(
            "curl", "-sS", "--max-time", "30", url(guest.address, objects.NODE_PORT)
        )
        found.add(done.stdout.strip() or done.stderr.strip())
        if done.returncode != 0:
            break
    return found


def test_a_server_and_nodes_are_provisioned(cluster: Cluster) -> None:
    cluster.provision_server()
    guest = cluster.nodes[0]
    environment = cluster.join_environment(guest) | {"TOKEN": f"{TOKEN[:-1]}x"}
    with pytest.raises(GuestError) as wrong:
        provision(guest, "node.sh", environment)
    assert "token" in str(wrong.value)
    cluster.provision_nodes()
    cluster.wait_nodes()
    for node in cluster.get("nodes")["items"]:
        info = node["status"]["nodeInfo"]
        assert info["containerRuntimeVersion"].startswith("kubeletpy://"), info
        ranges = [ipaddress.ip_network(one) for one in node["spec"]["podCIDRs"]]
        assert {one.version for one in ranges} == {4, 6}
    # Again: nothing is to be done, and nothing is started again.
    before = {guest.name: _main_pids(guest) for guest in cluster.guests}
    cluster.provision_nodes()
    assert {guest.name: _main_pids(guest) for guest in cluster.guests} == before


def _main_pids(guest: Guest) -> str:
    units = ("kubeletpy-runtime", "kubeletpy-kubelet", "kubeletpy-proxy")
    return guest.must("systemctl", "show", "--property=Id,MainPID,ActiveState", *units)


def test_pods_of_all_nodes_reach_each_other(cluster: Cluster) -> None:
    cluster.apply(*objects.web(cluster.image), objects.clients(cluster.image))
    for name in (objects.WEB, objects.CLIENTS):
        cluster.kubectl("rollout", "status", f"daemonset/{name}", "--timeout=600s", seconds=700)
    nodes = {guest.name for guest in cluster.guests}
    addresses = addresses_of(cluster, objects.WEB)
    assert set(addresses) == nodes
    for node in nodes:
        for other in nodes:
            for address in addresses[other]:
                assert ask_from(cluster, node, url(address, 8080)) == other


def test_services_lead_to_pods_of_all_nodes(cluster: Cluster) -> None:
    nodes = {guest.name for guest in cluster.guests}
    service = cluster.get("service", objects.WEB)["spec"]
    assert len(service["clusterIPs"]) == 2
    places = [url(address, 80) for address in service["clusterIPs"]]
    places.append(f"http://{objects.WEB}.default.svc.cluster.local/")
    for node in sorted(nodes):
        for place in places:
            found = {ask_from(cluster, node, place) for _ in range(4)}
            assert found <= nodes
    for guest in cluster.guests:
        assert answers_outside(cluster, guest) == nodes


def test_a_port_of_a_node_leads_to_its_pod(cluster: Cluster) -> None:
    for guest in cluster.guests:
        for address in guest.identity.addresses:
            place = url(address, objects.HOST_PORT)
            outside = cluster.outside("curl", "-sS", "--max-time", "30", place)
            assert outside.stdout.strip() == guest.name, (place, outside.stderr)
            for node in pods_of(cluster, objects.CLIENTS):
                assert ask_from(cluster, node, place) == guest.name, (node, place)


def test_the_api_server_reaches_kubelets_and_pods_the_api_server(cluster: Cluster) -> None:
    for node, pod in pods_of(cluster, objects.CLIENTS).items():
        name = pod["metadata"]["name"]  # type: ignore[index]
        said = cluster.kubectl("exec", name, "--", "sh", "-c", "echo $MY_NODE")
        assert said.strip() == node
        assert cluster.kubectl("logs", name) == ""
        # Bulk, in both directions: packets of full size fit.
        script = "head -c 3000000 /dev/urandom > /tmp/f; md5sum < /tmp/f; cat /tmp/f | md5sum"
        one, two = cluster.kubectl("exec", name, "--", "sh", "-c", script).split("\n")[:2]
        assert one == two
        # The TLS of busybox is too old for the API server's; that it is reached is what counts.
        script = "nc -w 30 kubernetes.default 443 < /dev/null && echo reached"
        assert cluster.kubectl("exec", name, "--", "sh", "-c", script).strip() == "reached"


def test_streams_lead_to_pods_of_all_nodes(cluster: Cluster) -> None:
    for node, pod in pods_of(cluster, objects.CLIENTS).items():
        name = pod["metadata"]["name"]  # type: ignore[index]
        with cluster.beside("kubectl", "attach", "--stdin", name) as attached:
            attached.stdin.write(f"hello {node}\n")  # type: ignore[union-attr]
            attached.stdin.flush()  # type: ignore[union-attr]
            assert line_with(attached, "hello") == f"hello {node}\n"
        assert cluster.kubectl("logs", name) == f"hello {node}\n"
    for node, pod in pods_of(cluster, objects.WEB).items():
        name = pod["metadata"]["name"]  # type: ignore[index]
        with cluster.beside("kubectl", "port-forward", f"pod/{name}", ":8080") as forwarding:
            said = line_with(forwarding, "Forwarding from 127.0.0.1:")
            port = int(said.split(":")[1].split()[0])
            done = cluster.outside("curl", "-sS", "--max-time", "30", url("127.0.0.1", port))
            assert done.stdout.strip() == node, done.stderr


def line_with(process: subprocess.Popen[str], text: str) -> str:
    """Return the first line with a text that a process prints."""
    said = []
    for line in process.stdout:  # type: ignore[union-attr]
        said.append(line)
        if text in line:
            return line
    raise AssertionError(f"{process.args!r} ended without {text!r}: {''.join(said)}")


def test_usage_of_all_nodes_is_known(cluster: Cluster) -> None:
    # Asked of kubelets whose certificates the cluster's authority signed.
    cluster.wait("condition=Available", "apiservice/v1beta1.metrics.k8s.io")
    for what, count in (("nodes", len(cluster.guests)), ("pods", 2 * len(cluster.guests))):
        cluster.until(
            lambda what=what, count=count: len(used(cluster, what)) == count,  # type: ignore[misc]
            f"usage of all {what} is known",
        )
    for guest in cluster.guests:
        found = used(cluster, "nodes")[guest.name]
        total = int(guest.shell("sed -n 's/^MemTotal: *//p' /proc/meminfo").split()[0]) >> 10
        assert 100 < found < total, (guest.name, found, total)


def used(cluster: Cluster, what: str) -> dict[str, int]:
    """Return the memory that nodes or pods use, in MiB, those of which it is known."""
    rows = cluster.outside("kubectl", "top", what, "--no-headers").stdout.splitlines()
    memory = {row.split()[0]: row.split()[3 if what == "nodes" else 2] for row in rows}
    return {name: int(text[:-2]) for name, text in memory.items() if text.endswith("Mi")}


@pytest.fixture
def victim(cluster: Cluster) -> Guest:
    return cluster.nodes[-1]


@pytest.fixture
def mended(victim: Guest) -> Iterator[None]:
    yield
    victim.mend()


def test_a_node_that_is_cut_off_comes_back(cluster: Cluster, victim: Guest, mended: None) -> None:
    cluster.apply(objects.movable(cluster.image, replicas=4))
    cluster.kubectl("rollout", "status", "deployment/movable", "--timeout=600s", seconds=700)
    others = {guest.name for guest in cluster.guests} - {victim.name}
    before = containers(victim)
    victim.cut()
    cluster.wait("condition=Ready=Unknown", f"node/{victim.name}", seconds=_AWAY_SECONDS)
    cluster.until(lambda: answers_outside(cluster, cluster.server) == others, "the others answer")
    cluster.until(
        lambda: set(places_of(cluster, "movable")) == others,
        "the pods of the Deployment are elsewhere", _AWAY_SECONDS,
    )  # fmt: skip
    # Whom nobody can reach goes on meanwhile.
    assert containers(victim) == before
    victim.mend()
    cluster.wait("condition=Ready", f"node/{victim.name}", seconds=_AWAY_SECONDS)
    nodes = others | {victim.name}
    cluster.until(lambda: answers_outside(cluster, cluster.server) == nodes, "all answer again")
    for guest in cluster.guests:
        for address in addresses_of(cluster, objects.WEB)[victim.name]:
            assert ask_from(cluster, guest.name, url(address, 8080)) == victim.name
    # What was moved away is ended there, and only that.
    names = {"web", "clients"}
    cluster.until(
        lambda: {pod.rsplit("-", 1)[0] for pod in sandboxes(victim)} == names,
        "pods that were moved away are ended",
    )


def containers(guest: Guest) -> set[str]:
    """Return the ids of the containers that run on a machine."""
    listing = json.loads(guest.must("kubeletpy", "cri", "ps", "-o", "json"))
    return {one["id"] for one in listing["containers"]}


def sandboxes(guest: Guest) -> set[str]:
    """Return the names of the pods that a machine's runtime has ready."""
    listing = json.loads(guest.must("kubeletpy", "cri", "pods", "-o", "json"))
    return {one["metadata"]["name"] for one in listing["items"] if one["state"] == "SANDBOX_READY"}


def places_of(cluster: Cluster, name: str) -> list[str]:
    """Return the nodes of the pods that run and are not on their way out."""
    items = cluster.get("pods", "-l", f"app={name}")["items"]
    return [
        pod["spec"]["nodeName"]
        for pod in items
        if "deletionTimestamp" not in pod["metadata"] and pod["status"]["phase"] == "Running"
    ]


def test_a_node_that_loses_its_power_comes_back(cluster: Cluster, victim: Guest) -> None:
    boot = victim.boot
    uids = {pod["metadata"]["uid"] for pod in pods_of(cluster, objects.WEB).values()}  # type: ignore[index]
    victim.power_off()
    cluster.wait("condition=Ready=Unknown", f"node/{victim.name}", seconds=_AWAY_SECONDS)
    victim.start()
    victim.wait_up()
    assert victim.boot != boot
    cluster.wait("condition=Ready", f"node/{victim.name}", seconds=_AWAY_SECONDS)
    nodes = {guest.name for guest in cluster.guests}
    cluster.until(lambda: answers_outside(cluster, victim) == nodes, "all answer again")
    # The same pods, started again: nothing was left that stood in their way.
    after = pods_of(cluster, objects.WEB)
    assert {pod["metadata"]["uid"] for pod in after.values()} == uids  # type: ignore[index]
    statuses = after[victim.name]["status"]["containerStatuses"]  # type: ignore[index]
    assert [one["restartCount"] for one in statuses] == [1]
    for guest in cluster.guests:
        for address in addresses_of(cluster, objects.WEB)[victim.name]:
            assert ask_from(cluster, guest.name, url(address, 8080)) == victim.name
    assert leftovers(victim) == []


def leftovers(guest: Guest) -> list[str]:
    """Return what a machine has of pods that are not there."""
    pods = len(sandboxes(guest))
    found = {
        "links": "ip -o link show type veth | wc -l",
        "slices": "find /sys/fs/cgroup/kubepods.slice -name '*-pod*.slice' | wc -l",
    }
    counts = {what: int(guest.shell(script)) for what, script in found.items()}
    return [f"{what}: {count} for {pods} pods" for what, count in counts.items() if count != pods]


def test_a_newer_package_restarts_no_container(cluster: Cluster, victim: Guest) -> None:
    before = started(victim)
    assert before
    victim.must("kubeletpy", "install", "--upgrade", seconds=900)
    victim.must("systemctl", "restart", "kubeletpy-runtime", "kubeletpy-kubelet", seconds=900)
    cluster.wait("condition=Ready", f"node/{victim.name}")
    assert started(victim) == before


def started(guest: Guest) -> str:
    """Return the processes of pods with the times they began."""
    script = "ps -o pid=,lstart=,comm= -C httpd,cat"
    return guest.shell(f"{script} || :")


def test_a_node_that_is_uninstalled_is_as_it_was(cluster: Cluster, victim: Guest) -> None:
    cluster.kubectl("cordon", victim.name)
    victim.must("kubeletpy", "uninstall", "--yes", seconds=900)
    # As `vagrant destroy` does; a second time there is nothing to be done.
    for _ in range(2):
        provision(cluster.server, "forget.sh", {"NODE": victim.name})
    nodes = {guest.name for guest in cluster.guests} - {victim.name}
    assert {one["metadata"]["name"] for one in cluster.get("nodes")["items"]} == nodes
    script = (
        "ip -o link | grep -E 'kubeletpy|veth|vxlan'; ip route | grep 10.244; "
        "nft list ruleset | grep -iE 'kube'; iptables-save | grep -i kube; "
        "findmnt -o TARGET | grep -iE 'kube'; find /sys/fs/cgroup -name '*kube*'; "
        "ls -d /etc/kubeletpy /var/lib/kubeletpy /run/kubeletpy /etc/systemd/system/kubeletpy*; "
        "ps -e -o comm= | grep -E '^(kubeletpy|httpd|cat)'"
    )
    left = victim.run("sh", "-c", f"{{ {script}; }} 2>/dev/null").output
    # Units of the tests are named like that, too.
    own = ("kubeletpy-agent.service", "kubeletpy-tests.service")
    assert [line for line in left.splitlines() if not line.endswith(own)] == []
    # The rest of the cluster goes on.
    cluster.until(lambda: answers_outside(cluster, cluster.server) == nodes, "the others answer")
