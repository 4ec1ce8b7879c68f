"""Validation of volumes (pure)."""

from __future__ import annotations

from .fields import Errors, stays_inside
from .quantity import Quantity
from .volumes import (
    DownwardAPIVolumeFile,
    EmptyDirVolumeSource,
    HostPathVolumeSource,
    ImageVolumeSource,
    NFSVolumeSource,
    Volume,
)

HOST_PATH_TYPES = (
    "",
    "DirectoryOrCreate",
    "Directory",
    "FileOrCreate",
    "File",
    "Socket",
    "CharDevice",
    "BlockDevice",
)
DOWNWARD_FIELDS = ("metadata.name", "metadata.namespace", "metadata.labels",
                   "metadata.annotations", "metadata.uid")  # fmt: skip
_SUBSCRIPTS = ("metadata.labels['", "metadata.annotations['")
_MODES = 0o777
_SOURCES = tuple(name for name in Volume.__struct_fields__ if name != "name")


def volume_sources(volume: Volume) -> list[str]:
    """Return the attribute names of the sources that are set."""
    return [name for name in _SOURCES if getattr(volume, name) is not None]


def validate_volumes(volumes: list[Volume], errors: Errors) -> set[str]:
    """Check all volumes of a pod; return their names."""
    for index, volume in enumerate(volumes):
        path = f"spec.volumes[{index}]"
        errors.label(f"{path}.name", volume.name)
        sources = volume_sources(volume)
        if not sources:
            errors.required(path, "must specify a volume type")
        if len(sources) > 1:
            errors.forbidden(path, "may not specify more than 1 volume type")
        if volume.empty_dir is not None:
            _validate_empty_dir(f"{path}.emptyDir", volume.empty_dir, errors)
        if volume.host_path is not None:
            _validate_host_path(f"{path}.hostPath", volume.host_path, errors)
        if volume.downward_api is not None:
            source = volume.downward_api
            _validate_mode(f"{path}.downwardAPI.defaultMode", source.default_mode, errors)
            for number, item in enumerate(source.items):
                _validate_downward_file(f"{path}.downwardAPI.items[{number}]", item, errors)
        if volume.nfs is not None:
            _validate_nfs(f"{path}.nfs", volume.nfs, errors)
        if volume.image is not None:
            _validate_image(f"{path}.image", volume.image, errors)
    errors.unique("spec.volumes", [volume.name for volume in volumes], ".name")
    return {volume.name for volume in volumes}


def validate_file_path(path: str, value: str, errors: Errors) -> None:
    """Check the relative path of a file in a volume."""
    if not value:
        errors.required(path)
    elif not stays_inside(value):
        errors.invalid(path, value, "must be a relative path and must not contain '..'")
    elif value.split("/")[0].startswith(".."):
        errors.invalid(path, value, "must not start with '..'")


def _validate_empty_dir(path: str, source: EmptyDirVolumeSource, errors: Errors) -> None:
    medium = source.medium
    if medium not in ("", "Memory", "HugePages") and not medium.startswith("HugePages-"):
        errors.unsupported(f"{path}.medium", medium, ("", "Memory", "HugePages"))
    if source.size_limit is not None and source.size_limit < Quantity(0):
        errors.forbidden(f"{path}.sizeLimit", "SizeLimit field must be a valid resource quantity")


def _validate_host_path(path: str, source: HostPathVolumeSource, errors: Errors) -> None:
    if not source.path:
        errors.required(f"{path}.path")
    elif ".." in source.path.split("/"):
        errors.invalid(f"{path}.path", source.path, "must not contain '..'")
    elif not source.path.startswith("/"):
        errors.invalid(f"{path}.path", source.path, "must be an absolute path")
    errors.text(f"{path}.path", source.path)
    if source.type is not None and source.type not in HOST_PATH_TYPES:
        errors.unsupported(f"{path}.type", source.type, HOST_PATH_TYPES)


def _validate_nfs(path: str, source: NFSVolumeSource, errors: Errors) -> None:
    if not source.server:
        errors.required(f"{path}.server")
    if not source.path:
        errors.required(f"{path}.path")
    elif not source.path.startswith("/"):
        errors.invalid(f"{path}.path", source.path, "must be an absolute path")
    errors.text(f"{path}.server", source.server)
    errors.text(f"{path}.path", source.path)


def _validate_image(path: str, source: ImageVolumeSource, errors: Errors) -> None:
    if not source.reference:
        errors.required(f"{path}.reference")
    if source.pull_policy:
        errors.one_of(f"{path}.pullPolicy", source.pull_policy, ("Always", "Never", "IfNotPresent"))


def _validate_downward_file(path: str, item: DownwardAPIVolumeFile, errors: Errors) -> None:
    validate_file_path(f"{path}.path", item.path, errors)
    _validate_mode(f"{path}.mode", item.mode, errors)
    if item.field_ref is not None and item.resource_field_ref is not None:
        errors.forbidden(path, "fieldRef and resourceFieldRef can not be specified simultaneously")
    elif item.field_ref is not None:
        field = item.field_ref.field_path
        if field not in DOWNWARD_FIELDS and not field.startswith(_SUBSCRIPTS):
            errors.unsupported(f"{path}.fieldRef.fieldPath", field, DOWNWARD_FIELDS)
    elif item.resource_field_ref is not None:
        if not item.resource_field_ref.container_name:
            errors.required(f"{path}.resourceFieldRef.containerName")
    else:
        errors.required(path, "one of fieldRef and resourceFieldRef is required")


def _validate_mode(path: str, mode: int | None, errors: Errors) -> None:
    if mode is not None and not 0 <= mode <= _MODES:
        errors.invalid(path, mode, "must be a number between 0 and 0777 (octal), both inclusive")
