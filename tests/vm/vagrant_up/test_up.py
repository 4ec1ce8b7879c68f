"""``vagrant up``: a server and two nodes that run pods, and the way back; in this order."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.vm.cluster.cluster import HOSTS, IMAGE, registry
from tests.vm.cluster.objects import CLIENTS, WEB, clients, web
from tests.vm.vagrant_up.user import NODES, UP_SECONDS, User

_NAMES = [f"node{number}" for number in range(1, NODES + 1)]
# Of the network that vagrant-libvirt has every machine on first.
_HOST = "192.168.121.1"


@pytest.fixture(scope="module")
def image(user: User, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A busybox that all machines can pull, from a registry on their network."""
    directory = tmp_path_factory.mktemp("images")
    with registry(directory, _HOST, user.on_their_network) as host:
        directory_there = f"/etc/containerd/certs.d/{host}"
        text = HOSTS.format(host=host).replace("\n", "\\n")
        for name in _NAMES:
            write = f"printf '{text}' | sudo tee {directory_there}/hosts.toml"
            user.vagrant("ssh", name, "-c", f"sudo mkdir -p {directory_there}; {write}")
        yield f"{host}/{':'.join(IMAGE)}"


def test_up_makes_a_cluster(user: User) -> None:
    output = user.vagrant("up", seconds=UP_SECONDS)
    assert f"kept in {user.kubeconfig}" in output
    assert user.kubeconfig.stat().st_mode & 0o777 == 0o600
    user.wait("condition=Ready", *(f"node/{name}" for name in _NAMES))
    # The server runs no pods where there are nodes.
    assert [node["metadata"]["name"] for node in user.get("nodes")] == _NAMES


def test_pods_of_all_nodes_reach_each_other(user: User, image: str) -> None:
    items = [*web(image), clients(image)]
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
    user.kubectl("apply", "-f", "-", text=text)
    for name in (WEB, CLIENTS):
        user.kubectl("rollout", "status", f"daemonset/{name}", "--timeout=600s")
    servers = user.get("pods", "-l", f"app={WEB}")
    assert sorted(pod["spec"]["nodeName"] for pod in servers) == _NAMES
    for client in user.get("pods", "-l", f"app={CLIENTS}"):
        for server in servers:
            address = f"http://{server['status']['podIP']}:8080/"
            assert fetch(user, client["metadata"]["name"], address) == server["spec"]["nodeName"]
        assert fetch(user, client["metadata"]["name"], f"http://{WEB}/") in _NAMES


def test_provisioning_again_restarts_nothing(user: User) -> None:
    before = identities(user)
    user.vagrant("provision", _NAMES[0], seconds=UP_SECONDS)
    user.wait("condition=Ready", f"node/{_NAMES[0]}")
    assert identities(user) == before


def test_a_destroyed_machine_is_forgotten(user: User) -> None:
    user.vagrant("destroy", "--force", _NAMES[-1])
    assert [node["metadata"]["name"] for node in user.get("nodes")] == _NAMES[:-1]
    user.vagrant("destroy", "--force")
    assert user.vagrant("status").count("not created") == 1 + NODES


def fetch(user: User, pod: str, address: str) -> str:
    """Return what a pod gets from an address."""
    wget = ("timeout", "60", "wget", "-q", "-O", "-", address)
    return user.kubectl("exec", pod, "--", *wget).strip()


def identities(user: User) -> list[tuple[str, str, int]]:
    """Return each container that runs, and how often it was started again."""
    return sorted(
        (pod["metadata"]["name"], one["containerID"], one["restartCount"])
        for pod in user.get("pods", "-A")
        for one in pod["status"]["containerStatuses"]
    )
