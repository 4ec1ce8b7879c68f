"""Puts tokens into the Secrets that ask for one.

Source: Kubernetes documentation, "Managing Service Accounts", "Manually create a long-lived API
token for a ServiceAccount".
"""

from __future__ import annotations

from typing import Final

from controlplane.api import codec, metadata
from controlplane.api.deletion import DeleteOptions
from controlplane.api.errors import ApiError
from controlplane.api.resource import Context, Object
from controlplane.auth.tokens.issuer import TokenIssuer
from controlplane.auth.tokens.legacy import ACCOUNT, ACCOUNT_UID, TYPE, filled, is_full
from controlplane.plane import Plane
from controlplane.store.model import CompactedError, Item

_PREFIX: Final = "/core/secrets/"


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
            elif not uid or not is_full(secret, meta["namespace"], self._authority):
                await self._fill(meta, account, context)
        except ApiError as error:
            if error.reason not in ("NotFound", "Conflict"):
                raise

    async def _fill(self, meta: Object, account: Object, context: Context) -> None:
        async def change(value: Object) -> Object:
            return filled(value, account, self._issuer.signer, self._authority)

        name, namespace = meta["name"], meta["namespace"]
        await self._plane.registry.update(self._secrets, namespace, name, change, context)


def _namespace(key: str) -> str:
    return key.removeprefix("/core/serviceaccounts/").partition("/")[0]
