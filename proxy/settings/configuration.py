"""KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1) of Kubernetes 1.36: fields, defaults.

https://kubernetes.io/docs/reference/config-api/kube-proxy-config.v1alpha1/

Durations are seconds. Defaults are those of the Go kube-proxy.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from kubeletpy_common.settings.component_logging import Logging
from kubeletpy_common.settings.documents import decode_as, encode_plain, without_nulls
from kubeletpy_common.settings.durations import ConfigurationError, Duration

from ..backend import LocalTraffic
from ..backends import DEFAULT_MODE
from ..model.addresses import parse
from ..model.portal import Family

API_VERSION, KIND = "kubeproxy.config.k8s.io/v1alpha1", "KubeProxyConfiguration"
HEALTHZ_PORT, METRICS_PORT = 10256, 10249
PRIMARY = "primary"
"""In ``nodePortAddresses``: the addresses of the Node object."""
Int32 = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]

_SPECIAL = {
    "cluster_cidr": "clusterCIDR",
    "exclude_cidrs": "excludeCIDRs",
    "strict_arp": "strictARP",
    "oom_score_adj": "oomScoreAdj",
    "tcp_be_liberal": "tcpBeLiberal",
    "enable_dsr": "enableDSR",
}


def field_name(attribute: str) -> str:
    """Return the name in a file of an attribute: ``cluster_cidr`` -> ``clusterCIDR``."""
    head, *tail = attribute.split("_")
    return _SPECIAL.get(attribute) or head + "".join(part.capitalize() for part in tail)


class _Struct(msgspec.Struct, forbid_unknown_fields=True, rename=field_name, kw_only=True):
    """Base: snake_case here, camelCase in files, what does not exist is refused."""


class Iptables(_Struct):
    """Mode iptables."""

    masquerade_bit: Int32 = 14
    masquerade_all: bool = False
    localhost_node_ports: bool = True
    sync_period: Duration = Duration(30)
    min_sync_period: Duration = Duration(1)


class Nftables(_Struct):
    """Mode nftables."""

    masquerade_bit: Int32 = 14
    masquerade_all: bool = False
    sync_period: Duration = Duration(30)
    min_sync_period: Duration = Duration(1)


class Ipvs(_Struct):
    """Mode ipvs, which this proxy does not have."""

    sync_period: Duration = Duration(30)
    min_sync_period: Duration = Duration(0)
    scheduler: str = ""
    exclude_cidrs: list[str] = []
    strict_arp: bool = False
    tcp_timeout: Duration = Duration(0)
    tcp_fin_timeout: Duration = Duration(0)
    udp_timeout: Duration = Duration(0)


class Conntrack(_Struct):
    """Limits of connection tracking; 0 leaves the kernel's as it is."""

    max_per_core: Int32 = 32 * 1024
    min: Int32 = 128 * 1024
    tcp_established_timeout: Duration = Duration(24 * 3600)
    tcp_close_wait_timeout: Duration = Duration(3600)
    tcp_be_liberal: bool = False
    udp_timeout: Duration = Duration(0)
    udp_stream_timeout: Duration = Duration(0)


class Winkernel(_Struct):
    """Windows."""

    network_name: str = ""
    source_vip: str = ""
    enable_dsr: bool = False
    root_hns_endpoint_name: str = ""
    forward_health_check_vip: bool = False


class DetectLocal(_Struct):
    """Arguments of ``detectLocalMode``."""

    bridge_interface: str = ""
    interface_name_prefix: str = ""


class ClientConnection(_Struct):
    """How the API server is spoken to."""

    kubeconfig: str = ""
    accept_content_types: str = ""
    content_type: str = "application/vnd.kubernetes.protobuf"
    qps: float = 5.0
    burst: Int32 = 10


