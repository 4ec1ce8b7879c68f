"""The flags of the kubelet, named as the Go kubelet's 1.36, and what they set.

All flags that set a field of KubeletConfiguration are deprecated in Kubernetes, in favour of
--config; they work here, too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kubeletpy_common.settings import values
from kubeletpy_common.settings.documents import merge
from kubeletpy_common.settings.durations import ConfigurationError, duration
from kubeletpy_common.settings.flags import (
    BOOL,
    DURATION,
    GATES,
    HEADERS,
    INT,
    LESS,
    LIST,
    MAP,
    MEMORY,
    ONE_PAIR,
    TAINTS,
    TEXT,
    bool_of,
    int_of,
    nested,
    text_of,
    value_of,
)  # fmt: skip

from . import validation
from .files import read
from .settings import Settings

_AUTH, _MAY = "authentication.", "authorization."

FIELDS: Mapping[str, tuple[str, str]] = {
    # flag: field in KubeletConfiguration, kind of value
    "address": ("address", TEXT),
    "allowed-unsafe-sysctls": ("allowedUnsafeSysctls", LIST),
    "anonymous-auth": (_AUTH + "anonymous.enabled", BOOL),
    "authentication-token-webhook": (_AUTH + "webhook.enabled", BOOL),
    "authentication-token-webhook-cache-ttl": (_AUTH + "webhook.cacheTTL", DURATION),
    "authorization-mode": (_MAY + "mode", TEXT),
    "authorization-webhook-cache-authorized-ttl": (_MAY + "webhook.cacheAuthorizedTTL", DURATION),
    "authorization-webhook-cache-unauthorized-ttl": (
        _MAY + "webhook.cacheUnauthorizedTTL", DURATION,
    ),
    "cgroup-driver": ("cgroupDriver", TEXT),
    "cgroup-root": ("cgroupRoot", TEXT),
    "cgroups-per-qos": ("cgroupsPerQOS", BOOL),
    "client-ca-file": (_AUTH + "x509.clientCAFile", TEXT),
    "cluster-dns": ("clusterDNS", LIST),
    "cluster-domain": ("clusterDomain", TEXT),
    "container-log-max-files": ("containerLogMaxFiles", INT),
    "container-log-max-size": ("containerLogMaxSize", TEXT),
    "container-runtime-endpoint": ("containerRuntimeEndpoint", TEXT),
    "contention-profiling": ("enableContentionProfiling", BOOL),
    "cpu-cfs-quota": ("cpuCFSQuota", BOOL),
    "cpu-cfs-quota-period": ("cpuCFSQuotaPeriod", DURATION),
    "cpu-manager-policy": ("cpuManagerPolicy", TEXT),
    "cpu-manager-policy-options": ("cpuManagerPolicyOptions", ONE_PAIR),
    "cpu-manager-reconcile-period": ("cpuManagerReconcilePeriod", DURATION),
    "enable-controller-attach-detach": ("enableControllerAttachDetach", BOOL),
    "enable-debugging-handlers": ("enableDebuggingHandlers", BOOL),
    "enable-server": ("enableServer", BOOL),
    "enforce-node-allocatable": ("enforceNodeAllocatable", LIST),
    "event-burst": ("eventBurst", INT),
    "event-qps": ("eventRecordQPS", INT),
    "eviction-hard": ("evictionHard", LESS),
    "eviction-max-pod-grace-period": ("evictionMaxPodGracePeriod", INT),
    "eviction-minimum-reclaim": ("evictionMinimumReclaim", MAP),
    "eviction-pressure-transition-period": ("evictionPressureTransitionPeriod", DURATION),
    "eviction-soft": ("evictionSoft", LESS),
    "eviction-soft-grace-period": ("evictionSoftGracePeriod", MAP),
    "fail-cgroupv1": ("failCgroupV1", BOOL),
    "fail-swap-on": ("failSwapOn", BOOL),
    "feature-gates": ("featureGates", GATES),
    "file-check-frequency": ("fileCheckFrequency", DURATION),
    "hairpin-mode": ("hairpinMode", TEXT),
    "healthz-bind-address": ("healthzBindAddress", TEXT),
    "healthz-port": ("healthzPort", INT),
    "http-check-frequency": ("httpCheckFrequency", DURATION),
    "image-gc-high-threshold": ("imageGCHighThresholdPercent", INT),
    "image-gc-low-threshold": ("imageGCLowThresholdPercent", INT),
    "image-service-endpoint": ("imageServiceEndpoint", TEXT),
    "kernel-memcg-notification": ("kernelMemcgNotification", BOOL),
    "kube-api-burst": ("kubeAPIBurst", INT),
    "kube-api-content-type": ("contentType", TEXT),
    "kube-api-qps": ("kubeAPIQPS", INT),
    "kube-reserved": ("kubeReserved", MAP),
    "kube-reserved-cgroup": ("kubeReservedCgroup", TEXT),
    "kubelet-cgroups": ("kubeletCgroups", TEXT),
    "local-storage-capacity-isolation": ("localStorageCapacityIsolation", BOOL),
    "log-flush-frequency": ("logging.flushFrequency", TEXT),
    "log-json-info-buffer-size": ("logging.options.json.infoBufferSize", TEXT),
    "log-json-split-stream": ("logging.options.json.splitStream", BOOL),
    "log-text-info-buffer-size": ("logging.options.text.infoBufferSize", TEXT),
    "log-text-split-stream": ("logging.options.text.splitStream", BOOL),
    "logging-format": ("logging.format", TEXT),
    "make-iptables-util-chains": ("makeIPTablesUtilChains", BOOL),
    "manifest-url": ("staticPodURL", TEXT),
    "manifest-url-header": ("staticPodURLHeader", HEADERS),
    "max-open-files": ("maxOpenFiles", INT),
    "max-pods": ("maxPods", INT),
    "memory-manager-policy": ("memoryManagerPolicy", TEXT),
    "minimum-image-ttl-duration": ("imageMinimumGCAge", DURATION),
    "node-status-max-images": ("nodeStatusMaxImages", INT),
    "node-status-update-frequency": ("nodeStatusUpdateFrequency", DURATION),
    "oom-score-adj": ("oomScoreAdj", INT),
    "pod-cidr": ("podCIDR", TEXT),
    "pod-logs-dir": ("podLogsDir", TEXT),
    "pod-manifest-path": ("staticPodPath", TEXT),
    "pod-max-pids": ("podPidsLimit", INT),
    "pods-per-core": ("podsPerCore", INT),
    "port": ("port", INT),
    "protect-kernel-defaults": ("protectKernelDefaults", BOOL),
    "provider-id": ("providerID", TEXT),
    "qos-reserved": ("qosReserved", MAP),
    "read-only-port": ("readOnlyPort", INT),
    "register-node": ("registerNode", BOOL),
    "register-with-taints": ("registerWithTaints", TAINTS),
    "registry-burst": ("registryBurst", INT),
    "registry-qps": ("registryPullQPS", INT),
    "reserved-cpus": ("reservedSystemCPUs", TEXT),
    "reserved-memory": ("reservedMemory", MEMORY),
    "resolv-conf": ("resolvConf", TEXT),
    "rotate-certificates": ("rotateCertificates", BOOL),
    "rotate-server-certificates": ("serverTLSBootstrap", BOOL),
    "runonce": ("runOnce", BOOL),
    "runtime-request-timeout": ("runtimeRequestTimeout", DURATION),
    "seccomp-default": ("seccompDefault", BOOL),
    "serialize-image-pulls": ("serializeImagePulls", BOOL),
    "streaming-connection-idle-timeout": ("streamingConnectionIdleTimeout", DURATION),
    "sync-frequency": ("syncFrequency", DURATION),
    "system-cgroups": ("systemCgroups", TEXT),
    "system-reserved": ("systemReserved", MAP),
    "system-reserved-cgroup": ("systemReservedCgroup", TEXT),
    "tls-cert-file": ("tlsCertFile", TEXT),
    "tls-cipher-suites": ("tlsCipherSuites", LIST),
    "tls-min-version": ("tlsMinVersion", TEXT),
    "tls-private-key-file": ("tlsPrivateKeyFile", TEXT),
    "topology-manager-policy": ("topologyManagerPolicy", TEXT),
    "topology-manager-policy-options": ("topologyManagerPolicyOptions", MAP),
    "topology-manager-scope": ("topologyManagerScope", TEXT),
    "volume-plugin-dir": ("volumePluginDir", TEXT),
    "volume-stats-agg-period": ("volumeStatsAggPeriod", DURATION),
}  # fmt: skip
"""Flags that set a field; --pod-logs-dir alone is not one of Go's."""

