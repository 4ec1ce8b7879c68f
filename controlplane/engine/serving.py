"""Health and metrics of a process of controllers, under the names that the Go peers have."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING

from aiohttp import web
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from .measures import spreads

if TYPE_CHECKING:
    from .host import Host

_TEXT = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}


class _Queues(Collector):
    """``workqueue_*``, counted by the queues themselves, and what parts count besides.

    A part that has a method ``metrics``, as each `Controller`, gives its own there.
    """

    def __init__(self, host: Host) -> None:
        self._host = host

    def collect(self) -> Iterator[Metric]:
        depth = GaugeMetricFamily("workqueue_depth", "Keys that wait.", labels=["name"])
        added = CounterMetricFamily("workqueue_adds", "Keys added.", labels=["name"])
        retried = CounterMetricFamily("workqueue_retries", "Keys that failed.", labels=["name"])
        unfinished = GaugeMetricFamily(
            "workqueue_unfinished_work_seconds", "Of all keys that are looked at.", labels=["name"]
        )
        longest = GaugeMetricFamily(
            "workqueue_longest_running_processor_seconds", "Of such a key.", labels=["name"]
        )
        queues = list(self._host.queues())
        for queue in queues:
            since = queue.unfinished
            unfinished.add_metric([queue.name], sum(since))
            longest.add_metric([queue.name], max(since, default=0.0))
            depth.add_metric([queue.name], queue.depth)
            added.add_metric([queue.name], queue.counts.added)
            retried.add_metric([queue.name], queue.counts.retried)
        yield from (depth, added, retried, unfinished, longest)
        if queues:
            yield spreads([queue.counts.waited for queue in queues])
            yield spreads([queue.counts.worked for queue in queues])
        objects = GaugeMetricFamily("informer_objects", "Objects in memory.", labels=["resource"])
        for plural, count in self._host.informers.sizes().items():
            objects.add_metric([plural], count)
        yield objects
        leads = GaugeMetricFamily("leader_election_master_status", "1: this process works.")
        election = self._host.election
        leads.add_metric([], float(election is None or election.leads))
        yield leads
        for part in self._host.parts:
            metrics = getattr(part, "metrics", None)
            if callable(metrics):
                yield from metrics()


@contextlib.asynccontextmanager
async def serving(host: Host, address: str, port: int) -> AsyncIterator[int]:
    """Serve /healthz, /livez, /readyz and /metrics within the block; gives the port.

    Raises:
        OSError: the address is taken.
    """
    registry = CollectorRegistry()
    for each in (ProcessCollector, PlatformCollector, GCCollector):
        each(registry=registry)
    registry.register(_Queues(host))

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers=_TEXT)

    async def well(_: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def ready(_: web.Request) -> web.Response:
        errors = host.informers.errors()
        return web.Response(text="\n".join(errors) or "ok", status=503 if errors else 200)

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    app.router.add_get("/healthz", well)
    app.router.add_get("/livez", well)
    app.router.add_get("/readyz", ready)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, address, port)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
