"""Limit ranges."""

from __future__ import annotations

from typing import Any

import pytest

from controlplane.admission.limits import add_defaults, claim_problems, pod_problems


def container(requests: dict[str, str], limits: dict[str, str], **more: Any) -> dict[str, Any]:
    return {"name": "c", "resources": {"requests": requests, "limits": limits}, **more}


def test_defaults_and_their_annotation() -> None:
    limits = [
        {"type": "Pod", "max": {"cpu": "9"}},
        {
            "type": "Container",
            "default": {"memory": "1Gi", "cpu": "1"},
            "defaultRequest": {"cpu": "100m"},
        },
    ]
    spec = {
        "containers": [container({}, {"cpu": "2"})],
        "initContainers": [{"name": "i"}],
    }
    pod: dict[str, Any] = {"metadata": {}, "spec": spec}
    add_defaults(pod, limits)
    assert spec["containers"][0]["resources"] == {
        "requests": {"cpu": "100m"},
        "limits": {"cpu": "2", "memory": "1Gi"},
    }
    assert pod["metadata"]["annotations"] == {
        "kubernetes.io/limit-ranger": "LimitRanger plugin set: cpu request for container c; memory "
        "limit for container c; cpu request for init container i; cpu, memory limit for init "
        "container i"
    }
    pod = {"metadata": {}, "spec": {"containers": [container({}, {})]}}
    add_defaults(pod, [])
    assert "annotations" not in pod["metadata"]


@pytest.mark.parametrize(
    ("limit", "requests", "limits", "expected"),
    [
        ({"min": {"cpu": "100m"}}, {"cpu": "0.1"}, {}, []),
        (
            {"min": {"cpu": "100m"}},
            {},
            {},
            ["minimum cpu usage per Container is 100m.  No request is specified"],
        ),
        (
            {"min": {"cpu": "100m"}},
            {"cpu": "50m"},
            {},
            ["minimum cpu usage per Container is 100m, but request is 50m"],
        ),
        (
            {"max": {"cpu": "1", "memory": "1Gi"}},
            {"cpu": "1"},
            {"cpu": "1500m"},
            [
                "maximum cpu usage per Container is 1, but limit is 1500m",
                "maximum memory usage per Container is 1Gi.  No limit is specified",
            ],
        ),
        (
            {"maxLimitRequestRatio": {"cpu": "2"}},
            {"cpu": "1"},
            {"cpu": "3"},
            [
                "cpu max limit to request ratio per Container is 2, but provided ratio is 3.000000",
            ],
        ),
        (
            {"maxLimitRequestRatio": {"cpu": "2"}},
            {"cpu": "0"},
            {"cpu": "3"},
            [
                "cpu max limit to request ratio per Container is 2, but no request is specified or "
                "request is 0",
            ],
        ),
    ],
)
def test_limits_of_containers(
    limit: dict[str, Any], requests: dict[str, str], limits: dict[str, str], expected: list[str]
) -> None:
    spec = {"containers": [container(requests, limits)]}
    assert list(pod_problems(spec, [{"type": "Container", **limit}])) == expected


def test_limits_of_pods_count_what_runs_together() -> None:
    limits = [{"type": "Pod", "max": {"cpu": "2"}}]
    spec: dict[str, Any] = {
        "containers": [container({"cpu": "1"}, {"cpu": "1"})],
        "initContainers": [
            container({"cpu": "1"}, {"cpu": "1"}, restartPolicy="Always"),
            container({"cpu": "1"}, {"cpu": "1"}),
        ],
    }
    assert list(pod_problems(spec, limits)) == []
    spec["initContainers"].append(container({"cpu": "1500m"}, {"cpu": "1500m"}))
    text = "maximum cpu usage per Pod is 2, but limit is 2500m"
    assert list(pod_problems(spec, limits)) == [text]
    spec["resources"] = {"limits": {"cpu": "2"}, "requests": {"cpu": "1"}}
    assert list(pod_problems(spec, limits)) == []


def test_limits_of_claims() -> None:
    limits = [
        {"type": "PersistentVolumeClaim", "min": {"storage": "1Gi"}, "max": {"storage": "2Gi"}}
    ]
    for size, expected in (
        ("1Gi", []),
        ("1Mi", ["minimum storage usage per PersistentVolumeClaim is 1Gi, but request is 1Mi"]),
        ("3Gi", ["maximum storage usage per PersistentVolumeClaim is 2Gi, but request is 3Gi"]),
    ):
        spec = {"resources": {"requests": {"storage": size}}}
        assert list(claim_problems(spec, limits)) == expected
