"""Pods behind a URL: what an answer holds, and what each kind of answer does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from aiohttp import web

from kubeletpy.sources.static_pods import ManifestError
from kubeletpy.sources.updates import PodUpdates
from kubeletpy.sources.url import UrlPodSource, pods_of

SEEN = datetime(2026, 1, 2, tzinfo=UTC)
PERIOD = 0.01


def manifest(name: str, image: str = "web:1") -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "main", "image": image}]},
    }


def listed(*pods: object, **fields: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "PodList", "items": list(pods), **fields}


def names(data: bytes) -> list[str]:
    made = pods_of(data, url="http://u/", node_name="n", seen=SEEN)
    return [one.pod.metadata.name for one in made]


BARE = {key: value for key, value in manifest("b").items() if key not in ("kind", "apiVersion")}


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        (manifest("a"), ["a-n"]),
        (listed(manifest("a"), BARE), ["a-n", "b-n"]),
        (listed(), []),
        ({"apiVersion": "v1", "kind": "PodList"}, []),
    ],
)
def test_one_pod_or_a_list(document: object, expected: list[str]) -> None:
    assert names(json.dumps(document).encode()) == expected


def test_an_empty_answer_means_no_pods_and_yaml_is_read() -> None:
    assert names(b"") == []
    text = "{apiVersion: v1, kind: Pod, metadata: {name: y}, "
    text = "kind: PodList\napiVersion: v1\nitems:\n- " + text
    assert names((text + "spec: {containers: [{name: c, image: i}]}}\n").encode()) == ["y-n"]


@pytest.mark.parametrize(
    ("document", "words"),
    [
        (b"<html>no</html>", "metadata|object|mapping|dict|Expected"),
        (listed(manifest("a"), {"kind": "Pod", "apiVersion": "v1"}), r"items\[1\]: .*name"),
        (listed(manifest("a"), manifest("a", "web:2")), r"items\[1\]: .*same name or uid: default"),
        (listed(manifest("a"), 7), r"items\[1\]"),
        (listed(apiVersion="v2"), 'apiVersion of a PodList must be "v1"'),
        (listed() | {"items": {"a": 1}}, "items of a PodList must be a list"),
        ({"apiVersion": "v1", "kind": "ConfigMap"}, "kind"),
        (b'{"kind": "Pod"', "malformed JSON"),
        (b" " * (10 * 1024 * 1024 + 1), "larger than 10485760 bytes"),
    ],
)  # fmt: skip
def test_what_is_no_pod_is_refused_as_a_whole(document: object, words: str) -> None:
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    with pytest.raises(ManifestError, match=words):
        names(data)


def test_identity_of_a_pod_of_a_url() -> None:
    [made] = pods_of(json.dumps(manifest("a")).encode(), url="http://u/", node_name="n", seen=SEEN)
    assert made.pod.metadata.annotations["kubernetes.io/config.source"] == "http"
    # In Go only pods of files get the toleration of everything.
    assert made.pod.spec.tolerations == []
    [other] = pods_of(json.dumps(manifest("a")).encode(), url="http://v/", node_name="n", seen=SEEN)
    assert other.pod.metadata.uid != made.pod.metadata.uid


class Site:
    """A web server whose answers a test sets."""

    def __init__(self) -> None:
        self.answer: Callable[[web.Request], web.StreamResponse] = lambda _: web.Response()
        self.requests: list[web.Request] = []
        self.asked = asyncio.Condition()
        self.url = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        async with self.asked:
            self.requests.append(request)
            self.asked.notify_all()
        return self.answer(request)

    async def more(self, count: int) -> None:
        """Wait until it was asked that often from now on."""
        async with self.asked, asyncio.timeout(30):
            wanted = len(self.requests) + count
            await self.asked.wait_for(lambda: len(self.requests) >= wanted)

    def show(self, document: object, **headers: str) -> None:
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.answer = lambda _: web.Response(body=body, headers=headers)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    one = Site()
    application = web.Application()
    application.router.add_get("/{path:.*}", one.handle)
    runner = web.AppRunner(application)
    await runner.setup()
    listener = web.TCPSite(runner, "127.0.0.1", 0)
    await listener.start()
    one.url = f"http://127.0.0.1:{runner.addresses[0][1]}/pods"
    yield one
    await runner.cleanup()


class Reader:
    def __init__(self, site: Site) -> None:
        source = UrlPodSource(site.url, {"X-Key": ["k1", "k2"]}, "n", PERIOD)
        self._updates = aiter(source)
        self._next: asyncio.Task[PodUpdates] | None = None

    def ask(self) -> asyncio.Task[PodUpdates]:
        async def following() -> PodUpdates:
            return await anext(self._updates)

        if self._next is None or self._next.done():
            self._next = asyncio.create_task(following())
        return self._next

    async def next(self) -> PodUpdates:
        return await asyncio.wait_for(self.ask(), 30)

    async def close(self) -> None:
        if self._next is not None:
            self._next.cancel()
            await asyncio.gather(self._next, return_exceptions=True)
        await self._updates.aclose()  # type: ignore[attr-defined]


@pytest.fixture
async def reader(site: Site) -> AsyncIterator[Reader]:
    one = Reader(site)
    yield one
    await one.close()


async def test_pods_appear_change_and_go(site: Site, reader: Reader) -> None:
    site.show(manifest("a"))
    first = await reader.next()
    assert [pod.metadata.name for pod in first.added] == ["a-n"]
    assert site.requests[0].headers.getall("X-Key") == ["k1", "k2"]
    site.show(listed(manifest("a", "web:2"), manifest("b")))
    second = await reader.next()
    assert [change.new.spec.containers[0].image for change in second.changed] == ["web:2"]
    assert [pod.metadata.name for pod in second.added] == ["b-n"]
    site.show(b"")
    assert len((await reader.next()).removed) == 2


async def test_an_unchanged_answer_is_not_sent_again(site: Site, reader: Reader) -> None:
    def answer(request: web.Request) -> web.StreamResponse:
        if request.headers.get("If-None-Match") == '"1"':
            return web.Response(status=304)
        return web.Response(body=json.dumps(manifest("a")).encode(), headers={"ETag": '"1"'})

    site.answer = answer
    await reader.next()
    waiting = reader.ask()
    await site.more(3)
    assert not waiting.done()
    assert {one.headers.get("If-None-Match") for one in site.requests[1:]} == {'"1"'}


def _elsewhere(_: web.Request) -> web.StreamResponse:
    return web.Response(status=302, headers={"Location": "http://elsewhere.invalid/pods"})


def _in_a_circle(request: web.Request) -> web.StreamResponse:
    return web.Response(status=307, headers={"Location": str(request.url)})


@pytest.mark.parametrize(
    ("answer", "event", "words"),
    [
        (lambda _: web.Response(status=500), "StaticPodURLFailed", "500"),
        (lambda _: web.Response(status=304), "StaticPodURLFailed", "304"),
        (lambda _: web.Response(body=b"{"), "InvalidManifest", "malformed JSON"),
        (_elsewhere, "StaticPodURLFailed", "redirects to http://elsewhere.invalid"),
        (_in_a_circle, "StaticPodURLFailed", "10 redirects"),
        (lambda _: web.Response(body=bytes(10 * 1024 * 1024 + 1)), "StaticPodURLFailed", "larger"),
    ],
)
async def test_a_bad_answer_is_told_once_and_keeps_the_pods(
    site: Site,
    reader: Reader,
    answer: Callable[[web.Request], web.StreamResponse],
    event: str,
    words: str,
) -> None:
    site.show(manifest("a"))
    await reader.next()
    site.answer = answer
    updates = await reader.next()
    assert updates == PodUpdates(errors=updates.errors)
    [error] = updates.errors
    assert (error.event, error.kept, error.source) == (event, "default/a-n", site.url)
    assert words in error.reason
    waiting = reader.ask()
    await site.more(12)
    assert not waiting.done()
    site.show(manifest("a", "web:2"))
    assert len((await waiting).changed) == 1


async def test_a_redirect_on_the_same_host_is_followed(site: Site, reader: Reader) -> None:
    def answer(request: web.Request) -> web.StreamResponse:
        if request.path == "/pods":
            return web.Response(status=301, headers={"Location": "/other"})
        return web.Response(body=json.dumps(manifest("a")).encode())

    site.answer = answer
    assert len((await reader.next()).added) == 1


async def test_the_first_answer_counts_even_without_pods_but_a_fault_does_not(site: Site) -> None:
    site.answer = lambda _: web.Response(status=503)
    one = Reader(site)
    fault = await one.next()
    assert fault.errors
    assert not fault.heard
    site.show(b"")
    assert await one.next() == PodUpdates()
    await one.close()
