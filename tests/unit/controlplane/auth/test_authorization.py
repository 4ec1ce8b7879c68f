from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from tests.unit.controlplane.auth.secure import Client, client_of, secure_server

NS = "/api/v1/namespaces/default"
RBAC = "/apis/rbac.authorization.k8s.io/v1"
STAFF = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "staff"}
LISTS = [("GET", NS + "/pods"), ("GET", NS + "/secrets"), ("GET", "/api/v1/pods")]


@asynccontextmanager
async def admin_of(directory: Path, users: str) -> AsyncIterator[Client]:
    """The administrator of a server, which knows others by tokens."""
    tokens = directory / "tokens"
    tokens.write_text(users)
    async with (
        secure_server(directory, token_auth_file=tokens),
        client_of(directory / "admin.kubeconfig") as admin,
        client_of(directory / "admin.kubeconfig", anonymous=True) as other,
    ):
        admin.other = other
        yield admin


def reference(kind: str, name: str) -> dict[str, str]:
    return {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name}


async def make(client: Client, path: str, **value: Any) -> tuple[int, Any]:
    name = value.pop("name")
    token = value.pop("token", "")
    return await client.call("POST", path, {"metadata": {"name": name}, **value}, token)


async def test_roles_and_bindings_hold_at_once(data: Path) -> None:
    async with admin_of(data, 'ann,ann,1,"staff"\nbob,bob,2\n') as admin:
        other = admin.other

        async def codes(token: str) -> list[int]:
            return [(await other.call(*one, token=token))[0] for one in LISTS]

        assert await codes("ann") == [403, 403, 403]
        _, error = await other.call("GET", NS + "/pods/web", token="ann")
        assert error["message"] == (
            'pods "web" is forbidden: User "ann" cannot get resource "pods" in API group "" in the '
            'namespace "default"'
        )
        assert error["details"] == {"name": "web", "kind": "pods"}
        bindings = RBAC + "/namespaces/default/rolebindings"
        view = reference("ClusterRole", "view")
        made = await make(admin, bindings, name="view", roleRef=view, subjects=[STAFF])
        assert made[0] == 201, made
        assert await codes("ann") == [200, 403, 403]
        assert await codes("bob") == [403, 403, 403]
        assert (await admin.call("DELETE", bindings + "/view"))[0] == 200
        assert await codes("ann") == [403, 403, 403]
        everything = reference("ClusterRole", "cluster-admin")
        bindings = RBAC + "/clusterrolebindings"
        bound = await make(admin, bindings, name="all", roleRef=everything, subjects=[STAFF])
        assert bound[0] == 201
        assert await codes("ann") == [200, 200, 200]
        assert (await other.call("GET", "/version", token="bob"))[0] == 200
        assert (await other.call("GET", "/metrics", token="bob"))[0] == 403
        assert (await other.call("GET", "/healthz/ping"))[0] != 403


async def test_nobody_gives_what_he_has_not(data: Path) -> None:
    async with admin_of(data, "ann,ann,1\n") as admin:
        other, roles = admin.other, RBAC + "/namespaces/default/roles"
        bindings = RBAC + "/namespaces/default/rolebindings"
        subject = {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "ann"}
        mine = [
            {"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles", "rolebindings"],
             "verbs": ["create", "update", "get"]},
            {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]},
        ]  # fmt: skip
        await make(admin, roles, name="mine", rules=mine)
        to_mine = reference("Role", "mine")
        await make(admin, bindings, name="mine", roleRef=to_mine, subjects=[subject])
        made = await make(other, roles, name="good", rules=[mine[1]], token="ann")
        assert made[0] == 201, made
        more = [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "delete"]}]
        status, error = await make(other, roles, name="more", rules=more, token="ann")
        assert status == 403
        assert error["message"] == (
            'roles.rbac.authorization.k8s.io "more" is forbidden: user "ann" '
            '(groups=["system:authenticated"]) is attempting to grant RBAC permissions not '
            'currently held:\n{APIGroups:[""], Resources:["pods"], Verbs:["delete"]}'
        )
        for name, role, code in (("good", "good", 201), ("view", "view", 403), ("x", "no", 404)):
            kind = "ClusterRole" if role == "view" else "Role"
            made = await make(other, bindings, name=name, roleRef=reference(kind, role),
                              subjects=[subject], token="ann")  # fmt: skip
            assert made[0] == code, made
        bind = [{"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["clusterroles"],
                 "resourceNames": ["view"], "verbs": ["bind"]}]  # fmt: skip
        await make(admin, roles, name="bind", rules=bind)
        await make(admin, bindings, name="bind", roleRef=reference("Role", "bind"),
                   subjects=[subject])  # fmt: skip
        made = await make(other, bindings, name="view", roleRef=reference("ClusterRole", "view"),
                          subjects=[subject], token="ann")  # fmt: skip
        assert made[0] == 201, made


