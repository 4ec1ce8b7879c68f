from __future__ import annotations

import ssl
import stat
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from controlplane.auth.trust import authority as trust
from controlplane.auth.trust import keyring
from controlplane.auth.trust.authority import CLIENT_AUTH, SERVER_AUTH, Subject, TrustError
from controlplane.options import Options


def names_of(path: Path) -> set[str]:
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(name.value) for name in found}


def test_files_are_made_once_and_kept_good(tmp_path: Path) -> None:
    options = Options(
        data_dir=tmp_path, secure_port=7443, extra_names=("api.example",), node_name="edge-1",
        service_ranges=("10.96.0.0/16", "fd00:10:96::/112"), advertise_address="192.0.2.7",
    )  # fmt: skip
    keyring.open_keyring(options)
    files = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert {path.name for path in files} == {
        "ca.crt", "ca.key", "apiserver.crt", "apiserver.key", "apiserver-kubelet-client.crt",
        "apiserver-kubelet-client.key", "sa.key", "sa.pub", "admin.kubeconfig",
        "controller-manager.kubeconfig", "scheduler.kubeconfig", "proxy.kubeconfig",
        "kubelet.kubeconfig", "front-proxy-ca.crt", "front-proxy-ca.key",
        "front-proxy-client.crt", "front-proxy-client.key",
    }  # fmt: skip
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert stat.S_IMODE((tmp_path / "pki").stat().st_mode) == 0o700
    assert names_of(tmp_path / "pki/apiserver.crt") == {
        "kubernetes", "kubernetes.default", "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local", "localhost", "127.0.0.1", "::1", "10.96.0.1",
        "fd00:10:96::1", "192.0.2.7", "api.example",
    }  # fmt: skip
    keyring.open_keyring(options)
    assert {path: path.read_bytes() for path in files} == files
    keyring.open_keyring(replace(options, extra_names=(), secure_port=7444))
    changed = {path.name for path in files if path.read_bytes() != files[path]}
    assert changed == {"apiserver.crt", "apiserver.key", "admin.kubeconfig", "proxy.kubeconfig",
                       "controller-manager.kubeconfig", "scheduler.kubeconfig",
                       "kubelet.kubeconfig"}  # fmt: skip
    assert "api.example" not in names_of(tmp_path / "pki/apiserver.crt")


def test_what_makes_a_pair_anew(tmp_path: Path) -> None:
    one = trust.open_authority(tmp_path, "ca", "one")
    other = trust.open_authority(tmp_path, "other", "one")
    subject = Subject("a", ("g",))

    def keep(authority: trust.Authority = one, who: Subject = subject) -> bool:
        return trust.keep_pair(tmp_path, "pair", authority, who, CLIENT_AUTH)

    assert keep()
    assert not keep()
    assert keep(other), "another authority of the same name"
    assert keep(who=Subject("a", ("g", "h")))
    (tmp_path / "pair.key").write_bytes((tmp_path / "ca.key").read_bytes())
    assert keep(who=Subject("a", ("g", "h"))), "a key of something else"
    (tmp_path / "pair.crt").write_text("no certificate")
    assert keep(who=Subject("a", ("g", "h")))
    short = one.issue(subject, usages=(CLIENT_AUTH,), life=trust.RENEW_BEFORE - timedelta(hours=1))
    assert not trust.is_good(short, one, subject)


def test_an_authority_that_cannot_be_used(tmp_path: Path) -> None:
    made = trust.open_authority(tmp_path, "ca", "kubernetes")
    pair = made.issue(Subject("a"), usages=(SERVER_AUTH,), life=timedelta(days=99999))
    end = x509.load_pem_x509_certificate(pair.certificate).not_valid_after_utc
    assert end == made.certificate.not_valid_after_utc, "no certificate outlives its authority"
    assert end > datetime.now(UTC) + timedelta(days=3000)
    (tmp_path / "ca.key").write_bytes(pair.key)
    with pytest.raises(TrustError, match="is not the key of"):
        trust.open_authority(tmp_path, "ca", "kubernetes")
    (tmp_path / "ca.crt").unlink()
    again = trust.open_authority(tmp_path, "ca", "kubernetes")
    assert not again.signed(made.certificate), "cut off before anybody saw it: made anew"
    with pytest.raises(TrustError, match="neither a DNS name nor an IP address"):
        trust.alternative_name("bücher.example")


def test_the_context_of_the_secure_port(tmp_path: Path) -> None:
    context = keyring.open_keyring(Options(data_dir=tmp_path)).tls
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.verify_mode == ssl.CERT_OPTIONAL
