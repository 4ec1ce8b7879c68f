"""What a user should hear about a pod spec that is good all the same (pure).

Source: Kubernetes documentation, "Well-Known Labels, Annotations and Taints", "Volumes" (types that
are gone); Kubernetes 1.36: which warnings there are, and their sentences.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from controlplane.api.formats import label_value_problems
from controlplane.api.resource import Object
from controlplane.kinds.quantity import parse
from controlplane.kinds.strategies.core.addresses import ip_warnings
from controlplane.kinds.strategies.podspec.annotations import (
    SECCOMP,
    SECCOMP_POD,
    deprecated_profiles,
)
from controlplane.kinds.strategies.podspec.defaults import visit_containers

_REQUIRED: Final = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED: Final = "preferredDuringSchedulingIgnoredDuringExecution"
_LABELS: Final = {
    "beta.kubernetes.io/arch": 'deprecated since v1.14; use "kubernetes.io/arch" instead',
    "beta.kubernetes.io/os": 'deprecated since v1.14; use "kubernetes.io/os" instead',
    "failure-domain.beta.kubernetes.io/region":
        'deprecated since v1.17; use "topology.kubernetes.io/region" instead',
    "failure-domain.beta.kubernetes.io/zone":
        'deprecated since v1.17; use "topology.kubernetes.io/zone" instead',
    "beta.kubernetes.io/instance-type":
        'deprecated since v1.17; use "node.kubernetes.io/instance-type" instead',
    "app.kubernetes.io/created-by": "deprecated since v1.9",
    "scheduler.alpha.kubernetes.io/preferAvoidPods":
        "deprecated since v1.22; use Taints and Tolerations instead",
    "node-role.kubernetes.io/master": 'use "node-role.kubernetes.io/control-plane" instead',
}  # fmt: skip
_ANNOTATIONS: Final = {
    "scheduler.alpha.kubernetes.io/critical-pod":
        'non-functional in v1.16+; use the "priorityClassName" field instead',
    "security.alpha.kubernetes.io/sysctls":
        'non-functional in v1.11+; use the "sysctls" field instead',
    "security.alpha.kubernetes.io/unsafe-sysctls":
        'non-functional in v1.11+; use the "sysctls" field instead',
}  # fmt: skip
_VOLUMES: Final = {
    "photonPersistentDisk": ("1.11", "non-functional in v1.16+"),
    "gitRepo": ("1.11", "and disabled by default in v1.33+"),
    "scaleIO": ("1.16", "non-functional in v1.22+"),
    "flocker": ("1.22", "non-functional in v1.25+"),
    "storageos": ("1.22", "non-functional in v1.25+"),
    "quobyte": ("1.22", "non-functional in v1.25+"),
    "glusterfs": ("1.25", "non-functional in v1.26+"),
    "cephfs": ("1.28", "non-functional in v1.31+"),
    "rbd": ("1.28", "non-functional in v1.31+"),
}
OLD_PROFILE: Final = 'deprecated since v1.30; use the "appArmorProfile" field instead'
"""What is said of the older annotations of AppArmor profiles."""

_NO_SELECTOR: Final = "a null labelSelector results in matching no pod"


def pod_warnings(pod: Object, path: str = "") -> list[str]:
    """Return the warnings about a pod, or about a pod template.

    Args:
        pod: with ``metadata`` and ``spec``.
        path: of a template, such as ``spec.template``; "" for a pod.
    """
    start = f"{path}." if path else ""
    spec, at = pod.get("spec", {}), f"{start}spec"
    annotations = pod.get("metadata", {}).get("annotations", {})
    containers = list(visit_containers(spec, at))
    found = _of_labels(spec, at)
    found += [
        f"{start}metadata.annotations[{key}]: {text}"
        for key, text in _ANNOTATIONS.items()
        if key in annotations
    ]
    found += _of_volumes(spec.get("volumes", []), f"{at}.volumes")
    found += _of_names(spec, at)
    found += _of_amounts(spec.get("overhead", {}), f"{at}.overhead")
    found += _of_profiles(spec, annotations, containers, f"{start}metadata.annotations")
    if path:
        # The ones of pods become fields, and are told of then.
        found += [
            f"{start}metadata.annotations[{key}]: {OLD_PROFILE}"
            for key, _, _ in deprecated_profiles(annotations, spec, containers)
        ]
    for container, where in containers:
        for kind in ("limits", "requests"):
            amounts = container.get("resources", {}).get(kind, {})
            found += _of_amounts(amounts, f"{where}.resources.{kind}")
        found += _of_variables(container.get("env", []), f"{where}.env")
    found += _of_ports(containers)
    if spec.get("terminationGracePeriodSeconds", 0) < 0:
        text = "must be >= 0; negative values are invalid and will be treated as 1"
        found.append(f"{at}.terminationGracePeriodSeconds: {text}")
    return (
        found + _of_affinity(spec.get("affinity", {}), f"{at}.affinity") + _of_addresses(spec, at)
    )


def _of_labels(spec: Object, path: str) -> list[str]:
    found = [
        f"{path}.nodeSelector[{key}]: {_LABELS[key]}"
        for key in spec.get("nodeSelector", ())
        if key in _LABELS
    ]
    affinity = spec.get("affinity", {}).get("nodeAffinity", {})
    at = f"{path}.affinity.nodeAffinity"
    for index, term in enumerate(affinity.get(_REQUIRED, {}).get("nodeSelectorTerms", ())):
        found += _of_term(term, f"{at}.{_REQUIRED}.nodeSelectorTerms[{index}]")
    for index, weighted in enumerate(affinity.get(_PREFERRED, ())):
        term, below = weighted.get("preference", {}), f"{at}.{_PREFERRED}[{index}].preference"
        found += _of_term(term, below)
        found += [
            f"{below}.matchExpressions[{n}].values[{m}]: {value} is invalid, {why}"
            for n, expression in enumerate(term.get("matchExpressions", ()))
            for m, value in enumerate(expression.get("values", ()))
            for why in label_value_problems(value)
        ]
    for index, constraint in enumerate(spec.get("topologySpreadConstraints", ())):
        at, key = f"{path}.topologySpreadConstraints[{index}]", constraint.get("topologyKey", "")
        if key in _LABELS:
            found.append(f"{at}.topologyKey: {key} is {_LABELS[key]}")
        if "labelSelector" not in constraint:
            found.append(f"{at}.labelSelector: {_NO_SELECTOR}")
    return found


def _of_term(term: Object, path: str) -> list[str]:
    return [
        f"{path}.matchExpressions[{index}].key: {one['key']} is {_LABELS[one['key']]}"
        for index, one in enumerate(term.get("matchExpressions", ()))
        if one.get("key") in _LABELS
    ]


def _of_volumes(volumes: list[Object], path: str) -> list[str]:
    told = {"storageos": "storageOS"}
    return [
        f"{path}[{index}].{told.get(kind, kind)}: deprecated in v{since}, {end}"
        for index, volume in enumerate(volumes)
        for kind, (since, end) in _VOLUMES.items()
        if kind in volume
    ]


def _of_names(spec: Object, path: str) -> list[str]:
    found: list[str] = []
    for name, key in (("hostAliases", "ip"), ("imagePullSecrets", "name")):
        values = [item.get(key, "") for item in spec.get(name, ())]
        found += [
            f"{path}.{name}[{index}].{key}: duplicate {key} {json.dumps(value)}"
            for index, value in enumerate(values)
            if value in values[:index]
        ]
    return found + [
        f'{path}.imagePullSecrets[{index}].name: invalid empty name ""'
        for index, item in enumerate(spec.get("imagePullSecrets", ()))
        if not item.get("name")
    ]


def _of_amounts(amounts: dict[str, str], path: str) -> list[str]:
    return [
        f'{path}[{name}]: fractional byte value "{amounts[name]}" is invalid, must be an integer'
        for name in ("memory", "ephemeral-storage")
        if name in amounts and parse(amounts[name]) % 1
    ]


def _of_profiles(
    spec: Object,
    annotations: dict[str, str],
    containers: list[tuple[Object, str]],
    path: str,
) -> list[str]:
    keys = [SECCOMP_POD] if "seccompProfile" not in spec.get("securityContext", {}) else []
    keys += [
        SECCOMP + container.get("name", "")
        for container, _ in containers
        if "seccompProfile" not in container.get("securityContext", {})
    ]
    text = 'non-functional in v1.27+; use the "seccompProfile" field instead'
    return [f"{path}[{key}]: {text}" for key in keys if key in annotations]


def _of_variables(variables: list[Object], path: str) -> list[str]:
    found: list[str] = []
    seen: set[str] = set()
    for index, variable in enumerate(variables):
        name, value = variable.get("name", ""), variable.get("value", "")
        reference = f"$({name})"
        # One that makes more of the previous value is meant.
        extends = "valueFrom" not in variable and reference in value and value != reference
        if name in seen and not extends:
            text = f"hides previous definition of {json.dumps(name)}"
            found.append(f"{path}[{index}]: {text}, which may be dropped when using apply")
        seen.add(name)
    return found


def _of_ports(containers: list[tuple[Object, str]]) -> list[str]:
    found: list[str] = []
    known: dict[tuple[int, str], list[tuple[Object, str]]] = {}
    for port, path in _ports(containers):
        others = known.setdefault((port.get("containerPort", 0), port.get("protocol", "")), [])
        for other, where in others:
            clash = _clash(port, other)
            found += [f"{path}: {clash} port definition with {where}"] if clash else []
        others.append((port, path))
    names: dict[str, str] = {}
    for port, path in _ports(containers):
        name = port.get("name", "")
        if name and name in names:
            where = names[name]
            text = f"services and probes that select ports by name will use {where}"
            found.append(f'{path}: duplicate port name "{name}" with {where}, {text}')
        names.setdefault(name, path)
    return found


def _ports(containers: list[tuple[Object, str]]) -> Iterator[tuple[Object, str]]:
    for container, path in containers:
        for index, port in enumerate(container.get("ports", ())):
            yield port, f"{path}.ports[{index}]"


def _clash(port: Object, other: Object) -> str:
    one, two = ((value.get("hostIP", ""), value.get("hostPort", 0)) for value in (port, other))
    if one == two:
        return "duplicate"
    if not one[1] or not two[1]:
        return "overlapping"
    return "dangerously ambiguous" if one[1] == two[1] and not (one[0] and two[0]) else ""


def _of_affinity(affinity: Object, path: str) -> list[str]:
    found: list[str] = []
    for name in ("podAffinity", "podAntiAffinity"):
        terms: Any = affinity.get(name, {})
        found += [
            f"{path}.{name}.{_REQUIRED}[{index}].labelSelector: {_NO_SELECTOR}"
            for index, term in enumerate(terms.get(_REQUIRED, ()))
            if "labelSelector" not in term
        ]
        found += [
            f"{path}.{name}.{_PREFERRED}[{index}].podAffinityTerm.labelSelector: {_NO_SELECTOR}"
            for index, term in enumerate(terms.get(_PREFERRED, ()))
            if "labelSelector" not in term.get("podAffinityTerm", {})
        ]
    return found


def _of_addresses(spec: Object, path: str) -> list[str]:
    found: list[str] = []
    for index, server in enumerate(spec.get("dnsConfig", {}).get("nameservers", ())):
        found += ip_warnings(server, f"{path}.dnsConfig.nameservers[{index}]")
    for index, alias in enumerate(spec.get("hostAliases", ())):
        found += ip_warnings(alias.get("ip", ""), f"{path}.hostAliases[{index}].ip")
    return found