async def test_aggregated_roles_are_kept_up_to_date(data: Path) -> None:
    async with admin_of(data, "ann,ann,1\n") as admin:
        path = RBAC + "/clusterroles"
        rules = [{"apiGroups": ["x.example"], "resources": ["things"], "verbs": ["get"]}]
        labels = {"rbac.authorization.k8s.io/aggregate-to-view": "true"}
        meta = {"name": "things", "labels": labels}
        assert (await admin.call("POST", path, {"metadata": meta, "rules": rules}))[0] == 201
        watch = f"{admin.url}{path}?watch=1&fieldSelector=metadata.name%3Dadmin"
        async with asyncio.timeout(10), admin.session.get(watch) as answer:
            async for line in answer.content:
                if rules[0] in json.loads(line)["object"]["rules"]:
                    break
        for name in ("view", "edit"):
            assert rules[0] in (await admin.call("GET", f"{path}/{name}"))[1]["rules"]


async def test_impersonation(data: Path) -> None:
    async with admin_of(data, "ann,ann,1\n") as admin:
        as_ann = {"Impersonate-User": "ann"}
        status, error = await admin.call("GET", NS + "/pods", headers=as_ann)
        assert (status, error["message"][:36]) == (403, 'pods is forbidden: User "ann" cannot')
        as_master = {**as_ann, "Impersonate-Group": "system:masters"}
        assert (await admin.call("GET", NS + "/pods", headers=as_master))[0] == 200
        for headers in (as_ann, as_master):
            status, error = await admin.other.call(
                "GET", NS + "/pods", token="ann", headers={**headers, "Impersonate-User": "bob"}
            )
            assert (status, error["message"]) == (
                403,
                'users "bob" is forbidden: User "ann" cannot impersonate resource "users" in API '
                'group "" at the cluster scope',
            )
        headers = {"Impersonate-Group": "system:masters"}
        assert (await admin.call("GET", NS + "/pods", headers=headers))[0] == 400


async def test_a_node_reads_what_its_pods_need(data: Path) -> None:
    async with (
        admin_of(data, "x,x,1\n") as admin,
        client_of(data / "kubelet.kubeconfig") as node,
    ):
        for name in ("s1", "s2"):
            assert (await make(admin, NS + "/secrets", name=name))[0] == 201
        by_field = "?fieldSelector=metadata.name%3Ds1"
        assert (await node.call("GET", NS + "/secrets/s1"))[0] == 403
        spec = {
            "nodeName": "edge-1", "serviceAccountName": "default",
            "containers": [{"name": "a", "image": "b",
                            "envFrom": [{"secretRef": {"name": "s1"}}]}],
        }  # fmt: skip
        await make(admin, NS + "/serviceaccounts", name="default")
        # Without them the node's authorizer alone decides; they let its proxy and policies read.
        for name in ("kubeletpy:node-proxier", "kubeletpy:node-network-policies"):
            path = f"/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/{name}"
            assert (await admin.call("DELETE", path))[0] == 200
        made = await make(admin, NS + "/pods", name="web", spec=spec)
        assert made[0] == 201, made
        cases = [
            ("/secrets/s1", 200), ("/secrets" + by_field, 200), ("/secrets/s2", 403),
            ("/secrets", 403), ("/pods/web", 200), ("/pods", 403),
            ("/pods?fieldSelector=spec.nodeName%3Dedge-1", 200),
            ("/pods?fieldSelector=spec.nodeName%3Dedge-2", 403),
            ("/services", 200), ("/serviceaccounts/default", 200),
        ]  # fmt: skip
        for path, code in cases:
            allowed = (await node.call("GET", NS + path))[0] != 403
            assert allowed is (code == 200), path
        _, error = await node.call("GET", NS + "/secrets/s2")
        assert error["message"] == (
            'secrets "s2" is forbidden: User "system:node:edge-1" cannot get resource "secrets" in '
            'API group "" in the namespace "default": no relationship found between node '
            "'edge-1' and this object"
        )
        assert (await node.call("GET", "/api/v1/nodes"))[0] == 403
        assert (await node.call("GET", "/api/v1/nodes/edge-1"))[0] == 404
        options = {"gracePeriodSeconds": 0}
        assert (await admin.call("DELETE", NS + "/pods/web", options))[0] == 200
        assert (await node.call("GET", NS + "/secrets/s1"))[0] == 403
