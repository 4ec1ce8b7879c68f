"""What the kubelet serves over plain HTTP, on loopback by default (port 10248, as Go's healthz).

``/healthz``  ``ok`` or 500 with what is wrong; ``?verbose`` shows all checks;
              ``/healthz/NAME`` asks one check.
``/pods``     a PodList with statuses.
``/events``   an EventList, the event that happened last at the end.
``/why``      the story of a pod: ``?pod=NAME&namespace=NAMESPACE`` (see `kubeletpy.why`).

It answers GET only. Pods may hold secrets in their environment, so all but ``/healthz`` is
answered to loopback and only if the request is addressed to it: a browser on the node that was
lured to a page elsewhere (DNS rebinding) gets 403.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Awaitable, Callable

import msgspec
from aiohttp import web

from kubeletpy.api.codec import encode
from kubeletpy.api.events import Event
from kubeletpy.api.pod import Pod
from kubeletpy.why.story import Known, tell, tell_of

from .health import Check, run_checks

_LARGEST_REQUEST = 1024
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def is_local(host: str) -> bool:
    """Whether the Host header (``name``, ``name:port``, ``[v6]:port``) names loopback."""
    name = host.rsplit(":", 1)[0] if host.count(":") == 1 else host
    if name.startswith("["):
        name = name[1:].partition("]")[0]
    if name == "localhost":
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


class Api:
    """The handlers.

    Args:
        checks: of ``/healthz``, by name.
        pods: returns all pods with statuses.
        events: returns the latest events.
        why: returns by name and namespace what is known of pods, for ``/why``.
    """

    def __init__(
        self,
        checks: dict[str, Check],
        pods: Callable[[], list[Pod]],
        events: Callable[[], list[Event]],
        why: Callable[[str, str], list[Known]] = lambda name, namespace: [],
    ) -> None:
        self._why = why
        self._checks = checks
        self._pods = pods
        self._events = events

    def application(self) -> web.Application:
        """Return the application to serve."""
        application = web.Application(client_max_size=_LARGEST_REQUEST)
        application.router.add_get("/healthz", self.healthz)
        application.router.add_get("/healthz/{name}", self.healthz)
        application.router.add_get("/pods", _local_only(self.pods))
        application.router.add_get("/pods/", _local_only(self.pods))
        application.router.add_get("/events", _local_only(self.events))
        application.router.add_get("/why", _local_only(self.why))
        return application

    async def healthz(self, request: web.Request) -> web.Response:
        """Answer ``/healthz``."""
        name = request.match_info.get("name")
        checks = self._checks
        if name is not None and name != "ping":
            if name not in checks:
                return web.Response(status=404, text=f"no check named {name!r}\n")
            checks = {name: checks[name]}
        report = await run_checks({} if name == "ping" else checks)
        text = report.text(verbose="verbose" in request.query)
        return web.Response(status=200 if report.healthy else 500, text=text)

    async def pods(self, _: web.Request) -> web.Response:
        """Answer ``/pods``."""
        return _listing("PodList", [encode(pod) for pod in self._pods()])

    async def events(self, _: web.Request) -> web.Response:
        """Answer ``/events``."""
        return _listing("EventList", [encode(event) for event in self._events()])

    async def why(self, request: web.Request) -> web.Response:
        """Answer ``/why``."""
        name, namespace = request.query.get("pod", ""), request.query.get("namespace", "")
        known = self._why(name, namespace)
        events = self._events()
        stories = [tell(one, events) for one in known] or [
            tell_of(pod, events)
            for pod in self._pods()
            if pod.metadata.name == name and namespace in ("", pod.metadata.namespace)
        ]
        if not stories:
            names = sorted(f"{one.metadata.namespace}/{one.metadata.name}" for one in self._pods())
            text = f"this kubelet knows no pod {name!r}; it knows: {', '.join(names) or 'none'}\n"
            return web.Response(status=404, text=text)
        return web.Response(body=msgspec.json.encode(stories), content_type="application/json")


def _listing(kind: str, items: list[bytes]) -> web.Response:
    head = f'{{"kind":"{kind}","apiVersion":"v1","metadata":{{}},"items":['.encode()
    body = head + b",".join(items) + b"]}"
    return web.Response(body=body, content_type="application/json")


def _local_only(handler: _Handler) -> _Handler:
    async def guarded(request: web.Request) -> web.StreamResponse:
        remote = request.remote or ""
        if not (is_local(remote) and is_local(request.host)):
            return web.Response(status=403, text="served to loopback only\n")
        return await handler(request)

    return guarded


class Server:
    """Listens for requests.

    Args:
        api: the handlers.
        address: IP address to bind to.
        port: 0 serves nothing.
    """

    def __init__(self, api: Api, address: str, port: int) -> None:
        self._runner = web.AppRunner(
            api.application(), access_log=None, handle_signals=False, shutdown_timeout=1.0
        )
        self._address = address
        self._port = port

    async def start(self) -> None:
        """Begin to listen.

        Raises:
            OSError: address or port cannot be had.
        """
        if self._port == 0:
            return
        await self._runner.setup()
        await web.TCPSite(self._runner, self._address, self._port).start()

    async def close(self) -> None:
        """Stop listening."""
        await self._runner.cleanup()
