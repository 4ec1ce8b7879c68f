"""Checks of whole pod specs and pod templates (pure).

Source: Kubernetes 1.36: which rules there are, the fields that they name and the sentences; in the
order in which its server tells them.
"""

from __future__ import annotations

from typing import Final

from controlplane.api.errors import Cause
from controlplane.api.formats import range_problems
from controlplane.api.metadata import (
    check_annotations as check_any_annotations,
)
from controlplane.api.metadata import check_labels, forbidden, missing, required, unsupported, wrong
from controlplane.api.resource import Object
from controlplane.kinds.strategies.podspec.annotations import (
    check_annotations,
    check_same_profiles,
)
from controlplane.kinds.strategies.podspec.containers import Surroundings, check_containers
from controlplane.kinds.strategies.podspec.defaults import visit_containers
from controlplane.kinds.strategies.podspec.naming import (
    check_aliases,
    check_dns,
    check_names,
    check_readiness_gates,
    check_resource_claims,
)
from controlplane.kinds.strategies.podspec.resources import (
    check_amount,
    check_container_resource_name,
    check_pod_resources,
)
from controlplane.kinds.strategies.podspec.scheduling import (
    check_affinity,
    check_gates,
    check_spread,
    check_tolerations,
)
from controlplane.kinds.strategies.podspec.security import (
    check_host_process,
    check_host_users,
    check_pod_context,
)
from controlplane.kinds.strategies.podspec.systems import check_system
from controlplane.kinds.strategies.podspec.volumes import check_volumes

_MAX_DEADLINE: Final = (1 << 31) - 1
_CHOICES: Final = (
    ("restartPolicy", ["Always", "OnFailure", "Never"]),
    ("dnsPolicy", ["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"]),
)


def check_pod_spec(
    spec: Object, path: str = "spec", *, is_pod: bool = False, pod: str = ""
) -> list[Cause]:
    """Return what is wrong with a pod spec that has its defaults.

    Args:
        spec: of a pod or a template.
        path: of it.
        is_pod: it is a pod's; a template may leave a few things open.
        pod: the pod's name, for the names of volumes that are made for it.
    """
    grace = spec.get("terminationGracePeriodSeconds")
    causes = [required(f"{path}.terminationGracePeriodSeconds")] if grace is None else []
    volumes, found = check_volumes(spec.get("volumes", []), pod, f"{path}.volumes", is_pod=is_pod)
    claims = {claim["name"] for claim in spec.get("resourceClaims", ()) if claim.get("name")}
    around = Surroundings(
        volumes=volumes,
        claims=frozenset(claims),
        restart_policy=spec.get("restartPolicy", ""),
        grace=grace,
        system=spec.get("os", {}).get("name", ""),
        host_users=spec.get("hostUsers", True),
    )
    causes += found
    causes += check_resource_claims(spec.get("resourceClaims", []), f"{path}.resourceClaims")
    causes += check_containers(spec, around, path)
    causes += check_pod_resources(spec, claims, f"{path}.resources")
    causes += _check_host_network(spec, path, is_pod=is_pod)
    for name, known in _CHOICES:
        causes += _check_choice(spec.get(name, ""), known, f"{path}.{name}")
    causes += check_labels(spec.get("nodeSelector", {}), f"{path}.nodeSelector")
    causes += check_pod_context(spec, f"{path}.securityContext")
    causes += check_affinity(spec.get("affinity", {}), f"{path}.affinity")
    causes += check_dns(spec, f"{path}.dnsConfig")
    causes += check_readiness_gates(spec.get("readinessGates", []), f"{path}.readinessGates")
    causes += check_gates(spec.get("schedulingGates", []), f"{path}.schedulingGates")
    constraints = spec.get("topologySpreadConstraints", [])
    causes += check_spread(constraints, f"{path}.topologySpreadConstraints")
    return causes + _check_rest(spec, path)


def check_pod_template(template: Object, path: str = "spec.template") -> list[Cause]:
    """Return what is wrong with a pod template that has its defaults."""
    meta, spec = template.get("metadata", {}), template.get("spec", {})
    annotations = meta.get("annotations", {})
    containers = list(visit_containers(spec, f"{path}.spec"))
    names = {container.get("name", "") for container, _ in containers}
    at = f"{path}.annotations"
    causes = check_labels(meta.get("labels", {}), f"{path}.labels")
    causes += check_any_annotations(annotations, at)
    causes += check_annotations(annotations, spec, names, at)
    causes += check_pod_spec(spec, f"{path}.spec")
    causes += check_same_profiles(annotations, spec, containers, f"{path}.spec")
    if spec.get("ephemeralContainers"):
        text = "ephemeral containers not allowed in pod template"
        causes.append(forbidden(f"{path}.spec.ephemeralContainers", text))
    return causes


def _check_rest(spec: Object, path: str) -> list[Cause]:
    containers = list(visit_containers(spec, path))
    causes = check_host_process(spec, containers, path)
    causes += check_host_users(spec, path)
    causes += check_names(spec, path)
    deadline = spec.get("activeDeadlineSeconds")
    if deadline is not None:
        at = f"{path}.activeDeadlineSeconds"
        causes += [wrong(at, deadline, why) for why in range_problems(deadline, 1, _MAX_DEADLINE)]
    causes += check_tolerations(spec.get("tolerations", []), f"{path}.tolerations")
    causes += check_aliases(spec.get("hostAliases", []), f"{path}.hostAliases")
    if "preemptionPolicy" in spec:
        known = ["PreemptLowerPriority", "Never"]
        causes += _check_choice(spec["preemptionPolicy"], known, f"{path}.preemptionPolicy")
    for name, text in spec.get("overhead", {}).items():
        # Overhead is checked as the limits of a container are.
        at = f"{path}.overhead.limits[{name}]"
        causes += check_container_resource_name(name, at) + check_amount(name, text, at)
    causes += check_system(spec, containers, path)
    return causes + _check_files_of_env(spec, containers)


def _check_choice(value: str, known: list[str], path: str) -> list[Cause]:
    if not value:
        return [required(path)]
    return [] if value in known else [unsupported(path, value, known)]


def _check_host_network(spec: Object, path: str, *, is_pod: bool) -> list[Cause]:
    if not spec.get("hostNetwork"):
        return []
    causes: list[Cause] = []
    for index, container in enumerate(spec.get("containers", ())):
        for number, port in enumerate(container.get("ports", ())):
            host, own = port.get("hostPort", 0), port.get("containerPort", 0)
            if (is_pod or host) and host != own:
                at = f"{path}.containers[{index}].ports[{number}].hostPort"
                text = "must match `containerPort` when `hostNetwork` is true"
                causes.append(wrong(at, host, text))
    return causes


def _check_files_of_env(spec: Object, containers: list[tuple[Object, str]]) -> list[Cause]:
    """Variables can be read from files of volumes that the containers write themselves."""
    volumes = {volume.get("name", ""): volume for volume in spec.get("volumes", ())}
    causes: list[Cause] = []
    for container, path in containers:
        for index, variable in enumerate(container.get("env", ())):
            reference = variable.get("valueFrom", {}).get("fileKeyRef")
            if reference is None:
                continue
            at = f"{path}.env[{index}].valueFrom.fileKeyRef.volumeName"
            name = reference.get("volumeName", "")
            if name not in volumes:
                causes.append(missing(at, name))
            elif "emptyDir" not in volumes[name]:
                causes.append(wrong(at, name, "referenced volume must be of type emptyDir"))
    return causes
