from __future__ import annotations

from typing import Any

import pytest

from controlplane.api.errors import ApiError
from controlplane.api.identity import User
from controlplane.api.resource import Context
from controlplane.auth.authorization.noderestriction import (
    NodeRestriction,
    check_audiences,
    forbidden_labels,
)
from controlplane.kinds.catalog import builtin_resources
from controlplane.kinds.types import builtin_types
from controlplane.store.local import LocalStore
from controlplane.store.log import SqliteLog

NODE = User("system:node:edge-1", "", ("system:nodes",))
KINDS = {one.plural: one for one in builtin_resources(builtin_types(), {})}
MIRROR = {"kubernetes.io/config.mirror": "x"}


def node(labels: dict[str, str] | None = None, name: str = "edge-1", **spec: Any) -> dict[str, Any]:
    return {"metadata": {"name": name, "labels": labels or {}}, "spec": spec}


def pod(node_name: str = "edge-1", **more: Any) -> dict[str, Any]:
    meta = {"name": "web", "namespace": "a", **more.pop("metadata", {})}
    return {"metadata": meta, "spec": {"nodeName": node_name, **more}}


def lease(namespace: str, name: str) -> dict[str, Any]:
    return {"metadata": {"namespace": namespace, "name": name}}


@pytest.mark.parametrize(
    ("plural", "subresource", "value", "old", "why"),
    [
        ("nodes", "", node(), None, ""),
        ("nodes", "", node(name="edge-2"), None, "is not allowed to modify node"),
        ("nodes", "", node({"kubernetes.io/os": "linux", "mine": "x"}), None, ""),
        ("nodes", "", node({"node-role.kubernetes.io/control-plane": ""}), None,
         "not allowed to set the following labels: node-role.kubernetes.io/control-plane"),
        ("nodes", "", node({"node-restriction.kubernetes.io/x": ""}), node(),
         "is not allowed to modify labels: node-restriction.kubernetes.io/x"),
        ("nodes", "", node(taints=[]), node(taints=[{"key": "a"}]), "not allowed to modify taints"),
        ("nodes", "status", node(), node(), ""),
        ("nodes", "status", node(name="edge-2"), node(name="edge-2"), "not allowed to modify node"),
        ("pods", "", pod(), None, 'pod does not have "kubernetes.io/config.mirror" annotation'),
        ("pods", "", pod("edge-2", metadata={"annotations": MIRROR}), None,
         "can only create pods with spec.nodeName set to itself"),
        ("pods", "", pod(metadata={"annotations": MIRROR}), None, "single owner reference"),
        ("pods", "", pod(), pod(), "can only create and delete mirror pods"),
        ("pods", "status", pod(), pod(), ""),
        ("pods", "status", pod("edge-2"), pod("edge-2"), "can only update pod status for"),
        ("pods", "status", pod(metadata={"labels": {"a": "b"}}), pod(), "cannot update labels"),
        ("leases", "", lease("kube-node-lease", "edge-1"), None, ""),
        ("leases", "", lease("kube-node-lease", "edge-2"), None, "same name as the requesting"),
        ("leases", "", lease("kube-system", "edge-1"), None, "can only access leases in the"),
        ("csinodes", "", lease("", "edge-2"), None, "same name as the requesting node"),
        ("persistentvolumeclaims", "", {"metadata": {}}, {"metadata": {}}, "may only update PVC"),
        ("configmaps", "", {"metadata": {}}, None, ""),
    ],
)  # fmt: skip
async def test_what_a_node_may_write(
    plural: str, subresource: str, value: Any, old: Any, why: str, tmp_path: Any
) -> None:
    check = NodeRestriction(LocalStore(SqliteLog(tmp_path / "store.db")))
    context = Context(user=NODE, subresource=subresource)
    if not why:
        await check.admit(KINDS[plural], value, old, context)
    else:
        with pytest.raises(ApiError, match=why):
            await check.admit(KINDS[plural], value, old, context)
    await check.admit(KINDS[plural], value, old, Context(user=User("ann")))


@pytest.mark.parametrize(
    ("plural", "old", "why"),
    [
        ("pods", pod(), ""),
        ("pods", pod("edge-2"), "can only delete pods with spec.nodeName set to itself"),
        ("nodes", node(name="edge-2"), "is not allowed to modify node"),
        ("leases", lease("kube-node-lease", "edge-2"), "same name as the requesting node"),
        ("configmaps", lease("a", "b"), ""),
    ],
)
async def test_what_a_node_may_delete(plural: str, old: Any, why: str, tmp_path: Any) -> None:
    check = NodeRestriction(LocalStore(SqliteLog(tmp_path / "store.db")))
    if not why:
        await check.admit_delete(KINDS[plural], old, Context(user=NODE))
    else:
        with pytest.raises(ApiError, match=why):
            await check.admit_delete(KINDS[plural], old, Context(user=NODE))


def test_labels_and_audiences() -> None:
    after = {"a": "1", "kubelet.kubernetes.io/x": "", "x.k8s.io/y": "", "k8s.io/z": ""}
    assert forbidden_labels({}, after) == ["k8s.io/z", "x.k8s.io/y"]
    assert forbidden_labels({"k8s.io/z": ""}, {"k8s.io/z": ""}) == []
    source = {"projected": {"sources": [{"serviceAccountToken": {"audience": "vault"}}]}}
    spec = {"volumes": [source, {"emptyDir": {}}]}
    assert check_audiences([], spec) == check_audiences(["vault"], spec) == ""
    assert check_audiences(["x"], spec) == 'audience "x" not found in pod spec volume'
    assert check_audiences(["vault", "x"], spec) == "node may only request 0 or 1 audiences"
