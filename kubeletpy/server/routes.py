"""Which path is answered by what."""

from __future__ import annotations

import json

from aiohttp import web
from aiohttp.typedefs import Handler

from kubeletpy.core import Core
from kubeletpy.metrics.install import KubeletMetrics
from kubeletpy.settings.configuration import API_VERSION, KIND, encode
from kubeletpy.stats.routes import StatsRoutes

from .commands import Commands
from .health import Check, check_loop, check_runtime, run_checks
from .listings import Listings
from .log_query import LogQueries
from .logs_of_containers import ContainerLogs
from .system_logs import LOGS, SystemLogs

_BY_PODS = ("/exec", "/attach", "/portForward", "/run", "/containerLogs", "/runningpods")


class Routes:
    """The handlers of both ports.

    Args:
        core: the kubelet's parts.

    Attributes:
        metrics: what is counted.
    """

    def __init__(self, core: Core) -> None:
        self._core = core
        self._listings = Listings(core)
        self._commands = Commands(core)
        self._logs = ContainerLogs(core)
        self._stats = StatsRoutes(core)
        self.metrics = KubeletMetrics(core, self._stats.claims)

    def add_common(self, application: web.Application) -> None:
        """Add what both ports serve."""
        router = application.router
        for path in ("/pods", "/pods/"):
            router.add_get(path, self._listings.pods)
        router.add_get("/healthz", self._healthz)
        router.add_get("/healthz/{name}", self._healthz)
        self._stats.add(application)
        self.metrics.add(application)

    def add_guarded(self, application: web.Application) -> None:
        """Add what only the port with authentication serves."""
        router = application.router
        configuration = self._core.settings.configuration
        if not configuration.enable_debugging_handlers:
            disabled = _disabled("Debug endpoints are disabled.")
            for prefix in (*_BY_PODS, "/logs", "/debug/pprof"):
                router.add_route("*", prefix + "/{rest:.*}", disabled)
            return
        for kind, handler in (("exec", self._commands.execute), ("attach", self._commands.attach)):
            for path in (_pod(kind) + "/{container}", _pod(kind) + "/{uid}/{container}"):
                router.add_get(path, handler, allow_head=False)
                router.add_post(path, handler)
        for path in (_pod("portForward"), _pod("portForward") + "/{uid}"):
            router.add_get(path, self._commands.port_forward, allow_head=False)
            router.add_post(path, self._commands.port_forward)
        for path in (_pod("run") + "/{container}", _pod("run") + "/{uid}/{container}"):
            router.add_post(path, self._commands.run)
        router.add_get(_pod("containerLogs") + "/{container}", self._logs.serve, allow_head=False)
        for path in ("/runningpods", "/runningpods/"):
            router.add_get(path, self._listings.running)
        router.add_get("/configz", self._configz)
        logs: Handler = _disabled("logs endpoint is disabled.")
        if configuration.enable_system_log_handler:
            queries = LogQueries(LOGS) if configuration.enable_system_log_query else None
            logs = SystemLogs(LOGS, queries).serve
        for path in ("/logs", "/logs/{path:.*}"):
            router.add_get(path, logs)
        # Profiles and checkpoints of the Go kubelet have nothing like them here.
        router.add_route(
            "*", "/debug/pprof/{rest:.*}", _disabled("profiling endpoint is disabled.")
        )
        router.add_route("*", "/debug/flags/v", _disabled("flags endpoint is disabled."))

    async def _healthz(self, request: web.Request) -> web.StreamResponse:
        async def runtime() -> str:
            return await check_runtime(self._core.cri)

        checks: dict[str, Check] = {"syncloop": check_loop, "runtime": runtime}
        name = request.match_info.get("name")
        if name is not None and name not in (*checks, "ping", "log"):
            return web.Response(status=404, text="404 page not found\n")
        if name is not None:
            checks = {name: checks[name]} if name in checks else {}
        report = await run_checks(checks)
        text = report.text(verbose="verbose" in request.query)
        return web.Response(status=200 if report.healthy else 500, text=text)

    async def _configz(self, _: web.Request) -> web.StreamResponse:
        shown = encode(self._core.settings.configuration)
        # They are to hold tokens.
        shown["staticPodURLHeader"] = {name: ["<masked>"] for name in shown["staticPodURLHeader"]}
        document = {"kubeletconfig": {"kind": KIND, "apiVersion": API_VERSION, **shown}}
        return web.json_response(document, dumps=lambda value: json.dumps(value, default=str))


def _pod(kind: str) -> str:
    return f"/{kind}/{{namespace}}/{{pod}}"


def _disabled(why: str) -> Handler:
    async def refuse(_: web.Request) -> web.StreamResponse:
        return web.Response(status=405, text=f"{why}\n")

    return refuse
