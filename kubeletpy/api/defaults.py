"""Defaulting, as the API server does it before a kubelet sees a pod."""

from __future__ import annotations

from itertools import chain

from .container import Container, HTTPGetAction, LifecycleHandler, Probe, ResourceRequirements
from .pod import Pod
from .quantity import Quantity
from .volumes import EmptyDirVolumeSource, Volume

TERMINATION_LOG = "/dev/termination-log"
DEFAULT_GRACE_SECONDS = 30
DEFAULT_FILE_MODE = 0o644


def set_defaults(pod: Pod) -> None:
    """Fill in what ``pod`` leaves open; what is set stays."""
    spec = pod.spec
    spec.restart_policy = spec.restart_policy or "Always"
    spec.dns_policy = spec.dns_policy or "ClusterFirst"
    spec.scheduler_name = spec.scheduler_name or "default-scheduler"
    spec.service_account_name = spec.service_account_name or spec.service_account
    if spec.termination_grace_period_seconds is None:
        spec.termination_grace_period_seconds = DEFAULT_GRACE_SECONDS
    if spec.enable_service_links is None:
        spec.enable_service_links = True
    for volume in spec.volumes:
        _default_volume(volume)
    for container in chain(spec.init_containers, spec.containers):
        _default_container(container)
        if spec.host_network:
            for port in container.ports:
                port.host_port = port.host_port or port.container_port
    if spec.resources is not None:
        _default_pod_resources(pod, spec.resources)


def default_pull_policy(image: str) -> str:
    """Return Always for the tag ``latest`` (also where no tag is written), else IfNotPresent."""
    if "@" in image:
        return "IfNotPresent"
    tag = image.rpartition("/")[2].partition(":")[2] or "latest"
    return "Always" if tag == "latest" else "IfNotPresent"


def _default_container(container: Container) -> None:
    if container.image:
        container.image_pull_policy = container.image_pull_policy or default_pull_policy(
            container.image
        )
    container.termination_message_path = container.termination_message_path or TERMINATION_LOG
    container.termination_message_policy = container.termination_message_policy or "File"
    for name, limit in container.resources.limits.items():
        container.resources.requests.setdefault(name, limit)
    for port in container.ports:
        port.protocol = port.protocol or "TCP"
    for variable in container.env:
        if variable.value_from is not None and variable.value_from.field_ref is not None:
            reference = variable.value_from.field_ref
            reference.api_version = reference.api_version or "v1"
    for probe in (container.liveness_probe, container.readiness_probe, container.startup_probe):
        if probe is not None:
            _default_probe(probe)
    if container.lifecycle is not None:
        _default_hook(container.lifecycle.post_start)
        _default_hook(container.lifecycle.pre_stop)


def _default_probe(probe: Probe) -> None:
    probe.timeout_seconds = probe.timeout_seconds or 1
    probe.period_seconds = probe.period_seconds or 10
    probe.success_threshold = probe.success_threshold or 1
    probe.failure_threshold = probe.failure_threshold or 3
    _default_http(probe.http_get)
    if probe.grpc is not None and probe.grpc.service is None:
        probe.grpc.service = ""


def _default_hook(handler: LifecycleHandler | None) -> None:
    if handler is not None:
        _default_http(handler.http_get)


def _default_http(action: HTTPGetAction | None) -> None:
    if action is not None:
        action.path = action.path or "/"
        action.scheme = action.scheme or "HTTP"


def _default_volume(volume: Volume) -> None:
    sources = (getattr(volume, name) for name in volume.__struct_fields__ if name != "name")
    if all(source is None for source in sources):
        volume.empty_dir = EmptyDirVolumeSource()
    for source in (volume.secret, volume.config_map, volume.downward_api, volume.projected):
        if source is not None and source.default_mode is None:
            source.default_mode = DEFAULT_FILE_MODE
    if volume.host_path is not None and volume.host_path.type is None:
        volume.host_path.type = ""


def _default_pod_resources(pod: Pod, resources: ResourceRequirements) -> None:
    """Pod-level requests (KEP-2837): what the containers ask for together, else the limit."""
    for name, limit in resources.limits.items():
        if name in resources.requests:
            continue
        asked = [
            container.resources.requests[name]
            for container in pod.spec.containers
            if name in container.resources.requests
        ]
        total = asked[0] if asked else limit
        for amount in asked[1:]:
            total = total + amount
        resources.requests[name] = min(total, limit) if asked else Quantity(str(limit))
