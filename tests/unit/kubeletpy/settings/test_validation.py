"""What a configuration may not say: one row for each rule of the Go kubelet."""

from __future__ import annotations

from typing import Any

import pytest

from kubeletpy.settings.configuration import convert
from kubeletpy.settings.validation import problems

GRACE = {"shutdownGracePeriod": "30s", "shutdownGracePeriodCriticalPods": "10s"}
BY_PRIORITY = [{"priority": 1, "shutdownGracePeriodSeconds": 3}]
RESERVED = {"numaNode": 0, "limits": {"memory": "1Gi"}}


@pytest.mark.parametrize(
    "document",
    [
        {},
        GRACE,
        {"shutdownGracePeriodByPodPriority": BY_PRIORITY},
        {"featureGates": {"MemoryQoS": True, "AllAlpha": True, "NodeSwap": True}},
        {"serializeImagePulls": False, "maxParallelImagePulls": 4},
        {"registerWithTaints": [{"key": "a.example/b", "value": "c", "effect": "NoSchedule"}]},
        {"reservedSystemCPUs": "0-1,4", "reservedMemory": [RESERVED]},
        {"enforceNodeAllocatable": ["none"], "cgroupsPerQOS": False},
        {"userNamespaces": {"idsPerPod": 131072}, "containerLogMaxSize": "-1"},
        {"tracing": {"endpoint": "localhost:4317", "samplingRatePerMillion": 100}},
    ],
)
def test_what_is_right(document: dict[str, Any]) -> None:
    assert problems(convert(document)) == []


