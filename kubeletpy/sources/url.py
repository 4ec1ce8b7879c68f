"""Static pods of ``staticPodURL``: one manifest, or a PodList, behind a URL.

A URL cannot be watched: it is asked every ``httpCheckFrequency``, with what the last answer said
of its version (ETag, Last-Modified), so that an unchanged answer costs one short exchange. As with
the Go kubelet an answer is taken as a whole or not at all, and an empty one (status 200, no bytes)
means that there are no pods; any other answer that cannot be taken leaves the pods as they are.

Its headers may hold a secret, so redirects are followed on the same host only, and never from
HTTPS to HTTP. (The Go kubelet goes wherever it is sent.)
"""

from __future__ import annotations

import asyncio
import typing
import urllib.request
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import count
from typing import Any

from yarl import URL

from kubeletpy.api.pod import Pod
from kubeletpy_common.documents import DocumentError, parse

from .static_pods import ManifestError, StaticPod, made_pod
from .updates import HTTP_SOURCE, PodUpdates, SourceError, diff, pod_key

if typing.TYPE_CHECKING:
    import aiohttp

    from kubeletpy.core import Core

LARGEST_ANSWER = 10 * 1024 * 1024
"""Bytes; as in the Go kubelet."""
TIMEOUT = 10.0
"""Seconds for one exchange, redirects included; as in the Go kubelet."""
MOST_REDIRECTS = 10
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
UNREACHABLE, INVALID = "StaticPodURLFailed", "InvalidManifest"
"""Reasons of events: there was no answer that could be read, or what it said is no pod."""


class FetchError(Exception):
    """There is no answer with status 200 or 304; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said.

    Attributes:
        body: None: the same as before.
        version: the headers with which to ask the next time.
    """

    body: bytes | None
    version: Mapping[str, str]


def pods_of(data: bytes, *, url: str, node_name: str, seen: datetime) -> list[StaticPod]:
    """Return the pods that an answer holds: of a Pod, or of a PodList (pure).

    Raises:
        ManifestError: one of them cannot be run, or two have one name; then none is taken.
    """
    if not data:
        return []
    try:
        document = parse(data, largest=LARGEST_ANSWER)
    except DocumentError as error:
        raise ManifestError(str(error)) from None
    listed = isinstance(document, dict) and document.get("kind") == "PodList"
    documents = _items(document) if isinstance(document, dict) and listed else [document]
    pods: dict[str, StaticPod] = {}
    for number, one in zip(count(), documents, strict=False):
        place = f"items[{number}]: " if listed else ""
        try:
            made = made_pod(one, file=url, node_name=node_name, seen=seen, source=HTTP_SOURCE)
        except ManifestError as error:
            raise ManifestError(f"{place}{error}", error.fields) from None
        key, uid = pod_key(made.pod), made.pod.metadata.uid
        if key in pods or any(other.pod.metadata.uid == uid for other in pods.values()):
            raise ManifestError(f"{place}a pod before it has the same name or uid: {key}")
        pods[key] = made
    return list(pods.values())


def _items(document: Mapping[str, Any]) -> list[Any]:
    if document.get("apiVersion") != "v1":
        raise ManifestError(f'apiVersion of a PodList must be "v1": {document.get("apiVersion")!r}')
    items = document.get("items") or []
    if not isinstance(items, list):
        raise ManifestError("items of a PodList must be a list")
    # As in a list of the API server, its items need not say what they are.
    return [
        {"apiVersion": "v1", "kind": "Pod", **one} if isinstance(one, dict) else one
        for one in items
    ]


