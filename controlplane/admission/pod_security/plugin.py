"""Refuses, or warns of, pods that are not of the level that their namespace asks for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from controlplane.admission.pod_security.standards import problems
from controlplane.admission.refusals import forbidden, is_of
from controlplane.api import codec
from controlplane.api.errors import Cause, invalid
from controlplane.api.metadata import wrong
from controlplane.api.resource import Context, Object, Resource
from controlplane.plane import Plane

_PREFIX: Final = "pod-security.kubernetes.io/"
_LEVELS: Final = ("privileged", "baseline", "restricted")
_VERSION: Final = re.compile(r"latest|v1\.(0|[1-9][0-9]*)", re.ASCII)
_TEMPLATES: Final = {
    ("", "replicationcontrollers"): ("template",),
    ("apps", "deployments"): ("template",),
    ("apps", "replicasets"): ("template",),
    ("apps", "statefulsets"): ("template",),
    ("apps", "daemonsets"): ("template",),
    ("batch", "jobs"): ("template",),
    ("batch", "cronjobs"): ("jobTemplate", "spec", "template"),
}


@dataclass(frozen=True, slots=True)
class Policy:
    """What a namespace asks for.

    Attributes:
        enforce: level and version that pods must be of.
        warn: level and version of which others are told.
    """

    enforce: tuple[str, str]
    warn: tuple[str, str]


class PodSecurity:
    """Looks at pods, and at what makes pods.

    Args:
        plane: the parts of the server.
    """

    def __init__(self, plane: Plane) -> None:
        self._plane = plane

    async def admit(
        self, resource: Resource, value: Object, old: Object | None, context: Context
    ) -> None:
        """Check a pod, the template of pods, or the labels of a namespace.

        Raises:
            ApiError: the pod is not of the level, or a label names no level.
        """
        if is_of(resource, "", "namespaces"):
            causes = label_problems(value["metadata"].get("labels", {}))
            before = (old or {}).get("metadata", {}).get("labels")
            if causes and value["metadata"].get("labels") != before:
                raise invalid(resource.kind, "", value["metadata"]["name"], causes)
        elif is_of(resource, "", "pods"):
            if _is_significant(value, old, context.subresource):
                self._check_pod(resource, value, context)
        elif not context.subresource and (resource.group, resource.plural) in _TEMPLATES:
            template = value.get("spec", {})
            for key in _TEMPLATES[resource.group, resource.plural]:
                template = template.get(key) or {}
            warn = self._policy(value).warn
            self._warn(warn, template.get("metadata", {}), template.get("spec", {}), context)

    def _check_pod(self, resource: Resource, value: Object, context: Context) -> None:
        policy, spec = self._policy(value), value.get("spec", {})
        level, version = policy.enforce
        found = problems(level, value["metadata"], spec)
        if found:
            why = f'violates PodSecurity "{level}:{version}": {found}'
            raise forbidden(resource, value["metadata"], why)
        self._warn(policy.warn, value["metadata"], spec, context)

    def _warn(self, wanted: tuple[str, str], meta: Object, spec: Object, context: Context) -> None:
        level, version = wanted
        found = problems(level, meta, spec)
        if found:
            context.warnings.append(f'would violate PodSecurity "{level}:{version}": {found}')

    def _policy(self, value: Object) -> Policy:
        item = self._plane.store.get(f"/core/namespaces/{value['metadata'].get('namespace', '')}")
        return policy_of(codec.labels(item) if item is not None else {})


def policy_of(labels: dict[str, str]) -> Policy:
    """Return what the labels of a namespace ask for; by default nothing (pure).

    A level that is none is the strictest one. Who only enforces is warned of that, too.
    """
    enforce = _wanted(labels, "enforce")
    names_warn = f"{_PREFIX}warn" in labels or f"{_PREFIX}warn-version" in labels
    return Policy(enforce, _wanted(labels, "warn") if names_warn else enforce)


def label_problems(labels: dict[str, str]) -> list[Cause]:
    """Return what is wrong with the labels of a namespace (pure)."""
    causes: list[Cause] = []
    for mode in ("enforce", "audit", "warn"):
        key = _PREFIX + mode
        if key in labels and labels[key] not in _LEVELS:
            text = f"must be one of {', '.join(_LEVELS)}"
            causes.append(wrong(f"metadata.labels[{key}]", labels[key], text))
        version = labels.get(f"{key}-version")
        if version is not None and not _VERSION.fullmatch(version):
            text = 'must be "latest" or "v1.x"'
            causes.append(wrong(f"metadata.labels[{key}-version]", version, text))
    return causes


def _wanted(labels: dict[str, str], mode: str) -> tuple[str, str]:
    level = labels.get(_PREFIX + mode, "privileged")
    version = labels.get(f"{_PREFIX}{mode}-version", "latest")
    return (level if level in _LEVELS else "restricted", version)


def _is_significant(value: Object, old: Object | None, subresource: str) -> bool:
    if old is None:
        return not subresource
    return subresource in ("", "ephemeralcontainers") and _run(value) != _run(old)


def _run(pod: Object) -> list[Any]:
    spec = pod.get("spec", {})
    return [spec.get(key) for key in ("initContainers", "containers", "ephemeralContainers")]
