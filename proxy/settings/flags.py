"""The flags of the proxy, named as the Go kube-proxy's 1.36, and what they set.

As in the peer, a flag that sets a field does not count beside ``--config``, except
``--hostname-override``, ``--master`` and those of the log.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from kubeletpy_common.settings.documents import merge
from kubeletpy_common.settings.durations import ConfigurationError
from kubeletpy_common.settings.flags import (
    BOOL,
    DURATION,
    GATES,
    INT,
    LIST,
    TEXT,
    int_of,
    nested,
    value_of,
)  # fmt: skip

from .configuration import with_port
from .settings import Settings, read_file, settings_of

FLOAT = "float"
_NAT, _TRACK, _CLIENT, _LOG = "iptables.", "conntrack.", "clientConnection.", "logging."

FIELDS: Mapping[str, tuple[str, str]] = {
    # flag: field in KubeProxyConfiguration, kind of value
    "bind-address": ("bindAddress", TEXT),
    "bind-address-hard-fail": ("bindAddressHardFail", BOOL),
    "cluster-cidr": ("clusterCIDR", TEXT),
    "config-sync-period": ("configSyncPeriod", DURATION),
    "conntrack-max-per-core": (_TRACK + "maxPerCore", INT),
    "conntrack-min": (_TRACK + "min", INT),
    "conntrack-tcp-be-liberal": (_TRACK + "tcpBeLiberal", BOOL),
    "conntrack-tcp-timeout-close-wait": (_TRACK + "tcpCloseWaitTimeout", DURATION),
    "conntrack-tcp-timeout-established": (_TRACK + "tcpEstablishedTimeout", DURATION),
    "conntrack-udp-timeout": (_TRACK + "udpTimeout", DURATION),
    "conntrack-udp-timeout-stream": (_TRACK + "udpStreamTimeout", DURATION),
    "detect-local-mode": ("detectLocalMode", TEXT),
    "feature-gates": ("featureGates", GATES),
    "healthz-bind-address": ("healthzBindAddress", TEXT),
    "hostname-override": ("hostnameOverride", TEXT),
    "iptables-localhost-nodeports": (_NAT + "localhostNodePorts", BOOL),
    "iptables-masquerade-bit": (_NAT + "masqueradeBit", INT),
    "iptables-min-sync-period": (_NAT + "minSyncPeriod", DURATION),
    "iptables-sync-period": (_NAT + "syncPeriod", DURATION),
    "ipvs-exclude-cidrs": ("ipvs.excludeCIDRs", LIST),
    "ipvs-min-sync-period": ("ipvs.minSyncPeriod", DURATION),
    "ipvs-scheduler": ("ipvs.scheduler", TEXT),
    "ipvs-strict-arp": ("ipvs.strictARP", BOOL),
    "ipvs-sync-period": ("ipvs.syncPeriod", DURATION),
    "ipvs-tcp-timeout": ("ipvs.tcpTimeout", DURATION),
    "ipvs-tcpfin-timeout": ("ipvs.tcpFinTimeout", DURATION),
    "ipvs-udp-timeout": ("ipvs.udpTimeout", DURATION),
    "kube-api-burst": (_CLIENT + "burst", INT),
    "kube-api-content-type": (_CLIENT + "contentType", TEXT),
    "kube-api-qps": (_CLIENT + "qps", FLOAT),
    "kubeconfig": (_CLIENT + "kubeconfig", TEXT),
    "log-flush-frequency": (_LOG + "flushFrequency", TEXT),
    "log-json-info-buffer-size": (_LOG + "options.json.infoBufferSize", TEXT),
    "log-json-split-stream": (_LOG + "options.json.splitStream", BOOL),
    "log-text-info-buffer-size": (_LOG + "options.text.infoBufferSize", TEXT),
    "log-text-split-stream": (_LOG + "options.text.splitStream", BOOL),
    "logging-format": (_LOG + "format", TEXT),
    "masquerade-all": (_NAT + "masqueradeAll", BOOL),
    "metrics-bind-address": ("metricsBindAddress", TEXT),
    "nodeport-addresses": ("nodePortAddresses", LIST),
    "oom-score-adj": ("oomScoreAdj", INT),
    "pod-bridge-interface": ("detectLocal.bridgeInterface", TEXT),
    "pod-interface-name-prefix": ("detectLocal.interfaceNamePrefix", TEXT),
    "profiling": ("enableProfiling", BOOL),
    "proxy-mode": ("mode", TEXT),
    "show-hidden-metrics-for-version": ("showHiddenMetricsForVersion", TEXT),
    "v": (_LOG + "verbosity", INT),
}
"""Flags that set a field."""

PORTS = {"healthz-port": "healthzBindAddress", "metrics-port": "metricsBindAddress"}
"""Deprecated: the port alone; 0 serves nothing."""
NO_EFFECT = frozenset({"boot-id-file", "machine-id-file", "vmodule"})
"""Flags of the Go kube-proxy that are taken and have nothing to act on here."""
_BOTH_MODES = {
    "iptables-sync-period": "nftables.syncPeriod",
    "iptables-min-sync-period": "nftables.minSyncPeriod",
    "masquerade-all": "nftables.masqueradeAll",
}
"""Flags that are named after iptables and count in mode nftables too."""
_BESIDE_CONFIG = frozenset(
    {"hostname-override", *(name for name, (path, _) in FIELDS.items() if path.startswith(_LOG))}
)
"""Flags that count beside ``--config`` too."""


def settings_of_flags(config: Path | None, given: Mapping[str, Any], master: str = "") -> Settings:
    """Return the settings of ``--config``, or of flags.

    Args:
        given: flags without their dashes, to the text given, or to a tuple of texts.
        master: of ``--master``.

    Raises:
        ConfigurationError: one cannot be taken.
    """
    document: dict[str, Any] = {}
    always: dict[str, Any] = {}
    for flag, value in given.items():
        if flag not in FIELDS:
            continue
        path, kind = FIELDS[flag]
        one = float_of(flag, value) if kind == FLOAT else value_of(flag, kind, value)
        if flag == "hostname-override" and not str(one).strip():
            raise ConfigurationError("--hostname-override: is empty")
        for each in (path, _BOTH_MODES.get(flag, "")):
            if each and flag in _BESIDE_CONFIG:
                always = merge(always, nested(each, one))
            elif each:
                document = merge(document, nested(each, one))
    ports = {flag: int_of(flag, given[flag]) for flag in PORTS if flag in given}
    empty = {path for flag, path in PORTS.items() if ports.get(flag) == 0}
    empty |= {path for path in PORTS.values() if document.get(path) == ""}
    for flag, number in ports.items():
        if number:
            usual = "0.0.0.0" if flag == "healthz-port" else "127.0.0.1"
            document[PORTS[flag]] = with_port(document.get(PORTS[flag]) or usual, number)
    file = read_file(config) if config is not None else None
    settings = settings_of(
        file, document, always=always, config_file=config, master=master,
        no_healthz="healthzBindAddress" in empty, no_metrics="metricsBindAddress" in empty,
    )  # fmt: skip
    if config is None:
        return settings
    ignored = (given.keys() & FIELDS.keys() - _BESIDE_CONFIG) | ports.keys()
    return replace(settings, overridden=tuple(sorted(ignored)))


def float_of(flag: str, value: str) -> float:
    """Return the number that the text of a flag is.

    Raises:
        ConfigurationError: it is none.
    """
    try:
        return float(value)
    except ValueError:
        raise ConfigurationError(f"--{flag}: {value!r} is no number") from None
