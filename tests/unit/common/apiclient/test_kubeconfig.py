"""Reading kubeconfig files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kubeletpy_common.apiclient.kubeconfig import KubeconfigError, access_of, read_kubeconfig


def document(cluster: dict[str, Any], user: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
    }


def test_files_are_relative_to_the_kubeconfig(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_bytes(b"PEM")
    access = access_of(
        document(
            {"server": "https://10.0.0.1:6443/", "certificate-authority": "ca.crt"},
            {"client-certificate": "pki/a.pem", "client-key": "/b.pem", "tokenFile": "t"},
        ),
        tmp_path,
    )
    assert (access.server, access.ca) == ("https://10.0.0.1:6443", b"PEM")
    assert access.certificate_file == tmp_path / "pki/a.pem"
    assert access.key_file == Path("/b.pem")
    (tmp_path / "t").write_text("one\n")
    assert access.bearer() == "one"
    (tmp_path / "t").write_text("two\n")
    assert access.bearer() == "two"


@pytest.mark.parametrize(
    ("cluster", "user", "message"),
    [
        ({"server": "10.0.0.1"}, {}, "is no URL"),
        ({"server": "https://a"}, {"exec": {"command": "x"}}, "exec is not supported"),
        ({"server": "https://a", "certificate-authority-data": "!"}, {}, "not base64"),
        ({"server": "https://a", "certificate-authority": "/no/such"}, {}, "No such file"),
        ({"server": 1}, {}, "server: is not a string"),
    ],
)
def test_what_cannot_be_used_is_named(
    cluster: dict[str, Any], user: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(KubeconfigError, match=message):
        access_of(document(cluster, user), tmp_path)


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "no document in it"), ("{", "kubeconfig"), ("kind: Config", "current-context")],
)
def test_bad_files(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "kubeconfig"
    path.write_text(text)
    with pytest.raises(KubeconfigError, match=message):
        read_kubeconfig(path)
    with pytest.raises(KubeconfigError, match="No such file"):
        read_kubeconfig(tmp_path / "none")


def test_secrets_are_not_shown(tmp_path: Path) -> None:
    key = "aGlkZGVuLWtleQ=="
    user = {"token": "hidden-token", "client-certificate-data": "eA==", "client-key-data": key}
    shown = repr(access_of(document({"server": "https://a"}, user), tmp_path))
    assert "https://a" in shown
    assert "hidden" not in shown
