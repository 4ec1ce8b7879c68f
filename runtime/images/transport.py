"""HTTP as the registry client uses it: deadlines, retries, and redirects that leak nothing."""

from __future__ import annotations

import asyncio
import logging
import random
import re
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

import aiohttp
from yarl import URL

from kubeletpy_common.logs import event
from runtime.images.errors import ImageError, MalformedImage, RegistryRefused, RegistryUnreachable
from runtime.images.settings import RegistryConfig, RegistrySettings
from runtime.images.targets import check_target, parse_url, proxy_for, same_origin

log = logging.getLogger(__name__)

MAX_REDIRECTS: Final = 8
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_RETRIED = frozenset({408, 425, 429, 500, 502, 503, 504})
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]+")
_MAX_ERROR_BODY: Final = 4096

CONNECTION_ERRORS = (aiohttp.ClientError, asyncio.TimeoutError, OSError)
"""What aiohttp raises when a connection, or an answer on it, fails."""


def printable(data: bytes | str, limit: int = 300) -> str:
    """Return what a registry said as one safe line for a log or an error."""
    text = data.decode("utf-8", "replace") if isinstance(data, bytes) else data
    return _UNPRINTABLE.sub(" ", text).strip()[:limit]


def explain(error: BaseException) -> str:
    """Return a connection's failure in words, with the remedy where one is known."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError | ssl.SSLCertVerificationError):
        return f"{error}; give the registry's ca_file, or let it present a trusted certificate"
    if isinstance(error, aiohttp.ClientConnectorSSLError | ssl.SSLError):
        return f"{error}; if the registry speaks plain HTTP, set plain_http for it"
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


class Transport:
    """One aiohttp session for all registries; no cookies, no netrc, no automatic redirects."""

    def __init__(self, config: RegistryConfig) -> None:
        self.config = config
        self._session: aiohttp.ClientSession | None = None
        self._contexts: dict[RegistrySettings, ssl.SSLContext] = {}
        self._jitter = random.Random()

    async def close(self) -> None:
        """Close all connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _http(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=32, limit_per_host=8),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
                trust_env=False,
                timeout=aiohttp.ClientTimeout(
                    total=None,
                    sock_connect=self.config.connect_seconds,
                    sock_read=self.config.stall_seconds,
                ),
                headers={"Accept-Encoding": "identity", "User-Agent": "kubeletpy"},
            )
        return self._session

    def _context(self, settings: RegistrySettings) -> ssl.SSLContext:
        if settings not in self._contexts:
            try:
                context = ssl.create_default_context()
                if settings.ca_file is not None:
                    context.load_verify_locations(settings.ca_file)
                if settings.client_cert is not None:
                    context.load_cert_chain(settings.client_cert, settings.client_key)
            except (OSError, ssl.SSLError) as error:
                raise RegistryUnreachable(
                    f"cannot load the TLS files ca_file {settings.ca_file}, client_cert "
                    f"{settings.client_cert}: {error}"
                ) from None
            self._contexts[settings] = context
        return self._contexts[settings]

    async def pause(self, attempt: int, retry_after: str | None = None) -> None:
        """Wait before the next try: exponential with jitter, or as the registry asks, bounded."""
        bound = self.config.max_backoff_seconds
        seconds = min(self.config.backoff_seconds * 2**attempt, bound)
        seconds *= 1 - self._jitter.random() / 4
        if retry_after is not None and retry_after.isascii() and retry_after.isdigit():
            seconds = min(float(retry_after[:9]), bound)
        await asyncio.sleep(seconds)

    @asynccontextmanager
    async def open(
        self,
        method: str,
        url: URL,
        *,
        registry: URL,
        settings: RegistrySettings,
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
                shown the client certificate.
            settings: the TLS files of that registry.
            headers: of the request; no secrets.
            authorization: sent only while scheme, host and port are those of ``url``.
            data: a form to POST.
            follow: whether redirects are followed at all.

        Raises:
            RegistryRefused: too many redirects, or one that must not be followed.
            aiohttp.ClientError, TimeoutError, OSError: the connection failed.
        """
        target = url
        for _ in range(MAX_REDIRECTS):
            check_target(target, registry)
            mine = settings
            if target.host != registry.host:
                mine = RegistrySettings(ca_file=settings.ca_file)
            sent = dict(headers)
            if authorization is not None and same_origin(target, url):
                sent["Authorization"] = authorization
            response = await self._http().request(
                method,
                target,
                headers=sent,
                data=data,
                allow_redirects=False,
                ssl=self._context(mine) if target.scheme == "https" else True,
                proxy=proxy_for(target),
            )
            async with response:
                location = response.headers.get("Location")
                if not follow or response.status not in _REDIRECTS or location is None:
                    yield response
                    return
            target = parse_url(location, target)
        raise RegistryRefused(f"{method} {url}: more than {MAX_REDIRECTS} redirects")

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

    async def next_attempt(
        self, attempt: int, what: str, why: str, retry_after: str | None = None
    ) -> None:
        """Log a failed try and wait, or give up when the tries are used up.

        Raises:
            RegistryUnreachable: this was the last try.
        """
        if attempt + 1 >= self.config.attempts:
            raise RegistryUnreachable(
                f"{what}: {why}; gave up after {attempt + 1} attempts; check that the registry is "
                "up and reachable from this node"
            )
        event(log, logging.INFO, "registry request failed, trying again", request=what,
              attempt=attempt + 1, why=why)  # fmt: skip
        await self.pause(attempt, retry_after)


def wrap(error: BaseException, what: str) -> ImageError:
    """Return the :class:`ImageError` for a connection's failure that retries cannot help."""
    if isinstance(error, ImageError):
        return error
    return RegistryUnreachable(f"{what}: {explain(error)}")
