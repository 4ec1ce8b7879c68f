from __future__ import annotations

import base64
from pathlib import Path

import pytest
import yaml

from kubeletpy.install import joining, objects
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


def _kubeconfig(directory: Path) -> Path:
    directory.mkdir()
    for name in ("ca.crt", "node.key", "token"):
        (directory / name).write_text(f"{name}\n")
    (directory / "node-1.crt").write_text("first\n")
    (directory / "node.crt").symlink_to("node-1.crt")
    path = directory / "kubeconfig"
    path.write_text(yaml.safe_dump({
        "apiVersion": "v1", "kind": "Config", "current-context": "x",
        "clusters": [{"name": "c", "cluster": {"server": "http://a", "certificate-authority":
                                               str(directory / "ca.crt")}}],
        "users": [{"name": "u", "user": {"client-certificate": "node.crt", "client-key":
                                         "node.key", "tokenFile": "token"}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
    }))  # fmt: skip
    return path


def test_files_of_a_kubeconfig_that_services_see_stay_where_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joining, "_HIDDEN", ())
    path = _kubeconfig(tmp_path / "seen")
    _, text, notes = joining._given(path)
    user = yaml.safe_load(text)["users"][0]["user"]
    assert user == {
        # A link is what a renewed certificate changes.
        "client-certificate": str(path.parent / "node.crt"),
        "client-key": str(path.parent / "node.key"), "tokenFile": str(path.parent / "token"),
    }  # fmt: skip
    assert notes == ()


def test_files_of_a_kubeconfig_that_services_do_not_see_are_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joining, "_HIDDEN", (tmp_path / "home",))
    path = _kubeconfig(tmp_path / "home")
    _, text, notes = joining._given(path)
    value = yaml.safe_load(text)
    user, cluster = value["users"][0]["user"], value["clusters"][0]["cluster"]
    assert set(user) == {"client-certificate-data", "client-key-data", "token"}
    assert base64.b64decode(user["client-certificate-data"]) == b"first\n"
    assert user["token"] == "token"
    assert set(cluster) == {"server", "certificate-authority-data"}
    assert len(notes) == 1
    assert "node.key" in notes[0]
