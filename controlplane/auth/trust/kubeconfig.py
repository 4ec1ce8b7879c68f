"""Kubeconfigs: how to reach the server, whom to trust, and who one is.

Source: Kubernetes documentation, "Organizing Cluster Access Using kubeconfig Files".
"""

from __future__ import annotations

import base64
import binascii
from pathlib import Path
from typing import Any

import yaml

from controlplane.auth.trust.authority import (
    CLIENT_AUTH,
    Authority,
    Pair,
    Subject,
    TrustError,
    is_good,
    read,
    write,
)

_CLUSTER = "kubeletpy"


def make_kubeconfig(server: str, authority: bytes, user: str, credentials: dict[str, Any]) -> str:
    """Return a kubeconfig with one cluster and one user (pure).

    Args:
        server: URL.
        authority: certificates that the server's is checked by, PEM.
        user: name of its entry.
        credentials: of the user: ``token``, or ``client-certificate-data`` with
            ``client-key-data``.
    """
    context = f"{user}@{_CLUSTER}"
    cluster = {"server": server, "certificate-authority-data": _encode(authority)}
    # Python's own dumper and loader take a third of the time in which a server starts.
    text: str = yaml.dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": _CLUSTER, "cluster": cluster}],
            "users": [{"name": user, "user": credentials}],
            "contexts": [{"name": context, "context": {"cluster": _CLUSTER, "user": user}}],
            "current-context": context,
        },
        Dumper=yaml.CSafeDumper,
        sort_keys=False,
    )
    return text


def with_certificate(server: str, authority: Authority, subject: Subject) -> str:
    """Return a kubeconfig for anybody, with a new client certificate."""
    pair = authority.issue(subject, usages=(CLIENT_AUTH,))
    credentials = {
        "client-certificate-data": _encode(pair.certificate),
        "client-key-data": _encode(pair.key),
    }
    return make_kubeconfig(server, authority.pem, subject.name, credentials)


def keep_kubeconfig(path: Path, server: str, authority: Authority, subject: Subject) -> bool:
    """See to it that a file is a kubeconfig that works; say whether it was written.

    It is written anew if it is not there or cannot be read, is of another authority, server or
    subject, or near its end.

    Raises:
        TrustError: it cannot be written.
    """
    if _works(path, server, authority, subject):
        return False
    write(path, with_certificate(server, authority, subject).encode())
    return True


def _works(path: Path, server: str, authority: Authority, subject: Subject) -> bool:
    try:
        value = yaml.load(read(path), Loader=yaml.CSafeLoader)
        cluster, user = value["clusters"][0]["cluster"], value["users"][0]["user"]
        if cluster != {
            "server": server,
            "certificate-authority-data": _encode(authority.pem),
        }:
            return False
        pair = Pair(
            base64.b64decode(user["client-certificate-data"]),
            base64.b64decode(user["client-key-data"]),
        )
        return is_good(pair, authority, subject)
    except (TrustError, yaml.YAMLError, LookupError, TypeError, ValueError, binascii.Error):
        return False


def _encode(content: bytes) -> str:
    return base64.b64encode(content).decode()
