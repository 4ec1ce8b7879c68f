"""How a node finds its cluster: by a token and the server's address, or by a kubeconfig."""

from __future__ import annotations

import base64
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import yaml

from kubeletpy.install import configs, places
from kubeletpy.install.errors import InstallError
from kubeletpy.install.installation import Cluster, NodeInstallation
from kubeletpy.install.objects import KUBEADM_CONFIG, KUBELET_CONFIG, cluster_of
from kubeletpy.install.places import Places
from kubeletpy.install.rendered import Rendered
from kubeletpy.joining import Discovered, JoinError, check_join, discover
from kubeletpy_common.apiclient.client import ApiClient, object_path
from kubeletpy_common.apiclient.errors import ApiError
from kubeletpy_common.apiclient.kubeconfig import Access, KubeconfigError, read_kubeconfig

_PRIVATE = 0o600
_FILES = {
    "certificate-authority": "certificate-authority-data",
    "client-certificate": "client-certificate-data",
    "client-key": "client-key-data",
    "tokenFile": "token",
}
"""Keys of a kubeconfig that name files, and those of their contents."""
_HIDDEN = tuple(map(Path, ("/home", "/root", "/run/user", "/tmp", "/var/tmp")))
"""What services with ProtectHome= and PrivateTmp= do not see, systemd.exec(5)."""


@dataclass(frozen=True, kw_only=True)
class Invitation:
    """What was given to join by.

    Attributes:
        server, token: address and bootstrap token; or
        kubeconfig: file with the node's own credentials; or
        bootstrap_kubeconfig: file with credentials that may ask for a certificate.
        ca_hashes, ca_file: the cluster's authority, if it is known.
    """

    server: str = ""
    token: str = ""
    ca_hashes: tuple[str, ...] = ()
    ca_file: Path | None = None
    kubeconfig: Path | None = None
    bootstrap_kubeconfig: Path | None = None

    @property
    def empty(self) -> bool:
        """Whether nothing was given."""
        return not (self.token or self.kubeconfig or self.bootstrap_kubeconfig)

    def check(self) -> None:
        """Look whether it is one way to join.

        Raises:
            InstallError: it is none, or more than one.
        """
        ways = sum(map(bool, (self.token, self.kubeconfig, self.bootstrap_kubeconfig)))
        if ways > 1 or (ways and not self.token and self.server):
            raise InstallError(
                "join by --server and --token, or by --kubeconfig, or by --bootstrap-kubeconfig"
            )
        if bool(self.token) != bool(self.server):
            raise InstallError(
                "--server and --token belong together; on the server, "
                "`kubeletpy token create --print-join-command` prints both"
            )


@dataclass(frozen=True)
class Joined:
    """A cluster that was found.

    Attributes:
        cluster: what is known of it.
        files: authority and kubeconfig, to be written.
        renewed: see :class:`NodeInstallation`.
        notes: for people.
    """

    cluster: Cluster
    files: tuple[Rendered, ...]
    notes: tuple[str, ...] = ()
    renewed: bool = False


async def join(one: NodeInstallation, invitation: Invitation) -> Joined:
    """Find the cluster and what its nodes have to know.

    Raises:
        InstallError: it cannot be found, or this node may not join it.
    """
    notes: tuple[str, ...] = ()
    if invitation.token:
        found, notes = await _discovered(one, invitation)
        access = Access(server=found.server, ca=found.ca, token=invitation.token)
        text = configs.kubeconfig(found.server, {"token": invitation.token})
        target = places.BOOTSTRAP
    else:
        path = invitation.kubeconfig or invitation.bootstrap_kubeconfig
        assert path is not None
        access, text, notes = _given(path)
        target = places.KUBECONFIG if invitation.kubeconfig else places.BOOTSTRAP
    files = [Rendered(target, text, _PRIVATE)]
    renewed = target == places.KUBECONFIG and has_certificate(access)
    if renewed:
        files.append(Rendered(places.RENEWED_KUBECONFIG, by_renewed(text), _PRIVATE))
    if access.ca:
        files.append(Rendered(places.AUTHORITY, access.ca.decode("ascii", "replace"), 0o644))
    facts, unread = await _facts(access)
    cluster = msgspec.structs.replace(one.cluster, server=access.server)
    # What was asked for goes before what the cluster says.
    missing = {key: value for key, value in facts.items() if not getattr(cluster, key)}
    missing |= {key: facts[key] for key in ("domain",) if key in facts}
    cluster = msgspec.structs.replace(cluster, **missing)
    if not cluster.dns:
        unread.append("the address of the cluster's DNS is not known: name it with --cluster-dns, "
                      "or pods resolve names as this machine does")  # fmt: skip
    return Joined(cluster, tuple(files), (*notes, *unread), renewed)


