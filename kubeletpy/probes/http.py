"""HTTP requests to containers, for probes and hooks.

The other side is a workload, so nothing of it is trusted: no certificate is checked (there is no
name to check), no cookie kept, no proxy used, the body read up to a bound, and a redirect followed
only to the same host, as the Go kubelet does; with another host it ends there (CVE-2020-8559).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import aiohttp
from yarl import URL

from kubeletpy.api.container import HTTPGetAction, HTTPHeader

LARGEST_BODY = 10 * 1024
MOST_REDIRECTS = 10
PROBE_AGENT, HOOK_AGENT = "kube-probe/1.36", "kube-lifecycle/1.36"
# What versions of OpenSSL say of "HTTP/1.1 400 ..." where a record of TLS should be.
_PLAIN_ANSWERS = frozenset({"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "HTTP_REQUEST"})
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True, slots=True)
class Response:
    """An answer: its status and the begin of its body."""

    status: int
    body: bytes


def url_of(action: HTTPGetAction, address: str, port: int) -> URL:
    """Return the URL of a probe or hook; ``address`` serves if the action names no host.

    Raises:
        ValueError: host or path make no URL.
    """
    host = action.host or address
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    path = action.path if action.path.startswith("/") else f"/{action.path}"
    return URL(f"{(action.scheme or 'HTTP').lower()}://{host}:{port}{path}", encoded=True)


def headers_of(headers: Sequence[HTTPHeader], agent: str = PROBE_AGENT) -> list[tuple[str, str]]:
    """Return all headers to send: those of the specification over the kubelet's own.

    A header with an empty value replaces the default by nothing, as in the Go kubelet.
    """
    given = {header.name.lower() for header in headers}
    defaults = {"User-Agent": agent, "Accept": "*/*"}
    result = [(name, value) for name, value in defaults.items() if name.lower() not in given]
    dropped = {"user-agent", "accept"}
    for header in headers:
        if header.value or header.name.lower() not in dropped:
            result.append((header.name, header.value))
    return result


def speaks_plain(error: Exception) -> bool:
    """Whether a server that was asked by HTTPS answered in plain HTTP."""
    cause: BaseException | None = error
    while cause is not None:
        # aiohttp's own errors are SSLErrors too, but have no reason.
        if isinstance(cause, ssl.SSLError) and getattr(cause, "reason", "") in _PLAIN_ANSWERS:
            return True
        cause = cause.__cause__ or cause.__context__
    return False


class HttpClient:
    """Sends GET requests; made in a running event loop, closed by ``close``."""

    def __init__(self) -> None:
        # ssl=False: the peers do not verify either; a probe asks whether somebody answers.
        connector = aiohttp.TCPConnector(ssl=False, limit=0, force_close=True, use_dns_cache=False)
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            auto_decompress=False,
            skip_auto_headers={"User-Agent", "Accept", "Accept-Encoding"},
            max_line_size=LARGEST_BODY,
            max_field_size=LARGEST_BODY,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def get(
        self, url: URL, headers: Sequence[tuple[str, str]], timeout: float, *, follow: bool = True
    ) -> Response:
        """Send a GET request and return the answer.

        Raises:
            TimeoutError: no answer within ``timeout`` seconds, redirects included.
            aiohttp.ClientError, OSError, ValueError: no answer, or none that is HTTP.
        """
        async with asyncio.timeout(timeout):
            return await self._get(url, headers, follow)

    async def _get(self, url: URL, headers: Sequence[tuple[str, str]], follow: bool) -> Response:
        first = url
        for _ in range(MOST_REDIRECTS):
            async with self._session.get(url, headers=headers, allow_redirects=False) as answer:
                body = await _read(answer.content)
                target = _target(url, answer.status, answer.headers) if follow else None
                here = target is not None and target.host == first.host
                if target is None or not here or target.scheme not in ("http", "https"):
                    return Response(answer.status, body)
                url = target
        raise ValueError(f"stopped after {MOST_REDIRECTS} redirects")


async def _read(content: aiohttp.StreamReader) -> bytes:
    body = bytearray()
    while len(body) < LARGEST_BODY:
        chunk = await content.read(LARGEST_BODY - len(body))
        if not chunk:
            break
        body += chunk
    return bytes(body)


def _target(url: URL, status: int, headers: Mapping[str, str]) -> URL | None:
    location = headers.get("Location", "")
    if status not in _REDIRECTS or not location:
        return None
    return url.join(URL(location, encoded=True))
