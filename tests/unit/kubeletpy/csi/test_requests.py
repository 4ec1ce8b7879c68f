from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kubeletpy.api.codec import decode
from kubeletpy.api.pod import Pod
from kubeletpy.csi.client import NodeInfo
from kubeletpy.csi.drivers import highest_version
from kubeletpy.csi.node_info import (
    ANNOTATION,
    driver_entry,
    new_csi_node,
    owned,
    with_node_id,
    without_node_id,
)
from kubeletpy.csi.requests import (
    EPHEMERAL,
    CsiVolume,
    attached,
    attachment_name,
    capability,
    ephemeral_handle,
    group_by_kubelet,
    must_attach,
    pod_attributes,
    refused_mode,
    volume_of,
)
from kubeletpy.plugins.watcher import PluginRefused
from kubeletpy.volumes.plugin import VolumeRequest, VolumeSource
from kubeletpy_proto import csi_pb2 as pb

Mode = pb.VolumeCapability.AccessMode


def pod(**volume: Any) -> Pod:
    return decode(
        {
            "metadata": {"name": "p", "namespace": "n", "uid": "u"},
            "spec": {
                "serviceAccountName": "sa",
                "containers": [{"name": "c", "image": "i"}],
                "volumes": [{"name": "v", **volume}],
            },
        },
        Pod,
    )


def volume(**fields: Any) -> CsiVolume:
    return CsiVolume(**{"driver": "d.io", "handle": "h", **fields})


def test_an_inline_volume_has_a_handle_of_its_pod() -> None:
    one = pod(
        csi={
            "driver": "d.io",
            "readOnly": True,
            "fsType": "ext4",
            "volumeAttributes": {"a": "b"},
            "nodePublishSecretRef": {"name": "s"},
        }
    )
    source = VolumeSource(inline=one.spec.volumes[0])
    request = VolumeRequest(
        pod=one, name="v", spec_name="v", source=source, directory=Path("/d"), read_only=False
    )
    found = volume_of(request)
    # As Go computes it: sha256 of the UID and the name.
    assert found.handle == ephemeral_handle("u", "v")
    assert found.handle.startswith("csi-")
    assert len(found.handle) == 68
    assert found.mode == EPHEMERAL
    assert found.read_only
    assert found.publish_secret == ("n", "s")
    assert (found.fs_type, dict(found.attributes)) == ("ext4", {"a": "b"})


def test_a_persistent_volume_says_how_it_is_used() -> None:
    spec = {
        "accessModes": ["ReadWriteOncePod"],
        "mountOptions": ["noatime"],
        "csi": {
            "driver": "d.io",
            "volumeHandle": "h1",
            "nodeStageSecretRef": {"namespace": "x", "name": "s"},
        },
    }
    source = VolumeSource(volume={"metadata": {"name": "pv"}, "spec": spec})
    request = VolumeRequest(
        pod=pod(emptyDir={}),
        name="v",
        spec_name="pv",
        source=source,
        directory=Path("/d"),
        read_only=True,
    )
    found = volume_of(request)
    assert found == volume(
        handle="h1",
        read_only=True,
        access_modes=("ReadWriteOncePod",),
        options=("noatime",),
        stage_secret=("x", "s"),
    )
    assert found.unique_name == "kubernetes.io/csi/d.io^h1"


def test_the_name_of_an_attachment_is_gos() -> None:
    # sha256 of handle, driver and node, one after the other.
    assert attachment_name(volume(), "n") == (
        "csi-f9c0a2e55a623bb2869fea8487e4badd0af73938bd4b9b164f308d27ed06b4cc"
    )


@pytest.mark.parametrize(
    ("mode", "multi", "expected"),
    [
        ("ReadWriteOnce", False, Mode.SINGLE_NODE_WRITER),
        ("ReadWriteOnce", True, Mode.SINGLE_NODE_MULTI_WRITER),
        ("ReadWriteOncePod", False, Mode.SINGLE_NODE_WRITER),
        ("ReadWriteOncePod", True, Mode.SINGLE_NODE_SINGLE_WRITER),
        ("ReadOnlyMany", True, Mode.MULTI_NODE_READER_ONLY),
        ("ReadWriteMany", False, Mode.MULTI_NODE_MULTI_WRITER),
        ("Sideways", False, Mode.UNKNOWN),
    ],
)
def test_access_modes(mode: str, multi: bool, expected: int) -> None:
    found = capability(volume(access_modes=(mode,)), multi_writer=multi, group=7)
    assert found.access_mode.mode == expected
    assert found.mount.volume_mount_group == "7"


def test_raw_devices_are_no_mounts() -> None:
    found = capability(volume(block=True, fs_type="x"), multi_writer=False)
    assert found.WhichOneof("access_type") == "block"


def test_what_a_driver_is_told_of_a_pod() -> None:
    assert pod_attributes(pod(emptyDir={}), EPHEMERAL) == {
        "csi.storage.k8s.io/pod.name": "p",
        "csi.storage.k8s.io/pod.namespace": "n",
        "csi.storage.k8s.io/pod.uid": "u",
        "csi.storage.k8s.io/serviceAccount.name": "sa",
        "csi.storage.k8s.io/ephemeral": "true",
    }


