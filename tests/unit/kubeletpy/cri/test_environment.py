from __future__ import annotations

from typing import Any

import pytest

from kubeletpy.api.container import ResourceFieldSelector
from kubeletpy.api.quantity import Quantity
from kubeletpy.cri.environment import (
    PodAddresses,
    environment,
    expand,
    format_map,
    resource_value,
)
from kubeletpy.cri.node import NodeFacts
from kubeletpy.cri.security import ConfigError

from ..api.pods import make_pod, with_container

NODE = NodeFacts(
    name="node",
    cpu_milli=2000,
    memory_bytes=9 * 2**30,
    allocatable={"cpu": Quantity(2), "memory": Quantity("8Gi"), "hugepages-2Mi": Quantity("4Mi")},
)
ADDRESSES = PodAddresses(pod=("10.88.0.5", "fd88::5"), host=("192.0.2.1",))


@pytest.mark.parametrize(
    ("text", "expanded"),
    [
        ("$(A)", "1"),
        ("x$(A)y$(B)", "x1y2"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$$$$(A)", "$$(A)"),
        ("$(UNKNOWN)", "$(UNKNOWN)"),
        ("$A", "$A"),
        ("$", "$"),
        ("$$", "$"),
        ("$(A", "$(A"),
        ("$()", "$()"),
        ("a$(A)b$", "a1b$"),
        ("$((A))", "$((A))"),
        ("${A}", "${A}"),
    ],
)
def test_expand(text: str, expanded: str) -> None:
    assert expand(text, {"A": "1", "B": "2"}) == expanded


def variables(*env: dict[str, Any], **more: Any) -> dict[str, str]:
    pod = make_pod(nodeName="node", **with_container(env=list(env), **more))
    pod.metadata.labels = {"app": "web"}
    return environment(pod, pod.spec.containers[0], NODE, ADDRESSES)


def test_values_refer_to_what_is_above_them() -> None:
    assert variables(
        {"name": "B", "value": "$(A)"},
        {"name": "A", "value": "1"},
        {"name": "C", "value": "$(A)$$(A)"},
        {"name": "A", "value": "2"},
    ) == {"B": "$(A)", "A": "2", "C": "1$(A)"}


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("metadata.name", "web"),
        ("metadata.namespace", "default"),
        ("metadata.uid", "11111111-2222"),
        ("metadata.labels['app']", "web"),
        ("metadata.labels['none']", ""),
        ("metadata.annotations['none']", ""),
        ("spec.nodeName", "node"),
        ("spec.serviceAccountName", ""),
        ("status.podIP", "10.88.0.5"),
        ("status.podIPs", "10.88.0.5,fd88::5"),
        ("status.hostIP", "192.0.2.1"),
        ("status.hostIPs", "192.0.2.1"),
    ],
)
def test_fields(path: str, value: str) -> None:
    assert variables({"name": "A", "valueFrom": {"fieldRef": {"fieldPath": path}}}) == {"A": value}


def test_values_of_fields_are_not_expanded() -> None:
    pod = make_pod(
        **with_container(
            env=[
                {"name": "A", "value": "1"},
                {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['x']"}}},
            ]
        )
    )
    pod.metadata.labels = {"x": "$(A)"}
    assert environment(pod, pod.spec.containers[0], NODE, ADDRESSES)["B"] == "$(A)"


def test_unknown_field() -> None:
    with pytest.raises(ConfigError, match=r"spec\.nothing"):
        variables({"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "spec.nothing"}}})


@pytest.mark.parametrize(
    ("resource", "divisor", "value"),
    [
        ("limits.cpu", None, "2"),  # 1500m, rounded up
        ("limits.cpu", "1m", "1500"),
        ("limits.cpu", "0", "2"),
        ("requests.cpu", "1m", "250"),
        ("limits.memory", None, str(8 * 2**30)),  # not set: the node's
        ("limits.memory", "1Mi", "8192"),
        ("requests.memory", "1Mi", "65"),
        ("limits.ephemeral-storage", None, "0"),  # the node says nothing of it
        ("limits.hugepages-2Mi", None, "0"),  # never the node's
    ],
)
def test_resources(resource: str, divisor: str | None, value: str) -> None:
    pod = make_pod(
        **with_container(
            resources={
                "limits": {"cpu": "1500m"},
                "requests": {"cpu": "250m", "memory": "64.5Mi"},
            }
        )
    )
    selector = ResourceFieldSelector(
        resource=resource, divisor=Quantity(divisor) if divisor else None
    )
    assert resource_value(pod, pod.spec.containers[0], selector, NODE) == value


@pytest.mark.parametrize(
    ("resource", "value"),
    [
        ("limits.cpu", "500"),
        ("limits.memory", str(64 * 2**20 * 1000)),
        ("limits.ephemeral-storage", "0"),  # a pod has none as a whole
        ("requests.memory", "0"),
    ],
)
def test_limits_fall_back_to_those_of_the_pod(resource: str, value: str) -> None:
    pod = make_pod(
        resources={
            "limits": {"cpu": "500m", "memory": "64Mi"},
            "requests": {"cpu": "250m", "memory": "32Mi"},
        }
    )
    selector = ResourceFieldSelector(resource=resource, divisor=Quantity("1m"))
    assert resource_value(pod, pod.spec.containers[0], selector, NODE) == value


def test_resource_of_an_unknown_container() -> None:
    pod = make_pod()
    selector = ResourceFieldSelector(container_name="other", resource="limits.cpu")
    with pytest.raises(ConfigError, match="other"):
        resource_value(pod, pod.spec.containers[0], selector, NODE)


def test_format_map() -> None:
    assert format_map({"b": 'x"y\\', "a": "1\n2\x01é"}) == 'a="1\\n2\\x01é"\nb="x\\"y\\\\"'
