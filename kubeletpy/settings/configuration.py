"""KubeletConfiguration (kubelet.config.k8s.io/v1beta1) of Kubernetes 1.36: fields and defaults.

https://kubernetes.io/docs/reference/config-api/kubelet-config.v1beta1/

Durations are seconds. Defaults are those of the Go kubelet, with three exceptions, named at their
fields: the runtime's socket, parallel pulls and cgroup v1.
"""

from __future__ import annotations

from typing import Any

import msgspec

from kubeletpy.api.base import Int32, Int64, json_name
from kubeletpy_common.settings.component_logging import Logging
from kubeletpy_common.settings.documents import (
    decode_as,
    encode_plain,
    without_nulls,
)
from kubeletpy_common.settings.durations import ConfigurationError, Duration

API_VERSION, KIND = "kubelet.config.k8s.io/v1beta1", "KubeletConfiguration"
DEFAULT_ENDPOINT = "unix:///run/kubeletpy/runtime.sock"
DEFAULT_EVICTION_HARD = {
    "memory.available": "100Mi",
    "nodefs.available": "10%",
    "nodefs.inodesFree": "5%",
    "imagefs.available": "15%",
    "imagefs.inodesFree": "5%",
}

_SPECIAL = {
    "allowed_unsafe_sysctls": "allowedUnsafeSysctls",
    "cache_ttl": "cacheTTL",
    "cache_authorized_ttl": "cacheAuthorizedTTL",
    "cache_unauthorized_ttl": "cacheUnauthorizedTTL",
    "cgroups_per_qos": "cgroupsPerQOS",
    "client_ca_file": "clientCAFile",
    "cluster_dns": "clusterDNS",
    "cpu_cfs_quota": "cpuCFSQuota",
    "cpu_cfs_quota_period": "cpuCFSQuotaPeriod",
    "event_record_qps": "eventRecordQPS",
    "fail_cgroup_v1": "failCgroupV1",
    "ids_per_pod": "idsPerPod",
    "image_gc_high_threshold_percent": "imageGCHighThresholdPercent",
    "image_gc_low_threshold_percent": "imageGCLowThresholdPercent",
    "image_maximum_gc_age": "imageMaximumGCAge",
    "image_minimum_gc_age": "imageMinimumGCAge",
    "kube_api_burst": "kubeAPIBurst",
    "kube_api_qps": "kubeAPIQPS",
    "make_iptables_util_chains": "makeIPTablesUtilChains",
    "oom_score_adj": "oomScoreAdj",
    "pod_cidr": "podCIDR",
    "provider_id": "providerID",
    "registry_pull_qps": "registryPullQPS",
    "reserved_system_cpus": "reservedSystemCPUs",
    "server_tls_bootstrap": "serverTLSBootstrap",
    "single_process_oom_kill": "singleProcessOOMKill",
    "static_pod_url": "staticPodURL",
    "static_pod_url_header": "staticPodURLHeader",
}


def field_name(attribute: str) -> str:
    """Return the name in a file of an attribute: ``cluster_dns`` -> ``clusterDNS``."""
    return _SPECIAL.get(attribute) or json_name(attribute)


class _Struct(msgspec.Struct, forbid_unknown_fields=True, rename=field_name, kw_only=True):
    """Base: snake_case here, camelCase in files, what does not exist is refused."""


class AnonymousAuthentication(_Struct):
    """Whether requests without credentials are taken as ``system:anonymous``."""

    enabled: bool = False


class WebhookAuthentication(_Struct):
    """Bearer tokens reviewed by the API server."""

    enabled: bool = True
    cache_ttl: Duration = Duration(120)


class X509Authentication(_Struct):
    """Client certificates."""

    client_ca_file: str = ""


class Authentication(_Struct):
    """Who may ask the kubelet's API."""

    x509: X509Authentication = msgspec.field(default_factory=X509Authentication)
    webhook: WebhookAuthentication = msgspec.field(default_factory=WebhookAuthentication)
    anonymous: AnonymousAuthentication = msgspec.field(default_factory=AnonymousAuthentication)