@pytest.mark.parametrize(
    ("document", "text"),
    [
        ({"featureGates": {"NoSuch": True}}, "unrecognized feature gate: NoSuch"),
        ({"featureGates": {"NodeSwap": False}}, "NodeSwap to false, feature is locked to true"),
        ({"featureGates": {"GitRepoVolumeDriver": True}}, "locked to false"),
        ({"nodeLeaseDurationSeconds": -1}, "nodeLeaseDurationSeconds: -1"),
        ({"systemCgroups": "/s"}, "systemCgroups"),
        ({"eventBurst": -1}, "eventBurst"),
        ({"eventRecordQPS": -1}, "eventRecordQPS"),
        ({"healthzPort": 70000}, "healthzPort (--healthz-port): 70000 must be between 0 and 65535"),
        ({"port": 70000}, "port (--port): 70000"),
        ({"readOnlyPort": -1}, "readOnlyPort"),
        ({"cpuCFSQuotaPeriod": "2s"}, "cpuCFSQuotaPeriod"),
        ({"cpuCFSQuotaPeriod": "10ms", "featureGates": {"CustomCPUCFSQuotaPeriod": False}},
         "feature gate CustomCPUCFSQuotaPeriod"),
        ({"imageGCHighThresholdPercent": 101}, "imageGCHighThresholdPercent"),
        ({"imageGCLowThresholdPercent": 85}, "imageGCLowThresholdPercent: 85 must be less"),
        ({"imageMaximumGCAge": "1m"}, "imageMaximumGCAge: 1m0s must be greater"),
        ({"imageMinimumGCAge": "-1s"}, "imageMinimumGCAge"),
        ({"iptablesDropBit": 32}, "iptablesDropBit"),
        ({"kubeAPIQPS": -1}, "kubeAPIQPS"),
        ({"nodeStatusMaxImages": -2}, "nodeStatusMaxImages"),
        ({"maxPods": -1}, "maxPods"),
        ({"oomScoreAdj": -1001}, "oomScoreAdj"),
        ({"podsPerCore": -1}, "podsPerCore"),
        ({"registryPullQPS": -1}, "registryPullQPS"),
        ({"maxParallelImagePulls": 0}, "maxParallelImagePulls: 0"),
        ({"serializeImagePulls": True, "maxParallelImagePulls": 2}, "serializeImagePulls: false"),
        ({"runOnce": True}, "runOnce"),
        ({"registerWithTaints": [{"key": "-", "effect": "NoSchedule"}]}, "registerWithTaints"),
        ({"registerWithTaints": [{"key": "a", "effect": "No"}]}, "effect 'No'"),
        ({"registerWithTaints": [{"key": "a", "timeAdded": "x"}]}, "timeAdded"),
        ({"topologyManagerPolicy": "x"}, "topologyManagerPolicy"),
        ({"topologyManagerScope": "x"}, "topologyManagerScope"),
        ({"shutdownGracePeriodCriticalPods": "1s"}, "shutdownGracePeriodCriticalPods 1s must be"),
        ({"shutdownGracePeriod": "500ms"}, "shutdownGracePeriod 500ms must be either zero"),
        ({**GRACE, "shutdownGracePeriodByPodPriority": BY_PRIORITY}, "exclude each other"),
        ({**GRACE, "featureGates": {"GracefulNodeShutdown": False}}, "gate GracefulNodeShutdown"),
        ({"memorySwap": {"swapBehavior": "x"}}, "memorySwap.swapBehavior"),
        ({"crashLoopBackOff": {"maxContainerRestartPeriod": "1h"}}, "between 1 s and 300 s"),
        ({"enforceNodeAllocatable": ["pods", "pods"]}, "pods is given twice"),
        ({"enforceNodeAllocatable": ["x"]}, "'x' must be one of"),
        ({"enforceNodeAllocatable": ["none", "pods"]}, "none allows for nothing beside"),
        ({"enforceNodeAllocatable": ["system-reserved"]}, "needs systemReservedCgroup"),
        ({"enforceNodeAllocatable": ["kube-reserved"]}, "needs kubeReservedCgroup"),
        ({"enforceNodeAllocatable": ["kube-reserved", "kube-reserved-compressible"],
          "kubeReservedCgroup": "/k"}, "exclude each other"),
        ({"cgroupsPerQOS": False}, "needs cgroupsPerQOS"),
        ({"hairpinMode": "x"}, "hairpinMode"),
        ({"imagePullCredentialsVerificationPolicy": "x"}, "imagePullCredentialsVerificationPolicy"),
        ({"preloadedImagesVerificationAllowlist": ["a/b"]}, "preloadedImagesVerificationAllowlist"),
        ({"imagePullCredentialsVerificationPolicy": "NeverVerifyAllowlistedImages",
          "preloadedImagesVerificationAllowlist": ["a/b:1"]}, "neither tag nor digest"),
        ({"reservedSystemCPUs": "a"}, "reservedSystemCPUs"),
        ({"reservedSystemCPUs": "1", "kubeReservedCgroup": "/k"}, "reservedSystemCPUs excludes"),
        ({"reservedMemory": [RESERVED, RESERVED]}, "given twice"),
        ({"reservedMemory": [{"limits": {"cpu": "1"}}]}, "only memory and hugepages-SIZE"),
        ({"reservedMemory": [{"limits": {"memory": 0}}]}, "and not zero"),
        ({"kubeReserved": {"gpu": "1"}}, "cannot reserve 'gpu'"),
        ({"systemReserved": {"cpu": "-1"}}, "systemReserved.cpu"),
        ({"logging": {"format": "x"}}, "logging.format"),
        ({"logging": {"format": "json", "vmodule": [{"filePattern": "a"}]}}, "logging.vmodule"),
        ({"tracing": {"samplingRatePerMillion": -1}}, "samplingRatePerMillion"),
        ({"tracing": {"endpoint": "http://x"}}, "unsupported scheme http"),
        ({"memoryThrottlingFactor": 0.0}, "memoryThrottlingFactor"),
        ({"memoryReservationPolicy": "TieredReservation"}, "MemoryQoS"),
        ({"enableSystemLogQuery": True, "enableSystemLogHandler": False}, "enableSystemLogHandler"),
        ({"containerLogMaxWorkers": 0}, "containerLogMaxWorkers"),
        ({"containerLogMonitorInterval": "2s"}, "containerLogMonitorInterval"),
        ({"containerLogMaxFiles": 1}, "containerLogMaxFiles"),
        ({"containerLogMaxSize": "x"}, "containerLogMaxSize"),
        ({"podLogsDir": "logs"}, "podLogsDir: 'logs' is not an absolute path"),
        ({"podLogsDir": "/a/../b"}, "must be normalized"),
        ({"podLogsDir": "/ä"}, "ASCII"),
        ({"userNamespaces": {"idsPerPod": 65537}}, "userNamespaces.idsPerPod"),
        ({"tlsCertFile": "/c"}, "tlsPrivateKeyFile"),
        ({"tlsMinVersion": "1.2"}, "tlsMinVersion"),
        ({"authorization": {"mode": "x"}}, "authorization.mode"),
        ({"cgroupDriver": "x"}, "cgroupDriver"),
    ],
)  # fmt: skip
def test_what_is_refused(document: dict[str, Any], text: str) -> None:
    found = problems(convert(document))
    assert [one for one in found if text in one], found


def test_all_is_told_at_once() -> None:
    assert len(problems(convert({"maxPods": -1, "hairpinMode": "x", "runOnce": True}))) == 3
