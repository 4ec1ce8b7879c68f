"""The metrics of what is done for the node."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest

from kubeletpy.certificates.pairs import Template
from kubeletpy.metrics.instruments import Instruments
from kubeletpy.metrics.node_instruments import CertificateLives
from tests.unit.kubeletpy.certificates.authority import pair


def test_names_and_labels_are_those_of_go() -> None:
    made = Instruments()
    node = made.node
    node.relisted(0.02, None)
    node.relisted(0.02, 2.0)
    node.evicted("memory.available", 0.3)
    node.plugin_registrations.labels("vendor.com/gpu").inc()
    node.allocation_seconds.labels("vendor.com/gpu").observe(0.2)
    node.certificate("server", None)
    node.certificate("server", 7200.0)
    node.certificate("client", None)
    made.http_inflight.labels("GET", "pods", "readwrite", "false").inc()
    made.http_seconds.labels("GET", "pods", "readwrite", "false").observe(0.01)
    lines = generate_latest(made.registry).decode().splitlines()
    request = 'long_running="false",method="GET",path="pods",server_type="readwrite"'
    for line in (
        "kubelet_pleg_relist_duration_seconds_count 2.0",
        "kubelet_pleg_relist_interval_seconds_count 1.0",
        'kubelet_evictions{eviction_signal="memory.available"} 1.0',
        'kubelet_eviction_stats_age_seconds_count{eviction_signal="memory.available"} 1.0',
        'kubelet_device_plugin_registration_total{resource_name="vendor.com/gpu"} 1.0',
        'kubelet_device_plugin_alloc_duration_seconds_count{resource_name="vendor.com/gpu"} 1.0',
        "kubelet_server_expiration_renew_errors 1.0",
        "kubelet_certificate_manager_client_expiration_renew_errors 1.0",
        'kubelet_certificate_manager_server_rotation_seconds_bucket{le="14400.0"} 1.0',
        'kubelet_certificate_manager_server_rotation_seconds_bucket{le="3600.0"} 0.0',
        f"kubelet_http_inflight_requests{{{request}}} 1.0",
        f"kubelet_http_requests_duration_seconds_count{{{request}}} 1.0",
    ):
        assert line in lines
    assert any(line.startswith("kubelet_pleg_last_seen_seconds 1") for line in lines)


def test_how_long_certificates_are_good(tmp_path: Path) -> None:
    file, begin = tmp_path / "client.pem", datetime.now(UTC).replace(microsecond=0)
    lives = CertificateLives(
        {"client": lambda: file, "server": lambda: None}, lambda: begin.timestamp()
    )

    def told() -> dict[str, float]:
        registry = CollectorRegistry()
        registry.register(lives)
        return {
            kind: registry.get_sample_value(f"kubelet_certificate_manager_{kind}_ttl_seconds") or 0
            for kind in ("client", "server")
        }

    assert told() == {"client": math.inf, "server": math.inf}
    certificate, key = pair(Template(node="n"), begin=begin - timedelta(hours=1), hours=3)
    # The key may come first, as in a file that somebody else wrote.
    file.write_bytes(key + certificate)
    assert told() == {"client": 7200, "server": math.inf}
    file.write_bytes(b"-----BEGIN CERTIFICATE-----\nno\n-----END CERTIFICATE-----\n")
    assert told()["client"] == math.inf
