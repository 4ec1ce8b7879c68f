"""What a service account's token says, and whether it still holds (RFC 7519, KEP-1205).

Source: Kubernetes documentation, "Managing Service Accounts", "Bound service account tokens".
"""

from __future__ import annotations

import base64
import hmac
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from weakref import WeakKeyDictionary

import msgspec

from controlplane.api import codec
from controlplane.api.identity import User
from controlplane.auth.authentication.authenticator import TokenError
from controlplane.store.model import Item
from controlplane.store.store import Store
from kubeletpy_common.client_certificates import CREDENTIAL

PREFIX: Final = "system:serviceaccount:"
PRIVATE: Final = "kubernetes.io"
_EXTRA: Final = "authentication.kubernetes.io/"
# What is being deleted counts as gone this long after its deletionTimestamp, as clocks differ.
_LEEWAY: Final = 60.0
_BOUND: Final = {"pod": "pods", "secret": "secrets", "node": "nodes"}


class _Meta(msgspec.Struct):
    uid: str = ""
    deletionTimestamp: str = ""


class _Object(msgspec.Struct):
    metadata: _Meta


_decoder = msgspec.json.Decoder(_Object)
_metas: WeakKeyDictionary[Item, _Meta] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True)
class Bound:
    """An object that a token lives no longer than."""

    name: str
    uid: str


def make_claims(
    account: Mapping[str, Any],
    audiences: Sequence[str],
    issuer: str,
    seconds: int,
    bound: Mapping[str, Bound],
    *,
    warn_after: int = 0,
    now: float | None = None,
) -> dict[str, Any]:
    """Return the claims of a new token (pure but for its id and time).

    Args:
        account: metadata of the service account.
        audiences: whom it is for.
        issuer: who made it.
        seconds: how long it is good.
        bound: by ``pod``, ``secret`` and ``node``.
        warn_after: seconds after which its use is noted; 0: never.
        now: seconds since the epoch; None: this moment.
    """
    moment = int(time.time() if now is None else now)
    private: dict[str, Any] = {
        "namespace": account["namespace"],
        "serviceaccount": {"name": account["name"], "uid": account["uid"]},
    }
    for kind, one in bound.items():
        private[kind] = {"name": one.name, "uid": one.uid} if one.uid else {"name": one.name}
    if warn_after:
        private["warnafter"] = moment + warn_after
    return {
        "iss": issuer,
        "sub": f"{PREFIX}{account['namespace']}:{account['name']}",
        "aud": list(audiences),
        "iat": moment,
        "nbf": moment,
        "exp": moment + seconds,
        "jti": str(uuid.uuid4()),
        PRIVATE: private,
    }


class Validator:
    """Compares claims with the objects that they name, each time anew.

    Args:
        store: of the objects.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def check_times(self, claims: Mapping[str, Any]) -> None:
        """Look at the clock.

        Raises:
            TokenError: the token is too old, or not good yet.
        """
        now = time.time()
        if claims["exp"] <= now:
            raise TokenError("service account token has expired")
        if claims.get("nbf", 0) > now + _LEEWAY:
            raise TokenError("service account token is not valid yet")

    def check_bound(self, private: Mapping[str, Any]) -> None:
        """Look whether the account and what the token is bound to are still there.

        Raises:
            TokenError: one is not.
        """
        namespace, account = private["namespace"], private["serviceaccount"]
        self._check("serviceaccounts", f"{namespace}/{account['name']}", account["uid"])
        for kind, plural in _BOUND.items():
            one = private.get(kind)
            # The node of a pod is information; the pod says enough.
            if one is None or (kind == "node" and "pod" in private):
                continue
            place = one["name"] if kind == "node" else f"{namespace}/{one['name']}"
            self._check(plural, place, one.get("uid"))

    def check_copy(self, private: Mapping[str, Any], token: str) -> None:
        """Look whether a token's Secret still holds it.

        Raises:
            TokenError: it does not.
        """
        item = self._store.get(f"/core/secrets/{private['namespace']}/{private['secret']['name']}")
        held = "" if item is None else codec.decode(item).get("data", {}).get("token", "")
        if not hmac.compare_digest(held.encode(), base64.b64encode(token.encode())):
            raise TokenError("the Secret of the token does not hold it any longer")

    def _check(self, plural: str, place: str, uid: str | None) -> None:
        item = self._store.get(f"/core/{plural}/{place}")
        if item is None:
            raise TokenError(f"{plural} {place!r} of the token is gone")
        meta = _meta(item)
        if uid is not None and meta.uid != uid:
            raise TokenError(f"{plural} {place!r} has another uid than the token says")
        if meta.deletionTimestamp:
            end = datetime.fromisoformat(meta.deletionTimestamp.replace("Z", "+00:00"))
            if end.timestamp() < time.time() - _LEEWAY:
                raise TokenError(f"{plural} {place!r} of the token has been deleted")


def user_of(claims: Mapping[str, Any]) -> User:
    """Return the user that valid claims stand for (pure)."""
    private = claims[PRIVATE]
    namespace, account = private["namespace"], private["serviceaccount"]
    extra: dict[str, tuple[str, ...]] = {}
    if claims.get("jti"):
        extra[CREDENTIAL] = (f"JTI={claims['jti']}",)
    for kind in ("pod", "node"):
        one = private.get(kind)
        if one is not None:
            extra[f"{_EXTRA}{kind}-name"] = (one["name"],)
            if one.get("uid"):
                extra[f"{_EXTRA}{kind}-uid"] = (one["uid"],)
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")
    return User(f"{PREFIX}{namespace}:{account['name']}", account["uid"], groups, extra)


def _meta(item: Item) -> _Meta:
    found = _metas.get(item)
    if found is None:
        found = _metas[item] = _decoder.decode(item.value).metadata
    return found
