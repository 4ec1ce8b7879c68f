"""Requests to the API server: JSON over HTTP, each with a deadline.

One client is made in a running event loop. Requests are held to ``kubeAPIQPS`` and
``kubeAPIBurst``, as the Go kubelet's are; watches and leases are not, so a node with much to say
never loses its heart-beat.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any
from urllib.parse import quote

import aiohttp
import msgspec
from yarl import URL

from .errors import ApiError, of_status
from .kubeconfig import Access, KubeconfigError

TIMEOUT = 30.0
"""Seconds that a request may take by default."""
LARGEST_LINE = 64 * 1024 * 1024
"""Bytes of one event of a watch; objects are at most a few MiB."""
JSON_PATCH = "application/json-patch+json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"
METADATA = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
"""What is accepted by who wants the metadata of an object only, also in a watch."""
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1,application/json"
"""The same for lists; a server refuses each where the other one is right."""
_FAREWELL = 5.0
"""Seconds that connections stay after the credentials changed."""
KUBELET_AGENT = "kubeletpy-kubelet/1.36"
PROXY_AGENT = "kubeletpy-proxy/1.36"

# A peer that vanished without a word is noticed within half a minute, also on an idle watch.
_KEEPALIVE = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 15),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000),
)


class Throttle:
    """A token bucket.

    Args:
        rate: tokens a second; 0 for no limit.
        burst: how many may be taken at once.
    """

    def __init__(self, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = max(burst, 1)
        self._tokens = float(self._burst)
        self._at = time.monotonic()

    async def take(self) -> None:
        """Wait for a token; waiting calls are served in order of their coming."""
        if self._rate <= 0:
            return
        now = time.monotonic()
        self._tokens = min(self._tokens + (now - self._at) * self._rate, self._burst)
        self._at = now
        self._tokens -= 1
        if self._tokens < 0:
            try:
                await asyncio.sleep(-self._tokens / self._rate)
            except asyncio.CancelledError:
                self._tokens += 1
                raise


def object_path(
    group_version: str, resource: str, namespace: str = "", name: str = "", subresource: str = ""
) -> str:
    """Return the path of a collection or object, such as ``/api/v1/namespaces/x/pods/y/status``.

    Args:
        group_version: ``v1`` or ``apps/v1``.
        resource: plural name in lower case.
        namespace, name, subresource: each may be empty.
    """
    prefix = f"/apis/{group_version}" if "/" in group_version else f"/api/{group_version}"
    parts = [prefix]
    if namespace:
        parts.append(f"namespaces/{quote(namespace, safe='')}")
    parts.append(resource)
    if name:
        parts.append(quote(name, safe=""))
    if subresource:
        parts.append(subresource)
    return "/".join(parts)


class ApiClient:
    """Sends requests; made in a running event loop, closed by ``close``.

    Args:
        access: where the server is and who we are.
        rate, burst: requests a second, and at once, that are not watches; rate 0: no limit.
        agent: what the client calls itself.

    Attributes:
        on_answer: each is told of every answer: method and status.

    Raises:
        KubeconfigError: a certificate cannot be read.
    """

    def __init__(
        self, access: Access, *, rate: float = 50.0, burst: int = 100, agent: str = KUBELET_AGENT
    ) -> None:
        self.access = access
        self._agent = agent
        self.on_answer: list[Callable[[str, int], None]] = []
        self._throttle = Throttle(rate, burst)
        self._session = self._open()
        self._closing: set[asyncio.Task[None]] = set()

    def _open(self) -> aiohttp.ClientSession:
        self._files = _stamps(self.access)
        context = self.access.ssl_context()
        connector = aiohttp.TCPConnector(
            limit=0, ssl=context if context is not None else True, keepalive_timeout=60.0,
            socket_factory=_socket,
        )  # fmt: skip
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
            headers={"User-Agent": self._agent, "Accept": "application/json"},
            timeout=aiohttp.ClientTimeout(total=None),
        )

    async def close(self) -> None:
        """Close all connections; requests under way fail."""
        for task in self._closing:
            task.cancel()
        await asyncio.gather(*self._closing, return_exceptions=True)
        await self._session.close()

    async def __aenter__(self) -> ApiClient:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def renew(self, access: Access | None = None) -> None:
        """Connect anew: the client's certificate was rotated, or all of ``access`` is another.

        Requests under way have some seconds to end; watches break then and are resumed.

        Raises:
            KubeconfigError: a certificate cannot be read; all stays as it was.
        """
        before, old = self.access, self._session
        self.access = access or before
        try:
            self._session = self._open()
        except KubeconfigError:
            self.access = before
            raise

        async def close() -> None:
            try:
                await asyncio.sleep(_FAREWELL)
            finally:
                await old.close()

        task = asyncio.get_running_loop().create_task(close(), name="close old connections")
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    def _follow_files(self) -> None:
        """Take a certificate that was replaced in its file, as the kubelet does with its own.

        It is looked at before each request and each watch, of which the longest lasts ten minutes:
        much sooner than a certificate ends after it was renewed.
        """
        if _stamps(self.access) != self._files:
            # Half of it may be written yet: what there was goes on until the files change again.
            with contextlib.suppress(KubeconfigError):
                self.renew()

    async def turn(self) -> None:
        """Wait for the rate limit; the request that follows is then an ``urgent`` one.

        For requests whose body shall be as new as can be: it is made after the wait.
        """
        await self._throttle.take()

    async def get(
        self,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        timeout: float = TIMEOUT,
        accept: str = "",
    ) -> dict[str, Any]:
        """Return an object or a list.

        Args:
            accept: media types, as `METADATA` or `METADATA_LIST`; "": JSON.

        Raises:
            ApiError: it could not be had.
        """
        return await self.request("GET", path, params=params, timeout=timeout, accept=accept)

    async def create(
        self,
        path: str,
        body: object,
        *,
        params: Mapping[str, str] | None = None,
        timeout: float = TIMEOUT,
    ) -> dict[str, Any]:
        """POST ``body`` to a collection or subresource, and return what was made.

        Raises:
            ApiError: it was not made (409 AlreadyExists: it is there).
        """
        return await self.request("POST", path, body, params=params, timeout=timeout)

    async def update(
        self,
        path: str,
        body: object,
        *,
        params: Mapping[str, str] | None = None,
        timeout: float = TIMEOUT,
        urgent: bool = False,
    ) -> dict[str, Any]:
        """PUT a whole object; ``urgent``: past the rate limit, for heart-beats.

        Raises:
            ApiError: it was not replaced (409 Conflict: it changed meanwhile).
        """
        return await self.request("PUT", path, body, params=params, timeout=timeout, urgent=urgent)

    async def patch(
        self,
        path: str,
        body: object,
        *,
        kind: str = STRATEGIC_PATCH,
        params: Mapping[str, str] | None = None,
        timeout: float = TIMEOUT,
    ) -> dict[str, Any]:
        """PATCH an object; ``kind`` is one of the ``*_PATCH`` content types.

        Raises:
            ApiError: it was not changed.
        """
        return await self.request(
            "PATCH", path, body, params=params, timeout=timeout, content_type=kind
        )

    async def delete(
        self, path: str, body: object | None = None, *, timeout: float = TIMEOUT
    ) -> dict[str, Any]:
        """DELETE an object; ``body`` is a DeleteOptions object (grace, preconditions).

        Raises:
            ApiError: it was not deleted (404: it was gone already).
        """
        return await self.request("DELETE", path, body, timeout=timeout)

    async def request(
        self,
        method: str,
        path: str,
        body: object | None = None,
        *,
        params: Mapping[str, str] | None = None,
        timeout: float = TIMEOUT,
        content_type: str = "application/json",
        urgent: bool = False,
        accept: str = "",
    ) -> dict[str, Any]:
        """Send a request and return the decoded answer.

        Args:
            body: bytes as they are, a msgspec struct or plain data, or None.
            timeout: seconds it may take, waiting for the rate limit not counted.
            urgent: past the rate limit.
            accept: media types; "": JSON.

        Raises:
            ApiError: whatever went wrong.
        """
        status, raw, retry = await self._exchange(
            method, path, body, params=params, timeout=timeout, content_type=content_type,
            urgent=urgent, accept=accept,
        )  # fmt: skip
        decoded = _decoded(raw)
        if status >= 300:
            raise of_status(status, decoded, retry)
        if not isinstance(decoded, dict):
            raise ApiError(
                0, "BadAnswer", f"{method} {path}: the answer {status} is no JSON object"
            )
        return decoded

    async def read(
        self,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        timeout: float = TIMEOUT,
        urgent: bool = False,
        accept: str = "",
    ) -> bytes:
        """Return the body of a GET as it came: for who decodes only a part of it.

        Args:
            urgent: past the rate limit, for what goes on with an answer before.
            accept: media types; "": JSON.

        Raises:
            ApiError: it could not be had.
        """
        status, raw, retry = await self._exchange(
            "GET", path, params=params, timeout=timeout, urgent=urgent, accept=accept
        )
        if status >= 300:
            raise of_status(status, _decoded(raw), retry)
        return raw

    async def _exchange(
        self,
        method: str,
        path: str,
        body: object | None = None,
        *,
        params: Mapping[str, str] | None = None,
        timeout: float = TIMEOUT,
        content_type: str = "application/json",
        urgent: bool = False,
        accept: str = "",
    ) -> tuple[int, bytes, str | None]:
        """Send a request; return status and body of the answer and its Retry-After."""
        if not urgent:
            await self._throttle.take()
        self._follow_files()
        data = None
        headers = self._headers(accept)
        if body is not None:
            data = body if isinstance(body, bytes) else msgspec.json.encode(body)
            headers["Content-Type"] = content_type
        with _translated(method, path, self.access.server):
            async with asyncio.timeout(timeout):
                async with self._session.request(
                    method, self._url(path), params=params, data=data, headers=headers,
                    allow_redirects=False, proxy=self.access.proxy or None,
                    server_hostname=self.access.server_name or None,
                ) as answer:  # fmt: skip
                    raw = await answer.read()
                    status, retry = answer.status, answer.headers.get("Retry-After")
        for each in self.on_answer:
            each(method, status)
        return status, raw, retry

    async def watch(
        self, path: str, params: Mapping[str, str], *, idle: float
    ) -> AsyncIterator[dict[str, Any]]:
        """Yield the events of a watch, decoded; see `watch_lines`.

        Raises:
            ApiError: it could not be opened, or broke.
        """
        async for line in self.watch_lines(path, params, idle=idle):
            event = _decoded(line)
            if not isinstance(event, dict):
                raise ApiError(0, "BadAnswer", f"WATCH {path}: a line is no JSON object")
            yield event

    async def watch_lines(
        self, path: str, params: Mapping[str, str], *, idle: float, accept: str = ""
    ) -> AsyncIterator[bytes]:
        """Yield the events of a watch as they came, until the server ends it.

        Args:
            params: of the watch; ``watch=1`` is added.
            idle: seconds without a byte after which the connection counts as lost.
            accept: media types; "": JSON.

        Raises:
            ApiError: it could not be opened, or broke.
        """
        self._follow_files()
        asked = {**params, "watch": "1"}
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=TIMEOUT, sock_read=idle)
        with _translated("WATCH", path, self.access.server):
            async with self._session.get(
                self._url(path), params=asked, headers=self._headers(accept), timeout=timeout,
                allow_redirects=False, proxy=self.access.proxy or None,
                server_hostname=self.access.server_name or None,
            ) as answer:  # fmt: skip
                if answer.status != 200:
                    raw = await answer.content.read(1024 * 1024)
                    raise of_status(answer.status, _decoded(raw), answer.headers.get("Retry-After"))
                async for line in _lines(answer.content):
                    yield line

    def _headers(self, accept: str = "") -> dict[str, str]:
        try:
            token = self.access.bearer()
        except KubeconfigError as error:
            raise ApiError(0, "Unauthorized", str(error)) from error
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return {**headers, "Accept": accept} if accept else headers

    def _url(self, path: str) -> URL:
        return URL(self.access.server + path, encoded=True)


def _stamps(access: Access) -> tuple[tuple[int, int, int] | None, ...]:
    """Return what tells that the files of a client's certificate were replaced."""
    found: list[tuple[int, int, int] | None] = []
    for path in (access.certificate_file, access.key_file):
        if path is None:
            continue
        try:
            status = os.stat(path)
        except OSError:
            found.append(None)
        else:
            found.append((status.st_ino, status.st_mtime_ns, status.st_size))
    return tuple(found)