@pytest.mark.parametrize(
    ("mode", "driver", "refusal"),
    [
        ("Persistent", None, ""),
        ("Ephemeral", None, "no CSIDriver object"),
        ("Persistent", {}, ""),
        ("Ephemeral", {}, 'only supports ["Persistent"]'),
        ("Ephemeral", {"volumeLifecycleModes": ["Persistent", "Ephemeral"]}, ""),
    ],
)
def test_drivers_make_only_volumes_of_the_modes_that_they_name(
    mode: str, driver: dict[str, Any] | None, refusal: str
) -> None:
    found = refused_mode(volume(mode=mode), None if driver is None else {"spec": driver})
    assert refusal in found
    assert bool(found) is bool(refusal)


@pytest.mark.parametrize(
    ("driver", "expected"),
    [
        (None, True),
        ({}, True),
        ({"attachRequired": True}, True),
        ({"attachRequired": False}, False),
    ],
)
def test_volumes_are_attached_unless_the_driver_says_no(
    driver: dict[str, Any] | None, expected: bool
) -> None:
    assert must_attach(None if driver is None else {"spec": driver}) is expected


@pytest.mark.parametrize(
    ("policy", "fields", "group", "expected"),
    [
        (None, {"fs_type": "ext4", "access_modes": ("ReadWriteOnce",)}, 1, True),
        (None, {"fs_type": "ext4", "access_modes": ("ReadWriteMany",)}, 1, False),
        (None, {"fs_type": "", "access_modes": ("ReadWriteOnce",)}, 1, False),
        (None, {"fs_type": "ext4", "access_modes": ("ReadWriteOnce",)}, None, False),
        (None, {"fs_type": "ext4", "mode": EPHEMERAL}, 1, True),
        ("None", {"fs_type": "ext4", "access_modes": ("ReadWriteOnce",)}, 1, False),
        ("File", {"access_modes": ("ReadWriteMany",)}, 1, True),
        ("File", {"read_only": True}, 1, False),
        ("File", {"block": True}, 1, False),
    ],
)
def test_who_gives_files_to_the_group(
    policy: str | None, fields: dict[str, Any], group: int | None, expected: bool
) -> None:
    driver = {"spec": {"fsGroupPolicy": policy}} if policy else None
    assert group_by_kubelet(volume(**fields), driver, group) is expected


@pytest.mark.parametrize(
    ("attachment", "expected"),
    [
        ({"status": {"attached": True}}, (True, "")),
        ({"status": {"attached": False}}, (False, "")),
        ({}, (False, "")),
        ({"status": {"attachError": {"message": "no disk"}}}, (False, "no disk")),
        (
            {"metadata": {"deletionTimestamp": "now"}, "status": {"attached": True}},
            (False, "volume attachment is being deleted"),
        ),
    ],
)
def test_attachments(attachment: dict[str, Any], expected: tuple[bool, str]) -> None:
    assert attached(attachment) == expected


@pytest.mark.parametrize(
    ("versions", "found"),
    [(["1.0.0"], (1, 0, 0)), (["0.3.0", "1.2.3", "v1.10.0"], (1, 10, 0)), (["1.1"], (1, 1, 0))],
)
def test_the_highest_version_counts(versions: list[str], found: tuple[int, ...]) -> None:
    assert highest_version(versions) == found


@pytest.mark.parametrize("versions", [[], ["0.3.0"], ["2.0.0"], ["one"]])
def test_other_versions_are_refused(versions: list[str]) -> None:
    with pytest.raises(PluginRefused):
        highest_version(versions)


def test_the_node_tells_what_drivers_call_it() -> None:
    info = NodeInfo("id-1", 3, {"topology.d.io/zone": "a"})
    node: dict[str, Any] = {"metadata": {"annotations": {ANNOTATION: '{"other.io":"x"}'}}}
    patch = with_node_id(node, "d.io", info)
    assert patch == {
        "metadata": {
            "annotations": {ANNOTATION: '{"d.io":"id-1","other.io":"x"}'},
            "labels": {"topology.d.io/zone": "a"},
        }
    }
    assert with_node_id(patch, "d.io", info) is None
    other = NodeInfo("id-1", 3, {"topology.d.io/zone": "b"})
    with pytest.raises(PluginRefused, match="collision"):
        with_node_id(patch, "d.io", other)
    assert without_node_id(patch, "d.io") == {
        "metadata": {"annotations": {ANNOTATION: '{"other.io":"x"}'}}
    }
    assert without_node_id(node, "d.io") is None
    only: dict[str, Any] = {"metadata": {"annotations": {ANNOTATION: '{"d.io":"x"}'}}}
    assert without_node_id(only, "d.io") == {"metadata": {"annotations": {ANNOTATION: None}}}


def test_a_csi_node_is_its_nodes() -> None:
    found = new_csi_node("n", "uid-1")
    assert owned(found, "n", "uid-1")
    assert not owned(found, "n", "uid-2")
    assert driver_entry("d.io", NodeInfo("id", 3, {"b": "1", "a": "2"})) == {
        "name": "d.io",
        "nodeID": "id",
        "topologyKeys": ["a", "b"],
        "allocatable": {"count": 3},
    }
    assert "allocatable" not in driver_entry("d.io", NodeInfo("id"))
