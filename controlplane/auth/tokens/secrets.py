"""Puts tokens into the Secrets that ask for one.

Source: Kubernetes documentation, "Managing Service Accounts", "Manually create a long-lived API
token for a ServiceAccount".
"""

from __future__ import annotations

from typing import Any, Final

from controlplane.api import codec, metadata
from controlplane.api.deletion import DeleteOptions
from controlplane.api.errors import ApiError
from controlplane.api.resource import Context, Object
from controlplane.auth.tokens.claims import PREFIX
from controlplane.auth.tokens.issuer import LEGACY_ISSUER, TokenIssuer
from controlplane.auth.tokens.request import legacy_data
from controlplane.plane import Plane
from controlplane.store.model import CompactedError, Item

TYPE: Final = "kubernetes.io/service-account-token"
ACCOUNT: Final = "kubernetes.io/service-account.name"
ACCOUNT_UID: Final = "kubernetes.io/service-account.uid"
_PREFIX: Final = "/core/secrets/"
_CLAIM: Final = "kubernetes.io/serviceaccount/"


class TokenSecrets:
    """Fills Secrets of service accounts, and deletes those whose account is gone.

    Args:
        plane: the parts.
        issuer: of the tokens.
        authority: the cluster's, PEM.
    """

    def __init__(self, plane: Plane, issuer: TokenIssuer, authority: bytes) -> None:
        self._plane = plane
        self._issuer = issuer
        self._authority = authority
        secrets = plane.catalog.find("", "v1", "secrets")
        assert secrets is not None
        self._secrets = secrets

    async def run(self) -> None:
        """Do so with every change."""
        store = self._plane.store
        while True:
            revision = store.revision
            watch = store.watch("/core/", revision)
            try:
                for item in store.read(_PREFIX).items:
                    await self._look(item)
                while await watch.wait():
                    for change in watch.take():
                        if change.item is not None and change.key.startswith(_PREFIX):
                            await self._look(change.item)
                        elif change.item is None and "/serviceaccounts/" in change.key:
                            for item in store.read(f"{_PREFIX}{_namespace(change.key)}/").items:
                                await self._look(item)
                return
            except CompactedError:
                continue
            finally:
                watch.close()

    async def _look(self, item: Item) -> None:
        # Most Secrets are none of ours, and need not be decoded.
        if TYPE.encode() not in item.value:
            return
        secret = codec.decode(item)
        meta = secret["metadata"]
        name = meta.get("annotations", {}).get(ACCOUNT, "")
        if secret.get("type") != TYPE or not name or meta.get("deletionTimestamp"):
            return
        found = self._plane.store.get(f"/core/serviceaccounts/{meta['namespace']}/{name}")
        account = None if found is None else codec.decode(found)["metadata"]
        uid = meta["annotations"].get(ACCOUNT_UID, "")
        context = Context(now=metadata.now(), manager="kube-controller-manager")
        try:
            if account is None or (uid and uid != account["uid"]):
                options = DeleteOptions(uid=meta["uid"])
                await self._plane.registry.delete(self._secrets, item, options, context)
            elif not uid or not _is_full(secret, meta["namespace"], self._authority):
                await self._fill(meta, account, context)
        except ApiError as error:
            if error.reason not in ("NotFound", "Conflict"):
                raise

    async def _fill(self, meta: Object, account: Object, context: Context) -> None:
        async def change(value: Object) -> Object:
            found = value["metadata"]
            found["annotations"] = {**found.get("annotations", {}), ACCOUNT_UID: account["uid"]}
            token = self._issuer.sign(_claims(found, account))
            data = legacy_data(token, found["namespace"], self._authority)
            held = value.get("data") or {}
            if held.get("token"):
                data["token"] = held["token"]
            value["data"] = {**held, **data}
            return value

        name, namespace = meta["name"], meta["namespace"]
        await self._plane.registry.update(self._secrets, namespace, name, change, context)


def _claims(secret: Object, account: Object) -> dict[str, Any]:
    namespace, name = account["namespace"], account["name"]
    return {
        "iss": LEGACY_ISSUER,
        "sub": f"{PREFIX}{namespace}:{name}",
        f"{_CLAIM}namespace": namespace,
        f"{_CLAIM}secret.name": secret["name"],
        f"{_CLAIM}service-account.name": name,
        f"{_CLAIM}service-account.uid": account["uid"],
    }


def _is_full(secret: Object, namespace: str, authority: bytes) -> bool:
    data, wanted = secret.get("data") or {}, legacy_data("", namespace, authority)
    return bool(data.get("token")) and all(
        data.get(key) == wanted[key] for key in ("ca.crt", "namespace")
    )


def _namespace(key: str) -> str:
    return key.removeprefix("/core/serviceaccounts/").partition("/")[0]
