"""NodeRestriction: a node writes what is its own, and nothing that gives it more.

Source: Kubernetes documentation, "Admission Control", "NodeRestriction"; KEP-279, KEP-2907.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from controlplane.admission.refusals import forbidden
from controlplane.api import codec
from controlplane.api.errors import ApiError
from controlplane.api.resource import Context, Object, Resource
from controlplane.auth.authorization.node import LEASES, MIRROR, node_of
from controlplane.auth.authorization.references import of_pod
from controlplane.store.store import Store

_RESTRICTED: Final = "node-restriction.kubernetes.io"
_OWN_LABELS: Final = frozenset((
    "kubernetes.io/hostname", "topology.kubernetes.io/zone", "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/region",
    "node.kubernetes.io/instance-type", "beta.kubernetes.io/instance-type", "kubernetes.io/os",
    "beta.kubernetes.io/os", "kubernetes.io/arch", "beta.kubernetes.io/arch",
    "node.kubernetes.io/windows-build",
))  # fmt: skip
_OWN_LABEL_DOMAINS: Final = ("kubelet.kubernetes.io", "node.kubernetes.io")
# What of a claim's status a kubelet tells.
_CLAIM_STATUS: Final = frozenset((
    "capacity", "conditions", "allocatedResources", "allocatedResourceStatuses",
    "currentVolumeAttributesClassName", "modifyVolumeStatus",
))  # fmt: skip

_Check = Callable[[str, Object, Object | None, Context], str]


class NodeRestriction:
    """Checks the writes of nodes.

    Args:
        store: of the objects.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._checks: dict[tuple[str, str], _Check] = {
            ("", "pods"): self._pod,
            ("", "nodes"): _check_node,
            ("", "persistentvolumeclaims"): _check_claim,
            ("coordination.k8s.io", "leases"): _check_lease,
            ("storage.k8s.io", "csinodes"): _check_csi_node,
        }

    async def admit(
        self, resource: Resource, value: Object, old: Object | None, context: Context
    ) -> None:
        """Refuse what a node may not write.

        Raises:
            ApiError: it is refused.
        """
        node = node_of(context.user)
        check = self._checks.get((resource.group, resource.plural))
        if node is None or check is None:
            return
        why = check(node, value, old, context)
        if why:
            raise forbidden(resource, value["metadata"], why)

    async def admit_delete(self, resource: Resource, old: Object, context: Context) -> None:
        """Refuse what a node may not delete.

        Raises:
            ApiError: it is refused.
        """
        node = node_of(context.user)
        if node is None:
            return
        why, name = "", old["metadata"]["name"]
        if resource.prefix == "/core/pods/" and old.get("spec", {}).get("nodeName") != node:
            verb = "evict" if context.subresource == "eviction" else "delete"
            why = f'node "{node}" can only {verb} pods with spec.nodeName set to itself'
        elif resource.prefix == "/core/nodes/" and name != node:
            why = f'node "{node}" is not allowed to modify node "{name}"'
        elif (resource.group, resource.plural) in self._checks and not resource.prefix.startswith(
            "/core/"
        ):
            why = self._checks[resource.group, resource.plural](node, old, old, context)
        if why:
            raise forbidden(resource, old["metadata"], why)

    def check_token(self, context: Context, spec: Object) -> None:
        """Refuse tokens that are not for a pod of the node that asks.

        Raises:
            ApiError: it is refused.
        """
        node = node_of(context.user)
        if node is None:
            return
        reference = spec.get("boundObjectRef") or {}
        if reference.get("kind") != "Pod" or not reference.get("name"):
            why = "node requested token not bound to a pod"
        elif not reference.get("uid"):
            why = "node requested token with a pod binding without a uid"
        else:
            item = self._store.get(f"/core/pods/{context.namespace}/{reference['name']}")
            pod = {} if item is None else codec.decode(item).get("spec", {})
            if pod.get("nodeName") != node:
                why = "node requested token bound to a pod scheduled on a different node"
            else:
                why = check_audiences(spec.get("audiences") or [], pod)
        if why:
            text = f'serviceaccounts "{context.name}" is forbidden: {why}'
            raise ApiError("Forbidden", text, kind="serviceaccounts", name=context.name)

    def _pod(self, node: str, value: Object, old: Object | None, context: Context) -> str:
        if old is None:
            return self._mirror(node, value)
        if context.subresource == "eviction":
            return ""
        if context.subresource != "status":
            text = 'unexpected operation "UPDATE"'
            return f'{text}, node "{node}" can only create and delete mirror pods'
        if old.get("spec", {}).get("nodeName") != node:
            text = "can only update pod status for pods with spec.nodeName set to itself"
            return f'node "{node}" {text}'
        if value["metadata"].get("labels") != old["metadata"].get("labels"):
            return f'node "{node}" cannot update labels through pod status'
        return ""

    def _mirror(self, node: str, value: Object) -> str:
        meta, who = value["metadata"], f'node "{node}"'
        if MIRROR not in meta.get("annotations", {}):
            return f'pod does not have "{MIRROR}" annotation, {who} can only create mirror pods'
        if value.get("spec", {}).get("nodeName") != node:
            return f"{who} can only create pods with spec.nodeName set to itself"
        owners = meta.get("ownerReferences") or []
        if len(owners) != 1:
            return f"{who} can only create pods with a single owner reference set to itself"
        (owner,) = owners
        if (owner.get("apiVersion"), owner.get("kind"), owner.get("name")) != ("v1", "Node", node):
            return f"{who} can only create pods with an owner reference set to itself"
        if not owner.get("controller"):
            return f"{who} can only create pods with a controller owner reference set to itself"
        if owner.get("blockOwnerDeletion"):
            return f"{who} must not set blockOwnerDeletion on an owner reference"
        item = self._store.get(f"/core/nodes/{node}")
        uid = "" if item is None else codec.decode(item)["metadata"]["uid"]
        if owner.get("uid") != uid:
            return f"node {node} UID mismatch: expected {owner.get('uid')} got {uid}"
        found = sorted(plural for plural, _, _ in of_pod(value))
        return f"{who} can not create pods that reference {found[0]}" if found else ""


