"""The parts of the API server and where each hooks in."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from aiohttp import web
from aiohttp.typedefs import Middleware

from controlplane.api.registry import Registry
from controlplane.api.resource import Context, Resource
from controlplane.auth.authorization.attributes import Authorizer
from controlplane.kinds.catalog import Catalog
from controlplane.kinds.types import Types
from controlplane.options import Options
from controlplane.server.request import RequestInfo
from controlplane.store.store import Store

Handler = Callable[["Call"], Awaitable[web.StreamResponse]]
"""Answers requests for a subresource, or for a resource that is not kept."""

PlainHandler = Callable[[web.Request], Awaitable[web.StreamResponse]]
"""Answers requests for a path that is no resource's."""

Delegate = Callable[[web.Request], PlainHandler | None]
"""Says who else answers a request; None: this server itself."""

Listener = Callable[[web.Request, web.StreamResponse], Awaitable[None]]
"""Hears of an answer."""

Background = Callable[[], Awaitable[None]]
"""Runs for as long as the server does; cancelled at its end."""

Check = Callable[[], str]
"""Says why something is not well; "" if it is."""


@dataclass(frozen=True, slots=True)
class Call:
    """A request for a resource, for a :data:`Handler`.

    Attributes:
        request: as it came; ``request.query`` and the body are the handler's to read.
        info: what its path says.
        resource: that it is for.
        context: who asks, when; warnings go here.
        plane: all parts.
    """

    request: web.Request
    info: RequestInfo
    resource: Resource
    context: Context
    plane: Plane


@dataclass(slots=True)
class Plane:
    """The parts of one server.

    Attributes:
        options: as it was started; the port is the one that is listened on.
        store: of the objects.
        types: of their fields.
        catalog: of the resources.
        registry: through which objects are changed, by requests and by the server itself.
        handlers: by (group, plural, subresource); the subresource is "" for the resource itself.
            One that is here is served by it, for all of its verbs.
        paths: handlers of paths that are no resource's, by path (``/metrics``).
        trees: handlers of all paths below one, for which ``paths`` has none (``/openapi/v3``).
        delegates: are asked for each request, once it is allowed, who else answers it.
        middlewares: stand before every request (authentication, audit, metrics ...), the first
            one outermost. What they raise as an ApiError becomes the answer. See server/keys.py.
        prepared: hear of every answer whose head is about to go out (aiohttp,
            ``on_response_prepare``).
        starters: run once, in order, before the server listens: what must be there from the first
            request on.
        background: what runs beside.
        checks: of ``/readyz`` and ``/livez``, by name.
        tls: of the secure port; None: plain HTTP, for tests of the machinery.
        stopping: the server is about to end; it is no longer ready.
        authorizer: decides what users may do besides what their request says; None: everything.
    """

    options: Options
    store: Store
    types: Types
    catalog: Catalog
    registry: Registry
    handlers: dict[tuple[str, str, str], Handler] = field(default_factory=dict)
    paths: dict[str, PlainHandler] = field(default_factory=dict)
    trees: dict[str, PlainHandler] = field(default_factory=dict)
    delegates: list[Delegate] = field(default_factory=list)
    middlewares: list[Middleware] = field(default_factory=list)
    prepared: list[Listener] = field(default_factory=list)
    starters: list[Background] = field(default_factory=list)
    background: list[Background] = field(default_factory=list)
    checks: dict[str, Check] = field(default_factory=dict)
    tls: ssl.SSLContext | None = None
    stopping: bool = False
    authorizer: Authorizer | None = None
