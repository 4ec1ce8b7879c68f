"""Hooks aggregation into the server."""

from __future__ import annotations

import asyncio

from aiohttp import web

from controlplane.aggregation import discovery
from controlplane.aggregation.availability import Availability
from controlplane.aggregation.forwarding import ExtensionBackends, Forwarder
from controlplane.aggregation.registered import Registered
from controlplane.aggregation.registration import Registration
from controlplane.aggregation.trust import PublishedTrust
from controlplane.api import codec
from controlplane.api.errors import ApiError
from controlplane.api.resource import Object
from controlplane.plane import PlainHandler, Plane
from controlplane.server.answers import AGGREGATED_MEDIA, negotiate, respond, tagged
from controlplane.server.discovery import AGGREGATED


def install(plane: Plane) -> None:
    """Hook in."""
    aggregator = Aggregator(plane)
    trust = PublishedTrust(plane)
    plane.delegates.append(aggregator.delegate)
    plane.starters.append(trust.start)
    plane.background += [
        trust.run,
        Registration(plane, aggregator.registered).run,
        aggregator.availability.run,
        aggregator.close_at_the_end,
        *(feed.follow for feed in aggregator.registered.feeds),
    ]


class Aggregator:
    """Answers for extension servers.

    Args:
        plane: the parts.
    """

    def __init__(self, plane: Plane) -> None:
        self._plane = plane
        self.registered = Registered(plane)
        self._backends = ExtensionBackends(plane.options)
        self._forwarder = Forwarder(self.registered, self._backends)
        self.availability = Availability(plane, self.registered, self._forwarder, self._backends)

    async def close_at_the_end(self) -> None:
        """Wait for the end of the server, and close the connections."""
        try:
            await asyncio.Event().wait()
        finally:
            await self._backends.close()

    def delegate(self, request: web.Request) -> PlainHandler | None:
        """Return who answers a request for ``/apis``; None: others than us."""
        parts = request.path.strip("/").split("/")
        if parts[0] != "apis":
            return None
        if len(parts) > 2:
            service = self.registered.remote(parts[1], parts[2])
            return None if service is None else self._to(service)
        if request.method not in ("GET", "HEAD"):
            return None
        return self._all if len(parts) == 1 else self._one

    def _to(self, service: Object) -> PlainHandler:
        async def forward(request: web.Request) -> web.StreamResponse:
            return await self._forwarder.forward(request, service)

        return forward

    async def _all(self, request: web.Request) -> web.StreamResponse:
        catalog = self._plane.catalog
        by_group = discovery.entries(catalog, self.registered.all())
        if negotiate(request.headers.get("Accept", ""), (AGGREGATED,)).shape:
            found = discovery.aggregated(catalog, by_group, self.availability.known)
            return tagged(request, codec.encode(found), AGGREGATED_MEDIA)
        return respond(discovery.group_list(by_group))

    async def _one(self, request: web.Request) -> web.StreamResponse:
        group = request.path.strip("/").split("/")[1]
        versions = discovery.entries(self._plane.catalog, self.registered.all()).get(group)
        if versions is None:
            raise ApiError("NotFound", "the server could not find the requested resource")
        return respond(discovery.one_group(versions))
