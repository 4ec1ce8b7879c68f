"""Settings of the kubelet: a KubeletConfiguration file (v1beta1) and flags, flags winning.

https://kubernetes.io/docs/reference/config-api/kubelet-config.v1beta1/ : a file is read as it is.
A field that does not exist is an error; one that exists and that this kubelet does not honour yet
is listed once, all together; never is one ignored in silence.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kubeletpy.pods.backoff import CONTAINER_MAXIMUM

from .sources.documents import DocumentError, parse

API_VERSION, KIND = "kubelet.config.k8s.io/v1beta1", "KubeletConfiguration"
DEFAULT_ENDPOINT = "unix:///run/kubeletpy/runtime.sock"
DEFAULT_ROOT = Path("/var/lib/kubeletpy/kubelet")

NEEDLESS = frozenset({"syncFrequency", "fileCheckFrequency", "kernelMemcgNotification"})
"""Fields that tune polling of the Go kubelet; here the same is told by events."""

KNOWN = frozenset(
    """
    address allowedUnsafeSysctls authentication authorization cgroupDriver cgroupRoot
    cgroupsPerQOS clusterDNS clusterDomain configMapAndSecretChangeDetectionStrategy
    containerLogMaxFiles containerLogMaxSize containerLogMaxWorkers containerLogMonitorInterval
    containerRuntimeEndpoint contentType cpuCFSQuota cpuCFSQuotaPeriod cpuManagerPolicy
    cpuManagerPolicyOptions cpuManagerReconcilePeriod crashLoopBackOff
    enableContentionProfiling enableControllerAttachDetach enableDebugFlagsHandler
    enableDebuggingHandlers enableProfilingHandler enableServer enableSystemLogHandler
    enableSystemLogQuery enforceNodeAllocatable eventBurst eventRecordQPS evictionHard
    evictionMaxPodGracePeriod evictionMinimumReclaim evictionPressureTransitionPeriod
    evictionSoft evictionSoftGracePeriod failCgroupV1 failSwapOn featureGates
    fileCheckFrequency hairpinMode healthzBindAddress healthzPort httpCheckFrequency
    imageGCHighThresholdPercent imageGCLowThresholdPercent imageMaximumGCAge imageMinimumGCAge
    imagePullCredentialsVerificationPolicy imageServiceEndpoint iptablesDropBit
    iptablesMasqueradeBit kernelMemcgNotification kubeAPIBurst kubeAPIQPS kubeReserved
    kubeReservedCgroup kubeletCgroups localStorageCapacityIsolation logging
    makeIPTablesUtilChains maxOpenFiles maxParallelImagePulls maxPods memoryManagerPolicy
    memoryReservationPolicy memorySwap memoryThrottlingFactor mergeDefaultEvictionSettings
    nodeLeaseDurationSeconds nodeStatusMaxImages nodeStatusReportFrequency
    nodeStatusUpdateFrequency oomScoreAdj podCIDR podLogsDir podPidsLimit podsPerCore port
    preloadedImagesVerificationAllowlist protectKernelDefaults providerID qosReserved
    readOnlyPort registerNode registerWithTaints registryBurst registryPullQPS reservedMemory
    reservedSystemCPUs resolvConf rotateCertificates runOnce runtimeRequestTimeout
    seccompDefault serializeImagePulls serverTLSBootstrap showHiddenMetricsForVersion
    shutdownGracePeriod shutdownGracePeriodByPodPriority shutdownGracePeriodCriticalPods
    singleProcessOOMKill staticPodPath staticPodURL staticPodURLHeader
    streamingConnectionIdleTimeout syncFrequency systemCgroups systemReserved
    systemReservedCgroup tlsCertFile tlsCipherSuites tlsCurvePreferences tlsMinVersion
    tlsPrivateKeyFile topologyManagerPolicy topologyManagerPolicyOptions topologyManagerScope
    tracing userNamespaces volumePluginDir volumeStatsAggPeriod
    """.split()
)

_UNITS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:h|ms|us|µs|ns|m|s))+")
_PART = re.compile(r"(\d+(?:\.\d+)?)(h|ms|us|µs|ns|m|s)")


class ConfigurationError(ValueError):
    """A setting that cannot be taken; the message names it, its value and what is expected."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All settings that are honoured.

    Attributes:
        kubeconfig: how to reach the API server; None: standalone, static pods only.
        node_name: name of the node; "" for the host's name.
        node_ips: addresses of the node, the primary one first; none: those of the default routes.
        root_dir: where the kubelet keeps its files.
        static_pod_path: directory (or file) of static pods; None: no static pods.
        pod_logs_dir: directory of the logs of all pods.
        runtime_endpoint, image_endpoint: CRI sockets; image_endpoint "" means the same one.
        runtime_timeout: seconds that a call of the runtime may take.
        cgroup_root: cgroup under which ``kubepods`` is made.
        healthz_address, healthz_port: where /healthz, /pods and /events are; port 0: nowhere.
        parallel_pulls: images pulled at the same time. Unlike in the Go kubelet it is not one by
            default, so that one slow registry does not hold up the pods of all others.
        crash_loop_maximum: seconds between restarts of a container at most.
        cluster_dns, cluster_domain, resolv_conf: DNS of pods; resolv_conf "" means none.
        seccomp_default: RuntimeDefault instead of Unconfined.
        unsupported: fields of the file that exist in Kubernetes and are not honoured here.
    """

    kubeconfig: Path | None = None
    node_name: str = ""
    node_ips: tuple[str, ...] = ()
    root_dir: Path = DEFAULT_ROOT
    static_pod_path: Path | None = None
    pod_logs_dir: Path = Path("/var/log/pods")
    runtime_endpoint: str = DEFAULT_ENDPOINT
    image_endpoint: str = ""
    runtime_timeout: float = 120.0
    cgroup_root: str = "/"
    healthz_address: str = "127.0.0.1"
    healthz_port: int = 10248
    parallel_pulls: int = 5
    crash_loop_maximum: float = CONTAINER_MAXIMUM
    cluster_dns: tuple[str, ...] = ()
    cluster_domain: str = ""
    resolv_conf: str = "/etc/resolv.conf"
    seccomp_default: bool = False
    unsupported: tuple[str, ...] = field(default=())


def read_file(path: Path, base: Settings | None = None) -> Settings:
    """Read a KubeletConfiguration file.

    Raises:
        ConfigurationError: the file cannot be read, or a field of it cannot be taken.
    """
    try:
        with open(path, "rb") as file:
            document = parse(file.read(4 * 1024 * 1024))
    except OSError as error:
        raise ConfigurationError(f"--config {path}: {error.strerror}") from None
    except DocumentError as error:
        raise ConfigurationError(f"--config {path}: {error}") from None
    try:
        return from_document(document, base)
    except ConfigurationError as error:
        raise ConfigurationError(f"--config {path}: {error}") from None


def from_document(document: object, base: Settings | None = None) -> Settings:
    """Turn a KubeletConfiguration document into settings; pure.

    Raises:
        ConfigurationError: a field of it cannot be taken.
    """
    if not isinstance(document, dict):
        raise ConfigurationError("not an object")
    fields = dict(document)
    kind, version = fields.pop("kind", None), fields.pop("apiVersion", None)
    if kind != KIND or version != API_VERSION:
        raise ConfigurationError(f"kind and apiVersion must be {KIND} of {API_VERSION}")
    unknown = sorted(fields.keys() - KNOWN)
    if unknown:
        raise ConfigurationError(f"no such field of {KIND}: {', '.join(unknown)}")
    present = {name: value for name, value in fields.items() if value is not None}
    settings = replace(base or Settings(), **_honoured(present))
    rest = sorted(present.keys() - _HONOURED - NEEDLESS)
    return replace(settings, unsupported=tuple(rest))


_HONOURED = frozenset(
    {
        "staticPodPath",
        "podLogsDir",
        "containerRuntimeEndpoint",
        "imageServiceEndpoint",
        "runtimeRequestTimeout",
        "cgroupRoot",
        "cgroupDriver",
        "healthzBindAddress",
        "healthzPort",
        "serializeImagePulls",
        "maxParallelImagePulls",
        "crashLoopBackOff",
        "clusterDNS",
        "clusterDomain",
        "resolvConf",
        "seccompDefault",
    }
)


def _honoured(fields: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, attribute in (
        ("containerRuntimeEndpoint", "runtime_endpoint"),
        ("imageServiceEndpoint", "image_endpoint"),
        ("cgroupRoot", "cgroup_root"),
        ("clusterDomain", "cluster_domain"),
        ("resolvConf", "resolv_conf"),
    ):
        if fields.get(name):
            found[attribute] = _typed(fields, name, str)
    if "resolvConf" in fields:
        found["resolv_conf"] = _typed(fields, "resolvConf", str)
    for name, attribute in (("staticPodPath", "static_pod_path"), ("podLogsDir", "pod_logs_dir")):
        if fields.get(name):
            found[attribute] = Path(_typed(fields, name, str))
    if "healthzPort" in fields:
        found["healthz_port"] = port(_typed(fields, "healthzPort", int), "healthzPort")
    if fields.get("healthzBindAddress"):
        text = _typed(fields, "healthzBindAddress", str)
        found["healthz_address"] = address(text, "healthzBindAddress")
    if "runtimeRequestTimeout" in fields:
        found["runtime_timeout"] = duration(
            fields["runtimeRequestTimeout"], "runtimeRequestTimeout"
        )
    if "seccompDefault" in fields:
        found["seccomp_default"] = _typed(fields, "seccompDefault", bool)
    if fields.get("cgroupDriver", "cgroupfs") != "cgroupfs":
        raise ConfigurationError(
            f"cgroupDriver: {fields['cgroupDriver']!r} is not supported yet, only cgroupfs"
        )
    if "clusterDNS" in fields:
        servers = _typed(fields, "clusterDNS", list)
        found["cluster_dns"] = tuple(address(str(one), "clusterDNS") for one in servers)
    found |= _pulls(fields)
    found |= _crash_loop(fields)
    return found


def _pulls(fields: Mapping[str, Any]) -> dict[str, Any]:
    serialize = _typed(fields, "serializeImagePulls", bool, False)
    parallel = _typed(fields, "maxParallelImagePulls", int, 0)
    if parallel < 0 or (parallel > 1 and serialize):
        raise ConfigurationError(
            f"maxParallelImagePulls: {parallel} needs serializeImagePulls: false"
        )
    if serialize:
        return {"parallel_pulls": 1}
    return {"parallel_pulls": parallel} if parallel else {}


def _crash_loop(fields: Mapping[str, Any]) -> dict[str, Any]:
    options = _typed(fields, "crashLoopBackOff", dict, {})
    unknown = sorted(options.keys() - {"maxContainerRestartPeriod"})
    if unknown:
        raise ConfigurationError(f"no such field of crashLoopBackOff: {', '.join(unknown)}")
    if not options:
        return {}
    name = "crashLoopBackOff.maxContainerRestartPeriod"
    seconds = duration(options["maxContainerRestartPeriod"], name)
    if not 1 <= seconds <= CONTAINER_MAXIMUM:
        raise ConfigurationError(f"{name}: {seconds:g} s is not between 1 s and 300 s")
    return {"crash_loop_maximum": seconds}


def _typed(fields: Mapping[str, Any], name: str, kind: type, default: Any = None) -> Any:
    value = fields.get(name, default)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise ConfigurationError(f"{name}: {value!r} is not of type {kind.__name__}")
    return value


def duration(value: object, name: str) -> float:
    """Return the seconds of a duration as Go writes it: ``1m30s``, ``500ms``, ``0``.

    Raises:
        ConfigurationError: it is none.
    """
    if value in (0, "0"):
        return 0.0
    if not isinstance(value, str) or not _DURATION.fullmatch(value):
        raise ConfigurationError(f"{name}: {value!r} is no duration such as 1m30s")
    return sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(value))


def port(value: int, name: str) -> int:
    """Return a port number, 0 included.

    Raises:
        ConfigurationError: it is out of range.
    """
    if not 0 <= value <= 65535:
        raise ConfigurationError(f"{name}: {value} is not between 0 and 65535")
    return value


def address(value: str, name: str) -> str:
    """Return an IP address.

    Raises:
        ConfigurationError: it is none.
    """
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise ConfigurationError(f"{name}: {value!r} is not an IP address") from None


def addresses(value: str, name: str) -> tuple[str, ...]:
    """Return one address, or two of different families, separated by a comma.

    Raises:
        ConfigurationError: it is neither.
    """
    found = tuple(address(part.strip(), name) for part in value.split(",") if part.strip())
    families = {ipaddress.ip_address(one).version for one in found}
    if len(found) > 2 or len(families) != len(found):
        raise ConfigurationError(f"{name}: {value!r}: one address of each family at most")
    return found