NO_EFFECT = frozenset(
    """
    application-metrics-count-limit boot-id-file container-hints containerd containerd-namespace
    enable-load-reader event-storage-age-limit event-storage-event-limit experimental-mounter-path
    exit-on-lock-contention global-housekeeping-interval housekeeping-interval log-cadvisor-usage
    machine-id-file max-housekeeping-interval storage-driver-buffer-duration storage-driver-db
    storage-driver-host storage-driver-password storage-driver-secure storage-driver-table
    storage-driver-user vmodule
    """.split()
)
"""Flags of the Go kubelet that are taken and have nothing to act on here, cAdvisor's mostly."""


@dataclass(frozen=True, kw_only=True)
class OwnFlag:
    """A flag that sets no field of a file.

    Attributes:
        attribute: of `Settings`.
        read: makes the value of it; raises ConfigurationError (flag and text given).
        help: one line; "" hides the flag.
        many: it may be given several times.
    """

    attribute: str
    read: Callable[[str, Any], Any]
    help: str
    many: bool = False


def _absolute(flag: str, value: str) -> Path:
    if not value.startswith("/"):
        raise ConfigurationError(f"--{flag}: {value} is not an absolute path")
    return Path(value)


def _file(_: str, value: str) -> Path | None:
    return Path(value).absolute() if value else None


