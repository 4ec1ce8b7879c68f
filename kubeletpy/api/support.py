"""Which valid fields this kubelet does not honour (pure).

A field that would be ignored is an error here, never silence. What speaks to the scheduler alone
(tolerations, pod affinity, spread, priority, preemption) has done its work before a kubelet sees
a pod: such fields are accepted, and `without_effect` names them for an event.

Honoured, besides what is refused below: volumes emptyDir, hostPath, downwardAPI, NFS and image;
subPath and subPathExpr; env with value, fieldRef, resourceFieldRef and fileKeyRef; all probes and
hooks; requests and limits of cpu, memory and huge pages, for containers and for the pod; devices of
device plug-ins, which are waited for; security contexts of pod and containers; host namespaces,
shareProcessNamespace, hostname, subdomain, hostAliases, DNS policies and configuration, safe
sysctls, restart policies, sidecars, grace periods.
"""

from __future__ import annotations

from collections.abc import Iterator

from .base import json_name
from .container import Container
from .fields import NOT_HONOURED, FieldError
from .pod import Pod, PodSpec
from .volume_validation import volume_sources
from .volumes import Volume

_NEEDS_API = "needs an API server, which a standalone kubelet does not have"
_HONOURED_VOLUMES = frozenset({"empty_dir", "host_path", "downward_api", "nfs", "image"})
_API_VOLUMES = frozenset(
    {"secret", "config_map", "projected", "persistent_volume_claim", "ephemeral", "csi"}
)
_SPEC_NEEDS_API = (
    "service_account_name",
    "service_account",
    "image_pull_secrets",
    "runtime_class_name",
    "readiness_gates",
    "resource_claims",
    "scheduling_gates",
    "scheduling_group",
)
_SPEC_REFUSED = ("ephemeral_containers", "node_selector", "overhead")
_SCHEDULER_ONLY = (
    "tolerations",
    "topology_spread_constraints",
    "priority",
    "preemption_policy",
)
_HONOURED_RESOURCES = frozenset({"cpu", "memory"})
_HUGEPAGES = "hugepages-"


_STORAGE = "ephemeral-storage"
_NO_LIMIT = "is kept by eviction, and a static pod is never evicted; medium Memory has a limit"


def _honoured(resource: str) -> bool:
    """Whether a container gets what it asks for; names with a slash are devices of plug-ins."""
    return resource in _HONOURED_RESOURCES or resource.startswith(_HUGEPAGES) or "/" in resource


def unsupported(pod: Pod) -> list[FieldError]:
    """Return one error for each field that is set and not honoured."""
    return [FieldError(path, NOT_HONOURED, "", detail) for path, detail in _refused(pod)]


def without_effect(pod: Pod) -> list[str]:
    """Return the paths of fields that only the scheduler reads."""
    spec = pod.spec
    paths = [f"spec.{json_name(name)}" for name in _SCHEDULER_ONLY if getattr(spec, name)]
    if spec.affinity is not None:
        for name in ("pod_affinity", "pod_anti_affinity"):
            if getattr(spec.affinity, name) is not None:
                paths.append(f"spec.affinity.{json_name(name)}")
    if spec.scheduler_name not in ("", "default-scheduler"):
        paths.append("spec.schedulerName")
    for path, container in _containers(spec):
        if "ephemeral-storage" in container.resources.requests:
            paths.append(f"{path}.resources.requests[ephemeral-storage]")
    return paths


def _refused(pod: Pod) -> Iterator[tuple[str, str]]:
    yield from _refused_in_spec(pod.spec)
    for index, volume in enumerate(pod.spec.volumes):
        yield from _refused_in_volume(f"spec.volumes[{index}]", volume)
    for path, container in _containers(pod.spec):
        yield from _refused_in_container(path, container)


def _containers(spec: PodSpec) -> Iterator[tuple[str, Container]]:
    for index, container in enumerate(spec.init_containers):
        yield f"spec.initContainers[{index}]", container
    for index, container in enumerate(spec.containers):
        yield f"spec.containers[{index}]", container


def _refused_in_spec(spec: PodSpec) -> Iterator[tuple[str, str]]:
    for name in _SPEC_NEEDS_API:
        if getattr(spec, name):
            yield f"spec.{json_name(name)}", _NEEDS_API
    for name in _SPEC_REFUSED:
        if getattr(spec, name):
            yield f"spec.{json_name(name)}", ""
    if spec.automount_service_account_token:
        yield "spec.automountServiceAccountToken", _NEEDS_API
    if spec.affinity is not None and spec.affinity.node_affinity is not None:
        yield "spec.affinity.nodeAffinity", "a standalone node has no labels"
    if spec.os is not None and spec.os.name != "linux":
        yield "spec.os.name", "this node runs linux"
    context = spec.security_context
    if context is not None:
        for name in ("windows_options", "se_linux_change_policy"):
            if getattr(context, name):
                yield f"spec.securityContext.{json_name(name)}", ""
    if spec.resources is not None:
        for name in sorted({*spec.resources.limits, *spec.resources.requests}):
            if name not in _HONOURED_RESOURCES and not name.startswith(_HUGEPAGES):
                yield f"spec.resources[{name}]", ""


def _refused_in_volume(path: str, volume: Volume) -> Iterator[tuple[str, str]]:
    for source in volume_sources(volume):
        where = f"{path}.{json_name(source)}"
        if source == "git_repo":
            yield where, "gitRepo volumes are refused for good (CVE-2024-10220)"
        elif source in _API_VOLUMES:
            yield where, _NEEDS_API
        elif source not in _HONOURED_VOLUMES:
            yield where, ""
    empty = volume.empty_dir
    if empty is not None and empty.medium == "" and empty.size_limit:
        yield f"{path}.emptyDir.sizeLimit", _NO_LIMIT


def _refused_in_container(path: str, container: Container) -> Iterator[tuple[str, str]]:
    for name in ("env_from", "volume_devices", "resize_policy"):
        if getattr(container, name):
            yield f"{path}.{json_name(name)}", "" if name == "resize_policy" else _NEEDS_API
    if container.resources.claims:
        yield f"{path}.resources.claims", _NEEDS_API
    for kind in ("limits", "requests"):
        for name in getattr(container.resources, kind):
            # A request of storage speaks to the scheduler alone, a limit would have to be kept.
            scheduler_only = kind == "requests" and name == _STORAGE
            if not (_honoured(name) or scheduler_only):
                detail = _NO_LIMIT if name == _STORAGE else ""
                yield f"{path}.resources.{kind}[{name}]", detail
    for index, variable in enumerate(container.env):
        source = variable.value_from
        for name in ("config_map_key_ref", "secret_key_ref"):
            if source is not None and getattr(source, name) is not None:
                yield f"{path}.env[{index}].valueFrom.{json_name(name)}", _NEEDS_API
    context = container.security_context
    if context is not None and context.windows_options is not None:
        yield f"{path}.securityContext.windowsOptions", ""