class KubeProxyConfiguration(_Struct):
    """All fields; see the reference for what each means."""

    feature_gates: dict[str, bool] = {}
    client_connection: ClientConnection = msgspec.field(default_factory=ClientConnection)
    logging: Logging = msgspec.field(default_factory=Logging)
    hostname_override: str = ""
    bind_address: str = "0.0.0.0"
    healthz_bind_address: str = ""
    metrics_bind_address: str = ""
    bind_address_hard_fail: bool = False
    enable_profiling: bool = False
    show_hidden_metrics_for_version: str = ""
    mode: str = ""
    iptables: Iptables = msgspec.field(default_factory=Iptables)
    ipvs: Ipvs = msgspec.field(default_factory=Ipvs)
    nftables: Nftables = msgspec.field(default_factory=Nftables)
    winkernel: Winkernel = msgspec.field(default_factory=Winkernel)
    detect_local_mode: str = ""
    detect_local: DetectLocal = msgspec.field(default_factory=DetectLocal)
    cluster_cidr: str = ""
    node_port_addresses: list[str] = []
    oom_score_adj: Int32 = -999
    conntrack: Conntrack = msgspec.field(default_factory=Conntrack)
    config_sync_period: Duration = Duration(15 * 60)
    port_range: str = ""
    windows_run_as_service: bool = False

    @property
    def pace(self) -> Iptables | Nftables:
        """The part that says how often, and with what mark, rules are written in this mode."""
        return self.nftables if self.mode == "nftables" else self.iptables

    @property
    def cluster_cidrs(self) -> list[str]:
        """``clusterCIDR`` as a list."""
        return [part.strip() for part in self.cluster_cidr.split(",") if part.strip()]


FIELDS = {one.encode_name: one.name for one in msgspec.structs.fields(KubeProxyConfiguration)}
"""Names in a file to attributes."""


def decode(document: dict[str, Any]) -> KubeProxyConfiguration:
    """Return the configuration of a document (kind and apiVersion taken off), as it is.

    Raises:
        ConfigurationError: a field does not exist, or is of another type.
    """
    present = without_nulls(document)
    unknown = sorted(present.keys() - FIELDS.keys())
    if unknown:
        raise ConfigurationError(f"no such field of {KIND}: {', '.join(unknown)}")
    return decode_as(present, KubeProxyConfiguration, KIND)


def encode(one: KubeProxyConfiguration) -> dict[str, Any]:
    """Return the configuration as a document, with kind and version, as /configz shows it."""
    return {"kind": KIND, "apiVersion": API_VERSION, **encode_plain(one)}


def set_defaults(one: KubeProxyConfiguration) -> None:
    """Set what is empty: zero of a field that is no pointer in Go is the same as nothing."""
    fresh = KubeProxyConfiguration()
    one.bind_address = one.bind_address or fresh.bind_address
    all_, own = _listening(one.bind_address)
    one.healthz_bind_address = with_port(one.healthz_bind_address or all_, HEALTHZ_PORT)
    one.metrics_bind_address = with_port(one.metrics_bind_address or own, METRICS_PORT)
    one.iptables.sync_period = one.iptables.sync_period or fresh.iptables.sync_period
    one.iptables.min_sync_period = one.iptables.min_sync_period or fresh.iptables.min_sync_period
    one.nftables.sync_period = one.nftables.sync_period or fresh.nftables.sync_period
    one.nftables.min_sync_period = one.nftables.min_sync_period or fresh.nftables.min_sync_period
    one.ipvs.sync_period = one.ipvs.sync_period or fresh.ipvs.sync_period
    one.config_sync_period = one.config_sync_period or fresh.config_sync_period
    client, usual = one.client_connection, fresh.client_connection
    client.content_type = client.content_type or usual.content_type
    client.qps = client.qps or usual.qps
    client.burst = client.burst or usual.burst
    one.logging.format = one.logging.format or "text"
    one.logging.flush_frequency = one.logging.flush_frequency or "5s"


def set_platform_defaults(one: KubeProxyConfiguration) -> None:
    """Set what the peer sets for Linux, after file and flags were read."""
    one.mode = one.mode or DEFAULT_MODE
    if one.mode == "nftables" and not one.node_port_addresses:
        one.node_port_addresses = [PRIMARY]
    one.detect_local_mode = one.detect_local_mode or LocalTraffic.CLUSTER_CIDR.value


def with_port(address: str, port: int) -> str:
    """Return ``IP:port`` of an IP without one; everything else as it is."""
    if parse(address) is None:
        return address
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def split_address(text: str) -> tuple[str, int]:
    """Return host and port of ``IP:port`` or ``[IP]:port``.

    Raises:
        ConfigurationError: it is neither.
    """
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        colon = ""
    if not colon or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65_536:
        raise ConfigurationError(f"{text!r} must be IP:port")
    if parse(host) is None:
        raise ConfigurationError(f"{text!r}: {host!r} is no IP address")
    return host, int(port)


def _listening(bind_address: str) -> tuple[str, str]:
    """Return the addresses of /healthz and of /metrics that go with ``bindAddress``."""
    parsed = parse(bind_address)
    if parsed is not None and parsed[0] is Family.V6:
        return "::", "::1"
    return "0.0.0.0", "127.0.0.1"
