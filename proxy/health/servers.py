"""The servers of ``healthzBindAddress`` and ``metricsBindAddress``."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any, Final

import msgspec
from aiohttp import web

from kubeletpy_common import logs

from ..errors import StartError
from ..settings.configuration import KubeProxyConfiguration, encode, split_address
from .metrics import Metrics
from .state import Health

_log = logging.getLogger(__name__)
RETRY_SECONDS: Final = 5.0
"""Seconds after which an address that was taken is tried again."""
_BACKLOG: Final = 128
_SHUTDOWN: Final = 1.0
_NO_SNIFF: Final = {"X-Content-Type-Options": "nosniff"}
_JSON: Final = {"Content-Type": "application/json", **_NO_SNIFF}
_CONFIGZ: Final = "kubeproxy.config.k8s.io"


def healthz_app(health: Health, metrics: Metrics, eligible: Callable[[], bool]) -> web.Application:
    """Return /healthz, for load balancers, and /livez, for whoever restarts the proxy."""

    async def healthz(_: web.Request) -> web.Response:
        well, body = health.report(eligible())
        metrics.healthz.labels("200" if well else "503").inc()
        return _answer(well, body)

    async def livez(_: web.Request) -> web.Response:
        well, body = health.report()
        metrics.livez.labels("200" if well else "503").inc()
        return _answer(well, body)

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/livez", livez)
    return app


def metrics_app(configuration: KubeProxyConfiguration, metrics: Metrics) -> web.Application:
    """Return /metrics, /configz, /proxyMode and a /healthz that says that the server lives."""

    async def text_of(_: web.Request) -> web.Response:
        kind = "text/plain; version=0.0.4; charset=utf-8"
        return web.Response(body=metrics.text(), headers={"Content-Type": kind})

    async def configz(_: web.Request) -> web.Response:
        body = msgspec.json.encode({_CONFIGZ: encode(configuration)})
        return web.Response(body=body, headers=_JSON)

    async def mode(_: web.Request) -> web.Response:
        return web.Response(text=configuration.mode, headers=_NO_SNIFF)

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok", headers=_NO_SNIFF)

    app = web.Application()
    app.router.add_get("/metrics", text_of)
    app.router.add_get("/configz", configz)
    app.router.add_get("/proxyMode", mode)
    app.router.add_get("/healthz", healthz)
    return app


def _answer(well: bool, body: dict[str, Any]) -> web.Response:
    return web.Response(status=200 if well else 503, body=msgspec.json.encode(body), headers=_JSON)


async def serve(app: web.Application, address: str, what: str, *, hard: bool) -> None:
    """Serve until cancelled; an address that is taken is tried again and again.

    Args:
        address: ``IP:port``; an unspecified IP means all addresses of both families, as in Go.
        what: name of the server, for messages.
        hard: an address that is taken is an error.

    Raises:
        StartError: see ``hard``.
    """
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_SHUTDOWN)
    await runner.setup()
    try:
        while True:
            try:
                await web.SockSite(runner, listening(*split_address(address))).start()
            except OSError as error:
                text = f"{what} cannot listen on {address}: {error.strerror}"
                if hard:
                    raise StartError(text) from None
                logs.event(
                    _log, logging.ERROR, text, remedy="end what listens there, or set another "
                    "address", retry_seconds=RETRY_SECONDS,
                )  # fmt: skip
                await asyncio.sleep(RETRY_SECONDS)
            else:
                break
        await asyncio.Event().wait()
    finally:
        await runner.cleanup()


def listening(host: str, port: int, *, both: bool = True) -> socket.socket:
    """Return a socket that listens.

    Args:
        both: an unspecified address means that of both families.

    Raises:
        OSError: it cannot.
    """
    every = both and host in ("0.0.0.0", "::")
    if every and socket.has_dualstack_ipv6():
        family, host = socket.AF_INET6, "::"
    else:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        every = False
    made = socket.socket(family, socket.SOCK_STREAM)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if every else 1)
        made.bind((host, port))
        made.listen(_BACKLOG)
        made.setblocking(False)
    except OSError:
        made.close()
        raise
    return made