class WebhookAuthorization(_Struct):
    """How long answers of the API server are believed."""

    cache_authorized_ttl: Duration = Duration(300)
    cache_unauthorized_ttl: Duration = Duration(30)


class Authorization(_Struct):
    """What they may do: ``Webhook`` or ``AlwaysAllow``."""

    mode: str = "Webhook"
    webhook: WebhookAuthorization = msgspec.field(default_factory=WebhookAuthorization)


class MemorySwap(_Struct):
    """``swapBehavior``: "", ``NoSwap`` or ``LimitedSwap``."""

    swap_behavior: str = ""


class CrashLoopBackOff(_Struct):
    """Seconds between restarts of a container at most."""

    max_container_restart_period: Duration = Duration(300)


class MemoryReservation(_Struct):
    """Memory of one NUMA node that pods do not get."""

    numa_node: Int32 = 0
    limits: dict[str, str | int | float] = {}


class ShutdownGracePeriodByPodPriority(_Struct):
    """Grace at a shutdown of the node of pods with at least this priority."""

    priority: Int32 = 0
    shutdown_grace_period_seconds: Int64 = 0


class Taint(_Struct):
    """A taint that the node is registered with."""

    key: str = ""
    value: str = ""
    effect: str = ""
    time_added: str | None = None


class UserNamespaces(_Struct):
    """Ids of a pod with a user namespace of its own; None: 65536."""

    ids_per_pod: Int64 | None = None


class Tracing(_Struct):
    """Where spans go."""

    endpoint: str | None = None
    sampling_rate_per_million: Int32 | None = None


