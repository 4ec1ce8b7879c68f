"""The default roles and bindings, put right at each start; aggregated roles, kept right.

Source: Kubernetes documentation, "Using RBAC Authorization", "Default roles and role bindings",
"Auto-reconciliation", "Aggregated ClusterRoles"; kubeadm's bindings for joining nodes.
"""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, Final

from controlplane.api import codec, metadata
from controlplane.api.deletion import DeleteOptions
from controlplane.api.errors import ApiError
from controlplane.api.identity import ANONYMOUS
from controlplane.api.resource import Context, Object, Resource
from controlplane.api.selectors import from_object
from controlplane.auth.authorization.rbac import GROUP
from controlplane.auth.authorization.rules import Rule, read_rule, uncovered
from controlplane.auth.trust.keyring import ADMINISTRATORS
from controlplane.plane import Plane
from controlplane.store.model import CompactedError
from kubeletpy_common.bootstrap_tokens import INFO_NAME, INFO_NAMESPACE

BOOTSTRAPPING: Final = "kubernetes.io/bootstrapping"
TABLE: Final = Path(__file__).parent / "defaults.json"
_AUTOUPDATE: Final = "rbac.authorization.kubernetes.io/autoupdate"
_AT_ONCE: Final = 64
_CSR: Final = "system:certificates.k8s.io:certificatesigningrequests"

_INFO_READER: Final = f"{INFO_NAMESPACE}/kubeadm:bootstrap-signer-clusterinfo"
_GET_NODES: Final = "kubeadm:get-nodes"
_KUBEADM: Final = (
    (ADMINISTRATORS, "cluster-admin", ADMINISTRATORS),
    ("kubeadm:kubelet-bootstrap", "system:node-bootstrapper", "system:bootstrappers"),
    (_GET_NODES, _GET_NODES, "system:bootstrappers"),
    ("kubeadm:node-autoapprove-bootstrap", f"{_CSR}:nodeclient", "system:bootstrappers"),
    ("kubeadm:node-autoapprove-certificate-rotation", f"{_CSR}:selfnodeclient", "system:nodes"),
)

_NODE_READING: Final = {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}
"""A machine that is to join looks whether its name is taken."""
_INFO_READING: Final = {
    "apiGroups": [""], "resources": ["configmaps"], "resourceNames": [INFO_NAME], "verbs": ["get"],
}  # fmt: skip
"""Anybody may, before they have any credentials; of no other object."""

_POLICIES: Final = "kubeletpy:network-policies"
_POLICY_RULES: Final = (
    {"apiGroups": [""], "resources": ["namespaces", "pods"], "verbs": ["list", "watch"]},
    {
        "apiGroups": ["networking.k8s.io"], "resources": ["networkpolicies"],
        "verbs": ["list", "watch"],
    },
)  # fmt: skip
"""What a proxy may besides where it enforces NetworkPolicies."""

_APPROVER: Final = "kubeletpy:kubelet-serving-approver"
_APPROVER_RULES: Final = (
    {
        "apiGroups": ["certificates.k8s.io"], "resources": ["certificatesigningrequests/approval"],
        "verbs": ["update"],
    },
    {
        "apiGroups": ["certificates.k8s.io"], "resources": ["signers"],
        "resourceNames": ["kubernetes.io/kubelet-serving"], "verbs": ["approve"],
    },
)  # fmt: skip
"""What the controller that approves kubelets' serving certificates may, where it runs."""

_ADDED: Final = (
    # Proxy, policies and the network of pods of a node that joined have no credentials but its own.
    ("kubeletpy:node-proxier", "system:node-proxier", "Group", "system:nodes"),
    ("kubeletpy:node-network-policies", _POLICIES, "Group", "system:nodes"),
    (_POLICIES, _POLICIES, "User", "system:kube-proxy"),
    (_APPROVER, _APPROVER, "User", "system:kube-controller-manager"),
)
"""Our own bindings: name, ClusterRole, whom it is for."""


def default_objects() -> list[Object]:
    """Return the default objects: roles first, for their bindings."""
    table: dict[str, dict[str, Any]] = json.loads(TABLE.read_bytes())
    found = [_object(kind, name, entry) for kind in table for name, entry in table[kind].items()]
    for name, role, group in _KUBEADM:
        reference = {"apiGroup": GROUP, "kind": "ClusterRole", "name": role}
        subjects = [{"apiGroup": GROUP, "kind": "Group", "name": group}]
        entry = {"roleRef": reference, "subjects": subjects}
        found.append(_object("ClusterRoleBinding", name, entry))
    found.append(_object("ClusterRole", _GET_NODES, {"rules": [_NODE_READING]}))
    found.append(_object("Role", _INFO_READER, {"rules": [_INFO_READING]}))
    entry = {
        "roleRef": {"apiGroup": GROUP, "kind": "Role", "name": _INFO_READER.partition("/")[2]},
        "subjects": [{"apiGroup": GROUP, "kind": "User", "name": ANONYMOUS.name}],
    }
    found.append(_object("RoleBinding", _INFO_READER, entry))
    found.append(_object("ClusterRole", _POLICIES, {"rules": list(_POLICY_RULES)}))
    found.append(_object("ClusterRole", _APPROVER, {"rules": list(_APPROVER_RULES)}))
    for name, role, kind, subject in _ADDED:
        entry = {
            "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": GROUP, "kind": kind, "name": subject}],
        }
        found.append(_object("ClusterRoleBinding", name, entry))
    return sorted(found, key=lambda one: one["kind"].endswith("Binding"))


