"""What stands before every request: who asks, as whom, and whether that is allowed."""

from __future__ import annotations

from aiohttp import web
from aiohttp.typedefs import Handler as HttpHandler
from aiohttp.typedefs import Middleware

from controlplane.api.errors import ApiError
from controlplane.auth.audit.auditor import Auditor
from controlplane.auth.authentication.authenticator import Authenticator, is_health
from controlplane.auth.authentication.impersonation import impersonated
from controlplane.auth.authorization.attributes import Authorizer, attributes_of, require
from controlplane.server.keys import INFO, USER


def authenticating(authenticator: Authenticator, auditor: Auditor | None) -> Middleware:
    """Return the middleware that finds out who asks, and tells an auditor of those unknown."""

    @web.middleware
    async def authenticate(request: web.Request, handler: HttpHandler) -> web.StreamResponse:
        try:
            request[USER] = authenticator.authenticate(request)
        except ApiError as error:
            if auditor is not None:
                await auditor.refused(request, error)
            raise
        return await handler(request)

    return authenticate


def authorizing(authorizer: Authorizer) -> Middleware:
    """Return the middleware that lets pass what is allowed, to users themselves or as others."""

    @web.middleware
    async def authorize(request: web.Request, handler: HttpHandler) -> web.StreamResponse:
        info = request[INFO]
        user = impersonated(request.headers, request[USER], authorizer)
        request[USER] = user
        if info is None and is_health(request.path):
            return await handler(request)
        wanted = attributes_of(request, info, user)
        require(authorizer, wanted)
        return await handler(request)

    return authorize
