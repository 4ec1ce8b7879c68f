"""From the credentials of a request to its user.

Source: Kubernetes documentation, "Authenticating"; API conventions on 401.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import replace
from typing import Final, Protocol

from aiohttp import web

from controlplane.api.errors import ApiError
from controlplane.api.identity import ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED, User
from kubeletpy_common.bootstrap_tokens import INFO_NAME, INFO_NAMESPACE
from kubeletpy_common.client_certificates import ClientCertificates, Named

_CLUSTER_INFO: Final = f"/api/v1/namespaces/{INFO_NAMESPACE}/configmaps/{INFO_NAME}"
_HEALTH: Final = ("/healthz", "/livez", "/readyz")
# How browsers send a bearer token with a WebSocket: as one of the protocols.
_WEBSOCKET: Final = "base64url.bearer.authorization.k8s.io."


class TokenError(Exception):
    """A token of a kind that is known, but that is not good; the text says why."""


class TokenAuthenticator(Protocol):
    """Knows one kind of tokens."""

    def authenticate(self, token: str, audiences: Sequence[str] = ()) -> TokenUser | None:
        """Return whom a token stands for; None: it is of another kind.

        Args:
            token: as it was sent.
            audiences: it must be meant for one of these; empty: for this server.

        Raises:
            TokenError: it is of this kind, and not good.
        """
        ...


class TokenUser:
    """Whom a token stands for.

    Attributes:
        user: who.
        audiences: those of the wanted ones that the token is meant for.
    """

    __slots__ = ("audiences", "user")

    def __init__(self, user: User, audiences: tuple[str, ...] = ()) -> None:
        self.user = user
        self.audiences = audiences


def _user(named: Named) -> User:
    return User(named.name, "", named.groups, named.extra)


class Authenticator:
    """Tells who asks.

    Attributes:
        tokens: the kinds of tokens, in the order in which they are tried.
    """

    def __init__(self) -> None:
        self.tokens: list[TokenAuthenticator] = []
        self._certificates = ClientCertificates(_user)

    def authenticate(self, request: web.Request) -> User:
        """Return who asks.

        Raises:
            ApiError: nobody that is known, or nobody at all where somebody is needed (401).
        """
        transport = request.transport
        connection = None if transport is None else transport.get_extra_info("ssl_object")
        user = self._certificates.authenticate(connection)
        if user is not None:
            return with_authenticated(user)
        token = bearer_token(request)
        if token is None:
            if is_health(request.path) or is_public(request):
                return ANONYMOUS
            raise unauthorized()
        try:
            found = self.by_token(token)
        except TokenError:
            # Why a token is not good is for the log of whoever keeps tokens, not for its bearer.
            raise unauthorized() from None
        if found is None:
            raise unauthorized()
        return found.user

    def by_token(self, token: str, audiences: Sequence[str] = ()) -> TokenUser | None:
        """Return whom a token stands for; None: nobody knows this token.

        Raises:
            TokenError: it is not good.
        """
        for kind in self.tokens:
            found = kind.authenticate(token, audiences)
            if found is not None:
                found.user = with_authenticated(found.user)
                return found
        return None


def is_health(path: str) -> bool:
    """Say whether anybody may ask for this path: those of health, and nothing else."""
    return any(path == one or path.startswith(f"{one}/") for one in _HEALTH)


def is_public(request: web.Request) -> bool:
    """Say whether anybody may ask for this as ``system:anonymous``, if RBAC lets that user.

    A new node has to learn who the cluster is before it can show who it is itself. It is as with
    ``anonymous.conditions`` of a kube-apiserver's AuthenticationConfiguration: no other path.
    """
    return request.method == "GET" and request.path == _CLUSTER_INFO


def bearer_token(request: web.Request) -> str | None:
    """Return the token of a request (RFC 6750, section 2.1), None if it has none."""
    header = request.headers.get("Authorization", "")
    scheme, _, token = header.strip().partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    if "Sec-WebSocket-Protocol" in request.headers:
        return _websocket_token(request.headers.getall("Sec-WebSocket-Protocol"))
    return None


def unauthorized() -> ApiError:
    """Nobody that is known asks."""
    return ApiError("Unauthorized", "Unauthorized")


def with_authenticated(user: User) -> User:
    """Return a user with the group of all users that are known."""
    if AUTHENTICATED in user.groups or UNAUTHENTICATED in user.groups:
        return user
    return replace(user, groups=(*user.groups, AUTHENTICATED))


def _websocket_token(headers: list[str]) -> str | None:
    for header in headers:
        for protocol in header.split(","):
            name = protocol.strip()
            if not name.startswith(_WEBSOCKET):
                continue
            text = name.removeprefix(_WEBSOCKET)
            try:
                return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
            except (binascii.Error, ValueError):
                return None
    return None
