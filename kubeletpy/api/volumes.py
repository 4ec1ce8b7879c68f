"""Volumes of a pod and their sources (core/v1, 1.36)."""

from __future__ import annotations

from typing import Any

import msgspec

from .base import ApiStruct, Int32, Int64
from .container import ObjectFieldSelector, ResourceFieldSelector
from .meta import LabelSelector, LocalObjectReference, ObjectMeta
from .quantity import Quantity


class HostPathVolumeSource(ApiStruct):
    """A path of the node; ``type`` says what must be there, or be made."""

    path: str = ""
    type: str | None = None


class EmptyDirVolumeSource(ApiStruct):
    """A directory that lives as long as the pod; ``medium`` is "", Memory or HugePages*."""

    medium: str = ""
    size_limit: Quantity | None = None


class KeyToPath(ApiStruct):
    """One key as a file."""

    key: str = ""
    path: str = ""
    mode: Int32 | None = None


class SecretVolumeSource(ApiStruct):
    """A Secret as files."""

    secret_name: str = ""
    items: list[KeyToPath] = []
    default_mode: Int32 | None = None
    optional: bool | None = None


class ConfigMapVolumeSource(ApiStruct):
    """A ConfigMap as files."""

    name: str = ""
    items: list[KeyToPath] = []
    default_mode: Int32 | None = None
    optional: bool | None = None


class DownwardAPIVolumeFile(ApiStruct):
    """One field of the pod as a file."""

    path: str = ""
    field_ref: ObjectFieldSelector | None = None
    resource_field_ref: ResourceFieldSelector | None = None
    mode: Int32 | None = None


class DownwardAPIVolumeSource(ApiStruct):
    """Fields of the pod as files."""

    items: list[DownwardAPIVolumeFile] = []
    default_mode: Int32 | None = None


class NamedProjection(ApiStruct):
    """A Secret or ConfigMap as a part of a projected volume."""

    name: str = ""
    items: list[KeyToPath] = []
    optional: bool | None = None


class DownwardAPIProjection(ApiStruct):
    """Fields of the pod as a part of a projected volume."""

    items: list[DownwardAPIVolumeFile] = []


class ServiceAccountTokenProjection(ApiStruct):
    """A bound token of the service account."""

    audience: str = ""
    expiration_seconds: Int64 | None = None
    path: str = ""


class ClusterTrustBundleProjection(ApiStruct):
    """Trust anchors of the cluster."""

    name: str | None = None
    signer_name: str | None = None
    label_selector: LabelSelector | None = None
    optional: bool | None = None
    path: str = ""


class PodCertificateProjection(ApiStruct):
    """A key and a certificate for the pod."""

    signer_name: str = ""
    key_type: str = ""
    max_expiration_seconds: Int32 | None = None
    credential_bundle_path: str = ""
    key_path: str = ""
    certificate_chain_path: str = ""
    user_annotations: dict[str, str] = {}


class VolumeProjection(ApiStruct):
    """One part of a projected volume; exactly one is set."""

    secret: NamedProjection | None = None
    downward_api: DownwardAPIProjection | None = None
    config_map: NamedProjection | None = None
    service_account_token: ServiceAccountTokenProjection | None = None
    cluster_trust_bundle: ClusterTrustBundleProjection | None = None
    pod_certificate: PodCertificateProjection | None = None


class ProjectedVolumeSource(ApiStruct):
    """Several sources in one directory."""

    sources: list[VolumeProjection] = []
    default_mode: Int32 | None = None


class PersistentVolumeClaimVolumeSource(ApiStruct):
    """A claim of the pod's namespace."""

    claim_name: str = ""
    read_only: bool = False


class TypedObjectReference(ApiStruct):
    """An object as data source of a claim."""

    api_group: str | None = None
    kind: str = ""
    name: str = ""
    namespace: str | None = None


class VolumeResourceRequirements(ApiStruct):
    """Storage limits and requests of a claim."""

    limits: dict[str, Quantity] = {}
    requests: dict[str, Quantity] = {}


