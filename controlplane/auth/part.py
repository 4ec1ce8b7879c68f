"""Hooks security into the server."""

from __future__ import annotations

from aiohttp import web
from aiohttp.typedefs import Handler as HttpHandler
from aiohttp.typedefs import Middleware

from controlplane.auth.authentication.authenticator import Authenticator
from controlplane.auth.authentication.statictokens import read_token_file
from controlplane.auth.trust.keyring import open_keyring
from controlplane.plane import Plane
from controlplane.server.keys import USER


def install(plane: Plane) -> None:
    """Hook in.

    Raises:
        TrustError: a key or certificate cannot be used.
        OptionsError: an option cannot be taken.
    """
    keyring = open_keyring(plane.options)
    plane.tls = keyring.tls
    plane.background.append(keyring.keep_good)
    authenticator = Authenticator()
    if plane.options.token_auth_file is not None:
        authenticator.tokens.append(read_token_file(plane.options.token_auth_file))
    plane.middlewares.append(_authenticating(authenticator))


def _authenticating(authenticator: Authenticator) -> Middleware:
    @web.middleware
    async def authenticate(request: web.Request, handler: HttpHandler) -> web.StreamResponse:
        request[USER] = authenticator.authenticate(request)
        return await handler(request)

    return authenticate
