from __future__ import annotations

import pytest

from kubeletpy.install import objects
from kubeletpy.install.errors import InstallError
from kubeletpy.install.joining import Invitation

from .installations import server


def test_what_a_server_publishes_is_what_a_node_reads() -> None:
    one = server(pod_cidrs=("10.1.0.0/16", "fd01::/48"), domain="example.org")
    maps = {
        each["metadata"]["name"]: each["data"]
        for each in objects.of_cluster(one)
        if each["kind"] == "ConfigMap"
    }
    found = objects.cluster_of(
        maps["kubelet-config"]["kubelet"], maps["kubeadm-config"]["ClusterConfiguration"]
    )
    assert found == {
        "dns": ("10.96.0.10",), "domain": "example.org", "serving_certificates": True,
        "pod_cidrs": ("10.1.0.0/16", "fd01::/48"), "service_cidrs": ("10.96.0.0/16",),
    }  # fmt: skip


@pytest.mark.parametrize("text", ["", "- 1", "{", "networking: 5", "clusterDNS: 7"])
def test_what_cannot_be_read_says_nothing(text: str) -> None:
    assert objects.cluster_of(text, text) == {}


def test_the_dns_may_only_read() -> None:
    (role,) = [each for each in objects.of_cluster(server()) if each["kind"] == "ClusterRole"]
    assert {verb for rule in role["rules"] for verb in rule["verbs"]} == {"get", "list", "watch"}
    assert "secrets" not in {name for rule in role["rules"] for name in rule["resources"]}


@pytest.mark.parametrize(
    "invitation",
    [Invitation(server="https://a"), Invitation(token="a.b"),
     Invitation(server="https://a", token="a.b", kubeconfig=__file__),  # type: ignore[arg-type]
     Invitation(kubeconfig=__file__, bootstrap_kubeconfig=__file__)],  # type: ignore[arg-type]
)  # fmt: skip
def test_one_way_to_join(invitation: Invitation) -> None:
    with pytest.raises(InstallError, match="--server"):
        invitation.check()
