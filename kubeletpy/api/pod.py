"""``Pod`` and ``PodSpec`` of core/v1 as of Kubernetes 1.36; all parts can be imported from here."""

from __future__ import annotations

import msgspec

from .base import ApiStruct, Int32, Int64
from .container import (
    Container,
    EphemeralContainer,
    ResourceRequirements,
    SecurityProfile,
    SELinuxOptions,
    WindowsSecurityContextOptions,
)
from .meta import LocalObjectReference, ObjectMeta
from .quantity import Quantity
from .scheduling import (
    Affinity,
    PodResourceClaim,
    PodSchedulingGate,
    PodSchedulingGroup,
    Toleration,
    TopologySpreadConstraint,
)
from .status import PodStatus
from .volumes import Volume


class Sysctl(ApiStruct):
    """A kernel parameter of the pod's namespaces."""

    name: str = ""
    value: str = ""


class PodSecurityContext(ApiStruct):
    """Security of all containers of the pod."""

    se_linux_options: SELinuxOptions | None = None
    windows_options: WindowsSecurityContextOptions | None = None
    run_as_user: Int64 | None = None
    run_as_group: Int64 | None = None
    run_as_non_root: bool | None = None
    supplemental_groups: list[Int64] = []
    supplemental_groups_policy: str | None = None
    fs_group: Int64 | None = None
    sysctls: list[Sysctl] = []
    fs_group_change_policy: str | None = None
    seccomp_profile: SecurityProfile | None = None
    app_armor_profile: SecurityProfile | None = None
    se_linux_change_policy: str | None = None


class HostAlias(ApiStruct):
    """A line of /etc/hosts."""

    ip: str = ""
    hostnames: list[str] = []


class PodDNSConfigOption(ApiStruct):
    """An option of resolv.conf."""

    name: str = ""
    value: str | None = None


class PodDNSConfig(ApiStruct):
    """Lines of resolv.conf besides those of the DNS policy."""

    nameservers: list[str] = []
    searches: list[str] = []
    options: list[PodDNSConfigOption] = []


class PodReadinessGate(ApiStruct):
    """A further condition that readiness waits for."""

    condition_type: str = ""


class PodOS(ApiStruct):
    """The operating system of the containers."""

    name: str = ""


class PodSpec(ApiStruct):
    """What is wanted of a pod."""

    volumes: list[Volume] = []
    init_containers: list[Container] = []
    containers: list[Container] = []
    ephemeral_containers: list[EphemeralContainer] = []
    restart_policy: str = ""
    termination_grace_period_seconds: Int64 | None = None
    active_deadline_seconds: Int64 | None = None
    dns_policy: str = ""
    node_selector: dict[str, str] = {}
    service_account_name: str = ""
    service_account: str = ""
    automount_service_account_token: bool | None = None
    node_name: str = ""
    host_network: bool = False
    host_pid: bool = False
    host_ipc: bool = False
    share_process_namespace: bool | None = None
    security_context: PodSecurityContext | None = None
    image_pull_secrets: list[LocalObjectReference] = []
    hostname: str = ""
    subdomain: str = ""
    affinity: Affinity | None = None
    scheduler_name: str = ""
    tolerations: list[Toleration] = []
    host_aliases: list[HostAlias] = []
    priority_class_name: str = ""
    priority: Int32 | None = None
    dns_config: PodDNSConfig | None = None
    readiness_gates: list[PodReadinessGate] = []
    runtime_class_name: str | None = None
    enable_service_links: bool | None = None
    preemption_policy: str | None = None
    overhead: dict[str, Quantity] = {}
    topology_spread_constraints: list[TopologySpreadConstraint] = []
    set_hostname_as_fqdn: bool | None = None
    os: PodOS | None = None
    host_users: bool | None = None
    scheduling_gates: list[PodSchedulingGate] = []
    resource_claims: list[PodResourceClaim] = []
    resources: ResourceRequirements | None = None
    hostname_override: str | None = None
    scheduling_group: PodSchedulingGroup | None = None


class Pod(ApiStruct):
    """A pod: metadata, what is wanted (spec) and what is observed (status)."""

    api_version: str = ""
    kind: str = ""
    metadata: ObjectMeta = msgspec.field(default_factory=ObjectMeta)
    spec: PodSpec = msgspec.field(default_factory=PodSpec)
    status: PodStatus = msgspec.field(default_factory=PodStatus)


class PodList(ApiStruct):
    """Pods, as ``/pods`` of the kubelet answers."""

    api_version: str = ""
    kind: str = ""
    metadata: dict[str, str] = {}
    items: list[Pod] = []
