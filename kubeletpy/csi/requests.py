"""From Kubernetes' objects to requests of CSI (pure)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from kubeletpy.api.pod import Pod
from kubeletpy.volumes.plugin import VolumeRequest
from kubeletpy_proto import csi_pb2 as pb

Object = Mapping[str, Any]
PERSISTENT, EPHEMERAL = "Persistent", "Ephemeral"
READ_WRITE_ONCE, READ_WRITE_ONCE_POD = "ReadWriteOnce", "ReadWriteOncePod"
TOKENS = "csi.storage.k8s.io/serviceAccount.tokens"
Mode = pb.VolumeCapability.AccessMode
_MODES = {
    READ_WRITE_ONCE: Mode.SINGLE_NODE_WRITER,
    "ReadOnlyMany": Mode.MULTI_NODE_READER_ONLY,
    "ReadWriteMany": Mode.MULTI_NODE_MULTI_WRITER,
    READ_WRITE_ONCE_POD: Mode.SINGLE_NODE_WRITER,
}
_MULTI_WRITER_MODES = _MODES | {
    READ_WRITE_ONCE: Mode.SINGLE_NODE_MULTI_WRITER,
    READ_WRITE_ONCE_POD: Mode.SINGLE_NODE_SINGLE_WRITER,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CsiVolume:
    """A volume of a CSI driver, inline or a PersistentVolume.

    Attributes:
        driver: its name.
        handle: the driver's name of the volume.
        mode: ``Persistent`` or ``Ephemeral``.
        read_only: whether it is mounted read-only.
        fs_type: "" for the driver's choice.
        attributes: that the driver gets.
        access_modes: of the PersistentVolume.
        options: mount options.
        block: a raw device.
        stage_secret, publish_secret, expand_secret: namespace and name; None: none.
    """

    driver: str
    handle: str
    mode: str = PERSISTENT
    read_only: bool = False
    fs_type: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    access_modes: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    block: bool = False
    stage_secret: tuple[str, str] | None = None
    publish_secret: tuple[str, str] | None = None
    expand_secret: tuple[str, str] | None = None

    @property
    def persistent(self) -> bool:
        """Whether it outlives its pods."""
        return self.mode == PERSISTENT

    @property
    def access_mode(self) -> str:
        """The access mode that counts, as in Go the first one."""
        return self.access_modes[0] if self.access_modes else READ_WRITE_ONCE

    @property
    def unique_name(self) -> str:
        """As in ``volumesInUse`` and ``volumesAttached`` of a NodeStatus."""
        return f"kubernetes.io/csi/{self.driver}^{self.handle}"


def volume_of(request: VolumeRequest) -> CsiVolume:
    """Return the CSI volume that a request is for."""
    pod = request.pod
    inline = request.source.inline
    if inline is not None:
        assert inline.csi is not None
        one = inline.csi
        secret = one.node_publish_secret_ref
        return CsiVolume(
            driver=one.driver,
            handle=ephemeral_handle(pod.metadata.uid, inline.name),
            mode=EPHEMERAL,
            read_only=bool(one.read_only),
            fs_type=one.fs_type or "",
            attributes=dict(one.volume_attributes),
            publish_secret=(pod.metadata.namespace, secret.name) if secret is not None else None,
        )
    found = request.source.of_volume("csi")
    assert found is not None
    assert request.source.volume is not None
    spec = request.source.volume["spec"]
    return CsiVolume(
        driver=str(found.get("driver", "")),
        handle=str(found.get("volumeHandle", "")),
        read_only=request.read_only,
        fs_type=str(found.get("fsType") or ""),
        attributes={
            str(key): str(one) for key, one in (found.get("volumeAttributes") or {}).items()
        },
        access_modes=tuple(spec.get("accessModes") or ()),
        options=tuple(spec.get("mountOptions") or ()),
        block=request.block,
        stage_secret=_secret(found, "nodeStageSecretRef"),
        publish_secret=_secret(found, "nodePublishSecretRef"),
        expand_secret=_secret(found, "nodeExpandSecretRef"),
    )


def _secret(source: Object, name: str) -> tuple[str, str] | None:
    found = source.get(name)
    return (str(found.get("namespace", "")), str(found.get("name", ""))) if found else None


def ephemeral_handle(uid: str, name: str) -> str:
    """Return the handle of an inline volume."""
    return f"csi-{hashlib.sha256(f'{uid}{name}'.encode()).hexdigest()}"


def attachment_name(volume: CsiVolume, node: str) -> str:
    """Return the name of the VolumeAttachment of a volume to a node."""
    text = f"{volume.handle}{volume.driver}{node}"
    return f"csi-{hashlib.sha256(text.encode()).hexdigest()}"


def capability(
    volume: CsiVolume, *, multi_writer: bool, group: int | None = None
) -> pb.VolumeCapability:
    """Return how a volume is to be used.

    Args:
        volume: the volume.
        multi_writer: whether the driver knows SINGLE_NODE_MULTI_WRITER.
        group: of the files, for drivers that set it themselves.
    """
    modes = _MULTI_WRITER_MODES if multi_writer else _MODES
    mode = Mode(mode=modes.get(volume.access_mode, Mode.UNKNOWN))
    if volume.block:
        return pb.VolumeCapability(access_mode=mode, block=pb.VolumeCapability.BlockVolume())
    mount = pb.VolumeCapability.MountVolume(
        fs_type=volume.fs_type,
        mount_flags=volume.options,
        volume_mount_group="" if group is None else str(group),
    )
    return pb.VolumeCapability(access_mode=mode, mount=mount)


def pod_attributes(pod: Pod, mode: str) -> dict[str, str]:
    """Return what a driver with podInfoOnMount is told of a pod."""
    return {
        "csi.storage.k8s.io/pod.name": pod.metadata.name,
        "csi.storage.k8s.io/pod.namespace": pod.metadata.namespace,
        "csi.storage.k8s.io/pod.uid": pod.metadata.uid,
        "csi.storage.k8s.io/serviceAccount.name": pod.spec.service_account_name,
        "csi.storage.k8s.io/ephemeral": "true" if mode == EPHEMERAL else "false",
    }


def refused_mode(volume: CsiVolume, driver: Object | None) -> str:
    """Return why a driver does not make volumes of this mode; "" if it does.

    Args:
        volume: the volume.
        driver: the CSIDriver object; None: there is none, which is fine for persistent volumes.
    """
    if driver is None:
        if volume.persistent:
            return ""
        return (
            f'volume mode "{volume.mode}" not supported by driver {volume.driver} '
            "(no CSIDriver object)"
        )
    modes = driver.get("spec", {}).get("volumeLifecycleModes") or [PERSISTENT]
    if volume.mode in modes:
        return ""
    listed = " ".join(f'"{mode}"' for mode in modes)
    return (
        f'volume mode "{volume.mode}" not supported by driver {volume.driver} '
        f"(only supports [{listed}])"
    )


def must_attach(driver: Object | None) -> bool:
    """Whether a driver's volumes are attached by a controller before they are used."""
    return driver is None or driver.get("spec", {}).get("attachRequired") is not False


def group_by_kubelet(volume: CsiVolume, driver: Object | None, group: int | None) -> bool:
    """Whether the kubelet gives the files of a volume to the group (fsGroupPolicy, KEP-1682)."""
    policy = "ReadWriteOnceWithFSType"
    if driver is not None:
        policy = driver.get("spec", {}).get("fsGroupPolicy") or policy
    if group is None or policy == "None" or volume.read_only or volume.block:
        return False
    if policy == "File":
        return True
    if not volume.fs_type:
        return False
    once = {READ_WRITE_ONCE, READ_WRITE_ONCE_POD} & set(volume.access_modes)
    return not volume.persistent or bool(once)


def attached(attachment: Object) -> tuple[bool, str]:
    """Return whether a VolumeAttachment is done, and why it never will be ("": it may)."""
    if attachment.get("metadata", {}).get("deletionTimestamp"):
        return False, "volume attachment is being deleted"
    status = attachment.get("status") or {}
    if status.get("attached"):
        return True, ""
    return False, str((status.get("attachError") or {}).get("message") or "")