def check_audiences(audiences: list[str], pod: Object) -> str:
    """Return why a kubelet may not ask for a token of these audiences (KEP-4412); "": it may.

    Args:
        audiences: asked for.
        pod: spec of the pod that it is for.
    """
    if not audiences or audiences == [""]:
        return ""
    if len(audiences) > 1:
        return "node may only request 0 or 1 audiences"
    named = {
        (source.get("serviceAccountToken") or {}).get("audience", "")
        for volume in pod.get("volumes") or ()
        for source in (volume.get("projected") or {}).get("sources") or ()
    }
    return (
        "" if audiences[0] in named else f'audience "{audiences[0]}" not found in pod spec volume'
    )


def forbidden_labels(before: dict[str, str], after: dict[str, str]) -> list[str]:
    """Return the labels that differ and that a node may not change itself (pure)."""
    changed = {key for key in before.keys() | after.keys() if before.get(key) != after.get(key)}
    return sorted(key for key in changed if _is_forbidden(key))


def _check_node(node: str, value: Object, old: Object | None, context: Context) -> str:
    meta = value["metadata"]
    labels = meta.get("labels") or {}
    if meta.get("name") != node:
        return f'node "{node}" is not allowed to modify node "{meta.get("name", "")}"'
    if old is None:
        listed = ", ".join(forbidden_labels({}, labels))
        text = f'node "{node}" is not allowed to set the following labels: {listed}'
        return text if listed else ""
    before = old["metadata"]
    if value.get("spec", {}).get("taints") != old.get("spec", {}).get("taints"):
        return f'node "{node}" is not allowed to modify taints'
    if meta.get("ownerReferences") != before.get("ownerReferences"):
        return f'node "{node}" is not allowed to modify ownerReferences'
    listed = ", ".join(forbidden_labels(before.get("labels") or {}, labels))
    return f"is not allowed to modify labels: {listed}" if listed else ""


def _check_claim(node: str, value: Object, old: Object | None, context: Context) -> str:
    if old is None or context.subresource != "status":
        return "may only update PVC status"

    def rest(one: Object) -> Any:
        status = one.get("status", {}).items()
        return {key: item for key, item in status if key not in _CLAIM_STATUS}

    if rest(value) == rest(old):
        return ""
    text = "is not allowed to update fields other than status.quantity and status.conditions"
    return f'node "{node}" {text}'


def _check_lease(node: str, value: Object, old: Object | None, context: Context) -> str:
    meta = value["metadata"]
    if meta.get("namespace") != LEASES:
        return f'can only access leases in the "{LEASES}" system namespace'
    if meta.get("name") != node:
        return "can only access node lease with the same name as the requesting node"
    return ""


def _check_csi_node(node: str, value: Object, old: Object | None, context: Context) -> str:
    if value["metadata"].get("name") != node:
        return "can only access CSINode with the same name as the requesting node"
    return ""


def _is_forbidden(key: str) -> bool:
    domain = key.partition("/")[0] if "/" in key else ""
    if _within(domain, _RESTRICTED):
        return True
    if not (_within(domain, "kubernetes.io") or _within(domain, "k8s.io")):
        return False
    return key not in _OWN_LABELS and not any(_within(domain, one) for one in _OWN_LABEL_DOMAINS)


def _within(domain: str, parent: str) -> bool:
    return domain == parent or domain.endswith(f".{parent}")
