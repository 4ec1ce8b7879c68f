"""What the API server is told when it starts; flags are named as kube-apiserver's."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DEFAULT_DATA = Path("/var/lib/kubeletpy/apiserver")
ADDRESS_TYPES = ("Hostname", "InternalDNS", "InternalIP", "ExternalDNS", "ExternalIP")
"""Kinds of a node's addresses, in the order in which kube-apiserver tries them by default."""


class OptionsError(ValueError):
    """An option cannot be taken; the text names it."""


@dataclass(frozen=True, slots=True)
class Options:
    """The settings.

    Attributes:
        data_dir: of the store, the authorities and their keys.
        bind_address: IP address that is listened on.
        extra_bind_addresses: more IP addresses that are listened on, same port; they need not be
            there yet.
        secure_port: TCP port; 0: any that is free.
        advertise_address: IP address of the ``kubernetes`` Service's endpoint; "": that of the
            default route.
        etcd_servers: URLs of an etcd that keeps the objects; empty: SQLite in ``data_dir``.
        etcd_cafile: certificates that sign those of an etcd with https; None: the system's.
        etcd_certfile: certificate that we show to it; None: none.
        etcd_keyfile: its key.
        etcd_compaction: seconds between compactions of etcd; 0: others do it.
        etcd_prefix: beginning of the keys in etcd.
        service_ranges: networks of ClusterIPs, one of each family at most, the first one primary.
        node_ports: first and last port of node ports.
        kubeconfig: where the administrator's kubeconfig is written; None: ``admin.kubeconfig`` in
            ``data_dir``.
        node_name: of the node that runs on this machine, for its kubelet's kubeconfig; "": the
            host's name.
        issuer: of the tokens of service accounts, an https URL.
        token_auth_file: users with static tokens, CSV: token, name, uid and groups; None: none.
        extra_names: DNS names and IP addresses that the server's certificate holds as well.
        audit_log: file of the audit log, ``-`` for standard output; None: none.
        audit_policy: what is logged (audit.k8s.io/v1 Policy); None: metadata of all requests.
        controllers: which of the controllers run, as ``--controllers`` of kube-controller-manager.
        cluster_signing_duration: seconds that a certificate is good which is signed on request, as
            of kube-controller-manager.
        event_ttl: seconds for which events are kept.
        request_timeout: seconds that a request may take, but for streams.
        max_requests_inflight: requests that read, at once; more are refused.
        max_mutating_inflight: requests that write, at once.
        kubelet_preferred_address_types: kinds of a node's addresses that its kubelet is reached by,
            the best first.
        kubelet_certificate_authority: that signs the serving certificates of kubelets, PEM; None:
            they are not checked.
        kubelet_client_certificate: that is shown to kubelets, PEM; None: that of ``data_dir``.
        kubelet_client_key: of it.
        keep: changes that watchers can go back to.
    """

    data_dir: Path = DEFAULT_DATA
    bind_address: str = "127.0.0.1"
    extra_bind_addresses: tuple[str, ...] = ()
    secure_port: int = 6443
    advertise_address: str = ""
    etcd_servers: tuple[str, ...] = ()
    etcd_cafile: Path | None = None
    etcd_certfile: Path | None = None
    etcd_keyfile: Path | None = None
    etcd_compaction: float = 300.0
    etcd_prefix: str = "/registry"
    service_ranges: tuple[str, ...] = ("10.96.0.0/16",)
    node_ports: tuple[int, int] = (30000, 32767)
    kubeconfig: Path | None = None
    node_name: str = ""
    issuer: str = "https://kubernetes.default.svc.cluster.local"
    token_auth_file: Path | None = None
    extra_names: tuple[str, ...] = ()
    audit_log: Path | None = None
    audit_policy: Path | None = None
    controllers: tuple[str, ...] = ("*",)
    cluster_signing_duration: float = 365 * 86400.0
    event_ttl: float = 3600.0
    request_timeout: float = 60.0
    max_requests_inflight: int = 400
    max_mutating_inflight: int = 200
    keep: int = 10_000
    kubelet_preferred_address_types: tuple[str, ...] = ADDRESS_TYPES
    kubelet_certificate_authority: Path | None = None
    kubelet_client_certificate: Path | None = None
    kubelet_client_key: Path | None = None
