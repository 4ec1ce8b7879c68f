from __future__ import annotations

from typing import Any

import pytest

from kubeletpy.api.signals import SIGNALS, cri_signal
from kubeletpy.api.support import unsupported, without_effect
from kubeletpy_proto import cri_pb2

from .pods import make_pod, with_container


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ({"serviceAccountName": "robot"}, "spec.serviceAccountName"),
        ({"imagePullSecrets": [{"name": "x"}]}, "spec.imagePullSecrets"),
        ({"runtimeClassName": "gvisor"}, "spec.runtimeClassName"),
        ({"readinessGates": [{"conditionType": "x"}]}, "spec.readinessGates"),
        ({"nodeSelector": {"a": "b"}}, "spec.nodeSelector"),
        ({"os": {"name": "windows"}}, "spec.os.name"),
        ({"overhead": {"cpu": "1"}}, "spec.overhead"),
        ({"ephemeralContainers": [{"name": "x"}]}, "spec.ephemeralContainers"),
        ({"affinity": {"nodeAffinity": {}}}, "spec.affinity.nodeAffinity"),
        ({"volumes": [{"name": "a", "configMap": {"name": "x"}}]}, "spec.volumes[0].configMap"),
        ({"volumes": [{"name": "a", "secret": {}}]}, "spec.volumes[0].secret"),
        ({"volumes": [{"name": "a", "persistentVolumeClaim": {"claimName": "x"}}]},
         "spec.volumes[0].persistentVolumeClaim"),
        ({"volumes": [{"name": "a", "gitRepo": {"repository": "x"}}]}, "spec.volumes[0].gitRepo"),
        ({"volumes": [{"name": "a", "iscsi": {}}]}, "spec.volumes[0].iscsi"),
        ({"volumes": [{"name": "a", "rbd": {}}]}, "spec.volumes[0].rbd"),
        ({"volumes": [{"name": "a", "emptyDir": {"sizeLimit": "1Gi"}}]},
         "spec.volumes[0].emptyDir.sizeLimit"),
        (with_container(envFrom=[{"configMapRef": {"name": "x"}}]), "spec.containers[0].envFrom"),
        (with_container(env=[{"name": "A", "valueFrom": {"secretKeyRef": {"key": "x"}}}]),
         "spec.containers[0].env[0].valueFrom.secretKeyRef"),
        (with_container(resources={"limits": {"ephemeral-storage": "1Gi"}}),
         "spec.containers[0].resources.limits[ephemeral-storage]"),
    ],
)  # fmt: skip
def test_what_is_not_honoured_is_refused(spec: dict[str, Any], path: str) -> None:
    errors = unsupported(make_pod(**spec))
    assert [error.path for error in errors] == [path]
    assert str(errors[0]).startswith(f"{path}: not supported yet by this kubelet")


def test_honoured_fields_pass() -> None:
    pod = make_pod(
        hostNetwork=True,
        hostUsers=True,
        os={"name": "linux"},
        initContainers=[{"name": "side", "image": "x", "restartPolicy": "Always"}],
        volumes=[
            {"name": "a", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
            {"name": "b", "hostPath": {"path": "/x"}},
            {"name": "c", "downwardAPI": {"items": []}},
        ],
        **with_container(
            env=[{"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
            resources={
                "limits": {
                    "cpu": "1",
                    "memory": "1Gi",
                    "hugepages-2Mi": "2Mi",
                    "example.com/gpu": "1",
                }
            },
            startupProbe={"exec": {"command": ["true"]}},
            readinessProbe={"grpc": {"port": 1}},
        ),
    )
    assert unsupported(pod) == []
    assert without_effect(pod) == []


def test_scheduling_is_told_and_accepted() -> None:
    pod = make_pod(
        tolerations=[{"operator": "Exists"}],
        priority=5,
        schedulerName="mine",
        affinity={"podAffinity": {}},
        **with_container(resources={"requests": {"ephemeral-storage": "1Gi"}}),
    )
    assert unsupported(pod) == []
    assert without_effect(pod) == [
        "spec.tolerations",
        "spec.priority",
        "spec.affinity.podAffinity",
        "spec.schedulerName",
        "spec.containers[0].resources.requests[ephemeral-storage]",
    ]


@pytest.mark.parametrize("signal", SIGNALS)
def test_every_signal_is_one_of_cri(signal: str) -> None:
    assert cri_pb2.Signal.Value(cri_signal(signal)) > 0


def test_every_signal_of_cri_can_be_asked_for() -> None:
    assert len(SIGNALS) == len(cri_pb2.Signal.items()) - 1
