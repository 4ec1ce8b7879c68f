"""Port 10250 (``port``) by TLS, and ``readOnlyPort`` without, while the kubelet runs."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from kubeletpy.core import Core
from kubeletpy_common import logs

from .auth.guard import Guard
from .auth.reviews import Access, Tokens
from .routes import Routes
from .tls import ServingTls, TlsOptions, fallback_certificate

_log = logging.getLogger(__name__)
_IDLE_SECONDS: Final = 90.0
_SHUTDOWN_SECONDS: Final = 2.0
_MAX_HEADER: Final = 64 << 10
_LARGEST_REQUEST: Final = 1024
CURRENT_SERVING_CERTIFICATE: Final = "kubelet-server-current.pem"
"""File in ``--cert-dir`` that the rotation of serving certificates keeps: certificate and key."""


class NotServedError(Exception):
    """The settings do not let the API be served; the message says why and what to do."""


def install(core: Core) -> None:
    """Serve what the settings ask for, as long as the kubelet runs.

    Raises:
        TlsError: a setting of TLS cannot be taken.
    """
    configuration = core.settings.configuration
    routes = Routes(core)
    if configuration.enable_server and configuration.port:
        try:
            guard = make_guard(core)
        except NotServedError as error:
            logs.event(_log, logging.INFO, "the API is not served", reason=str(error))
        else:
            context = _tls(core)
            core.background.append(("server", _server(core, routes, guard, context)))
    if configuration.read_only_port:
        core.background.append(("read-only server", _server(core, routes, None, None)))


def make_guard(core: Core) -> Guard:
    """Return who lets requests in.

    Raises:
        NotServedError: an API server is needed for it and there is none.
    """
    configuration = core.settings.configuration
    authentication, authorization = configuration.authentication, configuration.authorization
    tokens = access = None
    if authentication.webhook.enabled and core.api is not None:
        tokens = Tokens(core.api, authentication.webhook.cache_ttl)
    if authorization.mode == "Webhook":
        if core.api is None:
            raise NotServedError(
                "authorization.mode is Webhook, and a standalone kubelet has no API server to ask: "
                "set it to AlwaysAllow, with authentication.x509.clientCAFile"
            )
        webhook = authorization.webhook
        access = Access(
            core.api,
            core.facts.name,
            webhook.cache_authorized_ttl,
            webhook.cache_unauthorized_ttl,
        )
    anonymous = authentication.anonymous.enabled
    return Guard(tokens=tokens, access=access, anonymous=anonymous)


def _tls(core: Core) -> ServingTls:
    configuration = core.settings.configuration
    client_ca = configuration.authentication.x509.client_ca_file
    return ServingTls(
        TlsOptions(
            certificate=_certificate(core),
            client_ca=Path(client_ca) if client_ca else None,
            min_version=configuration.tls_min_version,
            cipher_suites=tuple(configuration.tls_cipher_suites),
            curves=tuple(configuration.tls_curve_preferences),
        )
    )


def _certificate(core: Core) -> Callable[[], tuple[Path, Path]]:
    """Return where the serving certificate and its key are."""
    configuration, directory = core.settings.configuration, core.settings.cert_dir
    if configuration.tls_cert_file and configuration.tls_private_key_file:
        files = Path(configuration.tls_cert_file), Path(configuration.tls_private_key_file)
    elif configuration.server_tls_bootstrap and core.api is not None:
        files = (directory / CURRENT_SERVING_CERTIFICATE,) * 2
    else:
        files = fallback_certificate(directory, core.facts.name)
    return lambda: files


def _server(
    core: Core, routes: Routes, guard: Guard | None, tls: ServingTls | None
) -> Callable[[], Coroutine[Any, Any, None]]:
    configuration = core.settings.configuration
    port = configuration.read_only_port if guard is None else configuration.port

    async def serve() -> None:
        application = make_application(core, routes, guard)
        runner = web.AppRunner(
            application,
            access_log=None,
            handle_signals=False,
            handler_cancellation=True,
            shutdown_timeout=_SHUTDOWN_SECONDS,
            keepalive_timeout=_IDLE_SECONDS,
            max_line_size=_MAX_HEADER,
            max_field_size=_MAX_HEADER,
        )
        await runner.setup()
        try:
            context = tls.context if tls is not None else None
            host = _listening_address(configuration.address)
            site = web.TCPSite(runner, host, port, ssl_context=context, reuse_address=True)
            await site.start()
            logs.event(
                _log, logging.INFO, "API served",
                address=configuration.address, port=port, read_only=guard is None,
            )  # fmt: skip
            await asyncio.Event().wait()
        finally:
            await runner.cleanup()

    return serve


def make_application(core: Core, routes: Routes, guard: Guard | None) -> web.Application:
    """Return the application of the port with TLS, or without a guard that of the read-only one."""
    middlewares = [routes.metrics.counting(read_only=guard is None)]
    if guard is not None:
        middlewares.append(guard.middleware())
    application = web.Application(middlewares=middlewares, client_max_size=_LARGEST_REQUEST)
    routes.add_common(application)
    if guard is not None:
        routes.add_guarded(application)
        for add in core.routes:
            add(application)
    return application


def _listening_address(address: str) -> str | None:
    """Return the address to listen on; None: all of both families, which ``0.0.0.0`` means."""
    return None if ipaddress.ip_address(address).is_unspecified else address