def _socket(info: Any) -> socket.socket:
    family, kind, protocol, *_ = info
    made = socket.socket(family=family, type=kind, proto=protocol)
    try:
        for level, option, value in _KEEPALIVE:
            made.setsockopt(level, option, value)
    except OSError:
        made.close()
        raise
    return made


@contextlib.contextmanager
def _translated(method: str, path: str, server: str) -> Any:
    """Turn what aiohttp and the network raise into `ApiError`."""
    try:
        yield
    except ApiError:
        raise
    except TimeoutError:
        raise ApiError(0, "Timeout", f"{method} {path}: no answer of {server} in time") from None
    except (aiohttp.ClientError, OSError, ssl.SSLError, ValueError) as error:
        text = str(error) or type(error).__name__
        raise ApiError(0, "Unreachable", f"{method} {path}: {server}: {text}") from error


def _decoded(raw: bytes) -> object:
    try:
        decoded: object = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return decoded


async def _lines(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """Yield the lines of a stream; aiohttp's own readline is bounded to 128 KiB."""
    rest = bytearray()
    async for chunk in content.iter_any():
        rest += chunk
        if b"\n" not in chunk:
            if len(rest) > LARGEST_LINE:
                raise ApiError(0, "BadAnswer", f"an event is longer than {LARGEST_LINE} bytes")
            continue
        *whole, tail = rest.split(b"\n")
        for line in whole:
            if line:
                yield bytes(line)
        rest = bytearray(tail)
