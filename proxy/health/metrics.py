"""The metrics of the proxy, named as the Go kube-proxy's.

Source: Kubernetes documentation, "Kubernetes Metrics Reference"; names that dashboards rely on.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from ..conntrack.flows import Removed
from ..model.portal import Family, Missing
from ..model.portals import Model
from ..syncing import Outcome
from .state import FAMILY_NAMES

_SYNC: Final = tuple(0.001 * 2**n for n in range(15))
_PROGRAMMING: Final = (
    0.25, 0.5, *range(1, 60), *range(60, 120, 5), *range(120, 301, 30),
)  # fmt: skip
_PREFIX: Final = "kubeproxy_sync_proxy_rules_"
_FAMILY: Final = ("ip_family",)


class Metrics:
    """The metrics of one proxy; an `Observer` of its syncs.

    Args:
        mode: ``iptables`` or ``nftables``: some names are of one mode.
        model: asked for what waits, when somebody asks for the metrics.
        families: that are synced.
    """

    def __init__(self, mode: str, model: Model, families: tuple[Family, ...]) -> None:
        # Series of their own that tell when a counter was made: Go has none.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = one = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=one)
        one.register(_OfModel(model, families))
        self._mode = mode

        def seconds(name: str, text: str, buckets: tuple[float, ...] = _SYNC) -> Histogram:
            return Histogram(name, text, _FAMILY, buckets=buckets, registry=one)

        self._seconds = seconds(_PREFIX + "duration_seconds", "SyncProxyRules latency in seconds")
        self._full = seconds(
            "kubeproxy_sync_full_proxy_rules_duration_seconds",
            "SyncProxyRules latency in seconds for full resyncs",
        )
        self._partial = seconds(
            "kubeproxy_sync_partial_proxy_rules_duration_seconds",
            "SyncProxyRules latency in seconds for partial resyncs",
        )
        self._programming = seconds(
            "kubeproxy_network_programming_duration_seconds",
            "In Cluster Network Programming Latency in seconds", _PROGRAMMING,
        )  # fmt: skip
        self._flow_seconds = seconds(
            "kubeproxy_conntrack_reconciler_sync_duration_seconds",
            "ReconcileConntrackFlowsLatency latency in seconds",
        )
        self._flows = Counter(
            "kubeproxy_conntrack_reconciler_deleted_entries_total",
            "Cumulative conntrack flows deleted by conntrack reconciler", _FAMILY, registry=one,
        )  # fmt: skip
        self._last = Gauge(
            _PREFIX + "last_timestamp_seconds",
            "The last time proxy rules were successfully synced", _FAMILY, registry=one,
        )  # fmt: skip
        self._queued = Gauge(
            _PREFIX + "last_queued_timestamp_seconds",
            "The last time a sync of proxy rules was queued", _FAMILY, registry=one,
        )  # fmt: skip
        self._failures = self._failure_counters(one)
        self._rules = Gauge(
            _PREFIX + f"{mode}_total", f"Total number of {mode} rules owned by kube-proxy",
            ("table", "ip_family"), registry=one,
        )  # fmt: skip
        self._requests = Counter(
            "rest_client_requests_total",
            "Number of HTTP requests, partitioned by status code, method, and host.",
            ("code", "method", "host"), registry=one,
        )  # fmt: skip
        self.healthz = Counter(
            "kubeproxy_proxy_healthz_total", "Cumulative proxy healthz HTTP status",
            ("code",), registry=one,
        )  # fmt: skip
        self.livez = Counter(
            "kubeproxy_proxy_livez_total", "Cumulative proxy livez HTTP status",
            ("code",), registry=one,
        )  # fmt: skip
        for family in families:
            for counter in self._failures:
                if counter is not None:
                    counter.labels(FAMILY_NAMES[family])

    def _failure_counters(self, one: CollectorRegistry) -> tuple[Counter, Counter | None]:
        """Return the counters of failed syncs: all, and partial ones where the peer has it."""
        if self._mode == "nftables":
            name, text = "nftables_sync_failures_total", "Cumulative proxy nftables sync failures"
            return (Counter(_PREFIX + name, text, _FAMILY, registry=one), None)
        text = "Cumulative proxy iptables restore failures"
        partial = "Cumulative proxy iptables partial restore failures"
        return (
            Counter(_PREFIX + "iptables_restore_failures_total", text, _FAMILY, registry=one),
            Counter(
                _PREFIX + "iptables_partial_restore_failures_total", partial, _FAMILY, registry=one
            ),
        )

    def queued(self, family: Family) -> None:
        """Something is to be synced."""
        self._queued.labels(FAMILY_NAMES[family]).set(time.time())

    def ended(self, family: Family, outcome: Outcome) -> None:
        """A sync ended."""
        name = FAMILY_NAMES[family]
        self._seconds.labels(name).observe(outcome.seconds)
        (self._full if outcome.full else self._partial).labels(name).observe(outcome.seconds)
        if outcome.synced is None:
            every, partial = self._failures
            every.labels(name).inc()
            if partial is not None and not outcome.full:
                partial.labels(name).inc()
            return
        now = time.time()
        self._last.labels(name).set(now)
        for at in outcome.triggers:
            self._programming.labels(name).observe(max(now - at, 0.0))
        for table, rules in outcome.synced.rules.items():
            self._rules.labels(table, name).set(rules)

    def current(self, family: Family) -> None:
        """Rules were looked at and are right."""

    def forgot(self, family: Family, removed: Removed) -> None:
        """Stale flows were looked for."""
        self._flow_seconds.labels(FAMILY_NAMES[family]).observe(removed.seconds)
        self._flows.labels(FAMILY_NAMES[family]).inc(removed.removed)

    def asked(self, host: str, method: str, status: int) -> None:
        """The API server answered a request."""
        self._requests.labels(str(status), method, host).inc()

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self._registry)


class _OfModel(Collector):
    """What is counted only when somebody asks."""

    def __init__(self, model: Model, families: tuple[Family, ...]) -> None:
        self._model = model
        self._families = families

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        """Yield the metrics."""
        one = self._model
        for kind, title, pending, total in (
            ("endpoint", "Endpoint", len(one.endpoint_changes), one.endpoint_events),
            ("service", "Service", len(one.service_changes), one.service_events),
        ):
            yield GaugeMetricFamily(
                f"{_PREFIX}{kind}_changes_pending", f"Pending proxy rules {title} changes",
                value=pending,
            )  # fmt: skip
            yield CounterMetricFamily(
                f"{_PREFIX}{kind}_changes_total", f"Cumulative proxy rules {title} changes",
                value=total,
            )  # fmt: skip
        missing = GaugeMetricFamily(
            f"{_PREFIX}no_local_endpoints_total",
            "Number of services with a Local traffic policy and no endpoints",
            labels=("traffic_policy", "ip_family"),
        )
        for family in self._families:
            internal = external = 0
            for portal in one.portals(family).values():
                if portal.internal_local and portal.internal_missing is Missing.LOCAL:
                    internal += 1
                if portal.external_local and portal.is_external:
                    external += portal.external_missing is Missing.LOCAL
            missing.add_metric(("internal", FAMILY_NAMES[family]), internal)
            missing.add_metric(("external", FAMILY_NAMES[family]), external)
        yield missing
