"""The binder against the API server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from controlplane.engine.resources import CLAIMS, PODS, STORAGE_CLASSES, VOLUMES
from kubeletpy_common.apiclient.client import MERGE_PATCH
from tests.support.cluster import Cluster, cluster

from .things import are, check_bindings, claim, one_write_each, said, storage_class, volume

BINDER = "persistentvolume-binder-controller"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster(tmp_path) as made:
        yield made


async def test_a_claim_gets_the_closest_volume_and_both_say_so(server: Cluster) -> None:
    await server.start(BINDER)
    for name, size in (("large", "5Gi"), ("close", "2Gi"), ("small", "1Mi")):
        await server.create(VOLUMES, volume(name, size))
    await server.until(VOLUMES, are(large="Available", close="Available", small="Available"))
    await server.create(CLAIMS, claim("data"))
    await server.until(CLAIMS, are(data="Bound"))
    one, found = await server.get(CLAIMS, "data"), await server.get(VOLUMES, "close")
    assert one["spec"]["volumeName"] == "close"
    assert one["status"]["capacity"] == {"storage": "2Gi"}
    assert one["status"]["accessModes"] == ["ReadWriteOnce"]
    for name in ("pv.kubernetes.io/bind-completed", "pv.kubernetes.io/bound-by-controller"):
        assert one["metadata"]["annotations"][name] == "yes"
    assert found["spec"]["claimRef"]["uid"] == one["metadata"]["uid"]
    assert found["metadata"]["annotations"]["pv.kubernetes.io/bound-by-controller"] == "yes"
    assert found["status"]["phase"] == "Bound"
    assert found["status"]["lastPhaseTransitionTime"]
    # A volume that comes later serves a claim that waits.
    await server.create(CLAIMS, claim("huge", "50Gi"))
    assert "no storage class is set" in await said(server, "huge", "FailedBinding")
    await server.create(VOLUMES, volume("huge", "60Gi"))
    await server.until(CLAIMS, are(huge="Bound"))


async def test_what_was_reserved_goes_to_whom_it_was_reserved_for(server: Cluster) -> None:
    await server.start(BINDER)
    reserved = volume("mine", "9Gi", claimRef={"namespace": "default", "name": "data"})
    await server.create(VOLUMES, reserved)
    await server.create(VOLUMES, volume("close"))
    await server.create(CLAIMS, claim("other", "8Gi"))
    await server.create(CLAIMS, claim("data"))
    await server.until(CLAIMS, are(data="Bound", other="Pending"))
    one, found = await server.get(CLAIMS, "data"), await server.get(VOLUMES, "mine")
    assert one["spec"]["volumeName"] == "mine"
    # A person bound it; that is not undone by the controller.
    assert "pv.kubernetes.io/bound-by-controller" not in found["metadata"].get("annotations", {})
    # A claim that names its volume waits for it, and is told why it does not get it.
    await server.create(CLAIMS, claim("named", volumeName="mine"))
    text = await said(server, "named", "FailedBinding")
    assert text == 'volume "mine" already bound to a different claim.'
    await server.create(CLAIMS, claim("wide", volumeName="close", accessModes=["ReadWriteMany"]))
    text = await said(server, "wide", "VolumeMismatch")
    assert text == 'Cannot bind to requested volume "close": incompatible accessMode'
    await server.create(CLAIMS, claim("early", volumeName="late"))
    await server.create(VOLUMES, volume("late"))
    await server.until(CLAIMS, are(early="Bound"))


async def test_policies_say_what_becomes_of_a_volume(server: Cluster) -> None:
    await server.start(BINDER)
    for policy in ("Retain", "Recycle", "Delete"):
        name = policy.lower()
        await server.create(VOLUMES, volume(name, persistentVolumeReclaimPolicy=policy))
        await server.create(CLAIMS, claim(name, volumeName=name))
    await server.until(CLAIMS, are(retain="Bound", recycle="Bound", delete="Bound"))
    for name in ("retain", "recycle", "delete"):
        await server.client.delete(CLAIMS.path("default", name))
    await server.until(VOLUMES, are(retain="Released", recycle="Failed", delete="Failed"))
    assert await said(server, "recycle", "VolumeFailedRecycle") == (
        "No recycler plugin found for the volume!"
    )
    assert "no deletable volume plugin matched" in await said(
        server, "delete", "VolumeFailedDelete"
    )
    # One of the same name is another claim.
    await server.create(CLAIMS, claim("retain", volumeName="retain"))
    assert "already bound to a different claim" in await said(server, "retain", "FailedBinding")


async def test_a_claim_whose_volume_is_taken_away_is_lost(server: Cluster) -> None:
    await server.start(BINDER)
    await server.create(VOLUMES, volume("a"))
    await server.create(CLAIMS, claim("data"))
    await server.until(CLAIMS, are(data="Bound"))
    changes = {"metadata": {"finalizers": None}}
    await server.client.patch(VOLUMES.path(name="a"), changes, kind=MERGE_PATCH)
    await server.client.delete(VOLUMES.path(name="a"))
    await server.until(CLAIMS, are(data="Lost"))
    text = await said(server, "data", "ClaimLost")
    assert text == "Bound claim has lost its PersistentVolume. Data on the volume is lost!"


async def test_the_class_says_when_and_by_whom(server: Cluster) -> None:
    await server.start(BINDER)
    await server.create(CLAIMS, claim("early"))
    await said(server, "early", "FailedBinding")
    wait = {"volumeBindingMode": "WaitForFirstConsumer"}
    await server.create(STORAGE_CLASSES, storage_class("late", "example.test/x", True, **wait))
    # A claim that names no class gets the default one afterwards, too.
    assert "first consumer" in await said(server, "early", "WaitForFirstConsumer")
    assert (await server.get(CLAIMS, "early"))["spec"]["storageClassName"] == "late"
    pod = {"metadata": {"name": "web"}, "spec": {
        "containers": [{"name": "a", "image": "example.test/a"}],
        "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "early"}}],
    }}  # fmt: skip
    await server.create(PODS, pod)
    text = await said(server, "early", "WaitForPodScheduled")
    assert text == "waiting for pod web to be scheduled"
    mark = {"metadata": {"annotations": {"volume.kubernetes.io/selected-node": "n"}}}
    await server.client.patch(CLAIMS.path("default", "early"), mark, kind=MERGE_PATCH)
    assert "example.test/x" in await said(server, "early", "ExternalProvisioning")
    marks = (await server.get(CLAIMS, "early"))["metadata"]["annotations"]
    assert marks["volume.kubernetes.io/storage-provisioner"] == "example.test/x"
    await server.create(STORAGE_CLASSES, storage_class("local", "kubernetes.io/no-provisioner"))
    await server.create(CLAIMS, claim("local", storageClassName="local"))
    text = await said(server, "local", "ProvisioningFailed")
    assert text == "no volume plugin matched name: kubernetes.io/no-provisioner"


async def test_dying_with_each_write_binds_nothing_twice(server: Cluster) -> None:
    for number in range(4):
        await server.create(VOLUMES, volume(f"v{number}", f"{number + 1}Gi"))
        await server.create(CLAIMS, claim(f"c{number}", f"{number + 1}Gi"))
    lives = await one_write_each(server, BINDER)
    await check_bindings(server)
    # Four writes for each pair, and one for each volume that was seen before its claim.
    assert 16 <= lives <= 40
    await server.until(CLAIMS, are(c0="Bound", c1="Bound", c2="Bound", c3="Bound"))
    await server.until(VOLUMES, are(v0="Bound", v1="Bound", v2="Bound", v3="Bound"))


async def test_two_binders_bind_nothing_twice(server: Cluster) -> None:
    first, second = await server.start(BINDER), await server.start(BINDER)
    for number in range(20):
        await server.create(VOLUMES, volume(f"v{number}"))
        await server.create(CLAIMS, claim(f"c{number}"))
    bound = {f"c{number}": "Bound" for number in range(20)}
    await server.until(CLAIMS, are(**bound))
    await check_bindings(server)
    for host in (first, second):
        await server.stop(host)
    assert len({one["spec"]["volumeName"] for one in await server.listed(CLAIMS)}) == 20
