"""The metrics of what the kubelet does for the node: lists, evictions, devices, certificates."""

from __future__ import annotations

import math
import os
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from .buckets import DEFAULT

_DAY: Final = 86400
_LIVES: Final = (
    60, 3600, 4 * 3600, _DAY, 7 * _DAY, 30 * _DAY, 90 * _DAY, 180 * _DAY, 360 * _DAY,
    4 * 360 * _DAY,
)  # fmt: skip
_TTL: Final = {
    "client": "Gauge of the TTL (time-to-live) of the Kubelet's client certificate. The value is "
    "in seconds until certificate expiry (negative if already expired). If client certificate is "
    "invalid or unused, the value will be +INF.",
    "server": "Gauge of the shortest TTL (time-to-live) of the Kubelet's serving certificate. The "
    "value is in seconds until certificate expiry (negative if already expired). If serving "
    "certificate is invalid or unused, the value will be +INF.",
}


class NodeInstruments:
    """The metrics; names, labels and buckets are the Go kubelet's.

    Args:
        registry: of ``/metrics``.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.relist_seconds = Histogram(
            "kubelet_pleg_relist_duration_seconds",
            "Duration in seconds for relisting pods in PLEG.", buckets=DEFAULT, registry=registry,
        )  # fmt: skip
        self.relist_interval = Histogram(
            "kubelet_pleg_relist_interval_seconds",
            "Interval in seconds between relisting in PLEG.", buckets=DEFAULT, registry=registry,
        )  # fmt: skip
        self.last_seen = Gauge(
            "kubelet_pleg_last_seen_seconds",
            "Timestamp in seconds when PLEG was last seen active.", registry=registry,
        )  # fmt: skip
        # Gauges below that only grow: of a counter the library would end the name with _total.
        self.evictions = Gauge(
            "kubelet_evictions", "Cumulative number of pod evictions by eviction signal",
            ["eviction_signal"], registry=registry,
        )  # fmt: skip
        self.eviction_age = Histogram(
            "kubelet_eviction_stats_age_seconds",
            "Time between when stats are collected, and when pod is evicted based on those stats "
            "by eviction signal",
            ["eviction_signal"], buckets=DEFAULT, registry=registry,
        )  # fmt: skip
        self.plugin_registrations = Counter(
            "kubelet_device_plugin_registration_total",
            "Cumulative number of device plugin registrations. Broken down by resource name.",
            ["resource_name"], registry=registry,
        )  # fmt: skip
        self.allocation_seconds = Histogram(
            "kubelet_device_plugin_alloc_duration_seconds",
            "Duration in seconds to serve a device plugin Allocation request. Broken down by "
            "resource name.",
            ["resource_name"], buckets=DEFAULT, registry=registry,
        )  # fmt: skip
        self.rotated = Histogram(
            "kubelet_certificate_manager_server_rotation_seconds",
            "Histogram of the number of seconds the previous certificate lived before being "
            "rotated.",
            buckets=_LIVES, registry=registry,
        )  # fmt: skip
        self.renew_errors = {
            "client": Gauge(
                "kubelet_certificate_manager_client_expiration_renew_errors",
                "Counter of certificate renewal errors.", registry=registry,
            ),
            "server": Gauge(
                "kubelet_server_expiration_renew_errors",
                "Counter of certificate renewal errors.", registry=registry,
            ),
        }  # fmt: skip

    def relisted(self, seconds: float, interval: float | None) -> None:
        """Take note of a full list of the runtime's containers."""
        self.relist_seconds.observe(seconds)
        if interval is not None:
            self.relist_interval.observe(interval)
        self.last_seen.set(time.time())

    def evicted(self, signal: str, age: float) -> None:
        """Take note of an eviction, and of how old was what it was decided by."""
        self.evictions.labels(signal).inc()
        self.eviction_age.labels(signal).observe(age)

    def certificate(self, kind: str, lived: float | None) -> None:
        """Take note of a renewal: seconds that the one before lived; None: it failed."""
        if lived is None:
            self.renew_errors[kind].inc()
        elif kind == "server":
            self.rotated.observe(lived)


class CertificateLives(Collector):
    """How long certificates are still good, read when asked.

    Args:
        files: by kind, ``client`` and ``server``; returns the file, None: there is none.
        clock: seconds since the epoch.
    """

    def __init__(
        self,
        files: Mapping[str, Callable[[], Path | None]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._files = files
        self._clock = clock
        self._ends: dict[str, tuple[object, float]] = {}

    def collect(self) -> Iterator[Metric]:
        """Return the seconds."""
        for kind, file in self._files.items():
            name = f"kubelet_certificate_manager_{kind}_ttl_seconds"
            left = self._end(kind, file()) - self._clock()
            value = math.trunc(left) if math.isfinite(left) else left
            yield GaugeMetricFamily(name, _TTL[kind], value=value)

    def _end(self, kind: str, file: Path | None) -> float:
        """Return when a certificate ends, in seconds since the epoch; infinite without one."""
        if file is None:
            return math.inf
        try:
            found = os.stat(file)
            mark = (str(file), found.st_ino, found.st_mtime_ns)
            known = self._ends.get(kind)
            if known is None or known[0] != mark:
                known = self._ends[kind] = (mark, _end_of(file.read_bytes()))
            return known[1]
        except (OSError, ValueError):
            return math.inf


def _end_of(pem: bytes) -> float:
    """Return when the first certificate of a file ends; the file may hold its key, too.

    Raises:
        ValueError: there is none in it.
    """
    from cryptography.x509 import load_der_x509_certificate

    begin, end = b"-----BEGIN CERTIFICATE-----", b"-----END CERTIFICATE-----"
    body = pem[pem.index(begin) : pem.index(end) + len(end)].decode("ascii")
    return load_der_x509_certificate(ssl.PEM_cert_to_DER_cert(body)).not_valid_after_utc.timestamp()
