"""ServiceAccount: every pod acts as an account of its namespace and gets a token of it.

Source: Kubernetes documentation, "Configure Service Accounts for Pods", "Bound service account
token volume mechanism"; KEP-1205.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, Final

from controlplane.admission.refusals import forbidden, is_of
from controlplane.api import codec, metadata
from controlplane.api.resource import Context, Object, Resource
from controlplane.plane import Plane
from controlplane.store.model import CompactedError

_DEFAULT: Final = "default"
_MIRROR: Final = "kubernetes.io/config.mirror"
_ENFORCE: Final = "kubernetes.io/enforce-mountable-secrets"
_PREFIX: Final = "kube-api-access-"
_PATH: Final = "/var/run/secrets/kubernetes.io/serviceaccount"
# An hour and seven seconds: by it the token service knows the tokens that it may make longer.
_TOKEN_SECONDS: Final = 3607
# The account "default" is made right after its namespace; a pod may be as quick as that.
_WAIT_SECONDS: Final = 2.0


class ServiceAccounts:
    """Gives pods their account, its token and its image pull secrets.

    Args:
        plane: the parts of the server.
    """

    def __init__(self, plane: Plane) -> None:
        self._plane = plane

    async def admit(
        self, resource: Resource, value: Object, old: Object | None, context: Context
    ) -> None:
        """Complete a new pod.

        Raises:
            ApiError: there is no such account, or it may not use what the pod asks for.
        """
        if not is_of(resource, "", "pods") or old is not None or context.subresource:
            return
        meta, spec = value["metadata"], value.setdefault("spec", {})
        if _MIRROR in meta.get("annotations", {}):
            why = mirror_problem(spec)
            if why:
                raise forbidden(resource, meta, why)
            return
        name = spec.get("serviceAccountName") or _DEFAULT
        spec["serviceAccountName"] = spec["serviceAccount"] = name
        account = await self._account(meta["namespace"], name)
        if account is None:
            why = f'serviceaccount "{name}" not found'
            where = f"{meta['namespace']}/{name}"
            raise forbidden(resource, meta, f"error looking up service account {where}: {why}")
        if automounts(account, spec):
            mount_token(spec, metadata.generate_name(_PREFIX))
        if not spec.get("imagePullSecrets") and account.get("imagePullSecrets"):
            spec["imagePullSecrets"] = [
                {"name": one["name"]} for one in account["imagePullSecrets"]
            ]
        if account["metadata"].get("annotations", {}).get(_ENFORCE, "").lower() in (
            "1",
            "t",
            "true",
        ):
            why = secret_problem(account, spec)
            if why:
                raise forbidden(resource, meta, why)

    async def _account(self, namespace: str, name: str) -> Object | None:
        store, key = self._plane.store, f"/core/serviceaccounts/{namespace}/{name}"
        item = store.get(key)
        if item is None and name == _DEFAULT:
            watch = store.watch(key, store.revision)
            try:
                async with asyncio.timeout(_WAIT_SECONDS):
                    while item is None and await watch.wait():
                        watch.take()
                        item = store.get(key)
            except (TimeoutError, CompactedError):
                item = store.get(key)
            finally:
                watch.close()
        return codec.decode(item) if item is not None else None


def mirror_problem(spec: Object) -> str:
    """Say why a mirror pod may not be; "" if it may (pure).

    A mirror pod only shows what a kubelet runs from a file, and may refer to nothing of the API.
    """
    if spec.get("serviceAccountName"):
        return "a mirror pod may not reference service accounts"
    volumes = spec.get("volumes", [])
    if any("secret" in one for one in volumes) or any(
        True for one in _containers(spec) for _ in _secrets_of(one)
    ):
        return "a mirror pod may not reference secrets"
    sources = [
        source for one in volumes for source in one.get("projected", {}).get("sources") or []
    ]
    if any("secret" in source for source in sources) or spec.get("imagePullSecrets"):
        return "a mirror pod may not reference secrets"
    if any("serviceAccountToken" in source for source in sources):
        return "a mirror pod may not use ServiceAccountToken volume projections"
    return ""


def automounts(account: Object, spec: Object) -> bool:
    """Say whether a pod gets a token; what it says itself stands before its account (pure)."""
    for source in (spec, account):
        if source.get("automountServiceAccountToken") is not None:
            return bool(source["automountServiceAccountToken"])
    return True


def mount_token(spec: Object, name: str) -> None:
    """Mount the token into every container that has nothing at its path (pure).

    Args:
        spec: of the pod, which is changed.
        name: of the volume, unless the pod has one for it already.
    """
    volumes = spec.get("volumes", [])
    present = next((one["name"] for one in volumes if one["name"].startswith(_PREFIX)), "")
    mount = {"name": present or name, "readOnly": True, "mountPath": _PATH}
    mounted = False
    for container in _containers(spec):
        mounts = container.setdefault("volumeMounts", [])
        if all(one.get("mountPath") != _PATH for one in mounts):
            mounts.append(dict(mount))
            mounted = True
    if mounted and not present:
        spec["volumes"] = [*volumes, {"name": name, "projected": token_source()}]


def token_source() -> Object:
    """Return the volume that holds a token, the authority's certificate and the namespace."""
    token = {"expirationSeconds": _TOKEN_SECONDS, "path": "token"}
    authority = {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}
    field = {"apiVersion": "v1", "fieldPath": "metadata.namespace"}
    namespace = {"items": [{"path": "namespace", "fieldRef": field}]}
    return {
        "sources": [
            {"serviceAccountToken": token},
            {"configMap": authority},
            {"downwardAPI": namespace},
        ],
        "defaultMode": 0o644,
    }


def secret_problem(account: Object, spec: Object) -> str:
    """Say which secret a pod may not use, as its account does not name it; "" if none (pure)."""
    owner = account["metadata"]["name"]
    known = {one.get("name") for one in account.get("secrets", [])}
    end = f"is not allowed because service account {owner} does not reference that"
    for volume in spec.get("volumes", []):
        name = volume.get("secret", {}).get("secretName")
        if name is not None and name not in known:
            return f'volume with secret.secretName="{name}" {end} secret'
    for key, what in (("initContainers", "init container"), ("containers", "container")):
        for container in spec.get(key, []):
            for how, name in _secrets_of(container):
                if name not in known:
                    where = f"{what} {container['name']} with {how}"
                    return f'{where} referencing secret.secretName="{name}" {end} secret'
    pulls = {one.get("name") for one in account.get("imagePullSecrets", [])}
    for index, one in enumerate(spec.get("imagePullSecrets", [])):
        if one.get("name") not in pulls:
            return f'imagePullSecrets[{index}].name="{one.get("name")}" {end} imagePullSecret'
    return ""


def _secrets_of(container: Object) -> Iterator[tuple[str, Any]]:
    for one in container.get("env", []):
        reference = (one.get("valueFrom") or {}).get("secretKeyRef")
        if reference:
            yield f"envVar {one['name']}", reference.get("name")
    for one in container.get("envFrom", []):
        if one.get("secretRef"):
            yield "envFrom", one["secretRef"].get("name")


def _containers(spec: Object) -> list[Object]:
    return [*spec.get("initContainers", []), *spec.get("containers", [])]
