"""Fields, types and defaults of KubeletConfiguration."""

from __future__ import annotations

from typing import Any

import pytest

from kubeletpy.settings import ConfigurationError
from kubeletpy.settings.configuration import FIELDS, KubeletConfiguration, convert, encode
from kubeletpy.settings.support import NEEDLESS, UNSUPPORTED


def test_names_of_fields_are_those_of_kubernetes() -> None:
    assert len(FIELDS) == 125
    assert (
        not {"cpuCfsQuota", "clusterDns", "failCgroupv1", "providerId", "podCidr"} & FIELDS.keys()
    )
    assert {"cpuCFSQuota", "iptablesDropBit", "cgroupsPerQOS", "resolvConf"} <= FIELDS.keys()
    assert FIELDS.keys() >= NEEDLESS | UNSUPPORTED
    assert not NEEDLESS & UNSUPPORTED


def test_nothing_said_gives_the_defaults() -> None:
    one = convert({})
    assert one == KubeletConfiguration()
    assert (one.max_pods, one.port, one.pod_pids_limit, one.oom_score_adj) == (110, 10250, -1, -999)
    assert one.authentication.anonymous.enabled is False
    assert one.authorization.mode == "Webhook"
    assert one.eviction_hard["imagefs.available"] == "15%"


@pytest.mark.parametrize(
    ("document", "attribute", "value"),
    [
        # A zero is the same as nothing where Go has no pointer, and a zero where it has one.
        ({"maxPods": 0, "port": 0}, "max_pods", 110),
        ({"syncFrequency": "0s"}, "sync_frequency", 60),
        ({"healthzPort": 0}, "healthz_port", 0),
        ({"eventRecordQPS": 0}, "event_record_qps", 0),
        ({"nodeLeaseDurationSeconds": 0}, "node_lease_duration_seconds", 40),
        ({"resolvConf": ""}, "resolv_conf", ""),
        ({"hairpinMode": None}, "hairpin_mode", "promiscuous-bridge"),
        ({"podPidsLimit": -7}, "pod_pids_limit", -1),
        # How often the status is told follows how often it is looked at, if only that is set.
        ({}, "node_status_report_frequency", 300),
        ({"nodeStatusUpdateFrequency": "4s"}, "node_status_report_frequency", 4),
        ({"nodeStatusUpdateFrequency": "0s"}, "node_status_report_frequency", 300),
        (
            {"nodeStatusUpdateFrequency": "4s", "nodeStatusReportFrequency": "1m"},
            "node_status_report_frequency",
            60,
        ),
        ({"maxParallelImagePulls": 3}, "serialize_image_pulls", False),
        ({"maxParallelImagePulls": 1}, "serialize_image_pulls", True),
        ({"enforceNodeAllocatable": []}, "enforce_node_allocatable", []),
        ({"evictionHard": {}}, "eviction_hard", {}),
        ({"evictionHard": {"memory.available": "1Gi"}}, "eviction_hard",
         {"memory.available": "1Gi"}),
    ],
)  # fmt: skip
def test_defaults_of_what_is_said(document: dict[str, Any], attribute: str, value: object) -> None:
    assert getattr(convert(document), attribute) == value


def test_eviction_defaults_can_be_merged() -> None:
    document = {"evictionHard": {"nodefs.available": "1Gi"}, "mergeDefaultEvictionSettings": True}
    hard = convert(document).eviction_hard
    assert (hard["nodefs.available"], hard["memory.available"]) == ("1Gi", "100Mi")


def test_nested_zeros_mean_defaults() -> None:
    one = convert({
        "authentication": {"webhook": {"cacheTTL": "0s"}, "x509": {}},
        "authorization": {"mode": "", "webhook": {"cacheAuthorizedTTL": "0s"}},
        "logging": {"flushFrequency": 0, "options": {"json": {"infoBufferSize": "0"}}},
    })  # fmt: skip
    assert one == KubeletConfiguration()


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ({"maxPod": 1, "x": 2}, "no such field of KubeletConfiguration: maxPod, x"),
        ({"crashLoopBackOff": {"x": 1}}, "no such field of crashLoopBackOff: x"),
        ({"authentication": {"x509": {"ca": ""}}}, "no such field of authentication.x509: ca"),
        ({"healthzPort": "1"}, "healthzPort: Expected `int`"),
        ({"healthzPort": True}, "healthzPort: Expected `int`"),
        ({"maxPods": 2**31}, "maxPods: "),
        ({"runtimeRequestTimeout": "90"}, "runtimeRequestTimeout: '90' is no duration"),
        ({"evictionHard": {"memory.available": 5}}, "evictionHard"),
        ({"registerWithTaints": [{"Key": "a"}]}, "no such field of registerWithTaints[0]: Key"),
    ],
)
def test_fields_that_cannot_be_taken(document: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        convert(document)
    assert text in str(caught.value)


def test_it_is_written_as_go_writes_it() -> None:
    written = encode(KubeletConfiguration())
    assert written["syncFrequency"] == "1m0s"
    assert written["authentication"]["webhook"] == {"enabled": True, "cacheTTL": "2m0s"}
    assert "tracing" not in written
    assert convert(written) == KubeletConfiguration()
