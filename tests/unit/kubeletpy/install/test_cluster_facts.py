from __future__ import annotations

import base64
from pathlib import Path

import pytest
import yaml

from kubeletpy.install import joining, objects, places
from kubeletpy.install.errors import InstallError
from kubeletpy.install.joining import Invitation
from kubeletpy_common.apiclient.kubeconfig import read_kubeconfig

from .installations import node, server


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


USER = {"client-certificate": "node.crt", "client-key": "node.key", "tokenFile": "token"}


def _kubeconfig(directory: Path, user: dict[str, str] = USER) -> Path:
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
        "users": [{"name": "u", "user": user}],
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


@pytest.mark.parametrize(
    ("user", "renewed"),
    [
        ({"client-certificate": "node.crt", "client-key": "node.key"}, True),
        ({"client-certificate-data": "YQ==", "client-key-data": "YQ=="}, True),
        ({"token": "a"}, False),
        ({"tokenFile": "token"}, False),
    ],
)
async def test_a_certificate_that_was_given_is_only_the_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: dict[str, str], renewed: bool
) -> None:
    async def nothing(_: object) -> tuple[dict[str, object], list[str]]:
        return {}, []

    monkeypatch.setattr(joining, "_facts", nothing)
    path = _kubeconfig(tmp_path / "etc", user)
    joined = await joining.join(node(kubeconfig=str(path)), Invitation(kubeconfig=path))
    assert joined.renewed is renewed
    written = {file.path: file for file in joined.files}
    assert (places.RENEWED_KUBECONFIG in written) is renewed
    assert written[places.KUBECONFIG].mode == 0o600
    if renewed:
        lasting = written[places.RENEWED_KUBECONFIG]
        assert lasting.mode == 0o600
        (tmp_path / "lasting").write_text(lasting.text)
        access = read_kubeconfig(tmp_path / "lasting")
        assert access.server == "http://a"
        assert access.certificate_file == access.key_file == places.CERTIFICATE
