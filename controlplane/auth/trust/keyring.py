"""All keys and certificates of one server, made at its first start and kept good."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec, rsa

from controlplane import addresses
from controlplane.auth.trust.authority import (
    CLIENT_AUTH,
    SERVER_AUTH,
    Authority,
    Subject,
    keep_pair,
    load_key,
    open_authority,
    private_pem,
    public_pem,
    read,
    write,
)
from controlplane.auth.trust.kubeconfig import keep_kubeconfig
from controlplane.network_changes import follow_addresses
from controlplane.options import Options
from kubeletpy_common import logs

_log = logging.getLogger(__name__)
_DAY: Final = 86_400.0

ADMINISTRATORS: Final = "kubeadm:cluster-admins"
"""The group of the administrator; a ClusterRoleBinding makes it what it is (as with kubeadm)."""

_ADMIN: Final = Subject("kubernetes-admin", (ADMINISTRATORS,))
_SERVER: Final = Subject("kube-apiserver")
_TO_KUBELETS: Final = Subject("kube-apiserver-kubelet-client", (ADMINISTRATORS,))
_FRONT_PROXY: Final = Subject("front-proxy-client")
_IDENTITIES: Final = {
    "controller-manager": Subject("system:kube-controller-manager"),
    "scheduler": Subject("system:kube-scheduler"),
    "proxy": Subject("system:kube-proxy"),
}


@dataclass(frozen=True, slots=True)
class Keyring:
    """The files, opened.

    In ``data_dir/pki``, named as kubeadm's: ``ca``, ``apiserver`` (serving),
    ``apiserver-kubelet-client`` (towards kubelets), ``front-proxy-ca`` and ``front-proxy-client``
    (towards extension servers), each ``.crt`` and ``.key``; ``sa.key`` and
    ``sa.pub`` (service-account tokens). In ``data_dir``: ``admin.kubeconfig``,
    ``controller-manager.kubeconfig``, ``scheduler.kubeconfig``, ``proxy.kubeconfig`` and
    ``kubelet.kubeconfig``, for this machine's node.

    Attributes:
        options: of the server, with the port that it has.
        authority: of the cluster.
        front_proxy: authority of who may say in whose name a request is.
        token_key: signs tokens of service accounts.
        tls: of the secure port.
    """

    options: Options
    authority: Authority
    front_proxy: Authority
    token_key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    tls: ssl.SSLContext

    def renew(self) -> None:
        """Make anew what is near its end; new connections see it.

        Raises:
            TrustError: a file cannot be written.
        """
        directory = self.options.data_dir / "pki"
        names = serving_names(self.options)
        made = keep_pair(directory, "apiserver", self.authority, _SERVER, SERVER_AUTH, names)
        if made:
            logs.event(_log, logging.INFO, "new serving certificate", names=names)
        self.tls.load_cert_chain(directory / "apiserver.crt", directory / "apiserver.key")
        keep_pair(directory, "apiserver-kubelet-client", self.authority, _TO_KUBELETS, CLIENT_AUTH)
        keep_pair(directory, "front-proxy-client", self.front_proxy, _FRONT_PROXY, CLIENT_AUTH)
        server = addresses.local_url(self.options)
        for stem, subject in _IDENTITIES.items():
            path = self.options.data_dir / f"{stem}.kubeconfig"
            keep_kubeconfig(path, server, self.authority, subject)
        node = Subject(f"system:node:{node_name(self.options)}", ("system:nodes",))
        keep_kubeconfig(self.options.data_dir / "kubelet.kubeconfig", server, self.authority, node)
        keep_kubeconfig(admin_kubeconfig(self.options), server, self.authority, _ADMIN)

    async def keep_good(self) -> None:
        """Renew once a day."""
        while True:
            await asyncio.sleep(_DAY)
            await asyncio.to_thread(self.renew)

    async def follow_addresses(self) -> None:
        """Renew when the addresses of this machine changed."""
        await follow_addresses(partial(asyncio.to_thread, self.renew))


def open_keyring(options: Options) -> Keyring:
    """Open the files of ``options.data_dir``; make what is missing.

    Raises:
        TrustError: a file cannot be read or written, or does not fit the others.
        OptionsError: an option cannot be taken.
    """
    directory = options.data_dir / "pki"
    authority = open_authority(directory, "ca", "kubernetes")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.minimum_version = ssl.TLSVersion.TLSv1_2
    tls.set_alpn_protocols(["http/1.1"])
    tls.verify_mode = ssl.CERT_OPTIONAL
    tls.load_verify_locations(cadata=authority.pem.decode())
    front_proxy = open_authority(directory, "front-proxy-ca", "front-proxy-ca")
    keyring = Keyring(options, authority, front_proxy, _token_key(directory), tls)
    keyring.renew()
    return keyring


def admin_kubeconfig(options: Options) -> Path:
    """Return where the administrator's kubeconfig is."""
    return options.kubeconfig or options.data_dir / "admin.kubeconfig"


def node_name(options: Options) -> str:
    """Return the name of this machine's node."""
    return options.node_name or socket.gethostname().lower()


def serving_names(options: Options) -> list[str]:
    """Return the names that the serving certificate must hold.

    Raises:
        OptionsError: a range of service addresses is no network.
    """
    service = ["kubernetes", "kubernetes.default", "kubernetes.default.svc",
               "kubernetes.default.svc.cluster.local"]  # fmt: skip
    local = ["localhost", "127.0.0.1", "::1", addresses.advertised(options)]
    if options.bind_address in ("0.0.0.0", "::"):
        local += [socket.gethostname().lower(), *addresses.lan_addresses()]
    else:
        local.append(options.bind_address)
    names = [
        *service,
        *local,
        *addresses.service_addresses(options),
        *options.extra_bind_addresses,
        *options.extra_names,
    ]
    return sorted(set(names))


def _token_key(directory: Path) -> ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey:
    path = directory / "sa.key"
    if not path.exists():
        # RS256: every verifier of OpenID Connect must know it.
        write(path, private_pem(rsa.generate_private_key(65537, 2048)))
    key = load_key(read(path), str(path))
    public = public_pem(key.public_key())
    if not (directory / "sa.pub").exists() or read(directory / "sa.pub") != public:
        write(directory / "sa.pub", public)
    return key
