"""What the Go kube-proxy refuses in a configuration, and which fields have no effect here."""

from __future__ import annotations

import re
from collections.abc import Iterator

from kubeletpy_common.settings import component_logging, feature_gates
from kubeletpy_common.settings.durations import ConfigurationError

from ..backend import LocalTraffic
from ..backends import MODES
from ..model.addresses import network, parse
from .configuration import PRIMARY, KubeProxyConfiguration, split_address

UNSUPPORTED = {
    "ipvs": "there is no mode ipvs; Kubernetes deprecates it: use nftables",
    "winkernel": "Windows only",
    "windowsRunAsService": "Windows only",
    "enableProfiling": "there are no profiles of Go",
    "showHiddenMetricsForVersion": "no metric is hidden",
    "portRange": "unused in the peer too",
    "logging": "logs are JSON lines; of the verbosity only debug (from 4 on) is known",
}
"""Fields that are taken and have no effect here, and why."""
_VERSION = re.compile(r"[0-9]+\.[0-9]+")
_LOCAL_MODES = tuple(each.value for each in LocalTraffic if each is not LocalTraffic.NONE)


def problems(one: KubeProxyConfiguration) -> list[str]:
    """Return everything that is wrong with a configuration."""
    return [
        *feature_gates.problems(one.feature_gates),
        *_modes(one),
        *_periods(one),
        *_addresses(one),
        *_limits(one),
        *_detection(one),
        *component_logging.problems(one.logging),
    ]


def _modes(one: KubeProxyConfiguration) -> Iterator[str]:
    if one.mode == "ipvs":
        yield f"mode: {UNSUPPORTED['ipvs']}"
    elif one.mode not in ("", *MODES):
        yield (
            f"mode: {one.mode!r} must be {' or '.join(MODES)}, or blank (blank means the "
            "best-available proxy [currently iptables])"
        )


def _periods(one: KubeProxyConfiguration) -> Iterator[str]:
    part = "nftables" if one.mode == "nftables" else "iptables"
    if one.config_sync_period <= 0:
        yield f"configSyncPeriod: {one.config_sync_period} must be greater than 0"
    if one.pace.sync_period <= 0:
        yield f"{part}.syncPeriod: {one.pace.sync_period} must be greater than 0"
    if one.pace.min_sync_period < 0:
        yield f"{part}.minSyncPeriod: {one.pace.min_sync_period} must not be negative"
    if one.pace.min_sync_period > one.pace.sync_period:
        yield f"{part}.syncPeriod: {one.pace.sync_period} must not be shorter than minSyncPeriod"


def _addresses(one: KubeProxyConfiguration) -> Iterator[str]:
    if parse(one.bind_address) is None:
        yield f"bindAddress: {one.bind_address!r} is no IP address"
    for name, text in (
        ("healthzBindAddress", one.healthz_bind_address),
        ("metricsBindAddress", one.metrics_bind_address),
    ):
        try:
            if text:
                split_address(text)
        except ConfigurationError as error:
            yield f"{name}: {error}"
    for text in one.node_port_addresses:
        if text == PRIMARY:
            if len(one.node_port_addresses) > 1:
                yield "nodePortAddresses: can't use both 'primary' and CIDRs"
            break
        if network(text) is None:
            yield f"nodePortAddresses: {text!r} must be a valid CIDR"


def _limits(one: KubeProxyConfiguration) -> Iterator[str]:
    for part, bit in (("iptables", one.iptables), ("nftables", one.nftables)):
        if not 0 <= bit.masquerade_bit <= 31:
            yield f"{part}.masqueradeBit: {bit.masquerade_bit} must be within the range [0, 31]"
    if not -1000 <= one.oom_score_adj <= 1000:
        yield f"oomScoreAdj: {one.oom_score_adj} must be within the range [-1000, 1000]"
    if one.client_connection.burst < 0:
        yield f"clientConnection.burst: {one.client_connection.burst} must not be negative"
    version = one.show_hidden_metrics_for_version
    if version and not _VERSION.fullmatch(version):
        yield f"showHiddenMetricsForVersion: {version!r} is no version such as 1.35"
    limits = one.conntrack
    for name, value in (
        ("maxPerCore", limits.max_per_core),
        ("min", limits.min),
        ("tcpEstablishedTimeout", limits.tcp_established_timeout),
        ("tcpCloseWaitTimeout", limits.tcp_close_wait_timeout),
        ("udpTimeout", limits.udp_timeout),
        ("udpStreamTimeout", limits.udp_stream_timeout),
    ):
        if value < 0:
            yield f"conntrack.{name}: {value} must be greater than or equal to 0"


def _detection(one: KubeProxyConfiguration) -> Iterator[str]:
    mode, arguments = one.detect_local_mode, one.detect_local
    if mode not in ("", *_LOCAL_MODES):
        yield f"detectLocalMode: {mode!r} must be {', '.join(_LOCAL_MODES)}, or blank"
    if mode == LocalTraffic.BRIDGE_INTERFACE.value and not arguments.bridge_interface:
        yield "detectLocal.bridgeInterface: must not be empty"
    if mode == LocalTraffic.INTERFACE_NAME_PREFIX.value and not arguments.interface_name_prefix:
        yield "detectLocal.interfaceNamePrefix: must not be empty"
    for name in (arguments.bridge_interface, arguments.interface_name_prefix):
        if len(name.encode()) > 15 or any(each.isspace() or each in '/"' for each in name):
            yield f"detectLocal: {name!r} is no name of an interface"
    if mode in ("", LocalTraffic.CLUSTER_CIDR.value):
        yield from _cluster_cidrs(one.cluster_cidrs)


def _cluster_cidrs(texts: list[str]) -> Iterator[str]:
    found = [network(text) for text in texts]
    for text, parsed in zip(texts, found, strict=True):
        if parsed is None:
            yield f"clusterCIDR: {text!r} must be a valid CIDR block (e.g. 10.100.0.0/16)"
    families = [parsed[0] for parsed in found if parsed is not None]
    if len(texts) > 2 or len(set(families)) != len(families):
        yield f"clusterCIDR: {','.join(texts)!r} must be one CIDR, or one of each family"
