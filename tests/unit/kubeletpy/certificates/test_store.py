"""Pairs of key and certificate, and how they are kept."""

from __future__ import annotations

import stat
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from kubeletpy.certificates.manager import deadline
from kubeletpy.certificates.pairs import (
    CLIENT_SIGNER,
    CertificateError,
    Template,
    digested_name,
    new_key,
    read_pair,
    usages,
)
from kubeletpy.certificates.renewal import serving_template
from kubeletpy.certificates.signing import certificate_of
from kubeletpy.certificates.store import CertificateStore

from .authority import pair

CLIENT = Template(node="n1")
SERVER = Template(node="n1", names=("n1",), ips=("192.0.2.1", "2001:db8::1"))


def test_layout_is_that_of_the_go_kubelet(tmp_path: Path) -> None:
    directory = tmp_path / "pki"
    store = CertificateStore(directory, "kubelet-client")
    assert store.current() is None
    first = store.update(*pair(CLIENT))
    assert store.path.name == "kubelet-client-current.pem"
    assert store.path.is_symlink()
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert store.current() == first
    second = store.update(*pair(CLIENT))
    assert store.current() == second != first
    assert not (directory / "kubelet-client-updated.pem").exists()


def test_what_does_not_fit_is_not_taken(tmp_path: Path) -> None:
    store = CertificateStore(tmp_path, "kubelet-client")
    good = store.update(*pair(CLIENT))
    certificate, _ = pair(CLIENT)
    with pytest.raises(CertificateError, match="do not belong to each other"):
        store.update(certificate, new_key())
    with pytest.raises(CertificateError, match="no certificate"):
        store.update(b"", new_key())
    assert store.current() == good
    store.path.resolve().write_text("broken")
    with pytest.raises(CertificateError, match=r"kubelet-client-current\.pem"):
        store.current()
    assert store.current_or_none() is None


def test_what_a_certificate_says() -> None:
    certificate, key = pair(SERVER)
    found = read_pair(certificate + key)
    assert found.common_name == "system:node:n1"
    assert found.organizations == {"system:nodes"}
    assert found.satisfies(SERVER)
    assert found.satisfies(CLIENT)
    assert not found.satisfies(Template(node="n2"))
    assert not found.satisfies(Template(node="n1", names=("n1", "other")))
    assert not found.satisfies(Template(node="n1", ips=("192.0.2.9",)))


@pytest.mark.parametrize(("share", "minutes"), [(0.7, 42), (0.9, 54)])
def test_renewal_is_at_a_part_of_the_life(share: float, minutes: int) -> None:
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    certificate, key = pair(CLIENT, begin=begin, hours=1)
    assert deadline(read_pair(certificate + key), share) == begin + timedelta(minutes=minutes)


def test_a_first_request_is_found_again_by_its_key() -> None:
    key = new_key()
    name = digested_name(key, "n1", usages(CLIENT_SIGNER))
    assert name.startswith("node-csr-")
    assert name == digested_name(key, "n1", usages(CLIENT_SIGNER))
    assert name != digested_name(new_key(), "n1", usages(CLIENT_SIGNER))
    assert name != digested_name(key, "n2", usages(CLIENT_SIGNER))


@pytest.mark.parametrize(
    ("status", "found"),
    [({}, b""), ({"conditions": [{"type": "Approved"}]}, b""), ({"certificate": "eA=="}, b"x")],
)
def test_the_answer_to_a_request(status: dict[str, object], found: bytes) -> None:
    assert certificate_of({"metadata": {"name": "csr-1"}, "status": status}) == found


@pytest.mark.parametrize("kind", ["Denied", "Failed"])
def test_a_request_that_was_refused(kind: str) -> None:
    condition = {"type": kind, "reason": "Why", "message": "because"}
    with pytest.raises(CertificateError, match=f"is {kind.lower()}, reason: Why, message: because"):
        certificate_of({"metadata": {"name": "csr-1"}, "status": {"conditions": [condition]}})


@pytest.mark.parametrize(
    ("addresses", "template"),
    [
        ([], None),
        (
            [
                {"type": "InternalIP", "address": "192.0.2.1"},
                {"type": "InternalIP", "address": "2001:db8::1"},
                {"type": "Hostname", "address": "n1"},
                {"type": "InternalDNS", "address": "n1"},
            ],
            SERVER,
        ),
    ],
)
def test_what_the_certificate_of_the_api_must_say(
    addresses: list[dict[str, str]], template: Template | None
) -> None:
    assert serving_template("n1", addresses) == template
