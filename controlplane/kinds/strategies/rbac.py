"""Roles and bindings.

Source: rbac.authorization.k8s.io/v1; Kubernetes documentation, "Using RBAC Authorization".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from controlplane.api.errors import Cause
from controlplane.api.formats import subdomain_problems
from controlplane.api.metadata import path_problems, required, unsupported, wrong
from controlplane.api.resource import AGE, Column, Object, Strategy
from controlplane.kinds.strategies.podspec.scheduling import check_label_selector

_GROUP: Final = "rbac.authorization.k8s.io"


class Roles(Strategy):
    """What roles have in common.

    Args:
        namespaced: they cannot speak of paths.
    """

    create_on_update = True
    names = "path"
    generation = False
    has_status = False
    columns = (
        Column("Name", format="name", description="Of the object."),
        Column("Created At", "date", description="When it was made."),
    )

    def __init__(self, *, namespaced: bool) -> None:
        self._namespaced = namespaced

    def row(self, value: Object) -> list[Any]:
        """Return the cells."""
        meta = value["metadata"]
        return [meta["name"], meta.get("creationTimestamp", "")]

    def validate(self, value: Object, old: Object | None) -> list[Cause]:
        """Check the rules."""
        causes: list[Cause] = []
        for index, rule in enumerate(value.get("rules") or ()):
            causes += _check_rule(rule, f"rules[{index}]", namespaced=self._namespaced)
        aggregation = value.get("aggregationRule")
        if aggregation is not None and not self._namespaced:
            causes += _check_aggregation(aggregation.get("clusterRoleSelectors", []))
        return causes


class Bindings(Strategy):
    """What bindings have in common.

    Args:
        namespaced: they can refer to roles of their namespace.
    """

    create_on_update = True
    names = "path"
    generation = False
    has_status = False
    columns = (
        Column("Role", description="That it gives."),
        AGE,
        Column("Users", priority=1, description="Whom it is given."),
        Column("Groups", priority=1, description="Whose members it is given."),
        Column("ServiceAccounts", priority=1, description="Which accounts it is given."),
    )

    def row(self, value: Object) -> list[Any]:
        """Return the cells."""
        reference, subjects = value.get("roleRef", {}), value.get("subjects", [])
        named: dict[str, list[str]] = {"User": [], "Group": [], "ServiceAccount": []}
        for subject in subjects:
            name = subject.get("name", "")
            if subject.get("kind") == "ServiceAccount":
                name = f"{subject.get('namespace', '')}/{name}"
            named.setdefault(subject.get("kind", ""), []).append(name)
        cells = [", ".join(named[kind]) for kind in ("User", "Group", "ServiceAccount")]
        return [f"{reference.get('kind', '')}/{reference.get('name', '')}", *cells]

    def __init__(self, *, namespaced: bool) -> None:
        self._kinds = ["Role", "ClusterRole"] if namespaced else ["ClusterRole"]
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
        else:
            problems = path_problems(reference["name"])
            causes += [wrong("roleRef.name", reference["name"], why) for why in problems]
        if old is not None and reference != (old.get("roleRef") or {}):
            causes.append(wrong("roleRef", reference, "cannot change roleRef"))
        for index, subject in enumerate(value.get("subjects") or ()):
            causes += _check_subject(subject, f"subjects[{index}]", namespaced=self._namespaced)
        return causes


def _check_aggregation(selectors: list[Object]) -> list[Cause]:
    path = "aggregationRule.clusterRoleSelectors"
    if not selectors:
        text = "at least one clusterRoleSelector required if aggregationRule is non-nil"
        return [required(path, text)]
    causes: list[Cause] = []
    for index, selector in enumerate(selectors):
        found = check_label_selector(selector, f"{path}[{index}]")
        causes += found
        if found:
            causes.append(wrong(f"{path}[{index}]", None, "invalid label selector."))
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
        name = subject.get("name", "")
        problems = subdomain_problems(name) if name else []
        causes += [wrong(f"{path}.name", name, why) for why in problems]
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
