"""Roles and bindings.

Source: rbac.authorization.k8s.io/v1; Kubernetes documentation, "Using RBAC Authorization".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from controlplane.api.errors import Cause
from controlplane.api.metadata import required, unsupported, wrong
from controlplane.api.resource import Object, Strategy

_GROUP: Final = "rbac.authorization.k8s.io"


class Roles(Strategy):
    """What roles have in common.

    Args:
        namespaced: they cannot speak of paths.
    """

    names = "path"
    generation = False
    has_status = False

    def __init__(self, *, namespaced: bool) -> None:
        self._namespaced = namespaced

    def validate(self, value: Object, old: Object | None) -> list[Cause]:
        """Check the rules."""
        causes: list[Cause] = []
        for index, rule in enumerate(value.get("rules") or ()):
            causes += _check_rule(rule, f"rules[{index}]", namespaced=self._namespaced)
        return causes


class Bindings(Strategy):
    """What bindings have in common.

    Args:
        namespaced: they can refer to roles of their namespace.
    """

    names = "path"
    generation = False
    has_status = False

    def __init__(self, *, namespaced: bool) -> None:
        self._kinds = ["ClusterRole", "Role"] if namespaced else ["ClusterRole"]
        self._namespaced = namespaced

    def default(self, value: Object) -> None:
        """Name the groups of what is referred to."""
        reference = value.get("roleRef")
        if reference is not None and not reference.get("apiGroup"):
            reference["apiGroup"] = _GROUP
        for subject in value.get("subjects") or ():
            if subject.get("kind") in ("User", "Group") and not subject.get("apiGroup"):
                subject["apiGroup"] = _GROUP

    def validate(self, value: Object, old: Object | None) -> list[Cause]:
        """Check the role and the subjects."""
        reference = value.get("roleRef") or {}
        causes: list[Cause] = []
        if reference.get("apiGroup", _GROUP) != _GROUP:
            causes.append(unsupported("roleRef.apiGroup", reference["apiGroup"], [_GROUP]))
        if reference.get("kind") not in self._kinds:
            causes.append(unsupported("roleRef.kind", reference.get("kind", ""), self._kinds))
        if not reference.get("name"):
            causes.append(required("roleRef.name"))
        if old is not None and reference != (old.get("roleRef") or {}):
            causes.append(wrong("roleRef", reference, "cannot change roleRef"))
        for index, subject in enumerate(value.get("subjects") or ()):
            causes += _check_subject(subject, f"subjects[{index}]", namespaced=self._namespaced)
        return causes


def _check_rule(rule: dict[str, Any], path: str, *, namespaced: bool) -> list[Cause]:
    causes: list[Cause] = []
    groups, resources = rule.get("apiGroups"), rule.get("resources")
    if not rule.get("verbs"):
        causes.append(required(f"{path}.verbs", "verbs must contain at least one value"))
    if rule.get("nonResourceURLs"):
        text = ""
        if namespaced:
            text = "namespaced rules cannot apply to non-resource URLs"
        elif groups or resources or rule.get("resourceNames"):
            text = "rules cannot apply to both regular resources and non-resource URLs"
        if text:
            causes.append(wrong(f"{path}.nonResourceURLs", rule["nonResourceURLs"], text))
        return causes
    if not groups:
        text = "resource rules must supply at least one api group"
        causes.append(required(f"{path}.apiGroups", text))
    if not resources:
        text = "resource rules must supply at least one resource"
        causes.append(required(f"{path}.resources", text))
    return causes


def _check_subject(subject: dict[str, Any], path: str, *, namespaced: bool) -> list[Cause]:
    causes: list[Cause] = []
    kind, group = subject.get("kind", ""), subject.get("apiGroup", "")
    if not subject.get("name"):
        causes.append(required(f"{path}.name"))
    if kind == "ServiceAccount":
        if group:
            causes.append(unsupported(f"{path}.apiGroup", group, [""]))
        if not namespaced and not subject.get("namespace"):
            causes.append(required(f"{path}.namespace"))
    elif kind in ("User", "Group"):
        if group != _GROUP:
            causes.append(unsupported(f"{path}.apiGroup", group, [_GROUP]))
    else:
        causes.append(unsupported(f"{path}.kind", kind, ["ServiceAccount", "User", "Group"]))
    return causes


RBAC: Final[Mapping[str, Strategy]] = {
    f"{_GROUP}/roles": Roles(namespaced=True),
    f"{_GROUP}/clusterroles": Roles(namespaced=False),
    f"{_GROUP}/rolebindings": Bindings(namespaced=True),
    f"{_GROUP}/clusterrolebindings": Bindings(namespaced=False),
}
