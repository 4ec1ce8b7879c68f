"""HTTP as the registry client uses it: deadlines, retries, and redirects that leak nothing."""

from __future__ import annotations

import asyncio
import logging
import os
import re
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from kubeletpy_common.logs import event
from runtime.images.endpoints import Endpoint
from runtime.images.errors import (
    BadRegistryConfig,
    ImageError,
    MalformedImage,
    RegistryRefused,
    RegistryUnreachable,
)
from runtime.images.resolver import GuardedResolver, is_near
from runtime.images.settings import RegistryConfig, Tls
from runtime.images.targets import check_target, parse_url, proxy_for, same_origin
from runtime.images.tries import Tries, is_away

log = logging.getLogger(__name__)

MAX_REDIRECTS: Final = 8
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]+")
_MAX_ERROR_BODY: Final = 4096
_MAX_CONTEXTS: Final = 64

CONNECTION_ERRORS = (aiohttp.ClientError, asyncio.TimeoutError, OSError)
"""What aiohttp raises when a connection, or an answer on it, fails."""


def printable(data: bytes | str, limit: int = 300) -> str:
    """Return what a registry said as one safe line for a log or an error."""
    text = data.decode("utf-8", "replace") if isinstance(data, bytes) else data
    return _UNPRINTABLE.sub(" ", text).strip()[:limit]


def explain(error: BaseException) -> str:
    """Return a connection's failure in words, with the remedy where one is known."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError | ssl.SSLCertVerificationError):
        return (
            f"{error}; name its authority (ca in hosts.toml, ca_file), or let it present a trusted "
            "certificate"
        )
    if isinstance(error, aiohttp.ClientConnectorSSLError | ssl.SSLError):
        return (
            f"{error}; if the registry speaks plain HTTP, say so (http:// in hosts.toml, or "
            "plain_http)"
        )
    if isinstance(error, aiohttp.ClientConnectorError):
        cause = error.os_error
        number = cause.errno or 0
        why = os.strerror(number) if number > 0 else cause.strerror
        return f"cannot connect to {error.host}:{error.port}: {why or cause}"
    if isinstance(error, TimeoutError):
        return "no answer within the deadline"
    return str(error) or type(error).__name__


def is_final(error: BaseException) -> bool:
    """Tell whether trying again cannot help: certificates and broken addresses."""
    return isinstance(
        error,
        aiohttp.ClientConnectorCertificateError
        | aiohttp.ClientConnectorSSLError
        | aiohttp.InvalidURL
        | ssl.SSLError,
    )


def seconds_of(retry_after: str, now: float) -> float | None:
    """Return the seconds that a ``Retry-After`` header asks for (RFC 9110, 10.2.3).

    Args:
        retry_after: a number of seconds, or a date.
        now: the present, in seconds since the epoch.

    Returns:
        None if it is neither.
    """
    text = retry_after.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(parsedate_to_datetime(text[:64]).timestamp() - now, 0.0)
    except (ValueError, OverflowError):
        return None


def _version(path: Path) -> object:
    """Return what changes when a file does; None if it is missing."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_ino, status.st_size, status.st_mtime_ns


def _make_context(tls: Tls) -> ssl.SSLContext:
    context = ssl.create_default_context()
    path: Path | None = None
    try:
        for path in tls.ca_files:
            context.load_verify_locations(path)
        # OpenSSL keeps one certificate per kind of key, the last one given.
        for path, key in reversed(tls.client_pairs):
            context.load_cert_chain(path, key)
    except (OSError, ssl.SSLError) as error:
        raise BadRegistryConfig(f"load the certificate or key {path}: {error}") from None
    if tls.skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _tls_for(target: URL, registry: URL, tls: Tls, secret: bool) -> Tls:
    """Return the TLS settings for ``target``, to which ``registry`` has led.

    Another host gets no client certificate. It need not prove itself if the registry need not,
    unless it is told a secret; what comes from it is verified by its digest.
    """
    if target.host == registry.host:
        return tls
    return Tls(ca_files=tls.ca_files, skip_verify=tls.skip_verify and not secret)


