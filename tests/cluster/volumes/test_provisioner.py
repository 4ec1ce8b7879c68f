"""The provisioner, its binder and what is around them, against the API server."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from controlplane.controllers.volumes.directories import Directories
from controlplane.engine.host import Host
from controlplane.engine.resources import (
    CLAIMS,
    NODES,
    PODS,
    QUOTAS,
    STORAGE_CLASSES,
    VOLUMES,
    Object,
)
from kubeletpy_common.apiclient.client import MERGE_PATCH
from tests.support.cluster import SECONDS, Cluster, cluster
from tests.support.hollow import node

from .things import are, check_bindings, claim, one_write_each, said, storage_class

NAMES = ("persistentvolume-binder-controller", "volume-provisioner",
         "persistentvolume-expander-controller", "ephemeral-volume-controller")  # fmt: skip
HOST_PATH = "kubeletpy.io/host-path"
BOOT = Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster(tmp_path) as made:
        await _node(made, "here", BOOT)
        yield made


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "volumes"


async def _node(server: Cluster, name: str, boot: str) -> None:
    await server.create(NODES, node(name))
    info = {
        "bootID": boot, "machineID": "m", "systemUUID": "u", "kernelVersion": "k",
        "osImage": "o", "containerRuntimeVersion": "c", "kubeletVersion": "v",
        "kubeProxyVersion": "", "operatingSystem": "linux", "architecture": "amd64",
    }  # fmt: skip
    await server.client.patch(
        NODES.path(name=name, subresource="status"), {"status": {"nodeInfo": info}},
        kind=MERGE_PATCH,
    )  # fmt: skip


async def _start(server: Cluster, root: Path, **more: Any) -> Host:
    return await server.start(*NAMES, host_path_root=str(root), **more)


async def _select(server: Cluster, name: str, where: str) -> None:
    """Do as the scheduler does when it has chosen a node."""
    mark = {"metadata": {"annotations": {"volume.kubernetes.io/selected-node": where}}}
    await server.client.patch(CLAIMS.path("default", name), mark, kind=MERGE_PATCH)


async def _eventually(check: Callable[[], bool]) -> None:
    async with asyncio.timeout(SECONDS):
        while not check():  # noqa: ASYNC110 - directories tell nobody
            await asyncio.sleep(0.01)


def _volumes_in(root: Path) -> list[str]:
    return sorted(name for name in os.listdir(root) if not name.startswith("."))


async def test_a_claim_has_a_directory_for_as_long_as_it_lives(server: Cluster, root: Path) -> None:
    await _start(server, root, host_path_class="standard")
    await server.until(STORAGE_CLASSES, lambda found: found)
    made = await server.get(STORAGE_CLASSES, "standard")
    assert made["volumeBindingMode"] == "WaitForFirstConsumer"
    assert made["metadata"]["annotations"] == {
        "storageclass.kubernetes.io/is-default-class": "true"
    }
    await server.create(CLAIMS, claim("data"))
    await said(server, "data", "WaitForFirstConsumer")
    assert not root.exists()
    await _select(server, "data", "here")
    await server.until(CLAIMS, are(data="Bound"))
    one = await server.get(CLAIMS, "data")
    volume = await server.get(VOLUMES, f"pvc-{one['metadata']['uid']}")
    path = Path(volume["spec"]["hostPath"]["path"])
    assert path == root / f"{volume['metadata']['name']}_default_data"
    assert path.stat().st_mode & 0o7777 == 0o777
    assert root.stat().st_mode & 0o7777 == 0o700
    await said(server, "data", "Provisioning")
    text = await said(server, "data", "ProvisioningSucceeded")
    assert text == f"Successfully provisioned volume {volume['metadata']['name']}"
    await _eventually(lambda: os.listdir(root / ".making") == [])
    # It grows, which is a word only.
    changes = {"spec": {"resources": {"requests": {"storage": "3Gi"}}}}
    await server.client.patch(CLAIMS.path("default", "data"), changes, kind=MERGE_PATCH)
    await server.until(CLAIMS, lambda found: found[0]["status"]["capacity"]["storage"] == "3Gi")
    assert (await server.get(VOLUMES, volume["metadata"]["name"]))["spec"]["capacity"] == {
        "storage": "3Gi"
    }
    await said(server, "data", "VolumeResizeSuccessful")
    (path / "file").write_text("content")
    await server.client.delete(CLAIMS.path("default", "data"))
    await server.until(VOLUMES, lambda found: not found)
    assert _volumes_in(root) == []


async def test_what_is_to_be_retained_stays(server: Cluster, root: Path) -> None:
    await _start(server, root)
    await server.create(STORAGE_CLASSES, storage_class(
        "kept", HOST_PATH, reclaimPolicy="Retain", parameters={"directory": "k", "mode": "0700"},
    ))  # fmt: skip
    await server.create(STORAGE_CLASSES, storage_class("gone", HOST_PATH))
    for name in ("kept", "gone"):
        await server.create(CLAIMS, claim(name, storageClassName=name))
    # Without a pod to wait for they are made at once, on this machine.
    await server.until(CLAIMS, are(kept="Bound", gone="Bound"))
    names = {one["metadata"]["name"]: one["spec"]["volumeName"]
             for one in await server.listed(CLAIMS)}  # fmt: skip
    # The policy can be changed as long as the volume is there.
    keep = {"spec": {"persistentVolumeReclaimPolicy": "Retain"}}
    await server.client.patch(VOLUMES.path(name=names["gone"]), keep, kind=MERGE_PATCH)
    for name in names:
        await server.client.delete(CLAIMS.path("default", name))
    await server.until(VOLUMES, are(**dict.fromkeys(names.values(), "Released")))
    for name in names.values():
        await server.client.delete(VOLUMES.path(name=name))
    await server.until(VOLUMES, lambda found: not found)
    assert _volumes_in(root) == ["k", f"{names['gone']}_default_gone"]
    assert os.listdir(root / "k") == [f"{names['kept']}_default_kept"]
    assert (root / "k" / f"{names['kept']}_default_kept").stat().st_mode & 0o777 == 0o700


async def test_other_nodes_have_directories_of_their_own(server: Cluster, root: Path) -> None:
    await _node(server, "far", "another")
    await _start(server, root, host_path_class="standard")
    for name, where in (("far", "far"), ("lost", "nowhere")):
        await server.create(CLAIMS, claim(name, storageClassName="standard"))
        await _select(server, name, where)
    await server.until(CLAIMS, are(far="Bound"))
    volume = (await server.listed(VOLUMES))[0]
    assert volume["spec"]["hostPath"]["type"] == "DirectoryOrCreate"
    assert not root.exists()
    assert "not found" in await said(server, "lost", "ProvisioningFailed")
    # The scheduler is to choose again.
    await server.until(CLAIMS, lambda found: all(
        "volume.kubernetes.io/selected-node" not in one["metadata"]["annotations"]
        for one in found if one["metadata"]["name"] == "lost"))  # fmt: skip
    await server.client.delete(CLAIMS.path("default", "far"))
    text = await said(server, volume["metadata"]["name"], "VolumeFailedDelete")
    assert "is on node far" in text
    # With the node its directory is gone.
    await server.client.delete(NODES.path(name="far"))
    await server.until(VOLUMES, lambda found: not found)


async def test_what_cannot_be_says_why_and_is_not_tried_on_and_on(
    server: Cluster, root: Path
) -> None:
    host = await _start(server, root)
    await server.create(STORAGE_CLASSES, storage_class("odd", HOST_PATH, parameters={"a": "b"}))
    await server.create(STORAGE_CLASSES, storage_class("now", HOST_PATH))
    await server.create(CLAIMS, claim("odd", storageClassName="odd"))
    await server.create(CLAIMS, claim("block", storageClassName="now", volumeMode="Block"))
    text = await said(server, "odd", "ProvisioningFailed")
    assert text.startswith("failed to provision volume with StorageClass \"odd\": parameter 'a'")
    assert "does not support block" in await said(server, "block", "ProvisioningFailed")
    # A root that cannot be used is tried again, ever later.
    root.write_text("a file is in the way")
    await server.create(CLAIMS, claim("data", storageClassName="now"))
    assert "File exists" in await said(server, "data", "ProvisioningFailed")
    parts = [part for part in host.parts if part.name == "volume-provisioner"]
    queue = parts[0].queue  # type: ignore[attr-defined]
    assert queue.counts.retried <= 8
    root.unlink()
    await server.until(CLAIMS, are(data="Bound"))


async def test_a_volume_that_lies_about_its_path_removes_nothing(
    server: Cluster, root: Path, tmp_path: Path
) -> None:
    await _start(server, root)
    precious = tmp_path / "precious"
    precious.mkdir()
    required = [{"key": "kubernetes.io/hostname", "operator": "In", "values": ["here"]}]
    await server.create(VOLUMES, {
        "metadata": {"name": "liar", "annotations": {"pv.kubernetes.io/provisioned-by": HOST_PATH}},
        "spec": {
            "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
            "persistentVolumeReclaimPolicy": "Delete", "hostPath": {"path": str(precious)},
            "claimRef": {"namespace": "default", "name": "x", "uid": "gone"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": required}]}},
        },
    })  # fmt: skip
    assert "nothing else is touched" in await said(server, "liar", "VolumeFailedDelete")
    assert precious.is_dir()


async def test_dying_with_each_write_leaves_neither_volumes_nor_directories(
    server: Cluster, root: Path
) -> None:
    await server.create(STORAGE_CLASSES, storage_class("now", HOST_PATH))
    for name in ("a", "b"):
        await server.create(CLAIMS, claim(name, storageClassName="now"))
    lives = await one_write_each(server, *NAMES, host_path_root=str(root))
    assert lives >= 10
    await check_bindings(server)
    await server.until(CLAIMS, are(a="Bound", b="Bound"))
    assert len(await server.listed(VOLUMES)) == len(_volumes_in(root)) == 2
    for name in ("a", "b"):
        await server.client.delete(CLAIMS.path("default", name))
    assert await one_write_each(server, *NAMES, host_path_root=str(root)) >= 4
    await server.until(VOLUMES, lambda found: not found)
    assert _volumes_in(root) == []


async def test_a_directory_that_nobody_was_told_of_is_removed(server: Cluster, root: Path) -> None:
    directories = Directories(root)
    for volume in ("pvc-lost", "pvc-kept"):
        path = directories.path("", volume, "default", "x")
        directories.make(volume, path, 0o777)
    # That one was made before the crash.
    kept = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
            "hostPath": {"path": path}}  # fmt: skip
    await server.create(VOLUMES, {"metadata": {"name": "pvc-kept"}, "spec": kept})
    await _start(server, root)
    await _eventually(lambda: os.listdir(root / ".making") == [])
    assert _volumes_in(root) == ["pvc-kept_default_x"]


async def test_claims_of_pods_come_and_go_with_them(server: Cluster, root: Path) -> None:
    await server.create(STORAGE_CLASSES, storage_class("now", HOST_PATH))
    template = {"spec": claim("x", storageClassName="now")["spec"]}

    def pod(name: str) -> Object:
        return {"metadata": {"name": name}, "spec": {
            "containers": [{"name": "a", "image": "example.test/a"}],
            "volumes": [{"name": "tmp", "ephemeral": {"volumeClaimTemplate": template}}],
        }}  # fmt: skip

    await server.create(CLAIMS, claim("taken-tmp", storageClassName="other"))
    await _start(server, root)
    for name in ("web", "taken"):
        await server.create(PODS, pod(name))
    found = await server.until(CLAIMS, are(**{"web-tmp": "Bound"}))
    owners = {one["metadata"]["name"]: one["metadata"].get("ownerReferences") for one in found}
    assert owners["web-tmp"][0]["name"] == "web"
    text = await said(server, "taken", "FailedBinding")
    assert text.endswith("was not created for pod default/taken (pod is not owner)")
    await server.client.delete(CLAIMS.path("default", "taken-tmp"))
    # Once that is gone, after the pod that uses it by name, the claim is the pod's.
    await server.client.delete(PODS.path("default", "web"), {"gracePeriodSeconds": 0})
    await server.until(CLAIMS, are(**{"web-tmp": ""}))
    await _eventually(lambda: _volumes_in(root) == [])
    await server.create(QUOTAS, {
        "metadata": {"name": "q"}, "spec": {"hard": {"persistentvolumeclaims": "1"}},
    })  # fmt: skip
    await server.create(PODS, pod("poor"))
    assert "exceeded quota" in await said(server, "poor", "FailedBinding")
