"""HTTP requests to containers, for probes and hooks.

The other side is a workload, so nothing of it is trusted: no certificate is checked (there is no
name to check), no cookie kept, no proxy used, the body read up to a bound, and a redirect followed
only to the same host, as the Go kubelet does; with another host it ends there (CVE-2020-8559).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import aiohttp
from yarl import URL

from kubeletpy.api.container import HTTPGetAction, HTTPHeader

LARGEST_BODY = 10 * 1024
MOST_REDIRECTS = 10
USER_AGENT = "kube-probe/1.36"
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True, slots=True)
class Response:
    """An answer: its status, the begin of its body, and whether it redirects to another host."""

    status: int
    body: bytes
    elsewhere: bool = False


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


def headers_of(headers: Sequence[HTTPHeader]) -> list[tuple[str, str]]:
    """Return all headers to send: those of the specification over the kubelet's own.

    A header with an empty value replaces the default by nothing, as in the Go kubelet.
    """
    given = {header.name.lower() for header in headers}
    defaults = {"User-Agent": USER_AGENT, "Accept": "*/*"}
    result = [(name, value) for name, value in defaults.items() if name.lower() not in given]
    dropped = {"user-agent", "accept"}
    for header in headers:
        if header.value or header.name.lower() not in dropped:
            result.append((header.name, header.value))
    return result


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
                if target is None:
                    return Response(answer.status, body)
                if target.host != first.host or target.scheme not in ("http", "https"):
                    return Response(answer.status, body, elsewhere=True)
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
