"""Checks of what a pod wants of its node: affinity, tolerations, spreading, gates (pure).

Source: Kubernetes documentation, "Assigning Pods to Nodes", "Taints and Tolerations", "Pod Topology
Spread Constraints", "Pod Scheduling Readiness".
"""

from __future__ import annotations

from typing import Any

from controlplane.api.errors import Cause
from controlplane.api.formats import (
    label_key_problems,
    label_problems,
    label_value_problems,
    subdomain_problems,
)
from controlplane.api.metadata import (
    check_labels,
    duplicate,
    forbidden,
    required,
    unsupported,
    wrong,
)
from controlplane.api.resource import Object

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
_EFFECTS = ["NoSchedule", "PreferNoSchedule", "NoExecute"]
_NO_OPERATOR = "not a valid selector operator"


def check_label_key(key: str, path: str) -> list[Cause]:
    """Return what is wrong with the key of a label."""
    return [wrong(path, key, why) for why in label_key_problems(key)]


def check_label_selector(selector: Object | None, path: str) -> list[Cause]:
    """Return what is wrong with a meta/v1 LabelSelector; None is good."""
    if selector is None:
        return []
    causes = check_labels(selector.get("matchLabels", {}), f"{path}.matchLabels")
    for index, expression in enumerate(selector.get("matchExpressions", ())):
        at = f"{path}.matchExpressions[{index}]"
        operator, values = expression.get("operator", ""), expression.get("values", [])
        causes += _check_operator(operator, values, at, comparing=False)
        causes += check_label_key(expression.get("key", ""), f"{at}.key")
        causes += _check_values(values, f"{at}.values")
    return causes


def check_affinity(affinity: Object, path: str) -> list[Cause]:
    """Return what is wrong with ``affinity``."""
    causes: list[Cause] = []
    node, at = affinity.get("nodeAffinity", {}), f"{path}.nodeAffinity"
    if _REQUIRED in node:
        causes += check_node_selector(node[_REQUIRED], f"{at}.{_REQUIRED}")
    for index, term in enumerate(node.get(_PREFERRED, ())):
        below = f"{at}.{_PREFERRED}[{index}]"
        causes += _check_weight(term, below)
        causes += _check_node_term(term.get("preference", {}), f"{below}.preference", strict=False)
    for name in ("podAffinity", "podAntiAffinity"):
        terms, at = affinity.get(name, {}), f"{path}.{name}"
        for index, term in enumerate(terms.get(_REQUIRED, ())):
            causes += _check_pod_term(term, f"{at}.{_REQUIRED}[{index}]")
        for index, term in enumerate(terms.get(_PREFERRED, ())):
            below = f"{at}.{_PREFERRED}[{index}]"
            causes += _check_weight(term, below)
            causes += _check_pod_term(term.get("podAffinityTerm", {}), f"{below}.podAffinityTerm")
    return causes


def check_node_selector(selector: Object, path: str) -> list[Cause]:
    """Return what is wrong with a NodeSelector."""
    terms, at = selector.get("nodeSelectorTerms", []), f"{path}.nodeSelectorTerms"
    if not terms:
        return [required(at, "must have at least one node selector term")]
    causes: list[Cause] = []
    for index, term in enumerate(terms):
        causes += _check_node_term(term, f"{at}[{index}]", strict=True)
    return causes


def check_tolerations(tolerations: list[Object], path: str) -> list[Cause]:
    """Return what is wrong with ``tolerations``."""
    causes: list[Cause] = []
    for index, toleration in enumerate(tolerations):
        causes += _check_toleration(toleration, f"{path}[{index}]")
    return causes


