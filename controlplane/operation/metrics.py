"""``/metrics``: counts and times, under the names that kube-apiserver gives them.

Source: Kubernetes documentation, "Kubernetes Metrics Reference".
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Handler
from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector

from controlplane.api.errors import ApiError
from controlplane.operation.health import is_health
from controlplane.operation.limits import Limits, is_lasting
from controlplane.plane import Plane
from controlplane.server.keys import INFO
from controlplane.server.patching import APPLY_TYPE
from controlplane.server.request import RequestInfo
from controlplane.store.model import StoreError, TooLargeError

_SECONDS: Final = (
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30,
    45, 60,
)  # fmt: skip
_OF_REQUEST: Final = (
    "verb", "group", "version", "resource", "subresource", "scope", "component", "dry_run",
)  # fmt: skip
_VERBS: Final = {
    "get": "GET", "list": "LIST", "watch": "WATCH", "create": "POST", "update": "PUT",
    "patch": "PATCH", "delete": "DELETE", "deletecollection": "DELETECOLLECTION",
}  # fmt: skip
_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_CONNECTIONS: Final = ("exec", "attach", "portforward", "proxy")


def install_metrics(plane: Plane, limits: Limits) -> None:
    """Hook in."""
    metrics = Metrics(plane, limits)
    plane.store.observe = metrics.observe_store
    plane.middlewares.append(metrics.count)
    plane.paths["/metrics"] = metrics.answer


class Metrics:
    """Counts requests, and tells.

    Args:
        plane: whose requests.
        limits: that know how many run now.

    Attributes:
        registry: of all metrics; other parts may add theirs.
    """

    def __init__(self, plane: Plane, limits: Limits) -> None:
        self._plane = plane
        self._counters: dict[tuple[tuple[str, ...], int], tuple[Counter, Histogram]] = {}
        self.registry = registry = CollectorRegistry()
        self._total = Counter(
            "apiserver_request_total", "Requests, by what they asked for and the answer's code.",
            (*_OF_REQUEST, "code"), registry=registry,
        )  # fmt: skip
        self._seconds = Histogram(
            "apiserver_request_duration_seconds", "Time to answer requests, but for streams.",
            _OF_REQUEST, buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self._lasting = Gauge(
            "apiserver_longrunning_requests", "Streams that are open: watches, logs, sessions.",
            _OF_REQUEST[:-1], registry=registry,
        )  # fmt: skip
        self._storage = Histogram(
            "etcd_request_duration_seconds", "Time that the store took; commit: SQLite's.",
            ("operation",), buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        for collector in (ProcessCollector, GCCollector, PlatformCollector):
            collector(registry=registry)
        registry.register(_Now(plane, limits))

    def observe_store(self, operation: str, seconds: float) -> None:
        """Note what was asked of the store's backend."""
        self._storage.labels(operation).observe(seconds)

    def _count_answer(self, labels: tuple[str, ...], code: int, seconds: float | None) -> None:
        # Looking up the counters of so many labels takes longer than counting.
        found = self._counters.get((labels, code))
        if found is None:
            found = (self._total.labels(*labels, str(code)), self._seconds.labels(*labels))
            self._counters[labels, code] = found
        found[0].inc()
        if seconds is not None:
            found[1].observe(seconds)

    @web.middleware
    async def count(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        """Serve a request and count it."""
        info = request[INFO]
        labels = self._labels(request, info)
        lasting = is_lasting(info)
        begun, code = time.monotonic(), 0
        if lasting:
            self._lasting.labels(*labels[:-1]).inc()
        try:
            answer = await handler(request)
            code = answer.status
            return answer
        except ApiError as error:
            code = error.code
            raise
        except (StoreError, TooLargeError) as error:
            code = 503 if isinstance(error, StoreError) else 413
            raise
        except Exception:
            code = 500
            raise
        finally:
            # 0: the client has gone.
            if lasting:
                self._lasting.labels(*labels[:-1]).dec()
            self._count_answer(labels, code, None if lasting else time.monotonic() - begun)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer ``/metrics``, in the form that the client prefers."""
        encoder, kind = choose_encoder(request.headers.get("Accept", ""))
        return web.Response(body=encoder(self.registry), headers={"Content-Type": kind})

    def _labels(self, request: web.Request, info: RequestInfo | None) -> tuple[str, ...]:
        # Only what the server has is named: whoever asks for nonsense must not fill the memory.
        if info is None:
            method = request.method if request.method in _METHODS else "other"
            path = request.path.rstrip("/")
            known = path in self._plane.paths or is_health(path)
            where = f"/{path.strip('/').split('/')[0]}" if known else ""
            return (method, "", "", "", where, "", "", "")
        resource = self._plane.catalog.find(info.group, info.version, info.resource)
        if resource is None:
            return (_VERBS[info.verb], "", "", "", "", "", "apiserver", "")
        known_sub = info.subresource in resource.subresources
        verb = _VERBS[info.verb]
        if info.subresource in _CONNECTIONS:
            verb = "CONNECT"
        elif info.verb == "patch" and request.content_type == APPLY_TYPE:
            verb = "APPLY"
        scope = "resource" if info.name else "namespace" if info.namespace else "cluster"
        return (
            verb, info.group, info.version, info.resource, info.subresource if known_sub else "",
            scope, "apiserver", "All" if request.query.get("dryRun") == "All" else "",
        )  # fmt: skip


class _Now(Collector):
    """What is counted only when somebody asks."""

    def __init__(self, plane: Plane, limits: Limits) -> None:
        self._plane = plane
        self._limits = limits

    def collect(self) -> Iterator[GaugeMetricFamily]:
        running = GaugeMetricFamily(
            "apiserver_current_inflight_requests", "Requests that run now.", labels=["request_kind"]
        )
        for kind, number in self._limits.running.items():
            running.add_metric([kind], number)
        yield running
        objects = GaugeMetricFamily(
            "apiserver_storage_objects", "Objects that are kept, by kind.", labels=["resource"]
        )
        counts = self._plane.store.counts()
        kept = {r.prefix: r for r in self._plane.catalog.all() if r.kept}
        for prefix, resource in kept.items():
            name = f"{resource.plural}.{resource.group}".rstrip(".")
            objects.add_metric([name], counts.get(prefix, 0))
        yield objects
