"""What a KubeletConfiguration may not say, as the Go kubelet decides it (pure).

Every function returns what is wrong, all at once; nothing found means nothing is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import urlsplit

from kubeletpy.api.quantity import Quantity
from kubeletpy_common.settings import component_logging, feature_gates

from .configuration import KubeletConfiguration, Taint

_PORT = range(1, 65536)
_POLICIES = ("none", "best-effort", "restricted", "single-numa-node")
_VERIFY = ("NeverVerify", "NeverVerifyPreloadedImages", "NeverVerifyAllowlistedImages",
           "AlwaysVerify")  # fmt: skip
_LEVELS = ("pods", "system-reserved", "system-reserved-compressible", "kube-reserved",
           "kube-reserved-compressible", "none")  # fmt: skip
_IDS = 65536
_RESERVABLE = ("cpu", "memory", "ephemeral-storage", "pid")
_LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
_PREFIX = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_CPUS = re.compile(r"\d+(-\d+)?(,\d+(-\d+)?)*")

RANGES: tuple[tuple[str, str, float, float], ...] = (
    # attribute, name, lowest, highest
    ("event_burst", "eventBurst (--event-burst)", 0, 2**31),
    ("event_record_qps", "eventRecordQPS (--event-qps)", 0, 2**31),
    ("kube_api_burst", "kubeAPIBurst (--kube-api-burst)", 0, 2**31),
    ("kube_api_qps", "kubeAPIQPS (--kube-api-qps)", 0, 2**31),
    ("registry_burst", "registryBurst (--registry-burst)", 0, 2**31),
    ("registry_pull_qps", "registryPullQPS (--registry-qps)", 0, 2**31),
    ("max_open_files", "maxOpenFiles (--max-open-files)", 0, 2**63),
    ("max_pods", "maxPods (--max-pods)", 0, 2**31),
    ("pods_per_core", "podsPerCore (--pods-per-core)", 0, 2**31),
    ("node_lease_duration_seconds", "nodeLeaseDurationSeconds", 1, 2**31),
    ("node_status_max_images", "nodeStatusMaxImages (--node-status-max-images)", -1, 2**31),
    ("healthz_port", "healthzPort (--healthz-port)", 0, 65535),
    ("port", "port (--port)", 1, 65535),
    ("read_only_port", "readOnlyPort (--read-only-port)", 0, 65535),
    ("image_gc_high_threshold_percent",
     "imageGCHighThresholdPercent (--image-gc-high-threshold)", 0, 100),
    ("image_gc_low_threshold_percent",
     "imageGCLowThresholdPercent (--image-gc-low-threshold)", 0, 100),
    ("iptables_drop_bit", "iptablesDropBit", 0, 31),
    ("iptables_masquerade_bit", "iptablesMasqueradeBit", 0, 31),
    ("oom_score_adj", "oomScoreAdj (--oom-score-adj)", -1000, 1000),
    ("cpu_cfs_quota_period", "cpuCFSQuotaPeriod (--cpu-cfs-quota-period)", 0.001, 1),
    ("container_log_max_workers", "containerLogMaxWorkers", 1, 2**31),
    ("container_log_monitor_interval", "containerLogMonitorInterval", 3, 2**63),
    ("container_log_max_files", "containerLogMaxFiles", 2, 2**31),
    ("image_minimum_gc_age", "imageMinimumGCAge", 0, 2**63),
    ("image_maximum_gc_age", "imageMaximumGCAge", 0, 2**63),
)  # fmt: skip

CHOICES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("topology_manager_policy", "topologyManagerPolicy (--topology-manager-policy)", _POLICIES),
    ("topology_manager_scope", "topologyManagerScope (--topology-manager-scope)",
     ("container", "pod")),
    ("cpu_manager_policy", "cpuManagerPolicy (--cpu-manager-policy)", ("none", "static")),
    ("memory_manager_policy", "memoryManagerPolicy (--memory-manager-policy)", ("None", "Static")),
    ("hairpin_mode", "hairpinMode (--hairpin-mode)",
     ("none", "hairpin-veth", "promiscuous-bridge")),
    ("image_pull_credentials_verification_policy", "imagePullCredentialsVerificationPolicy",
     _VERIFY),
    ("memory_reservation_policy", "memoryReservationPolicy", ("None", "TieredReservation")),
    ("cgroup_driver", "cgroupDriver (--cgroup-driver)", ("cgroupfs", "systemd")),
    ("config_map_and_secret_change_detection_strategy",
     "configMapAndSecretChangeDetectionStrategy", ("Get", "Cache", "Watch")),
)  # fmt: skip


def problems(one: KubeletConfiguration) -> list[str]:
    """Return everything that is wrong with a configuration."""
    found = [*feature_gates.problems(one.feature_gates), *_ranges(one), *_choices(one)]
    for check in (_relations, _images, _shutdown, _allocatable, _reserved, _paths, _security,
                  _others):  # fmt: skip
        found += check(one)
    return found


def _ranges(one: KubeletConfiguration) -> Iterator[str]:
    for attribute, name, lowest, highest in RANGES:
        value = getattr(one, attribute)
        if lowest <= value <= highest:
            continue
        if highest >= 2**31:
            limit = f"at least {lowest:g}" if lowest else "no negative number"
        else:
            limit = f"between {lowest:g} and {highest:g}"
        yield f"{name}: {value} must be {limit}"


def _choices(one: KubeletConfiguration) -> Iterator[str]:
    for attribute, name, choices in CHOICES:
        if (value := getattr(one, attribute)) not in choices:
            yield f"{name}: {value!r} must be one of {', '.join(choices)}"
    swap = one.memory_swap.swap_behavior
    if swap not in ("", "NoSwap", "LimitedSwap"):
        yield f"memorySwap.swapBehavior: {swap!r} must be one of '', LimitedSwap, NoSwap"
    if one.authorization.mode not in ("Webhook", "AlwaysAllow"):
        yield f"authorization.mode: {one.authorization.mode!r} must be AlwaysAllow or Webhook"


def _relations(one: KubeletConfiguration) -> Iterator[str]:
    gates = one.feature_gates
    if one.system_cgroups and not one.cgroup_root:
        yield "systemCgroups (--system-cgroups) needs cgroupRoot (--cgroup-root)"
    if one.cpu_cfs_quota_period != 0.1 and not feature_gates.enabled(
        "CustomCPUCFSQuotaPeriod", gates
    ):
        yield "cpuCFSQuotaPeriod needs the feature gate CustomCPUCFSQuotaPeriod"
    if one.server_tls_bootstrap and not feature_gates.enabled(
        "RotateKubeletServerCertificate", gates
    ):
        yield "serverTLSBootstrap needs the feature gate RotateKubeletServerCertificate"
    if one.run_once:
        yield "runOnce (--runonce): there is no such mode any more"
    if one.memory_reservation_policy == "TieredReservation" and not feature_gates.enabled(
        "MemoryQoS", gates
    ):
        yield "memoryReservationPolicy: TieredReservation needs the feature gate MemoryQoS"
    if not 0 < one.memory_throttling_factor <= 1:
        yield f"memoryThrottlingFactor: {one.memory_throttling_factor} must be in (0, 1]"
    if one.enable_system_log_query and not one.enable_system_log_handler:
        yield "enableSystemLogQuery needs enableSystemLogHandler"
    period = one.crash_loop_back_off.max_container_restart_period
    if not 1 <= period <= 300:
        yield (
            f"crashLoopBackOff.maxContainerRestartPeriod: {period:g} s is not between 1 s and 300 s"
        )


def _images(one: KubeletConfiguration) -> Iterator[str]:
    high, low = one.image_gc_high_threshold_percent, one.image_gc_low_threshold_percent
    if low >= high:
        yield f"imageGCLowThresholdPercent: {low} must be less than imageGCHighThresholdPercent " \
              f"{high}"  # fmt: skip
    oldest, youngest = one.image_maximum_gc_age, one.image_minimum_gc_age
    if 0 < oldest <= youngest:
        yield f"imageMaximumGCAge: {oldest} must be greater than imageMinimumGCAge {youngest}"
    parallel = one.max_parallel_image_pulls
    if parallel is not None and parallel < 1:
        yield f"maxParallelImagePulls: {parallel} must be a positive number"
    if parallel is not None and parallel > 1 and one.serialize_image_pulls:
        yield f"maxParallelImagePulls: {parallel} needs serializeImagePulls: false"
    allowed = one.preloaded_images_verification_allowlist
    if allowed and one.image_pull_credentials_verification_policy != _VERIFY[2]:
        yield (
            "preloadedImagesVerificationAllowlist needs imagePullCredentialsVerificationPolicy: "
            + _VERIFY[2]
        )
    for pattern in allowed:
        if reason := _image_pattern(pattern):
            yield f"preloadedImagesVerificationAllowlist: {pattern!r}: {reason}"


def _image_pattern(pattern: str) -> str:
    if pattern != pattern.strip():
        return "no spaces around it"
    stem = pattern[:-1] if pattern.endswith("/*") else pattern
    if len(stem) < 2 and stem in ("", "/"):
        return "too short: at least a host is needed"
    if "*" in stem:
        return "a wildcard is possible as the final /* only"
    name = stem.rpartition("/")[2]
    return "neither tag nor digest is possible" if "@" in stem or ":" in name else ""


def _shutdown(one: KubeletConfiguration) -> Iterator[str]:
    total, critical = one.shutdown_grace_period, one.shutdown_grace_period_critical_pods
    by_priority = one.shutdown_grace_period_by_pod_priority
    gates = one.feature_gates
    if critical > total:
        yield f"shutdownGracePeriodCriticalPods {critical} must be <= shutdownGracePeriod {total}"
    for name, value in (
        ("shutdownGracePeriod", total),
        ("shutdownGracePeriodCriticalPods", critical),
    ):
        if value < 0 or 0 < value < 1:
            yield f"{name} {value} must be either zero or otherwise >= 1 sec"
    if (total > 0 or critical > 0) and not feature_gates.enabled("GracefulNodeShutdown", gates):
        yield "shutdownGracePeriod needs the feature gate GracefulNodeShutdown"
    if by_priority and (total > 0 or critical > 0):
        yield "shutdownGracePeriodByPodPriority and shutdownGracePeriod exclude each other"
    if by_priority and not feature_gates.enabled("GracefulNodeShutdownBasedOnPodPriority", gates):
        yield (
            "shutdownGracePeriodByPodPriority needs the feature gate "
            "GracefulNodeShutdownBasedOnPodPriority"
        )


def _allocatable(one: KubeletConfiguration) -> Iterator[str]:
    levels, name = one.enforce_node_allocatable, "enforceNodeAllocatable"
    for each in ("system-reserved", "kube-reserved"):
        if each in levels and f"{each}-compressible" in levels:
            yield f"{name}: {each} and {each}-compressible exclude each other"
    for level in sorted({each for each in levels if levels.count(each) > 1}):
        yield f"{name}: {level} is given twice"
    for level in dict.fromkeys(levels):
        if level not in _LEVELS:
            yield f"{name}: {level!r} must be one of {', '.join(_LEVELS)}"
        elif level == "none":
            if len(levels) > 1:
                yield f"{name}: none allows for nothing beside it"
        else:
            if level.startswith("system") and not one.system_reserved_cgroup:
                yield f"{name}: {level} needs systemReservedCgroup"
            if level.startswith("kube") and not one.kube_reserved_cgroup:
                yield f"{name}: {level} needs kubeReservedCgroup"
            if not one.cgroups_per_qos:
                yield f"{name}: {level} needs cgroupsPerQOS"


def _reserved(one: KubeletConfiguration) -> Iterator[str]:
    for name, reserved in (
        ("systemReserved", one.system_reserved),
        ("kubeReserved", one.kube_reserved),
    ):
        for resource, amount in reserved.items():
            if resource not in _RESERVABLE:
                yield f"{name}: cannot reserve {resource!r}, only {', '.join(_RESERVABLE)}"
            elif (value := _quantity(amount)) is None or value < Quantity(0):
                yield f"{name}.{resource}: {amount!r} is no amount"
    cpus = one.reserved_system_cpus
    if cpus and (one.system_reserved_cgroup or one.kube_reserved_cgroup):
        yield "reservedSystemCPUs excludes systemReservedCgroup and kubeReservedCgroup"
    if cpus and not _CPUS.fullmatch(cpus):
        yield f"reservedSystemCPUs (--reserved-cpus): {cpus!r} is no list such as 0-1,4"
    seen: set[tuple[int, str]] = set()
    for reservation in one.reserved_memory:
        node = reservation.numa_node
        for resource, limit in reservation.limits.items():
            where = f"reservedMemory: NUMA node {node}, {resource}"
            if resource != "memory" and not resource.startswith("hugepages-"):
                yield f"{where}: only memory and hugepages-SIZE are possible"
            if not _quantity(str(limit)):
                yield f"{where}: {limit!r} must be an amount and not zero"
            if (node, resource) in seen:
                yield f"{where}: given twice"
            seen.add((node, resource))


def _quantity(text: str) -> Quantity | None:
    try:
        return Quantity(text)
    except ValueError:
        return None


def _paths(one: KubeletConfiguration) -> Iterator[str]:
    path = one.pod_logs_dir
    if not path.startswith("/"):
        yield f"podLogsDir: {path!r} is not an absolute path"
    elif path != "/" and (path.endswith("/") or {"", ".", ".."} & set(path[1:].split("/"))):
        yield f"podLogsDir: {path!r} must be normalized"
    if not path.isascii():
        yield f"podLogsDir: {path!r} must contain ASCII characters only"
    size = _quantity(one.container_log_max_size)
    if size is None:
        yield f"containerLogMaxSize: {one.container_log_max_size!r} is no size such as 10Mi"


def _security(one: KubeletConfiguration) -> Iterator[str]:
    if bool(one.tls_cert_file) != bool(one.tls_private_key_file):
        yield "tlsCertFile and tlsPrivateKeyFile need each other"
    if one.tls_min_version not in ("", *(f"VersionTLS1{minor}" for minor in range(4))):
        yield f"tlsMinVersion: {one.tls_min_version!r} must be VersionTLS10 to VersionTLS13"
    for taint in one.register_with_taints:
        if reason := taint_problem(taint):
            yield f"registerWithTaints: {taint.key!r}: {reason}"
    ids = one.user_namespaces.ids_per_pod if one.user_namespaces is not None else None
    if ids is not None and (ids < _IDS or ids % _IDS or ids > 2**32 - 1):
        yield f"userNamespaces.idsPerPod: {ids} must be a multiple of {_IDS}, below 2**32"


def taint_problem(taint: Taint) -> str:
    """Return why a taint cannot be one, or ""."""
    if reason := label_key_problem(taint.key):
        return reason
    if reason := label_value_problem(taint.value):
        return reason
    if taint.effect not in ("", "NoSchedule", "PreferNoSchedule", "NoExecute"):
        return f"effect {taint.effect!r} must be NoSchedule, PreferNoSchedule or NoExecute"
    return "timeAdded cannot be set" if taint.time_added is not None else ""


def label_key_problem(key: str) -> str:
    """Return why a text is no key of a label, or ""."""
    prefix, slash, name = key.rpartition("/")
    if slash and (not _PREFIX.fullmatch(prefix) or len(prefix) > 253):
        return f"{prefix!r} before / is no DNS subdomain"
    if not name or len(name) > 63 or not _LABEL.fullmatch(name):
        return (
            f"key {name!r} must be 1 to 63 letters, digits, '-', '_' or '.' between alphanumerics"
        )
    return ""


def label_value_problem(value: str) -> str:
    """Return why a text is no value of a label, or ""."""
    if len(value) > 63 or not _LABEL.fullmatch(value):
        return f"value {value!r} must be up to 63 letters, digits, '-', '_', '.' of that kind"
    return ""


def _others(one: KubeletConfiguration) -> Iterator[str]:
    yield from component_logging.problems(one.logging)
    tracing = one.tracing
    if tracing is None:
        return
    rate = tracing.sampling_rate_per_million
    if rate is not None and not 0 <= rate <= 1_000_000:
        yield f"tracing.samplingRatePerMillion: {rate} must be between 0 and 1000000"
    endpoint = tracing.endpoint or ""
    scheme = urlsplit(endpoint).scheme if "//" in endpoint else "dns"
    if scheme not in ("dns", "unix", "unix-abstract"):
        yield f"tracing.endpoint: {endpoint!r}: unsupported scheme {scheme}"