def check_spread(constraints: list[Object], path: str) -> list[Cause]:
    """Return what is wrong with ``topologySpreadConstraints``."""
    causes: list[Cause] = []
    for index, constraint in enumerate(constraints):
        at, key = f"{path}[{index}]", constraint.get("topologyKey", "")
        action = constraint.get("whenUnsatisfiable", "")
        if constraint.get("maxSkew", 0) <= 0:
            number = constraint.get("maxSkew", 0)
            causes.append(wrong(f"{at}.maxSkew", number, "must be greater than zero"))
        if not key:
            causes.append(required(f"{at}.topologyKey", "can not be empty"))
        known = ["DoNotSchedule", "ScheduleAnyway"]
        if action not in known:
            causes.append(unsupported(f"{at}.whenUnsatisfiable", action, known))
        if any(_same_spread(constraint, other) for other in constraints[index + 1 :]):
            below = f"{at}.{{topologyKey, whenUnsatisfiable}}"
            causes.append(duplicate(below, f"{{{key}, {action}}}"))
        causes += _check_min_domains(constraint, action, at)
        for name in ("nodeAffinityPolicy", "nodeTaintsPolicy"):
            if constraint.get(name, "Honor") not in ("Honor", "Ignore"):
                causes.append(unsupported(f"{at}.{name}", constraint[name], ["Honor", "Ignore"]))
        causes += _check_label_keys(constraint, at)
        causes += check_label_selector(constraint.get("labelSelector"), f"{at}.labelSelector")
    return causes


def check_gates(gates: list[Object], path: str) -> list[Cause]:
    """Return what is wrong with ``schedulingGates``."""
    causes: list[Cause] = []
    seen: set[str] = set()
    for index, gate in enumerate(gates):
        at, name = f"{path}[{index}]", gate.get("name", "")
        causes += check_label_key(name, at)
        if name in seen:
            causes.append(duplicate(at, name))
        seen.add(name)
    return causes


def _same_spread(one: Object, other: Object) -> bool:
    return all(one.get(key) == other.get(key) for key in ("topologyKey", "whenUnsatisfiable"))


def _check_min_domains(constraint: Object, action: str, path: str) -> list[Cause]:
    number = constraint.get("minDomains")
    if number is None:
        return []
    at = f"{path}.minDomains"
    causes = [] if number > 0 else [wrong(at, number, "must be greater than zero")]
    if action != "DoNotSchedule":
        text = f"can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}"
        causes.append(wrong(at, number, text))
    return causes


def _check_weight(term: Object, path: str) -> list[Cause]:
    weight = term.get("weight", 0)
    if 1 <= weight <= 100:
        return []
    return [wrong(f"{path}.weight", weight, "must be in the range 1-100")]


def _check_operator(operator: str, values: list[Any], path: str, *, comparing: bool) -> list[Cause]:
    at = f"{path}.values"
    if operator in ("In", "NotIn"):
        text = "must be specified when `operator` is 'In' or 'NotIn'"
        return [] if values else [required(at, text)]
    if operator in ("Exists", "DoesNotExist"):
        text = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
        return [forbidden(at, text)] if values else []
    if comparing and operator in ("Gt", "Lt"):
        text = "must be specified single value when `operator` is 'Lt' or 'Gt'"
        return [] if len(values) == 1 else [required(at, text)]
    return [wrong(f"{path}.operator", operator, _NO_OPERATOR)]


def _check_values(values: list[str], path: str) -> list[Cause]:
    return [
        wrong(f"{path}[{index}]", value, why)
        for index, value in enumerate(values)
        for why in label_value_problems(value)
    ]


def _check_node_term(term: Object, path: str, *, strict: bool) -> list[Cause]:
    causes: list[Cause] = []
    for index, one in enumerate(term.get("matchExpressions", ())):
        at, values = f"{path}.matchExpressions[{index}]", one.get("values", [])
        causes += _check_operator(one.get("operator", ""), values, at, comparing=True)
        causes += check_label_key(one.get("key", ""), f"{at}.key")
        if strict:
            causes += _check_values(values, f"{at}.values")
    for index, one in enumerate(term.get("matchFields", ())):
        at, values = f"{path}.matchFields[{index}]", one.get("values", [])
        if one.get("operator") not in ("In", "NotIn"):
            causes.append(wrong(f"{at}.operator", one.get("operator", ""), _NO_OPERATOR))
        elif len(values) != 1:
            text = (
                "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
            )
            causes.append(required(f"{at}.values", text))
        if one.get("key") != "metadata.name":
            text = "not a valid field selector key"
            causes.append(wrong(f"{at}.key", one.get("key", ""), text))
            continue
        causes += [
            wrong(f"{at}.values[{number}]", value, why)
            for number, value in enumerate(values)
            for why in subdomain_problems(value)
        ]
    return causes


