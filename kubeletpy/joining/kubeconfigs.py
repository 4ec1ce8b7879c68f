"""Kubeconfigs: the one to ask for a node's first certificate with, and those of people."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import yaml

from kubeletpy_common.atomic import write_atomic

from .discovery import Discovered
from .errors import JoinError

CLUSTER = "kubernetes"
BOOTSTRAP_USER = "tls-bootstrap-token-user"


def kubeconfig(server: str, ca: bytes, user: str, credentials: dict[str, Any]) -> str:
    """Return a kubeconfig with one cluster and one user (pure).

    Args:
        server: URL.
        ca: that signed its certificate, PEM.
        user: name of the entry.
        credentials: ``token``, or ``client-certificate-data`` and ``client-key-data``.
    """
    context = f"{user}@{CLUSTER}"
    cluster = {"server": server, "certificate-authority-data": base64.b64encode(ca).decode()}
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": CLUSTER, "cluster": cluster}],
            "users": [{"name": user, "user": credentials}],
            "contexts": [{"name": context, "context": {"cluster": CLUSTER, "user": user}}],
            "current-context": context,
        },
        sort_keys=False,
    )


def write_bootstrap_kubeconfig(path: Path, discovered: Discovered, token: str) -> None:
    """Write what the kubelet's ``--bootstrap-kubeconfig`` reads: 0600, at once and whole.

    Raises:
        JoinError: it cannot be written.
    """
    text = kubeconfig(discovered.server, discovered.ca, BOOTSTRAP_USER, {"token": token})
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomic(path, text, mode=0o600, sync=True)
    except OSError as error:
        raise JoinError("input", f"write {path}", str(error.strerror),
                        "Look at the directory, and run it as root") from error  # fmt: skip
