"""Bootstrap tokens: what a new node knows of the cluster before it has a certificate.

Source: Kubernetes documentation, "Authenticating with Bootstrap Tokens".
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from datetime import UTC, datetime

from controlplane.api import codec
from controlplane.api.identity import User
from controlplane.api.resource import Object
from controlplane.auth.authentication.authenticator import TokenError, TokenUser
from controlplane.store.store import Store
from kubeletpy_common.bootstrap_tokens import (
    BOOTSTRAPPERS,
    GROUP,
    NAME_PREFIX,
    NAMESPACE,
    SECRET_TYPE,
    TOKEN,
    USAGE_PREFIX,
    is_expired,
    texts,
)


class BootstrapTokens:
    """Knows the tokens that Secrets in ``kube-system`` hold.

    Args:
        store: of the Secrets.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def authenticate(self, token: str, audiences: Sequence[str] = ()) -> TokenUser | None:
        """Return whom a token stands for; None: it is none of these.

        Raises:
            TokenError: it is one, but not good.
        """
        match = TOKEN.fullmatch(token)
        if match is None:
            return None
        item = self._store.get(f"/core/secrets/{NAMESPACE}/{NAME_PREFIX}{match[1]}")
        if item is None:
            return None
        return TokenUser(user_of(codec.decode(item), match[1], match[2]), tuple(audiences))


def user_of(secret: Object, identifier: str, key: str, now: datetime | None = None) -> User:
    """Return the user of a token (pure).

    Args:
        secret: that holds it.
        identifier: first part of the token.
        key: second part.
        now: None: this moment.

    Raises:
        TokenError: it is not good.
    """
    data = texts(secret)
    if secret.get("type") != SECRET_TYPE or secret["metadata"].get("deletionTimestamp"):
        raise TokenError("no bootstrap token, or one that is being deleted")
    held = data.get("token-secret", "").encode(errors="replace")
    if data.get("token-id") != identifier or not hmac.compare_digest(held, key.encode()):
        raise TokenError("the bootstrap token is another one")
    if is_expired(data, now or datetime.now(UTC)):
        raise TokenError("the bootstrap token has expired")
    if data.get(USAGE_PREFIX + "authentication") != "true":
        raise TokenError("the bootstrap token is not for authentication")
    extra = [one for one in data.get("auth-extra-groups", "").split(",") if one]
    if not all(GROUP.fullmatch(one) for one in extra):
        raise TokenError("the bootstrap token has groups that it cannot have")
    groups = dict.fromkeys((*extra, BOOTSTRAPPERS))
    return User(f"system:bootstrap:{identifier}", "", tuple(groups))