def node_rules() -> tuple[Rule, ...]:
    """Return the rules of the ClusterRole ``system:node``."""
    table = json.loads(TABLE.read_bytes())
    return tuple(read_rule(rule) for rule in table["ClusterRole"]["system:node"]["rules"])


def reconciled(found: Object, default: Object) -> Object | None:
    """Return what an object should be that a default is there for; None: it is well (pure).

    What is missing is added; what is there besides stays.
    """
    if found["metadata"].get("annotations", {}).get(_AUTOUPDATE) != "true":
        return None
    meta = dict(found["metadata"])
    for key in ("labels", "annotations"):
        meta[key] = {**meta.get(key, {}), **default["metadata"].get(key, {})}
    value = {**found, "metadata": meta}
    if "aggregationRule" in default:
        selectors = (found.get("aggregationRule") or {}).get("clusterRoleSelectors") or []
        wanted = default["aggregationRule"]["clusterRoleSelectors"]
        missing = [one for one in wanted if one not in selectors]
        value["aggregationRule"] = {"clusterRoleSelectors": [*selectors, *missing]}
    elif "rules" in default:
        rules = found.get("rules") or []
        have = [read_rule(rule) for rule in rules]
        lacking = [rule for rule in default["rules"] if uncovered(have, [read_rule(rule)])]
        value["rules"] = [*rules, *lacking]
    for subject in default.get("subjects", ()):
        if subject not in value.get("subjects", []):
            value["subjects"] = [*value.get("subjects", []), subject]
    return None if value == found else value


async def reconcile(plane: Plane) -> None:
    """Put the default roles and bindings right, and then what is aggregated of them."""
    limit = asyncio.Semaphore(_AT_ONCE)

    async def one(value: Object) -> None:
        async with limit:
            await _reconcile_one(plane, value)

    defaults = default_objects()
    for last in (False, True):
        part = [value for value in defaults if value["kind"].endswith("Binding") is last]
        await asyncio.gather(*map(one, part))
    await Aggregation(plane).aggregate()


class Aggregation:
    """Keeps the rules of aggregated ClusterRoles those of the roles that they select.

    Args:
        plane: the parts.
    """

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self._resource = _resource(plane, "ClusterRole")

    async def run(self) -> None:
        """Do so with every change."""
        store = self._plane.store
        while True:
            watch = store.watch(self._resource.prefix, store.revision)
            await self.aggregate()
            try:
                while await watch.wait():
                    watch.take()
                    await self.aggregate()
                return
            except CompactedError:
                continue
            finally:
                watch.close()

    async def aggregate(self) -> None:
        """Do so once."""
        items = self._plane.store.read(self._resource.prefix).items
        roles = [codec.decode(item) for item in items]
        for role in roles:
            rules = aggregated(role, roles)
            if rules is not None and rules != (role.get("rules") or []):
                await self._write(role["metadata"]["name"], rules)

    async def _write(self, name: str, rules: list[Object]) -> None:
        async def change(value: Object) -> Object:
            return {**value, "rules": rules}

        context = Context(now=metadata.now(), manager="clusterrole-aggregation-controller")
        try:
            await self._plane.registry.update(self._resource, "", name, change, context)
        except ApiError as error:
            if error.reason not in ("NotFound", "Conflict"):
                raise


def aggregated(role: Object, roles: list[Object]) -> list[Object] | None:
    """Return the rules of an aggregated role; None: it is none (pure)."""
    selectors = (role.get("aggregationRule") or {}).get("clusterRoleSelectors")
    if not selectors:
        return None
    rules: list[Object] = []
    for selector in map(from_object, selectors):
        for other in sorted(roles, key=lambda one: str(one["metadata"]["name"])):
            labels = other["metadata"].get("labels", {})
            if other is role or selector is None or not selector.matches(labels):
                continue
            rules += [rule for rule in other.get("rules") or [] if rule not in rules]
    return rules


async def _reconcile_one(plane: Plane, value: Object) -> None:
    resource, meta = _resource(plane, value["kind"]), value["metadata"]
    namespace, name = meta.get("namespace", ""), meta["name"]
    context = Context(now=metadata.now(), manager="kube-apiserver", namespace=namespace, name=name)
    item = plane.store.get(resource.key(namespace, name))
    if item is not None:
        found = codec.decode(item)
        if found.get("roleRef") == value.get("roleRef"):
            wanted = reconciled(found, value)
            if wanted is not None:

                async def change(_: Object) -> Object:
                    return wanted

                await plane.registry.update(resource, namespace, name, change, context)
            return
        if found["metadata"].get("annotations", {}).get(_AUTOUPDATE) != "true":
            return
        # The role of a binding cannot be changed.
        await plane.registry.delete(resource, item, DeleteOptions(), context)
    try:
        await plane.registry.create(resource, namespace, value, context)
    except ApiError as error:
        # Another server on the same etcd was faster.
        if error.reason != "AlreadyExists":
            raise


def _resource(plane: Plane, kind: str) -> Resource:
    found = plane.catalog.of_kind(GROUP, kind)
    assert found is not None
    return found


def _object(kind: str, name: str, entry: dict[str, Any]) -> Object:
    namespace, _, own = name.rpartition("/")
    meta: Object = {
        "name": own,
        "labels": {BOOTSTRAPPING: "rbac-defaults", **entry.get("labels", {})},
        "annotations": {_AUTOUPDATE: "true"},
    }
    if namespace:
        meta["namespace"] = namespace
    fields = {key: item for key, item in entry.items() if key != "labels"}
    return {"apiVersion": f"{GROUP}/v1", "kind": kind, "metadata": meta, **fields}