async def _discovered(
    one: NodeInstallation, invitation: Invitation
) -> tuple[Discovered, tuple[str, ...]]:
    try:
        found = await discover(
            invitation.server, invitation.token, invitation.ca_hashes, invitation.ca_file
        )
        notes = await check_join(found, invitation.token, node=one.node_name)
    except JoinError as error:
        raise InstallError(f"cannot join: {error}") from error
    return found, tuple(notes)


def _given(path: Path) -> tuple[Access, str, tuple[str, ...]]:
    """Return a kubeconfig, its text with paths that are good anywhere, and what is to be known."""
    copied: list[str] = []
    try:
        access = read_kubeconfig(path)
        value: Any = yaml.safe_load(path.read_text())
        for kind, inner in (("clusters", "cluster"), ("users", "user")):
            for entry in value.get(kind) or []:
                copied += _settle(entry.get(inner) or {}, path.parent)
    except (KubeconfigError, OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InstallError(f"cannot use {path}: {error}") from error
    notes: tuple[str, ...] = ()
    if copied:
        notes = (f"{', '.join(copied)}: copied into the kubeconfig of this node, for services see "
                 "no files of users; when they are renewed, run this again",)  # fmt: skip
    return access, yaml.safe_dump(value, sort_keys=False), notes


def has_certificate(access: Access) -> bool:
    """Whether a kubeconfig has a client's certificate, which a kubelet renews (pure)."""
    return bool(access.certificate or (access.certificate_file and access.key_file))


def by_renewed(text: str) -> str:
    """Return a kubeconfig with the kubelet's own certificate in the place of a user's (pure)."""
    value: Any = yaml.safe_load(text)
    pair = str(places.CERTIFICATE)
    for entry in value.get("users") or []:
        entry["user"] = {"client-certificate": pair, "client-key": pair}
    return yaml.safe_dump(value, sort_keys=False)


def _settle(table: dict[str, Any], directory: Path) -> list[str]:
    """Make what a table of a kubeconfig refers to good for services; return what was copied.

    Raises:
        OSError: a file cannot be read.
    """
    copied = []
    for key, embedded in _FILES.items():
        if not table.get(key):
            continue
        # A link is kept: it points to another file when a certificate was renewed.
        path = Path(os.path.abspath(directory / table[key]))
        if not any(path.is_relative_to(hidden) or path.resolve().is_relative_to(hidden)
                   for hidden in _HIDDEN):  # fmt: skip
            table[key] = str(path)
            continue
        data = path.read_bytes()
        del table[key]
        table[embedded] = (
            data.decode().strip() if embedded == "token" else base64.b64encode(data).decode()
        )
        copied.append(str(path))
    return copied


async def _facts(access: Access) -> tuple[dict[str, Any], list[str]]:
    texts, unread = [], []
    try:
        async with ApiClient(access, rate=0, agent="kubeletpy-install") as client:
            for name, key in (
                (KUBELET_CONFIG, "kubelet"), (KUBEADM_CONFIG, "ClusterConfiguration"),
            ):  # fmt: skip
                try:
                    path = object_path("v1", "configmaps", "kube-system", name)
                    texts.append(str(((await client.get(path)).get("data") or {}).get(key, "")))
                except ApiError as error:
                    if error.code not in (401, 403, 404):
                        raise
                    texts.append("")
                    unread.append(f"ConfigMap kube-system/{name} cannot be read: {error}")
    except (ApiError, KubeconfigError) as error:
        raise InstallError(f"cannot ask {access.server} about the cluster: {error}") from error
    return cluster_of(texts[0], texts[1]), unread


def is_joined(at: Places) -> bool:
    """Whether this node has what it needs to reach its cluster."""
    return at.of(places.KUBECONFIG).exists() or at.of(places.BOOTSTRAP).exists()