class KubeletConfiguration(_Struct):
    """All fields; see the reference for what each means.

    Attributes:
        container_runtime_endpoint: here the socket of kubeletpy's runtime; in Go containerd's.
        serialize_image_pulls: as in Go, but Settings.parallel_pulls does not serialize by default.
        fail_cgroup_v1: as in Go, but heeded only where a file or a flag says it.
    """

    enable_server: bool = True
    static_pod_path: str = ""
    pod_logs_dir: str = "/var/log/pods"
    sync_frequency: Duration = Duration(60)
    file_check_frequency: Duration = Duration(20)
    http_check_frequency: Duration = Duration(20)
    static_pod_url: str = ""
    static_pod_url_header: dict[str, list[str]] = {}
    address: str = "0.0.0.0"
    port: Int32 = 10250
    read_only_port: Int32 = 0
    tls_cert_file: str = ""
    tls_private_key_file: str = ""
    tls_cipher_suites: list[str] = []
    tls_curve_preferences: list[Int32] = []
    tls_min_version: str = ""
    rotate_certificates: bool = False
    server_tls_bootstrap: bool = False
    authentication: Authentication = msgspec.field(default_factory=Authentication)
    authorization: Authorization = msgspec.field(default_factory=Authorization)
    registry_pull_qps: Int32 = 5
    registry_burst: Int32 = 10
    image_pull_credentials_verification_policy: str = "NeverVerifyPreloadedImages"
    preloaded_images_verification_allowlist: list[str] = []
    event_record_qps: Int32 = 50
    event_burst: Int32 = 100
    enable_debugging_handlers: bool = True
    enable_contention_profiling: bool = False
    healthz_port: Int32 = 10248
    healthz_bind_address: str = "127.0.0.1"
    oom_score_adj: Int32 = -999
    cluster_domain: str = ""
    cluster_dns: list[str] = []
    streaming_connection_idle_timeout: Duration = Duration(4 * 3600)
    node_status_update_frequency: Duration = Duration(10)
    node_status_report_frequency: Duration = Duration(300)
    node_lease_duration_seconds: Int32 = 40
    image_minimum_gc_age: Duration = Duration(120)
    image_maximum_gc_age: Duration = Duration(0)
    image_gc_high_threshold_percent: Int32 = 85
    image_gc_low_threshold_percent: Int32 = 80
    volume_stats_agg_period: Duration = Duration(60)
    kubelet_cgroups: str = ""
    system_cgroups: str = ""
    cgroup_root: str = ""
    cgroups_per_qos: bool = True
    cgroup_driver: str = "cgroupfs"
    cpu_manager_policy: str = "none"
    single_process_oom_kill: bool | None = None
    cpu_manager_policy_options: dict[str, str] = {}
    cpu_manager_reconcile_period: Duration = Duration(10)
    memory_manager_policy: str = "None"
    topology_manager_policy: str = "none"
    topology_manager_scope: str = "container"
    topology_manager_policy_options: dict[str, str] = {}
    qos_reserved: dict[str, str] = {}
    runtime_request_timeout: Duration = Duration(120)
    hairpin_mode: str = "promiscuous-bridge"
    max_pods: Int32 = 110
    pod_cidr: str = ""
    pod_pids_limit: Int64 = -1
    resolv_conf: str = "/etc/resolv.conf"
    run_once: bool = False
    cpu_cfs_quota: bool = True
    cpu_cfs_quota_period: Duration = Duration(0.1)
    node_status_max_images: Int32 = 50
    max_open_files: Int64 = 1_000_000
    content_type: str = "application/vnd.kubernetes.protobuf"
    kube_api_qps: Int32 = 50
    kube_api_burst: Int32 = 100
    serialize_image_pulls: bool = True
    max_parallel_image_pulls: Int32 | None = None
    eviction_hard: dict[str, str] = msgspec.field(default_factory=DEFAULT_EVICTION_HARD.copy)
    eviction_soft: dict[str, str] = {}
    eviction_soft_grace_period: dict[str, str] = {}
    eviction_pressure_transition_period: Duration = Duration(300)
    eviction_max_pod_grace_period: Int32 = 0
    eviction_minimum_reclaim: dict[str, str] = {}
    merge_default_eviction_settings: bool = False
    pods_per_core: Int32 = 0
    enable_controller_attach_detach: bool = True
    protect_kernel_defaults: bool = False
    make_iptables_util_chains: bool = True
    iptables_masquerade_bit: Int32 = 14
    iptables_drop_bit: Int32 = 15
    feature_gates: dict[str, bool] = {}
    fail_swap_on: bool = True
    memory_swap: MemorySwap = msgspec.field(default_factory=MemorySwap)
    container_log_max_size: str = "10Mi"
    container_log_max_files: Int32 = 5
    container_log_max_workers: Int32 = 1
    container_log_monitor_interval: Duration = Duration(10)
    config_map_and_secret_change_detection_strategy: str = "Watch"
    system_reserved: dict[str, str] = {}
    kube_reserved: dict[str, str] = {}
    reserved_system_cpus: str = ""
    show_hidden_metrics_for_version: str = ""
    system_reserved_cgroup: str = ""
    kube_reserved_cgroup: str = ""
    enforce_node_allocatable: list[str] = msgspec.field(default_factory=lambda: ["pods"])
    allowed_unsafe_sysctls: list[str] = []
    volume_plugin_dir: str = "/usr/libexec/kubernetes/kubelet-plugins/volume/exec/"
    provider_id: str = ""
    kernel_memcg_notification: bool = False
    logging: Logging = msgspec.field(default_factory=Logging)
    enable_system_log_handler: bool = True
    enable_system_log_query: bool = False
    shutdown_grace_period: Duration = Duration(0)
    shutdown_grace_period_critical_pods: Duration = Duration(0)
    shutdown_grace_period_by_pod_priority: list[ShutdownGracePeriodByPodPriority] = []
    crash_loop_back_off: CrashLoopBackOff = msgspec.field(default_factory=CrashLoopBackOff)
    reserved_memory: list[MemoryReservation] = []
    enable_profiling_handler: bool = True
    enable_debug_flags_handler: bool = True
    seccomp_default: bool = False
    memory_throttling_factor: float = 0.9
    memory_reservation_policy: str = "None"
    register_with_taints: list[Taint] = []
    register_node: bool = True
    tracing: Tracing | None = None
    local_storage_capacity_isolation: bool = True
    container_runtime_endpoint: str = DEFAULT_ENDPOINT
    image_service_endpoint: str = ""
    user_namespaces: UserNamespaces | None = None
    fail_cgroup_v1: bool = True


