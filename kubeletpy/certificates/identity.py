"""Who the kubelet is to the API server: by kubeconfig, or by a first certificate of its own."""

from __future__ import annotations

import base64
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from kubeletpy.settings import Settings
from kubeletpy_common.apiclient.kubeconfig import Access, KubeconfigError, read_kubeconfig
from kubeletpy_common.atomic import write_atomic

from .pairs import CertificateError, read_pair
from .store import CertificateStore

PREFIX = "kubelet-client"


@dataclass(frozen=True, kw_only=True)
class Identity:
    """How the kubelet begins.

    Attributes:
        access: what to connect with now; without credentials as long as there is no certificate.
        final: what to connect with once there is a certificate in ``store``.
        bootstrap: what to ask for the first certificate with; None: ``access``.
        store: where the client's certificate is; None: it is not the kubelet's to renew.
        once: only the first certificate is asked for.
        force: the certificate is to be replaced at once (kubeadm gives a mighty one to begin with).
    """

    access: Access
    final: Access
    bootstrap: Access | None = None
    store: CertificateStore | None = None
    once: bool = False
    force: bool = False


def load_identity(settings: Settings, now: datetime | None = None) -> Identity:
    """Return how to begin, by --kubeconfig and --bootstrap-kubeconfig, as the Go kubelet does.

    A kubeconfig that is missing, or whose certificate is not valid any more, is written anew from
    the bootstrap kubeconfig.

    Raises:
        KubeconfigError: a file cannot be used.
        CertificateError: a certificate cannot be kept.
    """
    assert settings.kubeconfig is not None
    store = CertificateStore(settings.cert_dir, PREFIX)
    rotate = settings.configuration.rotate_certificates
    at = now or datetime.now(UTC)
    if settings.bootstrap_kubeconfig is not None and not _valid(settings.kubeconfig, at):
        bootstrap = read_kubeconfig(settings.bootstrap_kubeconfig)
        nobody = bare(bootstrap)
        final = by_store(bootstrap, store)
        _write(settings.kubeconfig, final)
        there = _fresh(store, at)
        return Identity(
            access=final if there else nobody, final=final, bootstrap=bootstrap, store=store,
            once=not rotate,
        )  # fmt: skip
    access = read_kubeconfig(settings.kubeconfig)
    data = _certificate(access)
    if not rotate or not data:
        return Identity(access=access, final=access)
    force = False
    if not _fresh(store, at):
        # What the kubeconfig has is where renewal begins.
        pair = read_pair(data)
        store.update(pair.data, b"")
        force = bool(access.certificate)
    final = by_store(access, store)
    return Identity(access=final, final=final, store=store, force=force)


def by_store(access: Access, store: CertificateStore) -> Access:
    """Return an access to the same server by the certificate in ``store`` (pure)."""
    return replace(bare(access), certificate_file=store.path, key_file=store.path)


def bare(access: Access) -> Access:
    """Return an access to the same server without any credentials (pure)."""
    return replace(
        access, token="", token_file=None, certificate=b"", key=b"", certificate_file=None,
        key_file=None,
    )  # fmt: skip


def _fresh(store: CertificateStore, at: datetime) -> bool:
    pair = store.current_or_none()
    return pair is not None and at < pair.not_after


def _certificate(access: Access) -> bytes:
    """Return the client's certificate and key as PEM, b"" if it has none."""
    if access.certificate:
        return access.certificate.strip() + b"\n" + access.key
    if access.certificate_file is None or access.key_file is None:
        return b""
    try:
        certificate = access.certificate_file.read_bytes()
        if access.key_file == access.certificate_file:
            return certificate
        return certificate.strip() + b"\n" + access.key_file.read_bytes()
    except OSError as error:
        raise KubeconfigError(f"client certificate {error.filename}: {error.strerror}") from None


def _valid(kubeconfig: Path, at: datetime) -> bool:
    """Return whether there is a kubeconfig with a certificate that is valid."""
    if not kubeconfig.exists():
        return False
    try:
        data = _certificate(read_kubeconfig(kubeconfig))
        return bool(data) and at < read_pair(data).not_after
    except (KubeconfigError, CertificateError):
        return False


def _write(path: Path, access: Access) -> None:
    """Write the kubeconfig that refers to the kubelet's own certificate.

    Raises:
        KubeconfigError: it cannot be written.
    """
    document = kubeconfig_document(access)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomic(path, yaml.safe_dump(document, sort_keys=False), mode=0o600, sync=True)
    except OSError as error:
        raise KubeconfigError(f"kubeconfig {path} cannot be written: {error}") from error


def kubeconfig_document(access: Access) -> dict[str, Any]:
    """Return the kubeconfig of an access by a certificate in a file (pure)."""
    cluster: dict[str, Any] = {"server": access.server}
    if access.ca:
        cluster["certificate-authority-data"] = base64.b64encode(access.ca).decode()
    if access.insecure:
        cluster["insecure-skip-tls-verify"] = True
    if access.server_name:
        cluster["tls-server-name"] = access.server_name
    if access.proxy:
        cluster["proxy-url"] = access.proxy
    user = {
        "client-certificate": str(access.certificate_file),
        "client-key": str(access.key_file),
    }
    context = {"cluster": "default-cluster", "user": "default-auth", "namespace": "default"}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "default-cluster", "cluster": cluster}],
        "users": [{"name": "default-auth", "user": user}],
        "contexts": [{"name": "default-context", "context": context}],
        "current-context": "default-context",
    }
