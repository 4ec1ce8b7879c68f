"""An API server for kube-proxies alone: lists and watches of a few kinds, from prepared bytes.

It has no storage, no validation (so bad objects can be served) and no authentication, and hardly
costs anything, so that a benchmark measures its clients. It runs in a thread of its own, on a
socket that belongs to any network namespace.
"""

from __future__ import annotations

import asyncio
import bisect
import json
import operator
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from kubeletpy_common.linux.namespaces import in_namespace
from tests.support.circumstances import patient

from .topology import Namespace

Json = dict[str, Any]


@dataclass
class Collection:
    """All objects of a kind.

    Attributes:
        kind: of one object.
        version: ``apiVersion``.
        objects: by namespace and name.
        encoded: the same as JSON.
        log: (resource version, type, object, JSON of the event), as far as there was a change.
    """

    kind: str
    version: str
    objects: dict[tuple[str, str], Json] = field(default_factory=dict)
    encoded: dict[tuple[str, str], bytes] = field(default_factory=dict)
    log: list[tuple[int, Json, bytes]] = field(default_factory=list)
    grown: asyncio.Event = field(default_factory=asyncio.Event)


def _collections() -> dict[str, Collection]:
    return {
        "/api/v1/services": Collection("Service", "v1"),
        "/api/v1/nodes": Collection("Node", "v1"),
        "/apis/discovery.k8s.io/v1/endpointslices": Collection(
            "EndpointSlice", "discovery.k8s.io/v1"
        ),
        "/apis/networking.k8s.io/v1/servicecidrs": Collection(
            "ServiceCIDR", "networking.k8s.io/v1"
        ),
        "/api/v1/pods": Collection("Pod", "v1"),
        "/api/v1/namespaces": Collection("Namespace", "v1"),
        "/apis/networking.k8s.io/v1/networkpolicies": Collection(
            "NetworkPolicy", "networking.k8s.io/v1"
        ),
    }