FIELDS = {one.encode_name: one.name for one in msgspec.structs.fields(KubeletConfiguration)}
"""Names in a file to attributes."""

_ZERO_MEANS_DEFAULT = frozenset(
    """
    sync_frequency file_check_frequency http_check_frequency address port registry_burst event_burst
    healthz_bind_address streaming_connection_idle_timeout node_status_update_frequency
    node_status_report_frequency node_lease_duration_seconds image_minimum_gc_age
    volume_stats_agg_period cgroup_driver cpu_manager_policy cpu_manager_reconcile_period
    memory_manager_policy topology_manager_policy topology_manager_scope runtime_request_timeout
    hairpin_mode max_pods max_open_files content_type kube_api_burst
    eviction_pressure_transition_period container_log_max_size volume_plugin_dir
    config_map_and_secret_change_detection_strategy memory_reservation_policy pod_logs_dir
    container_runtime_endpoint image_pull_credentials_verification_policy
    """.split()
)
"""Fields that are no pointers in Go: zero in a file is the same as nothing."""


def convert(document: dict[str, Any]) -> KubeletConfiguration:
    """Return the configuration of a document (kind and apiVersion taken off), defaults set.

    Raises:
        ConfigurationError: a field does not exist, or is of another type.
    """
    present = {name: value for name, value in document.items() if value is not None}
    unknown = sorted(present.keys() - FIELDS.keys())
    if unknown:
        raise ConfigurationError(f"no such field of {KIND}: {', '.join(unknown)}")
    configuration = decode(without_nulls(present))
    _set_defaults(configuration, present)
    return configuration


def decode(document: object) -> KubeletConfiguration:
    """Return the configuration of a document as it is.

    Raises:
        ConfigurationError: a field does not exist, or is of another type.
    """
    return decode_as(document, KubeletConfiguration, KIND)


def encode(configuration: KubeletConfiguration) -> dict[str, Any]:
    """Return the configuration as a document, as /configz shows it (kind and version left out)."""
    return encode_plain(configuration)


def _set_defaults(configuration: KubeletConfiguration, present: dict[str, Any]) -> None:
    """Set what depends on other fields, and what a zero stands for (SetDefaults of v1beta1)."""
    defaults = KubeletConfiguration()
    if not configuration.node_status_report_frequency or (
        "nodeStatusReportFrequency" not in present
    ):
        # Who sets how often the status is looked at set how often it is told, before 1.13.
        update = (
            configuration.node_status_update_frequency
            if ("nodeStatusUpdateFrequency" in present)
            else Duration(0)
        )
        configuration.node_status_report_frequency = update or (
            defaults.node_status_report_frequency
        )
    for name in _ZERO_MEANS_DEFAULT:
        if not getattr(configuration, name):
            setattr(configuration, name, getattr(defaults, name))
    authentication, authorization = configuration.authentication, configuration.authorization
    authentication.webhook.cache_ttl = authentication.webhook.cache_ttl or Duration(120)
    authorization.mode = authorization.mode or "Webhook"
    webhook = authorization.webhook
    webhook.cache_authorized_ttl = webhook.cache_authorized_ttl or Duration(300)
    webhook.cache_unauthorized_ttl = webhook.cache_unauthorized_ttl or Duration(30)
    configuration.pod_pids_limit = max(configuration.pod_pids_limit, -1)
    if "serializeImagePulls" not in present:
        configuration.serialize_image_pulls = (configuration.max_parallel_image_pulls or 0) < 2
    if configuration.merge_default_eviction_settings:
        configuration.eviction_hard = DEFAULT_EVICTION_HARD | configuration.eviction_hard
    log = configuration.logging
    log.format = log.format or "text"
    log.flush_frequency = log.flush_frequency or "5s"
