"""Plain HTTP that is passed on: a request to a backend, its answer to the client as it comes."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Final

import aiohttp
from aiohttp import web
from yarl import URL

from controlplane.api.errors import ApiError
from controlplane.proxying.backends import Backends
from controlplane.proxying.headers import (
    Headers,
    answer_headers,
    request_headers,
    rewrite_location,
)
from controlplane.proxying.targets import Target
from kubeletpy_common.upgrades import CHUNK

_REDIRECTED: Final = "the backend attempted to redirect this request, which is not permitted"
_WITHOUT_BODY: Final = ("GET", "HEAD", "OPTIONS")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a proxy stands.

    Attributes:
        prefix: its path here, encoded, without a slash at its end.
        path: of the backend, encoded, with a slash at its beginning.
    """

    prefix: str
    path: str


async def pass_on(
    request: web.Request,
    backends: Backends,
    target: Target,
    place: Place,
    *,
    more: Headers = [],  # noqa: B006 - it is only read
    redirects: bool = True,
) -> web.StreamResponse:
    """Answer with what the backend answers.

    Args:
        request: that is passed on.
        backends: to connect by.
        target: to connect to.
        place: paths here and there.
        more: headers for the backend.
        redirects: it may answer by one.

    Raises:
        ApiError: the backend cannot be reached.
    """
    headers = request_headers(request.headers.items(), request.remote or "")
    headers += [
        *more,
        ("X-Forwarded-Uri", f"{place.prefix}{place.path}"),
        ("X-Forwarded-Host", request.host),
        ("X-Forwarded-Proto", request.scheme),
    ]
    url = URL(f"{target.url}{place.path}", encoded=True)
    if request.query_string:
        url = URL(f"{url}?{request.rel_url.raw_query_string}", encoded=True)
    body = None if request.method in _WITHOUT_BODY else request.content
    async with _asked(backends, target, request.method, url, headers, body) as answer:
        passed = answer_headers(answer.headers.items())
        if not redirects and 300 <= answer.status < 400 and "Location" in answer.headers:
            return web.Response(status=502, text=_REDIRECTED)
        hosts = (target.authority, request.host)
        passed = [
            (name, rewrite_location(value, place.prefix, hosts) if name == "Location" else value)
            for name, value in passed
        ]
        return await _stream(request, answer, passed)


async def stream_log(
    request: web.Request,
    backends: Backends,
    target: Target,
    path: str,
    parameters: Mapping[str, str],
    *,
    insecure: bool,
) -> web.StreamResponse:
    """Answer with a log of a kubelet's as it comes.

    Raises:
        ApiError: the kubelet cannot be reached, or refuses.
    """
    url = URL(f"{target.url}{path}").with_query(parameters)
    async with _asked(backends, target, "GET", url, [], None, insecure=insecure) as answer:
        if not 200 <= answer.status <= 206:
            raise await _refused(answer, path)
        headers = [("Content-Type", "text/plain"), ("Cache-Control", "no-cache, private")]
        return await _stream(request, answer, headers)


@contextlib.asynccontextmanager
async def _asked(
    backends: Backends,
    target: Target,
    method: str,
    url: URL,
    headers: list[tuple[str, str]],
    body: aiohttp.StreamReader | None,
    *,
    insecure: bool = False,
) -> AsyncIterator[aiohttp.ClientResponse]:
    context = backends.context(target, insecure=insecure)
    try:
        answer = await backends.client.request(
            method,
            url,
            headers=headers,
            data=body,
            allow_redirects=False,
            ssl=context if context is not None else True,
            server_hostname=target.server_name or None,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        )
    except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
        why = str(error) or type(error).__name__
        if target.kubelet:
            raise ApiError("InternalError", f'{method.title()} "{url}": {why}') from error
        raise ApiError("ServiceUnavailable", f"error trying to reach service: {why}") from error
    try:
        yield answer
    finally:
        # What was not read to its end cannot be used again; with all read this is done already.
        answer.close()


async def _stream(
    request: web.Request, answer: aiohttp.ClientResponse, headers: list[tuple[str, str]]
) -> web.StreamResponse:
    response = web.StreamResponse(status=answer.status, reason=answer.reason)
    for name, value in headers:
        response.headers.add(name, value)
    await response.prepare(request)
    try:
        async for data in answer.content.iter_any():
            for start in range(0, len(data), CHUNK):
                await response.write(data[start : start + CHUNK])
    except aiohttp.ClientError as error:
        # The end of a body that broke off must not look like its end.
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionResetError(f"the answer broke off: {error}") from error
    await response.write_eof()
    return response


_REASONS: Final = {
    401: ("Unauthorized", "the server has asked for the client to provide credentials"),
    403: ("Forbidden", ""),
    404: ("NotFound", "the server could not find the requested resource"),
    405: ("MethodNotAllowed", "the server does not allow this method on the requested resource"),
    429: ("TooManyRequests", "the server has received too many requests and has asked us to try "
          "again later"),
    503: ("ServiceUnavailable", "the server is currently unable to handle the request"),
    504: ("Timeout", "the server was unable to return a response in the time allotted, but may "
          "still be processing the request"),
}  # fmt: skip
_MAX_TEXT: Final = 50_000


async def _refused(answer: aiohttp.ClientResponse, path: str) -> ApiError:
    """Return a kubelet's refusal in the words of Kubernetes, and with the status that it has."""
    try:
        text = (await answer.content.read(_MAX_TEXT)).decode(errors="replace")
    except aiohttp.ClientError as error:
        text = str(error)
    if answer.status == 400:
        return ApiError("BadRequest", text)
    if answer.status == 500:
        return ApiError("InternalError", f"Internal error occurred: {text}")
    reason, message = _REASONS.get(answer.status, ("InternalError", ""))
    if reason == "InternalError":
        message = f'an error on the server ("{text}") has prevented the request from succeeding'
    name = path.split("/")[3]
    message = f"{message or text} ( pods/log {name})"
    return ApiError(reason, message, kind="pods/log", name=name, code=answer.status)