def _check_pod_term(term: Object, path: str) -> list[Cause]:
    causes: list[Cause] = []
    for name in ("labelSelector", "namespaceSelector"):
        causes += check_label_selector(term.get(name), f"{path}.{name}")
    causes += [
        wrong(f"{path}.namespace", name, why)
        for name in term.get("namespaces", ())
        for why in label_problems(name)
    ]
    causes += _check_label_keys(term, path)
    key = term.get("topologyKey", "")
    if not key:
        causes.append(required(f"{path}.topologyKey", "can not be empty"))
    return causes + check_label_key(key, f"{path}.topologyKey")


def _check_label_keys(term: Object, path: str) -> list[Cause]:
    """Keys whose values are taken from the pod's own labels (KEP-3633)."""
    selector = term.get("labelSelector")
    causes: list[Cause] = []
    for name in ("matchLabelKeys", "mismatchLabelKeys"):
        keys = term.get(name, [])
        if keys and selector is None:
            text = "must not be specified when labelSelector is not set"
            causes.append(forbidden(f"{path}.{name}", text))
        elif keys:
            for index, key in enumerate(keys):
                causes += check_label_key(key, f"{path}.{name}[{index}]")
    matched, mismatched = term.get("matchLabelKeys", []), term.get("mismatchLabelKeys", [])
    known = set((selector or {}).get("matchLabels", {}))
    for expression in (selector or {}).get("matchExpressions", ()):
        key = expression.get("key", "")
        if key in matched and key in known:
            text = "exists in both matchLabelKeys and labelSelector"
            causes.append(wrong(f"{path}[{matched.index(key)}]", key, text))
        known.add(key)
    text = "exists in both matchLabelKeys and mismatchLabelKeys"
    return causes + [
        wrong(f"{path}.matchLabelKeys[{index}]", key, text)
        for index, key in enumerate(matched)
        if key in mismatched
    ]


def _check_toleration(toleration: Object, path: str) -> list[Cause]:
    key, operator = toleration.get("key", ""), toleration.get("operator", "")
    value, effect = toleration.get("value", ""), toleration.get("effect", "")
    at = f"{path}.operator"
    causes = check_label_key(key, f"{path}.key") if key else []
    if not key and operator != "Exists":
        text = (
            'operator must be Exists when `key` is empty, which means "match all values and all '
            'keys"'
        )
        causes.append(wrong(at, operator, text))
    if "tolerationSeconds" in toleration and effect != "NoExecute":
        text = "effect must be 'NoExecute' when `tolerationSeconds` is set"
        causes.append(wrong(f"{path}.effect", effect, text))
    if operator in ("Equal", ""):
        problems = label_value_problems(value)
        if problems:
            causes.append(wrong(at, value, ";".join(problems)))
    elif operator == "Exists":
        if value:
            text = "value must be empty when `operator` is 'Exists'"
            causes.append(wrong(at, value, text))
    else:
        # Comparing numbers is an alpha feature of 1.36, off by default (KEP-5471).
        known = ["Equal", "Exists", "Lt", "Gt"] if operator in ("Lt", "Gt") else ["Equal", "Exists"]
        causes.append(unsupported(at, operator, known))
    if effect and effect not in _EFFECTS:
        causes.append(unsupported(f"{path}.effect", effect, _EFFECTS))
    return causes
