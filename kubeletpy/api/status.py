"""What is observed of a pod: ``PodStatus`` and its parts (core/v1, 1.36).

Fields without a default are those that Kubernetes always writes, zero or not.
"""

from __future__ import annotations

import msgspec

from .base import ApiStruct, Int32, Int64, Time
from .container import ResourceRequirements
from .quantity import Quantity


class ContainerStateWaiting(ApiStruct):
    """Not running yet, or not any more and to be restarted."""

    reason: str = ""
    message: str = ""


class ContainerStateRunning(ApiStruct):
    """Running since ``started_at``."""

    started_at: Time | None = None


class ContainerStateTerminated(ApiStruct):
    """Ended with an exit code."""

    exit_code: Int32
    signal: Int32 = 0
    reason: str = ""
    message: str = ""
    started_at: Time | None = None
    finished_at: Time | None = None
    container_id: str = ""


class ContainerState(ApiStruct):
    """Exactly one of the three is set; none means waiting."""

    waiting: ContainerStateWaiting | None = None
    running: ContainerStateRunning | None = None
    terminated: ContainerStateTerminated | None = None


class ImageVolumeStatus(ApiStruct):
    """The digest that an image volume shows."""

    image_ref: str = ""


class VolumeStatus(ApiStruct):
    """Status of a mounted volume by its kind."""

    image: ImageVolumeStatus | None = None


class VolumeMountStatus(ApiStruct):
    """A mount as it really is."""

    name: str = ""
    mount_path: str = ""
    read_only: bool = False
    recursive_read_only: str | None = None
    volume_status: VolumeStatus | None = None


class LinuxContainerUser(ApiStruct):
    """The first process' user and groups."""

    uid: Int64 = 0
    gid: Int64 = 0
    supplemental_groups: list[Int64] = []


class ContainerUser(ApiStruct):
    """The first process' identity."""

    linux: LinuxContainerUser | None = None


class ResourceHealth(ApiStruct):
    """Health of one device."""

    resource_id: str = ""
    health: str = ""
    message: str | None = None


class ResourceStatus(ApiStruct):
    """Health of the devices of one resource."""

    name: str = ""
    resources: list[ResourceHealth] = []


class ContainerStatus(ApiStruct, kw_only=True):
    """One container as observed."""

    name: str
    state: ContainerState = msgspec.field(default_factory=ContainerState)
    last_state: ContainerState = msgspec.field(default_factory=ContainerState)
    ready: bool
    restart_count: Int32
    image: str
    image_id: str
    container_id: str = ""
    started: bool | None = None
    allocated_resources: dict[str, Quantity] = {}
    resources: ResourceRequirements | None = None
    volume_mounts: list[VolumeMountStatus] = []
    user: ContainerUser | None = None
    allocated_resources_status: list[ResourceStatus] = []
    stop_signal: str | None = None


class PodCondition(ApiStruct, kw_only=True):
    """A condition of the pod: type, status True|False|Unknown, and why."""

    type: str
    observed_generation: Int64 = 0
    status: str
    last_probe_time: Time | None = None
    last_transition_time: Time | None = None
    reason: str = ""
    message: str = ""


class HostIP(ApiStruct):
    """An address of the node."""

    ip: str = ""


class PodIP(ApiStruct):
    """An address of the pod."""

    ip: str = ""


class PodResourceClaimStatus(ApiStruct):
    """The claim made for an entry of ``spec.resourceClaims``."""

    name: str = ""
    resource_claim_name: str | None = None


class ContainerExtendedResourceRequest(ApiStruct):
    """An extended resource served by a claim."""

    container_name: str = ""
    resource_name: str = ""
    request_name: str = ""


class PodExtendedResourceClaimStatus(ApiStruct):
    """The claim that serves extended resources."""

    request_mappings: list[ContainerExtendedResourceRequest] = []
    resource_claim_name: str = ""


class PodStatus(ApiStruct):
    """A pod as observed by the node."""

    observed_generation: Int64 = 0
    phase: str = ""
    conditions: list[PodCondition] = []
    message: str = ""
    reason: str = ""
    nominated_node_name: str = ""
    host_ip: str = ""
    host_ips: list[HostIP] = []
    pod_ip: str = ""
    pod_ips: list[PodIP] = []
    start_time: Time | None = None
    init_container_statuses: list[ContainerStatus] = []
    container_statuses: list[ContainerStatus] = []
    qos_class: str = ""
    ephemeral_container_statuses: list[ContainerStatus] = []
    resize: str = ""
    resource_claim_statuses: list[PodResourceClaimStatus] = []
    extended_resource_claim_status: PodExtendedResourceClaimStatus | None = None
    allocated_resources: dict[str, Quantity] = {}
    resources: ResourceRequirements | None = None
