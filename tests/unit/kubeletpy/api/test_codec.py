from __future__ import annotations

import json
from typing import Any

import pytest

from kubeletpy.api.codec import DecodeError, decode, deep_copy, encode, encode_sorted
from kubeletpy.api.pod import Pod
from kubeletpy.api.status import (
    ContainerState,
    ContainerStateTerminated,
    ContainerStatus,
    PodStatus,
)

from .pods import document, make_pod, with_container


@pytest.mark.parametrize(
    ("change", "path", "reason"),
    [
        ({"spec": []}, "spec", "expected `object`, got `array`"),
        ({"spec": {"contianers": []}}, "spec.contianers", "unknown field"),
        ({"spec": {"containers": [{"naem": "x"}]}}, "spec.containers[0].naem", "unknown field"),
        ({"spec": {"containers": [{}, {"name": 5}]}}, "spec.containers[1].name",
         "expected `str`, got `int`"),
        ({"spec": {"hostNetwork": "yes"}}, "spec.hostNetwork", "expected `bool`, got `str`"),
        ({"spec": {"nodeSelector": {"a": "b", "c": 1}}}, "spec.nodeSelector[c]",
         "expected `str`, got `int`"),
        ({"spec": {"containers": [{"resources": {"limits": {"cpu": "1", "memory": "1Q"}}}]}},
         "spec.containers[0].resources.limits[memory]", "quantity '1Q' must be a number"),
        ({"spec": {"containers": [{"ports": [{"containerPort": 2**40}]}]}},
         "spec.containers[0].ports[0].containerPort", "<= 2147483647"),
        ({"metadata": {"creationTimestamp": "yesterday"}}, "metadata.creationTimestamp",
         "invalid RFC3339"),
        ({"spec": {"containers": [{"livenessProbe": {"tcpSocket": {"port": 1.5}}}]}},
         "spec.containers[0].livenessProbe.tcpSocket.port", "expected `int | str`, got `float`"),
    ],
)  # fmt: skip
def test_misfit_names_the_field(change: dict[str, Any], path: str, reason: str) -> None:
    with pytest.raises(DecodeError) as caught:
        decode(change, Pod)
    assert caught.value.path == path
    assert reason in caught.value.reason


def test_no_object_at_all() -> None:
    with pytest.raises(DecodeError) as caught:
        decode("pod", Pod)
    assert caught.value.path == ""


def test_null_is_absent() -> None:
    pod = decode({"metadata": {"creationTimestamp": None}, "spec": {"volumes": None}}, Pod)
    assert pod == Pod()


def test_initialisms_of_kubernetes() -> None:
    spec = {"hostPID": True, "hostIPC": True, "setHostnameAsFQDN": True}
    plain = json.loads(encode(decode({"spec": spec}, Pod)))
    assert plain["spec"] == spec
    status = PodStatus(host_ip="1.2.3.4", pod_ip="5.6.7.8")
    assert json.loads(encode(status)) == {"hostIP": "1.2.3.4", "podIP": "5.6.7.8"}


def test_zero_exit_code_is_written() -> None:
    state = ContainerState(terminated=ContainerStateTerminated(exit_code=0))
    status = ContainerStatus(
        name="a", state=state, ready=False, restart_count=0, image="i", image_id=""
    )
    plain = json.loads(encode(status))
    assert plain["state"]["terminated"] == {"exitCode": 0}
    assert plain["ready"] is False
    assert plain["restartCount"] == 0


def test_copy_shares_nothing() -> None:
    pod = make_pod(**with_container(resources={"limits": {"cpu": "0.5"}}))
    copy = deep_copy(pod)
    assert copy == pod
    copy.spec.containers[0].resources.limits.clear()
    copy.metadata.labels["a"] = "b"
    assert pod.spec.containers[0].resources.limits
    assert not pod.metadata.labels


def test_sorted_encoding_ignores_the_order_of_keys() -> None:
    one, other = document(), document()
    one["metadata"]["labels"] = {"a": "1", "b": "2"}
    other["metadata"]["labels"] = {"b": "2", "a": "1"}
    assert encode_sorted(decode(one, Pod)) == encode_sorted(decode(other, Pod))


def test_every_field_of_a_large_manifest_survives_the_round_trip() -> None:
    manifest = document(
        volumes=[
            {"name": "a", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}},
            {"name": "b", "csi": {"driver": "x", "volumeAttributes": {"k": "v"}}},
            {"name": "c", "awsElasticBlockStore": {"volumeID": "x"}},
        ],
        affinity={"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "web"}}}]}},
        ephemeralContainers=[
            {"name": "debug", "image": "x", "resources": {}, "targetContainerName": "main"}],
        overhead={"cpu": "250m"},
        **with_container(resources={}),
    )  # fmt: skip
    assert json.loads(encode(decode(manifest, Pod)))["spec"] == manifest["spec"]
