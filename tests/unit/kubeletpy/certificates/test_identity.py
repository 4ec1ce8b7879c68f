"""How a kubelet begins: kubeconfig, bootstrap kubeconfig, certificates that are there."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml

from kubeletpy.certificates.identity import load_identity
from kubeletpy.certificates.pairs import Template
from kubeletpy.certificates.store import CertificateStore
from kubeletpy.settings import Settings
from kubeletpy.settings.configuration import convert
from kubeletpy_common.apiclient.kubeconfig import KubeconfigError, read_kubeconfig

from .authority import pair

OLD = datetime.now(UTC) - timedelta(days=9)


def kubeconfig(path: Path, **user: Any) -> Path:
    cluster = {"server": "https://192.0.2.1:6443", "certificate-authority-data": _base64(b"CA")}
    path.write_text(yaml.safe_dump({
        "kind": "Config", "apiVersion": "v1", "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
    }))  # fmt: skip
    return path


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def settings(directory: Path, *, bootstrap: bool = True, rotate: bool = True) -> Settings:
    first = kubeconfig(directory / "bootstrap", token="abcdef.0123456789abcdef")
    return Settings(
        configuration=convert({"rotateCertificates": rotate}),
        kubeconfig=directory / "kubeconfig",
        bootstrap_kubeconfig=first if bootstrap else None,
        cert_dir=directory / "pki",
    )


def embedded(path: Path, **validity: Any) -> None:
    certificate, key = pair(Template(node="n1"), **validity)
    data = {"client-certificate-data": _base64(certificate), "client-key-data": _base64(key)}
    kubeconfig(path, **data)


@pytest.mark.parametrize("rotate", [True, False])
def test_a_new_node_asks_with_its_token(tmp_path: Path, rotate: bool) -> None:
    found = load_identity(settings(tmp_path, rotate=rotate))
    assert found.bootstrap is not None
    assert found.bootstrap.token == "abcdef.0123456789abcdef"
    assert found.store is not None
    # Until there is a certificate it is nobody.
    assert (found.access.token, found.access.certificate_file) == ("", None)
    assert found.final.certificate_file == tmp_path / "pki" / "kubelet-client-current.pem"
    assert found.once is not rotate
    written = read_kubeconfig(tmp_path / "kubeconfig")
    assert written == found.final
    assert written.ca == b"CA"


def test_an_expired_kubeconfig_is_replaced(tmp_path: Path) -> None:
    embedded(tmp_path / "kubeconfig", begin=OLD)
    assert load_identity(settings(tmp_path)).bootstrap is not None


def test_a_valid_kubeconfig_makes_the_token_needless(tmp_path: Path) -> None:
    embedded(tmp_path / "kubeconfig")
    found = load_identity(settings(tmp_path, rotate=False))
    assert (found.bootstrap, found.store) == (None, None)
    assert found.access.certificate


def test_a_restart_goes_on_with_its_certificate(tmp_path: Path) -> None:
    load_identity(settings(tmp_path))
    CertificateStore(tmp_path / "pki", "kubelet-client").update(*pair(Template(node="n1")))
    found = load_identity(settings(tmp_path))
    assert found.bootstrap is None
    assert found.access == found.final
    assert not found.force


def test_a_certificate_that_kubeadm_gave_is_renewed_at_once(tmp_path: Path) -> None:
    embedded(tmp_path / "kubeconfig")
    given = settings(tmp_path, bootstrap=False)
    found = load_identity(given)
    assert found.force
    assert found.access.certificate_file == tmp_path / "pki" / "kubelet-client-current.pem"
    assert not load_identity(given).force


def test_certificate_files_are_taken_into_the_store(tmp_path: Path) -> None:
    certificate, key = pair(Template(node="n1"))
    (tmp_path / "c.crt").write_bytes(certificate)
    (tmp_path / "c.key").write_bytes(key)
    names = {"client-certificate": "c.crt", "client-key": "c.key"}
    kubeconfig(tmp_path / "kubeconfig", **names)
    found = load_identity(settings(tmp_path, bootstrap=False))
    assert not found.force
    assert found.store is not None
    assert found.store.current() is not None


def test_a_token_stays_what_it_is(tmp_path: Path) -> None:
    kubeconfig(tmp_path / "kubeconfig", token="t")
    found = load_identity(settings(tmp_path, bootstrap=False))
    assert (found.access.token, found.store) == ("t", None)


def test_no_kubeconfig_at_all(tmp_path: Path) -> None:
    with pytest.raises(KubeconfigError, match="No such file"):
        load_identity(settings(tmp_path, bootstrap=False))