class ApiServer:
    """Serves; `put` and `delete` may be called from any thread but its own."""

    def __init__(self) -> None:
        self._collections = _collections()
        self._by_kind = {each.kind: each for each in self._collections.values()}
        self._loop = asyncio.new_event_loop()
        self._version = 1
        self.address = ""
        """Where it is reached, as ``http://127.0.0.1:8001``."""
        self.requests: list[str] = []
        self.events: list[Json] = []
        """What clients told."""

    def put(self, *objects: Json) -> None:
        """Create or change objects, in this order, at once."""
        self._call(self._put, objects)

    def delete(self, *objects: Json) -> None:
        """Remove objects."""
        self._call(self._delete, objects)

    def clear(self) -> None:
        """Remove all objects."""
        everything = [each for held in self._by_kind.values() for each in held.objects.values()]
        self.delete(*everything)

    def _call(self, function: Callable[[Json], None], objects: Iterable[Json]) -> None:
        done: Future[None] = Future()

        def run() -> None:
            try:
                for each in objects:
                    function(each)
                done.set_result(None)
            except BaseException as error:
                done.set_exception(error)

        self._loop.call_soon_threadsafe(run)
        done.result(patient(60))

    def _put(self, thing: Json) -> None:
        held = self._by_kind[thing["kind"]]
        key = _key(thing)
        self._event(held, "MODIFIED" if key in held.objects else "ADDED", thing)
        held.objects[key] = thing
        held.encoded[key] = json.dumps(thing, separators=(",", ":")).encode()

    def _delete(self, thing: Json) -> None:
        held = self._by_kind[thing["kind"]]
        held.encoded.pop(_key(thing), None)
        if gone := held.objects.pop(_key(thing), None):
            self._event(held, "DELETED", gone)

    def _event(self, held: Collection, kind: str, thing: Json) -> None:
        self._version += 1
        thing["metadata"]["resourceVersion"] = str(self._version)
        body = json.dumps({"type": kind, "object": thing}, separators=(",", ":")).encode()
        held.log.append((self._version, thing, body + b"\n"))
        held.grown.set()
        held.grown = asyncio.Event()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(f"{request.method} {request.path_qs}")
        path = request.path
        if request.method == "PATCH" and path.startswith("/api/v1/nodes/"):
            return self._patch(path.split("/")[4], json.loads(await request.read()))
        if request.method != "GET":
            self.events.append(json.loads(await request.read()))
            return web.json_response(
                {"kind": "Event", "apiVersion": "events.k8s.io/v1"}, status=201
            )
        if path in self._collections:
            held = self._collections[path]
            chosen = _selector(request.query)
            if request.query.get("watch") in ("true", "1"):
                if request.query.get("sendInitialEvents"):
                    return _status(422, "Invalid", "sendInitialEvents is not known here")
                return await self._watch(request, held, chosen)
            return self._list(held, chosen)
        parent, _, name = path.rpartition("/")
        if parent in self._collections:
            found = self._collections[parent].objects.get(("", name))
            return web.json_response(found) if found else _status(404, "NotFound", f"no {path}")
        if path == "/version":
            return web.json_response({"major": "1", "minor": "36", "gitVersion": "v1.36.2"})
        return _status(404, "NotFound", f"no {path} here")

    def _patch(self, name: str, patch: Json) -> web.Response:
        """Change a Node as a strategic merge does, as far as clients here need it."""
        found = self._by_kind["Node"].objects.get(("", name))
        if found is None:
            return _status(404, "NotFound", f"no node {name}")
        changed = json.loads(json.dumps(found))
        annotations = patch.get("metadata", {}).get("annotations", {})
        changed["metadata"].setdefault("annotations", {}).update(annotations)
        held = changed.setdefault("status", {}).setdefault("conditions", [])
        for new in patch.get("status", {}).get("conditions", []):
            held[:] = [each for each in held if each["type"] != new["type"]] + [new]
        self._put(changed)
        return web.json_response(changed)

    def node(self, name: str) -> Json:
        """Return a Node as it is now."""
        found: Json = self._by_kind["Node"].objects["", name]
        return found

    def _list(self, held: Collection, chosen: Callable[[Json], bool]) -> web.Response:
        items = [held.encoded[key] for key, each in held.objects.items() if chosen(each)]
        head = {
            "kind": f"{held.kind}List", "apiVersion": held.version,
            "metadata": {"resourceVersion": str(self._version)},
        }  # fmt: skip
        body = json.dumps(head).encode()[:-1] + b', "items": [' + b",".join(items) + b"]}"
        return web.Response(body=body, content_type="application/json")

    async def _watch(
        self, request: web.Request, held: Collection, chosen: Callable[[Json], bool]
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        since = int(request.query.get("resourceVersion") or 0)
        at = bisect.bisect_right(held.log, since, key=operator.itemgetter(0))
        while True:
            grown = held.grown
            bodies = [body for _, thing, body in held.log[at:] if chosen(thing)]
            at = len(held.log)
            if not bodies:
                await grown.wait()
                continue
            try:
                await response.write(b"".join(bodies))
            except ConnectionError:
                return response  # the proxy has ended

    async def _start(self, *listeners: socket.socket) -> web.AppRunner:
        app = web.Application(client_max_size=1 << 26)
        app.router.add_route("*", "/{path:.*}", self._handle)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        for listener in listeners:
            await web.SockSite(runner, listener).start()
        return runner

    async def _end(self, runner: web.AppRunner) -> None:
        await runner.cleanup()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    @classmethod
    @contextmanager
    def running(cls, host: Namespace, *others: Namespace) -> Iterator[ApiServer]:
        """Serve on a free port of 127.0.0.1 of a host, and on the same port of others."""
        server = cls()
        with in_namespace(host.path):
            listener = socket.create_server(("127.0.0.1", 0))
        server.address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        listeners = [listener]
        for each in others:
            with in_namespace(each.path):
                listeners.append(socket.create_server(listener.getsockname()))
        runner = server._loop.run_until_complete(server._start(*listeners))
        thread = threading.Thread(target=server._loop.run_forever, name="api server")
        thread.start()
        try:
            yield server
        finally:
            asyncio.run_coroutine_threadsafe(server._end(runner), server._loop).result(patient(10))
            server._loop.call_soon_threadsafe(server._loop.stop)
            thread.join()
            server._loop.close()


def _key(thing: Json) -> tuple[str, str]:
    return thing["metadata"].get("namespace", ""), thing["metadata"]["name"]


def _status(code: int, reason: str, message: str) -> web.Response:
    body = {
        "kind": "Status", "apiVersion": "v1", "status": "Failure",
        "reason": reason, "message": message, "code": code,
    }  # fmt: skip
    return web.json_response(body, status=code)


def _selector(query: Any) -> Callable[[Json], bool]:
    """Return what tells the objects asked for: ``!label``, ``field=value``, ``field!=value``."""
    tests: list[Callable[[Json], bool]] = []
    for part in _parts(query.get("labelSelector", "")):
        if not part.startswith("!"):
            raise web.HTTPBadRequest(text=f"label selector {part!r} is not known here")
        tests.append(lambda each, key=part[1:]: key not in each["metadata"].get("labels", {}))  # type: ignore[misc]
    for part in _parts(query.get("fieldSelector", "")):
        path, sign, value = part.partition("!=" if "!=" in part else "=")
        same = operator.ne if sign == "!=" else operator.eq
        tests.append(
            lambda each, path=path, same=same, value=value: same(_field(each, path), value)  # type: ignore[misc]
        )
    return lambda each: all(test(each) for test in tests)


def _parts(text: str) -> Iterable[str]:
    return [part for part in text.split(",") if part]


def _field(thing: Json, path: str) -> str:
    value: Any = thing
    for name in path.split("."):
        value = value.get(name, "") if isinstance(value, dict) else ""
    return str(value)