class PersistentVolumeClaimSpec(ApiStruct):
    """Spec of a claim."""

    access_modes: list[str] = []
    selector: LabelSelector | None = None
    resources: VolumeResourceRequirements = msgspec.field(
        default_factory=VolumeResourceRequirements
    )
    volume_name: str = ""
    storage_class_name: str | None = None
    volume_mode: str | None = None
    data_source: TypedObjectReference | None = None
    data_source_ref: TypedObjectReference | None = None
    volume_attributes_class_name: str | None = None


class PersistentVolumeClaimTemplate(ApiStruct):
    """A claim to be made for the pod."""

    metadata: ObjectMeta = msgspec.field(default_factory=ObjectMeta)
    spec: PersistentVolumeClaimSpec = msgspec.field(default_factory=PersistentVolumeClaimSpec)


class EphemeralVolumeSource(ApiStruct):
    """A claim that lives as long as the pod."""

    volume_claim_template: PersistentVolumeClaimTemplate | None = None


class CSIVolumeSource(ApiStruct):
    """An inline volume of a CSI driver."""

    driver: str = ""
    read_only: bool | None = None
    fs_type: str | None = None
    volume_attributes: dict[str, str] = {}
    node_publish_secret_ref: LocalObjectReference | None = None


class ImageVolumeSource(ApiStruct):
    """The files of an OCI image."""

    reference: str = ""
    pull_policy: str = ""


class NFSVolumeSource(ApiStruct):
    """An NFS export."""

    server: str = ""
    path: str = ""
    read_only: bool = False


class ISCSIVolumeSource(ApiStruct):
    """An iSCSI disk."""

    target_portal: str = ""
    iqn: str = ""
    lun: Int32 = 0
    iscsi_interface: str = ""
    fs_type: str = ""
    read_only: bool = False
    portals: list[str] = []
    chap_auth_discovery: bool = False
    chap_auth_session: bool = False
    secret_ref: LocalObjectReference | None = None
    initiator_name: str | None = None


class FCVolumeSource(ApiStruct):
    """A Fibre Channel disk."""

    target_wwns: list[str] = []
    lun: Int32 | None = None
    fs_type: str = ""
    read_only: bool = False
    wwids: list[str] = []


class FlexVolumeSource(ApiStruct):
    """A volume of an exec based plugin (deprecated)."""

    driver: str = ""
    fs_type: str = ""
    secret_ref: LocalObjectReference | None = None
    read_only: bool = False
    options: dict[str, str] = {}


class GitRepoVolumeSource(ApiStruct):
    """A git checkout (refused: CVE-2024-10220)."""

    repository: str = ""
    revision: str = ""
    directory: str = ""


class Volume(ApiStruct):
    """A named volume; exactly one source is set.

    The sources of storage vendors that left the tree of Kubernetes are kept as plain dicts: they
    parse, and validation says that they are not supported.
    """

    name: str = ""
    host_path: HostPathVolumeSource | None = None
    empty_dir: EmptyDirVolumeSource | None = None
    secret: SecretVolumeSource | None = None
    config_map: ConfigMapVolumeSource | None = None
    downward_api: DownwardAPIVolumeSource | None = None
    projected: ProjectedVolumeSource | None = None
    persistent_volume_claim: PersistentVolumeClaimVolumeSource | None = None
    ephemeral: EphemeralVolumeSource | None = None
    csi: CSIVolumeSource | None = None
    image: ImageVolumeSource | None = None
    nfs: NFSVolumeSource | None = None
    iscsi: ISCSIVolumeSource | None = None
    fc: FCVolumeSource | None = None
    flex_volume: FlexVolumeSource | None = None
    git_repo: GitRepoVolumeSource | None = None
    aws_elastic_block_store: dict[str, Any] | None = None
    azure_disk: dict[str, Any] | None = None
    azure_file: dict[str, Any] | None = None
    cephfs: dict[str, Any] | None = None
    cinder: dict[str, Any] | None = None
    flocker: dict[str, Any] | None = None
    gce_persistent_disk: dict[str, Any] | None = None
    glusterfs: dict[str, Any] | None = None
    photon_persistent_disk: dict[str, Any] | None = None
    portworx_volume: dict[str, Any] | None = None
    quobyte: dict[str, Any] | None = None
    rbd: dict[str, Any] | None = None
    scale_io: dict[str, Any] | None = None
    storageos: dict[str, Any] | None = None
    vsphere_volume: dict[str, Any] | None = None