class UrlPodSource:
    """The pods of a URL; iterate over it for PodUpdates.

    Args:
        url: http or https; https is verified by the system's authorities.
        headers: sent with each request.
        node_name: the node's name.
        period: seconds between two requests.
    """

    def __init__(
        self, url: str, headers: Mapping[str, Sequence[str]], node_name: str, period: float
    ) -> None:
        self._url = url
        self._headers = [(name, value) for name in sorted(headers) for value in headers[name]]
        self._node = node_name
        self._period = period
        self._version: Mapping[str, str] = {}
        self._pods: dict[str, Pod] = {}
        self._data: bytes | None = None
        self._told: SourceError | None = None

    async def __aiter__(self) -> AsyncIterator[PodUpdates]:
        import aiohttp

        heard = False
        async with aiohttp.ClientSession(
            cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
        ) as session:
            while True:
                updates, answered = await self._look(session)
                # The first answer is told even if there is no pod in it: the source was heard.
                news = updates or (answered and not heard)
                heard = heard or answered
                if news:
                    yield replace(updates, heard=heard)
                await asyncio.sleep(self._period)

    async def _look(self, session: aiohttp.ClientSession) -> tuple[PodUpdates, bool]:
        """Return what changed, and whether the server said which pods there are."""
        try:
            async with asyncio.timeout(TIMEOUT):
                answer = await fetch(session, URL(self._url), self._headers, self._version)
        except TimeoutError:
            return self._fault(f"no answer within {TIMEOUT:g} s", UNREACHABLE), False
        except (FetchError, OSError, ValueError) as error:
            return self._fault(str(error) or type(error).__name__, UNREACHABLE), False
        if answer.body is None or answer.body == self._data:
            if answer.body is not None:
                self._version = answer.version
            # What was wrong with these bytes has been told; they are as wrong as before.
            if self._told is not None and self._told.event == UNREACHABLE:
                self._told = None
            return PodUpdates(), True
        self._data, self._version = answer.body, answer.version
        try:
            found = await asyncio.to_thread(
                pods_of, answer.body, url=self._url, node_name=self._node, seen=datetime.now(UTC)
            )
        except ManifestError as error:
            return self._fault(str(error), INVALID, error), False
        self._told = None
        after = {pod_key(one.pod): one.pod for one in found}
        hints = tuple((pod_key(one.pod), one.hints) for one in found if one.hints)
        updates = replace(diff(self._pods, after), hints=hints)
        self._pods = after
        return updates, True

    def _fault(self, reason: str, event: str, error: ManifestError | None = None) -> PodUpdates:
        kept = ", ".join(sorted(self._pods))
        fields = error.fields if error is not None else ()
        fault = SourceError(self._url, reason, fields, kept, event)
        if fault == self._told:
            return PodUpdates()
        self._told = fault
        return PodUpdates(errors=(fault,))


async def fetch(
    session: aiohttp.ClientSession,
    url: URL,
    headers: Sequence[tuple[str, str]],
    version: Mapping[str, str],
) -> Answer:
    """Ask once, unless it is still the same.

    Raises:
        FetchError: no answer, or none with status 200 or 304.
        OSError, ValueError: no connection, or the URL is none.
    """
    import aiohttp

    here = url
    for _ in range(MOST_REDIRECTS):
        asked = [*headers, *version.items()]
        try:
            async with session.get(
                here, headers=asked, allow_redirects=False, proxy=_proxy(here)
            ) as answer:
                if answer.status == 304 and version:
                    return Answer(None, version)
                if answer.status == 200:
                    return Answer(await _body(answer), _version_of(answer.headers))
                if answer.status not in _REDIRECTS or "Location" not in answer.headers:
                    raise FetchError(f"it answers {answer.status} {answer.reason}")
                target = here.join(URL(answer.headers["Location"]))
        except aiohttp.ClientError as error:
            raise FetchError(f"{error or type(error).__name__}") from error
        if target.host != url.host or (url.scheme, target.scheme) == ("https", "http"):
            raise FetchError(
                f"it redirects to {target.origin()}, which is not followed: the headers may hold "
                "a secret; set staticPodURL to where the pods are"
            )
        here = target
    raise FetchError(f"stopped after {MOST_REDIRECTS} redirects")


async def _body(answer: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in answer.content.iter_any():
        body += chunk
        if len(body) > LARGEST_ANSWER:
            raise FetchError(f"its answer is larger than {LARGEST_ANSWER} bytes")
    return bytes(body)


def _version_of(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the conditions of the next request (RFC 9110, section 13.1)."""
    conditions = {"ETag": "If-None-Match", "Last-Modified": "If-Modified-Since"}
    return {asked: headers[told] for told, asked in conditions.items() if told in headers}


def _proxy(url: URL) -> str | None:
    """Return the proxy that the environment (HTTPS_PROXY ...) names, as Go's client uses it."""
    if url.host is None or url.host in ("localhost", "127.0.0.1", "::1"):
        return None
    if urllib.request.proxy_bypass(url.host):
        return None
    return urllib.request.getproxies().get(url.scheme)


def install(core: Core) -> None:
    """Run the pods of ``staticPodURL``, if it is set."""
    one = core.settings.configuration
    if one.static_pod_url:
        core.sources[HTTP_SOURCE] = UrlPodSource(
            one.static_pod_url, one.static_pod_url_header, core.facts.name,
            one.http_check_frequency,
        )  # fmt: skip
