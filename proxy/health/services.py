"""Health-check ports of Services with externalTrafficPolicy Local.

A load balancer asks ``healthCheckNodePort`` of each node whether it has endpoints of a Service.
All ports are served by one HTTP server, which tells them apart by the port it was asked at.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec
from aiohttp import web

from kubeletpy_common import logs

from .servers import listening

_log = logging.getLogger(__name__)
Key = tuple[str, str]
WEIGHT: Final = "X-Load-Balancing-Endpoint-Weight"


class ServiceHealth:
    """Serves the ports that there are to be; made in the event loop.

    Args:
        healthy: whether the rules keep up.
        addresses: the node's addresses to listen on; ("0.0.0.0",) for all.
    """

    def __init__(
        self, healthy: Callable[[], bool], addresses: Callable[[], tuple[str, ...]]
    ) -> None:
        self._healthy = healthy
        self._addresses = addresses
        self._runner: web.ServerRunner | None = None
        self._ports: dict[Key, int] = {}
        self._services: dict[int, Key] = {}
        self._counts: dict[Key, int] = {}
        self._sites: dict[int, list[web.SockSite]] = {}
        self._refused: dict[Key, str] = {}

    async def update(self, wanted: Mapping[Key, tuple[int, int]]) -> None:
        """Listen on the ports that are wanted, and no others.

        Args:
            wanted: by Service its port and the number of ready endpoints on this node.
        """
        self._counts = {key: count for key, (_, count) in wanted.items()}
        for key, port in list(self._ports.items()):
            if key not in wanted or wanted[key][0] != port:
                await self._close(key, port)
        for key in self._refused.keys() - wanted.keys():
            del self._refused[key]
        for key, (port, _) in wanted.items():
            if key not in self._ports:
                await self._open(key, port)

    async def close(self) -> None:
        """Close all ports."""
        if self._runner is not None:
            await self._runner.cleanup()
        self._ports.clear()
        self._services.clear()
        self._sites.clear()

    async def _open(self, key: Key, port: int) -> None:
        if self._runner is None:
            self._runner = web.ServerRunner(web.Server(self._answer, access_log=None))
            await self._runner.setup()
        sites: list[web.SockSite] = []
        try:
            if port in self._services:
                holder = "/".join(self._services[port])
                raise OSError(0, f"it is that of Service {holder} already")
            for address in self._addresses():
                site = web.SockSite(self._runner, listening(address, port))
                sites.append(site)
                await site.start()
        except OSError as error:
            for site in sites:
                await site.stop()
            self._refuse(key, port, str(error.strerror))
            return
        self._refused.pop(key, None)
        self._ports[key], self._services[port], self._sites[port] = port, key, sites

    def _refuse(self, key: Key, port: int, reason: str) -> None:
        """Tell once why a port is not open; each sync tries again."""
        if self._refused.get(key) == reason:
            return
        self._refused[key] = reason
        logs.event(
            _log, logging.ERROR, "failed to start a health check; load balancers take this node "
            "for unhealthy", service="/".join(key), port=port, reason=reason,
        )  # fmt: skip

    async def _close(self, key: Key, port: int) -> None:
        for site in self._sites.pop(port, ()):
            await site.stop()
        del self._ports[key]
        del self._services[port]

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        key = self._services.get(_port_of(request))
        if key is None:
            return web.Response(status=404)
        count, healthy = self._counts.get(key, 0), self._healthy()
        body: dict[str, Any] = {
            "service": {"namespace": key[0], "name": key[1]},
            "localEndpoints": count,
            "serviceProxyHealthy": healthy,
        }
        headers = {
            "Content-Type": "application/json", "X-Content-Type-Options": "nosniff",
            WEIGHT: str(count),
        }  # fmt: skip
        status = 200 if count and healthy else 503
        return web.Response(status=status, body=msgspec.json.encode(body), headers=headers)


def _port_of(request: web.BaseRequest) -> int:
    transport = request.transport
    name: Any = transport.get_extra_info("sockname") if transport is not None else None
    return int(name[1]) if name else 0