def _seconds(flag: str, value: str) -> float:
    return duration(value, f"--{flag}")


def _addresses(flag: str, value: str) -> tuple[str, ...]:
    return values.addresses(value, f"--{flag}")


def _cloud(flag: str, value: str) -> str:
    if value not in ("", "external"):
        raise ConfigurationError(f"--{flag}: {value!r} must be external, or empty")
    return value


_OWN_PREFIXES = ("kubelet.kubernetes.io", "node.kubernetes.io")
_OWN_LABELS = frozenset(
    """
    kubernetes.io/hostname topology.kubernetes.io/zone topology.kubernetes.io/region
    failure-domain.beta.kubernetes.io/zone failure-domain.beta.kubernetes.io/region
    beta.kubernetes.io/instance-type node.kubernetes.io/instance-type kubernetes.io/os
    kubernetes.io/arch beta.kubernetes.io/os beta.kubernetes.io/arch
    """.split()
)


def _labels(flag: str, value: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Return labels that a kubelet may give its node (NodeRestriction refuses all others)."""
    found = values.pairs(value, f"--{flag}")
    for key, text in found.items():
        reason = validation.label_key_problem(key) or validation.label_value_problem(text)
        if reason:
            raise ConfigurationError(f"--{flag}: {key!r}: {reason}")
        domain = key.rpartition("/")[0]
        kubernetes = domain.endswith((".kubernetes.io", ".k8s.io")) or domain in (
            "kubernetes.io", "k8s.io",
        )  # fmt: skip
        own = key in _OWN_LABELS or any(
            domain == one or domain.endswith(f".{one}") for one in _OWN_PREFIXES
        )
        if kubernetes and not own:
            raise ConfigurationError(
                f"--{flag}: {key!r}: of the labels of kubernetes.io and k8s.io a kubelet may set "
                f"those below {' and '.join(_OWN_PREFIXES)}, and {', '.join(sorted(_OWN_LABELS))}"
            )
    return tuple(found.items())


OWN: Mapping[str, OwnFlag] = {
    "bootstrap-kubeconfig": OwnFlag(
        attribute="bootstrap_kubeconfig", read=_file,
        help="How to ask for a certificate if the file of --kubeconfig is not there yet.",
    ),
    "cert-dir": OwnFlag(
        attribute="cert_dir", read=_absolute,
        help="Certificates of the kubelet.  [default: /var/lib/kubelet/pki]",
    ),
    "cloud-provider": OwnFlag(
        attribute="cloud_provider", read=_cloud, help="external, or empty."
    ),
    "experimental-allocatable-ignore-eviction": OwnFlag(
        attribute="ignore_eviction_in_allocatable", read=bool_of, help=""
    ),
    "hostname-override": OwnFlag(
        attribute="node_name", read=text_of, help="Name of the node instead of the host's name."
    ),
    "image-credential-provider-bin-dir": OwnFlag(
        attribute="credential_provider_bin_dir", read=_file,
        help="Where the credential-provider plugins are.",
    ),
    "image-credential-provider-config": OwnFlag(
        attribute="credential_provider_config", read=_file,
        help="File or directory that says which plugin is for which images.",
    ),
    "kubeconfig": OwnFlag(
        attribute="kubeconfig", read=_file,
        help="How to reach the API server; without it only static pods run.",
    ),
    "lock-file": OwnFlag(attribute="lock_file", read=_file, help=""),
    "maximum-dead-containers": OwnFlag(attribute="dead_containers", read=int_of, help=""),
    "maximum-dead-containers-per-container": OwnFlag(
        attribute="dead_containers_per_container", read=int_of, help=""
    ),
    "minimum-container-ttl-duration": OwnFlag(
        attribute="container_minimum_age", read=_seconds, help=""
    ),
    "node-ip": OwnFlag(
        attribute="node_ips", read=_addresses,
        help="IP address of the node, or one of each family: v4,v6.",
    ),
    "node-labels": OwnFlag(
        attribute="node_labels", read=_labels, many=True,
        help="Labels that the node is registered with: key=value,...",
    ),
    "root-dir": OwnFlag(attribute="root_dir", read=_absolute, help="Files of the kubelet."),
    "runtime-cgroups": OwnFlag(attribute="runtime_cgroups", read=text_of, help=""),
}  # fmt: skip


def settings_of(file: Path | None, drop_ins: Path | None, given: Mapping[str, Any]) -> Settings:
    """Return the settings of --config, --config-dir and the flags that were given.

    Args:
        given: flags without their dashes, to the text given, or to a tuple of texts.

    Raises:
        ConfigurationError: one cannot be taken.
    """
    document: dict[str, Any] = {}
    changes: dict[str, Any] = {}
    for flag, value in given.items():
        if flag in OWN:
            changes[OWN[flag].attribute] = OWN[flag].read(flag, value)
        elif flag in FIELDS:
            path, kind = FIELDS[flag]
            document = merge(document, nested(path, value_of(flag, kind, value)))
    settings = replace(read(file, drop_ins, document), **changes)
    if settings.dead_containers >= 0:
        # Which of them go would depend on all pods at once, and no pod decides for others here.
        flag = "--maximum-dead-containers"
        settings = replace(settings, unsupported=(*settings.unsupported, flag))
    if settings.bootstrap_kubeconfig is not None and settings.kubeconfig is None:
        raise ConfigurationError(
            "--bootstrap-kubeconfig needs --kubeconfig: where to write what it gets"
        )
    return settings