class Transport:
    """The aiohttp sessions for all registries; no cookies, no netrc, no automatic redirects."""

    def __init__(self, config: RegistryConfig) -> None:
        self.config = config
        self._sessions: dict[bool, aiohttp.ClientSession] = {}
        self._contexts: dict[tuple[Tls, tuple[object, ...]], ssl.SSLContext] = {}

    async def close(self) -> None:
        """Close all connections."""
        sessions, self._sessions = self._sessions, {}
        for session in sessions.values():
            await session.close()

    def _http(self, guarded: bool) -> aiohttp.ClientSession:
        """Return the session; ``guarded`` for hosts that an answer has named."""
        if guarded not in self._sessions:
            self._sessions[guarded] = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=32, limit_per_host=8, resolver=GuardedResolver() if guarded else None
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                headers={"Accept-Encoding": "identity", "User-Agent": "kubeletpy"},
            )
        return self._sessions[guarded]

    def _context(self, tls: Tls) -> ssl.SSLContext:
        """Return the TLS context; read anew when one of its files has changed."""
        files = [*tls.ca_files, *(path for pair in tls.client_pairs for path in pair if path)]
        key = (tls, tuple(_version(path) for path in files))
        if key not in self._contexts:
            if len(self._contexts) >= _MAX_CONTEXTS:
                self._contexts.clear()
            self._contexts[key] = _make_context(tls)
        return self._contexts[key]

    @asynccontextmanager
    async def open(
        self,
        method: str,
        url: URL,
        *,
        registry: URL,
        endpoint: Endpoint,
        headers: Mapping[str, str],
        authorization: str | None = None,
        data: Mapping[str, str] | None = None,
        follow: bool = True,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Make one request, following redirects, without retries.

        Args:
            method: GET or POST.
            url: where to.
            registry: whose answers led here; it bounds where redirects may go, and it alone is
                shown the client certificate and the configured headers.
            endpoint: the settings of that registry.
            headers: of the request; no secrets.
            authorization: sent only while scheme, host and port are those of ``url``.
            data: a form to POST.
            follow: whether redirects are followed at all.

        Raises:
            RegistryRefused: too many redirects, or one that must not be followed.
            aiohttp.ClientError, TimeoutError, OSError: the connection failed.
        """
        target = url
        secret = authorization is not None or data is not None
        connect = endpoint.connect_seconds or self.config.connect_seconds
        for _ in range(MAX_REDIRECTS):
            check_target(target, registry)
            sent = CIMultiDict(headers)
            if same_origin(target, registry):
                for name, value in endpoint.header:
                    sent.add(name, value)
            if authorization is not None and same_origin(target, url):
                sent["Authorization"] = authorization
            tls = _tls_for(target, registry, endpoint.tls, secret)
            # A proxy resolves names by itself, and has a view of its own of what is near.
            foreign = not same_origin(target, registry)
            guarded = foreign and not await is_near(registry.host or "")
            async with await self._send(
                method, target, sent, data, tls=tls, guarded=guarded, connect=connect
            ) as response:
                location = response.headers.get("Location")
                if not follow or response.status not in _REDIRECTS or location is None:
                    yield response
                    return
            target = parse_url(location, target)
        raise RegistryRefused(f"{method} {url}: more than {MAX_REDIRECTS} redirects")

    async def _send(
        self,
        method: str,
        target: URL,
        headers: Mapping[str, str],
        data: Mapping[str, str] | None,
        *,
        tls: Tls,
        guarded: bool,
        connect: float,
    ) -> aiohttp.ClientResponse:
        """Make one request; its body is still to be read."""
        stall = self.config.stall_seconds
        # A server that sends its answer's head byte by byte is given up, too.
        async with asyncio.timeout(connect + stall):
            return await self._http(guarded).request(
                method,
                target,
                headers=headers,
                data=data,
                allow_redirects=False,
                ssl=self._context(tls) if target.scheme == "https" else True,
                proxy=proxy_for(target),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=connect, sock_read=stall),
            )

    async def read(self, response: aiohttp.ClientResponse, limit: int, what: str) -> bytes:
        """Read a whole body of at most ``limit`` bytes.

        Raises:
            MalformedImage: it is longer.
            TimeoutError: it came too slowly.
        """
        data = bytearray()
        async with asyncio.timeout(self.config.stall_seconds):
            async for chunk in response.content.iter_chunked(65536):
                data += chunk
                if len(data) > limit:
                    raise MalformedImage(f"{what}: the answer is longer than {limit} bytes")
        return bytes(data)

    async def complaint(self, response: aiohttp.ClientResponse) -> str:
        """Return status and text of an error answer, as one short line."""
        try:
            async with asyncio.timeout(self.config.connect_seconds):
                body = await response.content.read(_MAX_ERROR_BODY)
        except CONNECTION_ERRORS:
            body = b""
        return f"{response.status} {printable(response.reason or '')} {printable(body)}".strip()

    def retried(self, status: int) -> bool:
        """Tell whether an answer of this status may differ when asked again."""
        return status in _RETRIED

    async def again(
        self, tries: Tries, what: str, why: str, retry_after: str | None = None
    ) -> None:
        """Log a failed try and wait, or give up when the tries are used up.

        Raises:
            RegistryUnreachable: this was the last try.
        """
        asked = seconds_of(retry_after, time.time()) if retry_after is not None else None
        pause = tries.next_pause(asked)
        if pause is None:
            wish = f", which asks to be left alone for {asked:g} s" if asked else ""
            raise RegistryUnreachable(
                f"{what}: {why}; {tries.told()}{wish}; check that the registry is up and works"
            )
        event(log, logging.INFO, "registry request failed, trying again", request=what,
              attempt=tries.failed, why=why, after_s=round(pause, 3))  # fmt: skip
        await asyncio.sleep(pause)


def wrap(error: BaseException, what: str) -> ImageError:
    """Return the :class:`ImageError` for a connection's failure that retries cannot help."""
    if isinstance(error, ImageError):
        return error
    remedy = ""
    if is_away(error):
        remedy = "; check that the registry is up and reachable from this node"
    return RegistryUnreachable(f"{what}: {explain(error)}{remedy}")
