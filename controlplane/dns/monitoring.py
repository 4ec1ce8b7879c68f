"""Metrics under the names that CoreDNS has, /health and /ready."""

from __future__ import annotations

import contextlib
import time
from bisect import bisect_left
from collections.abc import AsyncIterator, Iterator
from typing import TYPE_CHECKING, Any, Final

import dns.rcode
import dns.rdatatype
from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from .directory import ClusterDirectory
    from .resolving import Resolver

_BUCKETS: Final = tuple(0.00025 * 2**number for number in range(16))
_NAMED: Final = frozenset(
    {"A", "AAAA", "CNAME", "HTTPS", "MX", "NS", "PTR", "SOA", "SRV", "TXT", "ANY", "HINFO"}
)
_SERVER: Final = "dns://"


class Counts:
    """What the server did; cheap to add to."""

    def __init__(self) -> None:
        self.malformed = 0
        self.blocked = 0
        self.requests: dict[tuple[str, str, str, int], int] = {}
        self.responses: dict[tuple[str, int], int] = {}
        self.times: dict[str, list[int]] = {}
        self.seconds: dict[str, float] = {}

    def answered(
        self, protocol: str, family: str, zone: str, kind: int, rcode: int, begun: float
    ) -> None:
        """Take note of an answer to a query that came at ``begun``."""
        spent = time.perf_counter() - begun
        key = (zone, protocol, family, kind)
        self.requests[key] = self.requests.get(key, 0) + 1
        pair = (zone, rcode)
        self.responses[pair] = self.responses.get(pair, 0) + 1
        buckets = self.times.get(zone)
        if buckets is None:
            buckets = self.times[zone] = [0] * (len(_BUCKETS) + 1)
            self.seconds[zone] = 0.0
        buckets[bisect_left(_BUCKETS, spent)] += 1
        self.seconds[zone] += spent


class _Metrics(Collector):
    def __init__(self, counts: Counts, resolver: Resolver) -> None:
        self._counts = counts
        self._resolver = resolver

    def collect(self) -> Iterator[Metric]:
        counts = self._counts
        requests = CounterMetricFamily(
            "coredns_dns_requests", "Queries.", labels=["server", "zone", "proto", "family", "type"]
        )
        totals: dict[tuple[str, str, str, str], int] = {}
        for (zone, protocol, family, kind), number in counts.requests.items():
            name = dns.rdatatype.to_text(dns.rdatatype.RdataType.make(kind))
            key = (zone, protocol, family, name if name in _NAMED else "other")
            totals[key] = totals.get(key, 0) + number
        for key, number in totals.items():
            requests.add_metric([_SERVER, *key], number)
        responses = CounterMetricFamily(
            "coredns_dns_responses", "Answers.", labels=["server", "zone", "rcode"]
        )
        for (zone, rcode), number in counts.responses.items():
            responses.add_metric([_SERVER, zone, dns.rcode.to_text(dns.rcode.Rcode(rcode))], number)
        times = HistogramMetricFamily(
            "coredns_dns_request_duration_seconds", "From query to answer.",
            labels=["server", "zone"],
        )  # fmt: skip
        for zone, buckets in counts.times.items():
            found: list[tuple[str, float]] = []
            total = 0
            for bound, number in zip((*_BUCKETS, None), buckets, strict=True):
                total += number
                found.append(("+Inf" if bound is None else str(bound), total))
            times.add_metric([_SERVER, zone], found, counts.seconds[zone])
        malformed = CounterMetricFamily("kubeletpy_dns_malformed", "Messages that are no query.")
        malformed.add_metric([], counts.malformed)
        blocked = CounterMetricFamily(
            "coredns_acl_blocked_requests", "Queries of those who are refused.", labels=["server"]
        )
        blocked.add_metric([_SERVER], counts.blocked)
        yield from (requests, responses, times, malformed, blocked, *self._of_others())

    def _of_others(self) -> Iterator[Metric]:
        forwarder = self._resolver.forwarder
        if forwarder is None:
            return
        cache = forwarder.cache
        for name, text, number in (
            ("coredns_cache_hits", "Answers of others that were known.", cache.hits),
            ("coredns_cache_misses", "Those that were not.", cache.misses),
            ("coredns_forward_max_concurrent_rejects", "Questions that were too many.",
             forwarder.rejected),
        ):  # fmt: skip
            yield CounterMetricFamily(name, text, value=number)
        entries = GaugeMetricFamily("coredns_cache_entries", "Answers of others that are kept.")
        entries.add_metric([], len(cache))
        yield entries
        asked = CounterMetricFamily("coredns_forward_requests", "Questions.", labels=["to"])
        failed = CounterMetricFamily(
            "coredns_forward_healthcheck_failures", "Questions without answer.", labels=["to"]
        )
        for one in forwarder.upstreams.all():
            asked.add_metric([str(one)], one.asked)
            failed.add_metric([str(one)], one.failed)
        yield from (asked, failed)


@contextlib.asynccontextmanager
async def monitoring(
    counts: Counts, resolver: Resolver, directory: ClusterDirectory, address: str, port: int
) -> AsyncIterator[int]:
    """Serve /metrics, /health and /ready by HTTP within the block; gives the port.

    Raises:
        OSError: the address is taken.
    """
    from aiohttp import web
    from prometheus_client.exposition import generate_latest

    registry = CollectorRegistry()
    for each in (ProcessCollector, PlatformCollector, GCCollector):
        each(registry=registry)
    registry.register(_Metrics(counts, resolver))

    async def metrics(_: web.Request) -> web.Response:
        kind = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
        return web.Response(body=generate_latest(registry), headers=kind)

    async def health(_: web.Request) -> web.Response:
        return web.Response(text="OK")

    async def ready(_: web.Request) -> web.Response:
        synced = directory.is_synced
        text = "OK" if synced else "\n".join(["not synced", *directory.errors()])
        return web.Response(text=text, status=200 if synced else 503)

    app = web.Application()
    routes: Any = (("/metrics", metrics), ("/health", health), ("/ready", ready))
    for path, handler in routes:
        app.router.add_get(path, handler)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        site = web.TCPSite(runner, address, port)
        await site.start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()
