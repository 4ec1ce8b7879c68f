from __future__ import annotations

import asyncio
from typing import Any

import pytest

from kubeletpy.api.pod import Pod
from kubeletpy.volumes.claims import check_node, claim_name, resolve
from kubeletpy.volumes.errors import VolumeError
from kubeletpy.volumes.objects import NoObjects, ObjectMissing

from ..api.pods import make_pod, with_container


class Cluster(NoObjects):
    def __init__(self, claim: dict[str, Any] | None, volume: dict[str, Any] | None) -> None:
        self.found = {"persistentvolumeclaims": claim, "persistentvolumes": volume}

    async def get(self, resource: str, namespace: str, name: str) -> dict[str, Any]:
        found = self.found[resource]
        if found is None or found["metadata"]["name"] != name:
            raise ObjectMissing(f'{resource} "{name}" not found')
        return found


def claim(**changes: Any) -> dict[str, Any]:
    meta = {"name": "data", "namespace": "default", "uid": "c1", **changes.pop("metadata", {})}
    return {
        "metadata": meta,
        "spec": {"volumeName": "pv1"},
        "status": {"phase": "Bound"},
        **changes,
    }


def volume(**spec: Any) -> dict[str, Any]:
    return {
        "metadata": {"name": "pv1"},
        "spec": {"claimRef": {"uid": "c1"}, "hostPath": {"path": "/srv"}, **spec},
    }


def pod_with(source: dict[str, Any], **container: Any) -> Pod:
    return make_pod(volumes=[{"name": "vol", **source}], **with_container(**container))


CLAIMED = {"persistentVolumeClaim": {"claimName": "data"}}


def resolved(cluster: Cluster, pod: Pod) -> Any:
    return asyncio.run(resolve(cluster, pod, pod.spec.volumes[0]))


def test_the_volume_behind_a_claim() -> None:
    pod = pod_with({"persistentVolumeClaim": {"claimName": "data", "readOnly": True}})
    source, read_only = resolved(Cluster(claim(), volume()), pod)
    assert source.of_volume("hostPath") == {"path": "/srv"}
    assert source.of_volume("csi") is None
    assert read_only


def test_a_volume_of_the_pod_itself() -> None:
    pod = pod_with({"emptyDir": {}})
    source, read_only = resolved(Cluster(None, None), pod)
    assert source.inline is pod.spec.volumes[0]
    assert not read_only


@pytest.mark.parametrize(
    ("claimed", "found", "message"),
    [
        (None, None, 'failed to fetch PVC from API server: .*"data" not found'),
        (claim(status={"phase": "Pending"}), None, "PVC is not bound"),
        (claim(spec={}), None, "PVC has empty pvc.Spec.VolumeName"),
        (claim(metadata={"deletionTimestamp": "now"}), None, "PVC is being deleted"),
        (claim(), None, 'failed to fetch PV pv1 from API server: .*"pv1" not found'),
        (claim(), volume(claimRef=None), "found PV object pv1 but it has a nil pv.Spec.ClaimRef"),
        (claim(), volume(claimRef={"uid": "x"}), "UID x does not point to claim.UID c1"),
    ],
)
def test_claims_that_cannot_be_used(claimed: Any, found: Any, message: str) -> None:
    with pytest.raises(VolumeError, match=f"^error processing PVC default/data: .*{message}"):
        resolved(Cluster(claimed, found), pod_with(CLAIMED))


def test_a_protected_claim_that_is_being_deleted_serves_on() -> None:
    meta = {"deletionTimestamp": "now", "finalizers": ["kubernetes.io/pvc-protection"]}
    resolved(Cluster(claim(metadata=meta), volume()), pod_with(CLAIMED))


@pytest.mark.parametrize(
    ("mode", "container", "message"),
    [
        ("Block", {"volumeMounts": [{"name": "vol", "mountPath": "/v"}]},
         "volume vol has volumeMode Block, but is specified in volumeMounts"),
        ("Filesystem", {"volumeDevices": [{"name": "vol", "devicePath": "/dev/x"}]},
         "volume vol has volumeMode Filesystem, but is specified in volumeDevices"),
    ],
)  # fmt: skip
def test_modes_that_do_not_fit(mode: str, container: Any, message: str) -> None:
    with pytest.raises(VolumeError, match=f"^{message}$"):
        resolved(Cluster(claim(), volume(volumeMode=mode)), pod_with(CLAIMED, **container))


def test_generic_ephemeral_volumes_are_the_pods_own() -> None:
    pod = pod_with({"ephemeral": {"volumeClaimTemplate": {"spec": {}}}})
    assert claim_name(pod, pod.spec.volumes[0]) == "web-vol"
    owner = {"uid": pod.metadata.uid, "controller": True}
    mine = claim(metadata={"name": "web-vol", "ownerReferences": [owner]})
    source, _ = resolved(Cluster(mine, volume()), pod)
    assert source.claim == mine
    for references in ([], [{**owner, "uid": "other"}], [{**owner, "controller": False}]):
        other = claim(metadata={"name": "web-vol", "ownerReferences": references})
        with pytest.raises(VolumeError, match="was not created for pod default/web"):
            resolved(Cluster(other, volume()), pod)


def term(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"matchExpressions": [{"key": key, "operator": operator, "values": list(values)}]}


@pytest.mark.parametrize(
    ("terms", "fits"),
    [
        ([term("host", "In", "a", "b")], True),
        ([term("host", "In", "b")], False),
        ([term("host", "In", "b"), term("host", "Exists")], True),
        ([term("host", "NotIn", "a")], False),
        ([term("none", "NotIn", "a")], True),
        ([term("none", "DoesNotExist")], True),
        ([term("none", "Exists")], False),
        ([term("size", "Gt", "4")], True),
        ([term("size", "Lt", "5")], False),
        ([term("host", "Gt", "4")], False),
        ([{}], False),
        ([], False),
    ],
)
def test_node_affinity(terms: list[dict[str, Any]], fits: bool) -> None:
    found = volume(nodeAffinity={"required": {"nodeSelectorTerms": terms}})
    labels = {"host": "a", "size": "5"}
    check_node(found, None)
    if fits:
        check_node(found, labels)
    else:
        with pytest.raises(VolumeError, match="no matching NodeSelectorTerms"):
            check_node(found, labels)
