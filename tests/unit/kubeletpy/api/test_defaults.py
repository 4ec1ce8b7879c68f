from __future__ import annotations

import pytest

from kubeletpy.api.defaults import default_pull_policy
from kubeletpy.api.quantity import Quantity

from .pods import make_pod, with_container


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("web", "Always"),
        ("web:latest", "Always"),
        ("web:1", "IfNotPresent"),
        ("registry:5000/web", "Always"),
        ("registry:5000/web:1", "IfNotPresent"),
        ("web@sha256:" + "0" * 64, "IfNotPresent"),
        ("web:latest@sha256:" + "0" * 64, "IfNotPresent"),
    ],
)
def test_pull_policy(image: str, policy: str) -> None:
    assert default_pull_policy(image) == policy


def test_pod() -> None:
    spec = make_pod(volumes=[{"name": "scratch"}], serviceAccount="robot").spec
    assert spec.restart_policy == "Always"
    assert spec.dns_policy == "ClusterFirst"
    assert spec.termination_grace_period_seconds == 30
    assert spec.enable_service_links is True
    assert spec.volumes[0].empty_dir is not None
    assert spec.service_account_name == "robot"


def test_what_is_set_stays() -> None:
    spec = make_pod(restartPolicy="Never", terminationGracePeriodSeconds=0, dnsPolicy="None").spec
    assert (spec.restart_policy, spec.termination_grace_period_seconds) == ("Never", 0)
    assert spec.dns_policy == "None"


def test_container() -> None:
    container = make_pod(
        **with_container(
            ports=[{"containerPort": 80}],
            resources={"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "100m"}},
            livenessProbe={"httpGet": {"port": 80}},
            lifecycle={"preStop": {"httpGet": {"port": 80}}},
            env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
        )
    ).spec.containers[0]
    assert container.image_pull_policy == "IfNotPresent"
    assert container.termination_message_path == "/dev/termination-log"
    assert container.termination_message_policy == "File"
    assert container.ports[0].protocol == "TCP"
    assert container.resources.requests == {"cpu": Quantity("100m"), "memory": Quantity("1Gi")}
    probe = container.liveness_probe
    assert probe is not None
    assert (probe.timeout_seconds, probe.period_seconds) == (1, 10)
    assert (probe.success_threshold, probe.failure_threshold) == (1, 3)
    assert probe.http_get is not None
    assert (probe.http_get.path, probe.http_get.scheme) == ("/", "HTTP")
    assert container.lifecycle is not None
    assert container.lifecycle.pre_stop is not None
    assert container.lifecycle.pre_stop.http_get is not None
    assert container.lifecycle.pre_stop.http_get.scheme == "HTTP"
    reference = container.env[0].value_from
    assert reference is not None
    assert reference.field_ref is not None
    assert reference.field_ref.api_version == "v1"


def test_host_network_takes_the_container_port() -> None:
    pod = make_pod(hostNetwork=True, **with_container(ports=[{"containerPort": 80}]))
    assert pod.spec.containers[0].ports[0].host_port == 80


def test_pod_level_requests() -> None:
    pod = make_pod(
        resources={"limits": {"cpu": "2", "memory": "1Gi"}},
        containers=[
            {"name": "a", "image": "x:1", "resources": {"requests": {"cpu": "300m"}}},
            {"name": "b", "image": "x:1", "resources": {"requests": {"cpu": "200m"}}},
        ],
    )
    assert pod.spec.resources is not None
    assert pod.spec.resources.requests == {"cpu": Quantity("500m"), "memory": Quantity("1Gi")}
