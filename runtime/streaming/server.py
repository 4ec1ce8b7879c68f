"""The HTTP server that streams: a token names the session, the upgrade how it is spoken.

The token is void from its first use on, whatever comes of it, and expires unused after a minute.
It never appears in a log.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import ssl
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from kubeletpy_common.logs import event
from kubeletpy_common.upgrades import Upgraded, switching, take_over
from runtime.config import StreamingSettings
from runtime.streaming import port_channels, port_forward, remote_spdy, websocket
from runtime.streaming.carriers import Tunnel
from runtime.streaming.commands import CommandClient, CommandRequest, converse
from runtime.streaming.port_channels import ChannelForwarder
from runtime.streaming.port_forward import ForwardRequest, PortForwarder
from runtime.streaming.status import Outcome
from runtime.streaming.tokens import Tokens

_log = logging.getLogger("runtime.streaming")

_SPDY: Final = "SPDY/3.1"
_PROTOCOL_HEADER: Final = "X-Stream-Protocol-Version"
_FINISH_SECONDS: Final = 10.0
_SHUTDOWN_SECONDS: Final = 2.0

Request = CommandRequest | ForwardRequest


class StreamingServer:
    """Serves what tokens were issued for.

    Args:
        settings: where and how.
    """

    def __init__(self, settings: StreamingSettings) -> None:
        self._settings = settings
        self._tokens: Tokens[Request] = Tokens()
        self._runner: web.AppRunner | None = None
        self._active: set[asyncio.Task[None]] = set()
        self._base = ""

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the address cannot be bound, or a file of TLS not be read.
        """
        app = web.Application()
        for kind in ("exec", "attach", "portforward"):
            app.router.add_route("*", f"/{kind}/{{token}}", self._handler(kind))
        self._runner = web.AppRunner(
            app, access_log=None, handle_signals=False, shutdown_timeout=_SHUTDOWN_SECONDS
        )
        await self._runner.setup()
        context = self._tls()
        site = web.TCPSite(
            self._runner, self._settings.address, self._settings.port, ssl_context=context
        )
        await site.start()
        host, port = self._runner.addresses[0][:2]
        host = f"[{host}]" if ipaddress.ip_address(host).version == 6 else host
        self._base = f"{'https' if context else 'http'}://{host}:{port}"
        event(_log, logging.INFO, "streaming server listens", url=self._base)

    async def close(self) -> None:
        """End all sessions and stop listening."""
        for task in self._active:
            task.cancel()
        if self._active:
            await asyncio.wait(self._active, timeout=_SHUTDOWN_SECONDS)
        if self._runner is not None:
            await self._runner.cleanup()

    def issue(self, request: Request) -> str:
        """Return the URL at which a client may open a session, once and within a minute.

        Raises:
            TooManyTokensError: too many wait to be opened.
        """
        return f"{self._base}/{request.kind}/{self._tokens.issue(request)}"

    @property
    def sessions(self) -> int:
        """Sessions that are open."""
        return len(self._active)

    def _tls(self) -> ssl.SSLContext | None:
        if not self._settings.tls_cert:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self._settings.tls_cert, self._settings.tls_key or None)
        return context

    def _handler(self, kind: str) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        async def handle(http: web.Request) -> web.StreamResponse:
            request = self._tokens.take(http.match_info["token"])
            if request is None or request.kind != kind:
                raise web.HTTPNotFound(text="this token is unknown, used or expired\n")
            if len(self._active) >= self._settings.max_sessions:
                raise web.HTTPServiceUnavailable(text="too many streaming sessions are open\n")
            return await self._serve(request, http)

        return handle

    async def _serve(self, request: Request, http: web.Request) -> web.StreamResponse:
        upgrade = http.headers.get("Upgrade", "").lower()
        if upgrade == "websocket":
            if isinstance(request, CommandRequest):
                return await self._command_by_websocket(request, http)
            return await self._forward_by_websocket(request, http)
        if upgrade == _SPDY.lower():
            return await self._by_spdy(request, http)
        raise web.HTTPBadRequest(text=f"upgrade the connection to websocket or {_SPDY}\n")

    async def _by_spdy(self, request: Request, http: web.Request) -> web.StreamResponse:
        known: tuple[str, ...] = remote_spdy.PROTOCOLS
        if isinstance(request, ForwardRequest):
            known = (port_forward.PROTOCOL,)
        asked = [
            name.strip()
            for line in http.headers.getall(_PROTOCOL_HEADER, [])
            for name in line.split(",")
        ]
        protocol = next((name for name in asked if name in known), None)
        if protocol is None:
            text = f"no common protocol: asked for {asked}, known are {list(known)}\n"
            raise web.HTTPForbidden(text=text)
        carrier = take_over(
            http,
            switching({"Connection": "Upgrade", "Upgrade": _SPDY, _PROTOCOL_HEADER: protocol}),
        )
        if isinstance(request, ForwardRequest):
            forwarder = PortForwarder(carrier, request, self._settings)
            await self._run(request, protocol, forwarder.serve())
            return Upgraded()

        async def session() -> None:
            client = remote_spdy.SpdyClient(
                carrier,
                protocol,
                request.streams,
                terminal=request.terminal,
                ping_seconds=self._settings.ping_seconds,
            )
            async with client:
                if await client.opened(self._settings.creation_seconds):
                    await self._command(request, client)

        await self._run(request, protocol, session())
        return Upgraded()

    async def _command_by_websocket(
        self, request: CommandRequest, http: web.Request
    ) -> web.StreamResponse:
        socket = web.WebSocketResponse(
            protocols=websocket.PROTOCOLS,
            max_msg_size=websocket.MAX_MESSAGE,
            compress=False,
            timeout=_SHUTDOWN_SECONDS,
        )
        await socket.prepare(http)

        async def session() -> None:
            client = websocket.WebSocketClient(
                socket,
                http,
                has_stdin="stdin" in request.streams,
                ping_seconds=self._settings.ping_seconds,
            )
            async with client:
                await client.greet(request.streams)
                await self._command(request, client)

        await self._run(request, socket.ws_protocol or "", session())
        return socket

    async def _forward_by_websocket(
        self, request: ForwardRequest, http: web.Request
    ) -> web.StreamResponse:
        # Channels without a port would carry nothing.
        channels = port_channels.PROTOCOLS if request.ports else ()
        known = (port_forward.TUNNEL_PROTOCOL, *channels)
        offered = http.headers.get("Sec-WebSocket-Protocol", "")
        if not any(name.strip() in known for name in offered.split(",")):
            text = f"port-forward by WebSocket speaks {', '.join(known)} only\n"
            raise web.HTTPForbidden(text=text)
        socket = web.WebSocketResponse(
            protocols=known,
            max_msg_size=websocket.MAX_MESSAGE,
            compress=False,
            timeout=_SHUTDOWN_SECONDS,
        )
        await socket.prepare(http)
        forwarder: PortForwarder | ChannelForwarder
        if socket.ws_protocol == port_forward.TUNNEL_PROTOCOL:
            forwarder = PortForwarder(Tunnel(socket), request, self._settings)
        else:
            forwarder = ChannelForwarder(socket, request, self._settings)
        await self._run(request, socket.ws_protocol or "", forwarder.serve())
        return socket

    async def _command(self, request: CommandRequest, client: CommandClient) -> None:
        """Run the command for a client, and tell it how that ended."""
        try:
            async with request.open() as process:
                outcome = await converse(process, client, self._settings.idle_seconds)
        except Exception as error:
            # Whatever it is, the client is the one who asked, and waits for an answer.
            event(_log, logging.WARNING, "session failed", kind=request.kind,
                  subject=request.subject[:12], reason=error)  # fmt: skip
            outcome = Outcome(error=f"{request.kind} in container {request.subject}: {error}")
        if outcome is not None:
            async with asyncio.timeout(_FINISH_SECONDS):
                await client.finish(outcome)

    async def _run(self, request: Request, protocol: str, work: Awaitable[None]) -> None:
        """Run a session as a task that a shutdown can end."""
        fields = {"kind": request.kind, "subject": request.subject[:12], "protocol": protocol}
        event(_log, logging.DEBUG, "session opened", **fields)
        task = asyncio.ensure_future(work)
        self._active.add(task)
        try:
            await task
        except (ConnectionError, TimeoutError) as error:
            event(_log, logging.DEBUG, "the client went away", reason=error, **fields)
        except asyncio.CancelledError:
            task.cancel()
            raise
        finally:
            self._active.discard(task)
            event(_log, logging.DEBUG, "session closed", open=len(self._active), **fields)
