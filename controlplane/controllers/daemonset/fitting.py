"""On which nodes a DaemonSet has pods, and how a pod is kept to its node (pure).

Sources: Kubernetes documentation, "DaemonSet" ("How Daemon Pods are scheduled", "Taints and
tolerations"), "Assigning Pods to Nodes".
"""

from __future__ import annotations

from typing import Any, Final

from controlplane.engine.resources import Object

_ALWAYS: Final = (
    ("node.kubernetes.io/not-ready", "NoExecute"),
    ("node.kubernetes.io/unreachable", "NoExecute"),
    ("node.kubernetes.io/disk-pressure", "NoSchedule"),
    ("node.kubernetes.io/memory-pressure", "NoSchedule"),
    ("node.kubernetes.io/pid-pressure", "NoSchedule"),
    ("node.kubernetes.io/unschedulable", "NoSchedule"),
)
_WITH_HOST_NETWORK: Final = (("node.kubernetes.io/network-unavailable", "NoSchedule"),)
_NAME: Final = "metadata.name"


def with_tolerations(spec: Object) -> list[Any]:
    """Return the tolerations of a pod's spec, with those that every daemon has."""
    found = list(spec.get("tolerations") or [])
    wanted = _ALWAYS + (_WITH_HOST_NETWORK if spec.get("hostNetwork") else ())
    for key, effect in wanted:
        made = {"key": key, "operator": "Exists", "effect": effect}
        at = [
            number for number, one in enumerate(found)
            if one.get("key", "") == key and one.get("effect", "") == effect
            and one.get("operator") == "Exists"
        ]  # fmt: skip
        if at:
            found[at[0]] = made
        else:
            found.append(made)
    return found


def kept_to(affinity: Object | None, node: str) -> Object:
    """Return an affinity by which the scheduler gives a pod to one node and no other."""
    term = {"matchFields": [{"key": _NAME, "operator": "In", "values": [node]}]}
    made = dict(affinity or {})
    of_nodes = dict(made.get("nodeAffinity") or {})
    of_nodes["requiredDuringSchedulingIgnoredDuringExecution"] = {"nodeSelectorTerms": [term]}
    made["nodeAffinity"] = of_nodes
    return made


def node_of(pod: Object) -> str:
    """Return the node of a pod, or the one that it is kept to; "" if there is neither."""
    if pod["spec"].get("nodeName"):
        return str(pod["spec"]["nodeName"])
    for term in _terms(pod["spec"]) or ():
        for one in term.get("matchFields") or ():
            if one["key"] == _NAME and one["operator"] == "In":
                return str(one["values"][0]) if len(one.get("values") or ()) == 1 else ""
    return ""


def fits(owner: Object, node: Object) -> tuple[bool, bool]:
    """Return whether a node shall have a pod of a set, and whether one that it has may stay."""
    spec = owner["spec"]["template"]["spec"]
    name = node["metadata"]["name"]
    if spec.get("nodeName") not in (None, "", name) or not _is_selected(spec, node):
        return False, False
    taints = node["spec"].get("taints")
    if not taints:
        return True, True
    tolerations = with_tolerations(spec)
    repelled = {
        taint["effect"] for taint in taints
        if not any(_tolerates(one, taint) for one in tolerations)
    }  # fmt: skip
    return not repelled & {"NoSchedule", "NoExecute"}, "NoExecute" not in repelled


def _tolerates(toleration: Object, taint: Object) -> bool:
    key, effect = toleration.get("key", ""), toleration.get("effect", "")
    if effect and effect != taint["effect"]:
        return False
    if key and key != taint["key"]:
        return False
    operator = toleration.get("operator") or "Equal"
    if operator == "Exists":
        return True
    return bool(key) and operator == "Equal" and toleration.get("value", "") == taint.get(
        "value", ""
    )  # fmt: skip


def _is_selected(spec: Object, node: Object) -> bool:
    labels = node["metadata"].get("labels") or {}
    selector = spec.get("nodeSelector") or {}
    if not selector.items() <= labels.items():
        return False
    terms = _terms(spec)
    return terms is None or any(_meets(term, node) for term in terms)


def _terms(spec: Object) -> list[Any] | None:
    """Return the terms of which a node must meet one; None: it need not."""
    of_nodes = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = of_nodes.get("requiredDuringSchedulingIgnoredDuringExecution")
    return None if required is None else required.get("nodeSelectorTerms") or []


def _meets(term: Object, node: Object) -> bool:
    expressions, fields = term.get("matchExpressions") or [], term.get("matchFields") or []
    labels = node["metadata"].get("labels") or {}
    return bool(expressions or fields) and all(
        [_holds(one, labels) for one in expressions]
        + [_holds(one, {_NAME: node["metadata"]["name"]}) for one in fields]
    )


def _holds(requirement: Object, values: dict[str, str]) -> bool:
    key, operator = requirement["key"], requirement["operator"]
    wanted = requirement.get("values") or []
    value = values.get(key)
    if operator == "In":
        return value is not None and value in wanted
    if operator == "NotIn":
        return value is None or value not in wanted
    if operator == "Exists":
        return value is not None
    if operator == "DoesNotExist":
        return value is None
    if value is None or operator not in ("Gt", "Lt") or len(wanted) != 1:
        return False
    try:
        number, bound = int(value), int(wanted[0])
    except ValueError:
        return False
    return number > bound if operator == "Gt" else number < bound
