"""Defaults and checks of pod specs, by tables of facts."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from controlplane.kinds.strategies.podspec import (
    check_pod_spec,
    check_pod_template,
    default_pod,
    default_pod_spec,
    pod_warnings,
)
from controlplane.kinds.strategies.podspec.defaults import image_tag


def _defaulted(**fields: Any) -> dict[str, Any]:
    spec: dict[str, Any] = {"containers": [{"name": "a", "image": "b"}], **copy.deepcopy(fields)}
    default_pod_spec(spec)
    default_pod(spec)
    return spec


def test_a_minimal_pod_gets_its_defaults() -> None:
    assert _defaulted() == {
        "restartPolicy": "Always",
        "dnsPolicy": "ClusterFirst",
        "schedulerName": "default-scheduler",
        "terminationGracePeriodSeconds": 30,
        "securityContext": {},
        "enableServiceLinks": True,
        "containers": [
            {
                "name": "a",
                "image": "b",
                "imagePullPolicy": "Always",
                "terminationMessagePath": "/dev/termination-log",
                "terminationMessagePolicy": "File",
                "resources": {},
            }
        ],
    }


def test_defaults_are_put_in_once() -> None:
    once = _defaulted(hostNetwork=True, volumes=[{"name": "v"}])
    again = copy.deepcopy(once)
    default_pod_spec(again)
    default_pod(again)
    assert again == once


def test_only_pods_ask_for_as_much_as_their_limits() -> None:
    resources = {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}
    container = {"name": "a", "image": "b", "resources": resources}
    spec = {"containers": [copy.deepcopy(container)]}
    default_pod_spec(spec)
    assert spec["containers"][0]["resources"] == resources
    default_pod(spec)
    assert spec["containers"][0]["resources"]["requests"] == {"cpu": "500m", "memory": "1Gi"}


def test_a_pod_as_a_whole_asks_for_what_its_containers_do() -> None:
    container = {"name": "a", "image": "b", "resources": {"requests": {"cpu": "250m"}}}
    spec = _defaulted(containers=[container], resources={"limits": {"cpu": "1", "memory": "64Mi"}})
    assert spec["resources"]["requests"] == {"cpu": "250m", "memory": "64Mi"}


@pytest.mark.parametrize(
    ("volume", "expected"),
    [
        ({}, {"emptyDir": {}}),
        ({"secret": {"secretName": "s"}}, {"secret": {"secretName": "s", "defaultMode": 420}}),
        ({"hostPath": {"path": "/"}}, {"hostPath": {"path": "/", "type": ""}}),
        (
            {"downwardAPI": {"items": [{"path": "p", "fieldRef": {"fieldPath": "metadata.name"}}]}},
            {
                "downwardAPI": {
                    "defaultMode": 420,
                    "items": [
                        {
                            "path": "p",
                            "fieldRef": {"fieldPath": "metadata.name", "apiVersion": "v1"},
                        }
                    ],
                }
            },
        ),
    ],
)
def test_volumes_get_their_defaults(volume: dict[str, Any], expected: dict[str, Any]) -> None:
    spec = _defaulted(volumes=[{"name": "v", **volume}])
    assert spec["volumes"] == [{"name": "v", **expected}]


@pytest.mark.parametrize(
    ("image", "tag"),
    [
        ("nginx", "latest"),
        ("nginx:1", "1"),
        ("host:5000/nginx", "latest"),
        ("host:5000/nginx:2", "2"),
        ("nginx@sha256:" + "0" * 64, ""),
        ("nginx:latest@sha256:" + "0" * 64, "latest"),
        ("", ""),
    ],
)
def test_tags_of_images(image: str, tag: str) -> None:
    assert image_tag(image) == tag


_A: dict[str, Any] = {"name": "a", "image": "b"}

WRONG: list[tuple[dict[str, Any], list[tuple[str, str]]]] = [
    ({}, []),
    ({"containers": []}, [("Required", "spec.containers")]),
    ({"containers": [{"name": "A", "image": "b"}]}, [("Invalid", "spec.containers[0].name")]),
    ({"containers": [_A, _A]}, [("Duplicate", "spec.containers[1].name")]),
    ({"initContainers": [_A]}, [("Duplicate", "spec.initContainers[0].name")]),
    ({"containers": [{"name": "a"}]}, [("Required", "spec.containers[0].image")]),
    (
        {"containers": [{**_A, "volumeMounts": [{"name": "v", "mountPath": "/v"}]}]},
        [("NotFound", "spec.containers[0].volumeMounts[0].name")],
    ),
    (
        {"volumes": [{"name": "v", "emptyDir": {}, "hostPath": {"path": "/"}}]},
        [("Forbidden", "spec.volumes[0].hostPath")],
    ),
    (
        {"containers": [{**_A, "resources": {"requests": {"cpu": "2"}, "limits": {"cpu": "1"}}}]},
        [("Invalid", "spec.containers[0].resources.requests")],
    ),
    (
        {"containers": [{**_A, "livenessProbe": {"tcpSocket": {"port": 1}, "exec": {}}}]},
        [
            ("Required", "spec.containers[0].livenessProbe.exec.command"),
            ("Forbidden", "spec.containers[0].livenessProbe.tcpSocket"),
        ],
    ),
    (
        {"initContainers": [{"name": "i", "image": "b", "readinessProbe": {"exec": {}}}]},
        [("Forbidden", "spec.initContainers[0].readinessProbe")],
    ),
    ({"dnsPolicy": "None"}, [("Required", "spec.dnsConfig")]),
    ({"hostname": "a.b"}, [("Invalid", "spec.hostname")]),
    ({"activeDeadlineSeconds": 0}, [("Invalid", "spec.activeDeadlineSeconds")]),
    (
        {"os": {"name": "windows"}, "hostPID": True},
        [("Forbidden", "spec.hostPID")],
    ),
]


@pytest.mark.parametrize(("fields", "expected"), WRONG)
def test_wrong_fields_are_named(fields: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    found = check_pod_spec(_defaulted(**fields), is_pod=True)
    named = [(cause.reason.removeprefix("FieldValue"), cause.field) for cause in found]
    assert named == expected


def test_templates_tell_their_own_paths() -> None:
    template = {"metadata": {"labels": {"a": "-"}}, "spec": _defaulted(hostname="a.b")}
    template["spec"]["ephemeralContainers"] = [{**_A, "name": "e"}]
    default_pod_spec(template["spec"])
    found = check_pod_template(template, "spec.template")
    assert [cause.field for cause in found] == [
        "spec.template.labels",
        "spec.template.spec.hostname",
        "spec.template.spec.ephemeralContainers",
    ]


_PORTS = [{"containerPort": 80, "name": "x"}, {"containerPort": 80, "name": "x", "hostPort": 80}]

DOUBTFUL: list[tuple[dict[str, Any], list[str]]] = [
    ({}, []),
    (
        {"nodeSelector": {"beta.kubernetes.io/os": "linux"}},
        [
            "spec.nodeSelector[beta.kubernetes.io/os]: deprecated since v1.14; use "
            '"kubernetes.io/os" instead'
        ],
    ),
    (
        {"containers": [{**_A, "env": [{"name": "e", "value": "1"}, {"name": "e"}]}]},
        [
            'spec.containers[0].env[1]: hides previous definition of "e", which may be dropped '
            "when using apply"
        ],
    ),
    (
        {"containers": [{**_A, "env": [{"name": "e"}, {"name": "e", "value": "$(e):x"}]}]},
        [],
    ),
    (
        {"containers": [{**_A, "ports": _PORTS}]},
        [
            "spec.containers[0].ports[1]: overlapping port definition with "
            "spec.containers[0].ports[0]",
            'spec.containers[0].ports[1]: duplicate port name "x" with '
            "spec.containers[0].ports[0], services and probes that select ports by name will use "
            "spec.containers[0].ports[0]",
        ],
    ),
    (
        {"containers": [{**_A, "resources": {"limits": {"memory": "100m"}}}]},
        [
            'spec.containers[0].resources.limits[memory]: fractional byte value "100m" is '
            "invalid, must be an integer",
            'spec.containers[0].resources.requests[memory]: fractional byte value "100m" is '
            "invalid, must be an integer",
        ],
    ),
    (
        {"volumes": [{"name": "v", "gitRepo": {"repository": "r"}}]},
        ["spec.volumes[0].gitRepo: deprecated in v1.11, and disabled by default in v1.33+"],
    ),
]


@pytest.mark.parametrize(("fields", "expected"), DOUBTFUL)
def test_users_hear_of_doubtful_fields(fields: dict[str, Any], expected: list[str]) -> None:
    assert pod_warnings({"metadata": {}, "spec": _defaulted(**fields)}) == expected
