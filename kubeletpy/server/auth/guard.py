"""Lets in who is known and allowed; everybody else gets 401 or 403 in the Go kubelet's words."""

from __future__ import annotations

import base64
import binascii
import logging
import ssl
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from kubeletpy_common import logs
from kubeletpy_common.client_certificates import ClientCertificates, Named

from .attributes import subresources_of, verb_of
from .identity import NOBODY, User
from .reviews import Access, ReviewError, Tokens

_log = logging.getLogger(__name__)
_WEBSOCKET_TOKEN: Final = "base64url.bearer.authorization.k8s.io."


def _user(named: Named) -> User:
    return User(named.name, "", named.groups, named.extra)


class Guard:
    """Authentication and authorization of requests.

    Args:
        tokens: who bearer tokens belong to; None: they are not taken.
        access: what users may do; None: whoever is known may do all (AlwaysAllow).
        anonymous: whether a request without credentials is one of ``system:anonymous``.
    """

    def __init__(
        self, *, tokens: Tokens | None, access: Access | None, anonymous: bool = False
    ) -> None:
        self._certificates = ClientCertificates(_user)
        self._tokens = tokens
        self._access = access
        self._anonymous = anonymous

    async def authenticate(self, request: web.Request) -> User | None:
        """Return who asks; None: nobody who is known.

        Raises:
            ReviewError: that cannot be found out now.
        """
        transport = request.transport
        connection = transport.get_extra_info("ssl_object") if transport is not None else None
        if isinstance(connection, ssl.SSLObject):
            user = self._certificates.authenticate(connection)
            if user is not None:
                return user.known()
        token = bearer_token(
            request.headers.get("Authorization", ""),
            request.headers.get("Sec-WebSocket-Protocol", ""),
        )
        if token and self._tokens is not None:
            # A token that is wrong is refused, even where one without any would be let in.
            user = await self._tokens.authenticate(token)
            return user.known() if user is not None else None
        return NOBODY if self._anonymous else None

    async def refusal(self, request: web.Request) -> web.Response | None:
        """Return the answer to a request that is not let in; None: it is."""
        try:
            user = await self.authenticate(request)
        except ReviewError as error:
            logs.event(_log, logging.ERROR, "cannot authenticate a request", reason=str(error))
            user = None
        if user is None:
            return web.Response(status=401, text="Unauthorized")
        if self._access is None:
            return None
        verb, wanted = verb_of(request.method), subresources_of(request.path)
        for subresource in wanted:
            try:
                if await self._access.allows(user, verb, subresource):
                    return None
            except ReviewError as error:
                told = f"user={user.name}, verb={verb}, resource=nodes, subresource={subresource}"
                logs.event(
                    _log, logging.ERROR, "cannot authorize a request",
                    request=told, reason=str(error),
                )  # fmt: skip
                return web.Response(status=500, text=f"Authorization error ({told})")
        listed = " ".join(wanted)
        told = f"user={user.name}, verb={verb}, resource=nodes, subresource(s)=[{listed}]"
        logs.event(_log, logging.INFO, "request refused", request=told)
        return web.Response(status=403, text=f"Forbidden ({told})\n")

    def middleware(self) -> Middleware:
        """Return the middleware that stands before all handlers, also before 404 and 405."""

        @web.middleware
        async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
            refusal = await self.refusal(request)
            return refusal if refusal is not None else await handler(request)

        return guarded


def bearer_token(authorization: str, protocols: str) -> str:
    """Return the token of a request; "" if there is none (pure).

    Args:
        authorization: the header of that name.
        protocols: ``Sec-WebSocket-Protocol``, in which a browser can put a token.
    """
    kind, _, token = authorization.strip().partition(" ")
    if kind.lower() == "bearer" and token.strip():
        return token.strip().split(" ", 1)[0]
    for protocol in protocols.split(","):
        encoded = protocol.strip()
        if encoded.startswith(_WEBSOCKET_TOKEN):
            encoded = encoded.removeprefix(_WEBSOCKET_TOKEN)
            try:
                padded = encoded + "=" * (-len(encoded) % 4)
                return base64.urlsafe_b64decode(padded).decode()
            except (binascii.Error, UnicodeDecodeError):
                return ""
    return ""
