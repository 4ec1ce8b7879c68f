"""Connections to kubelets, pods and services."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import Final

import aiohttp

from controlplane.api.errors import ApiError
from controlplane.options import Options
from controlplane.proxying.targets import Target
from kubeletpy_common.upgrades import CHUNK, Connection

_CONNECT_SECONDS: Final = 10.0
_CONNECTIONS: Final = 1000


class Backends:
    """Opens connections; one for each server.

    Args:
        options: which certificates are shown and asked for.
    """

    def __init__(self, options: Options) -> None:
        self._authority = options.kubelet_certificate_authority
        self._certificate = (
            options.kubelet_client_certificate
            or options.data_dir / "pki" / "apiserver-kubelet-client.crt"
        )
        self._key = (
            options.kubelet_client_key or options.data_dir / "pki" / "apiserver-kubelet-client.key"
        )
        self._contexts: dict[bool, tuple[tuple[float, ...], ssl.SSLContext]] = {}
        self._client: aiohttp.ClientSession | None = None

    @property
    def client(self) -> aiohttp.ClientSession:
        """The HTTP client: follows no redirect, keeps no cookie, decodes nothing."""
        if self._client is None:
            self._client = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=_CONNECTIONS, keepalive_timeout=30),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS),
            )
        return self._client

    async def close(self) -> None:
        """Close what is open."""
        if self._client is not None:
            await self._client.close()
            self._client = None

    def context(self, target: Target, *, insecure: bool = False) -> ssl.SSLContext | None:
        """Return how TLS is spoken with a target; None: it is not.

        A kubelet sees our certificate, and is checked where we have an authority to check by; pods
        and services are not known to any authority of ours.

        Args:
            target: to be connected to.
            insecure: the kubelet is not checked even so.

        Raises:
            ApiError: our certificate or the authority cannot be used.
        """
        if target.scheme != "https":
            return None
        if not target.kubelet:
            return _unchecked()
        checked = self._authority is not None and not insecure
        files = [self._certificate, self._key, *([self._authority] if self._authority else [])]
        try:
            # They are renewed while we run.
            times = tuple(path.stat().st_mtime for path in files if path.exists())
            found = self._contexts.get(checked)
            if found is None or found[0] != times:
                found = (times, self._kubelet_context(checked=checked))
                self._contexts[checked] = found
        except (OSError, ssl.SSLError) as error:
            text = f"TLS with kubelets: {error}: see {', '.join(map(str, files))}"
            raise ApiError("InternalError", text) from error
        return found[1]

    def _kubelet_context(self, *, checked: bool) -> ssl.SSLContext:
        context = _unchecked()
        if checked:
            context = ssl.create_default_context(cafile=str(self._authority))
        if self._certificate.exists():
            context.load_cert_chain(self._certificate, self._key)
        return context

    async def connect(self, target: Target) -> Connection:
        """Open a connection for a protocol that is not plain HTTP.

        Raises:
            ApiError: it cannot be opened.
        """
        context = self.context(target)
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                reader, writer = await asyncio.open_connection(
                    target.host, target.tcp_port, ssl=context, limit=CHUNK,
                    server_hostname=(target.server_name or None) if context else None,
                )  # fmt: skip
        except (OSError, TimeoutError, UnicodeError) as error:
            why = str(error) or f"no answer within {_CONNECT_SECONDS:g} s"
            text = f"error dialing backend: {target.authority}: {why}"
            raise ApiError("InternalError", text) from error
        # A stream may be silent for hours, but not towards a host that is gone.
        opened: socket.socket = writer.get_extra_info("socket")
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        return Connection(reader, writer)


def _unchecked() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
