"""Statuses as strategic merge patches."""

from __future__ import annotations

from typing import Any

import pytest

from kubeletpy.status.patch import status_patch

READY = {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
UNREADY = {
    "type": "Ready",
    "status": "False",
    "lastTransitionTime": "2026-01-01T00:00:01Z",
    "reason": "ContainersNotReady",
}
GATE = {"type": "example.org/gate", "status": "True"}
DISRUPTED = {"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler"}


def ips(*addresses: str) -> dict[str, Any]:
    return {"podIPs": [{"ip": one} for one in addresses]}


@pytest.mark.parametrize(
    ("shown", "wanted", "changes"),
    [
        pytest.param({}, {}, None, id="nothing"),
        pytest.param({"phase": "Pending"}, {"phase": "Pending"}, None, id="the same"),
        pytest.param(
            {"phase": "Pending", "reason": "X"},
            {"phase": "Running"},
            {"phase": "Running", "reason": None},
            id="fields changed and taken away",
        ),
        pytest.param(
            {"conditions": [UNREADY, GATE]},
            {"conditions": [READY]},
            {
                "$setElementOrder/conditions": [{"type": "Ready"}],
                "conditions": [
                    {
                        "type": "Ready",
                        "status": "True",
                        "lastTransitionTime": "2026-01-01T00:00:00Z",
                        "reason": None,
                    }
                ],
            },
            id="conditions of others are neither named nor removed",
        ),
        pytest.param(
            {"conditions": [READY, {**READY, "lastProbeTime": None}]},
            {"conditions": [READY]},
            None,
            id="a null is as good as nothing",
        ),
        pytest.param(
            {"conditions": [READY, DISRUPTED]},
            {"conditions": [READY]},
            None,
            id="a shared condition stays as others wrote it",
        ),
        pytest.param(
            {"conditions": [{"type": "PodResizePending", "status": "True"}, READY]},
            {"conditions": [READY]},
            {
                "$setElementOrder/conditions": [{"type": "Ready"}],
                "conditions": [{"$patch": "delete", "type": "PodResizePending"}],
            },
            id="an own condition that is over",
        ),
        pytest.param(
            {"conditions": [GATE]},
            {"conditions": [{**GATE, "status": "False"}]},
            None,
            id="an old word about a condition of others is not sent",
        ),
        pytest.param(
            ips("10.0.0.1", "fd00::1"),
            ips("fd00::1", "10.0.0.1"),
            {"$setElementOrder/podIPs": [{"ip": "fd00::1"}, {"ip": "10.0.0.1"}]},
            id="another order of addresses",
        ),
        pytest.param(
            ips("10.0.0.1"),
            ips("10.0.0.2"),
            {
                "$setElementOrder/podIPs": [{"ip": "10.0.0.2"}],
                "podIPs": [{"ip": "10.0.0.2"}, {"$patch": "delete", "ip": "10.0.0.1"}],
            },
            id="another address",
        ),
        pytest.param(
            {"containerStatuses": [{"name": "a", "ready": False}]},
            {"containerStatuses": [{"name": "a", "ready": True}]},
            {"containerStatuses": [{"name": "a", "ready": True}]},
            id="statuses of containers are one list",
        ),
        pytest.param(
            {"phase": "Failed", "reason": "NodeLost"},
            {"phase": "Running", "podIP": "10.0.0.1"},
            {"podIP": "10.0.0.1"},
            id="a pod at its end stays there",
        ),
        pytest.param(
            {"phase": "Failed", "resourceClaimStatuses": [{"name": "gpu"}], "novelty": 1},
            {"phase": "Failed"},
            None,
            id="fields of others",
        ),
        pytest.param({"observedGeneration": 1}, {"observedGeneration": 2},
                     {"observedGeneration": 2}, id="generation"),
    ],
)  # fmt: skip
def test_patch(
    shown: dict[str, Any], wanted: dict[str, Any], changes: dict[str, Any] | None
) -> None:
    expected = None if changes is None else {"metadata": {"uid": "u"}, "status": changes}
    assert status_patch(shown, wanted, "u") == expected
