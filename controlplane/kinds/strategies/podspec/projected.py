"""Checks of files that volumes are made of: keys, fields of the pod, tokens (pure).

Source: Kubernetes documentation, "Projected Volumes", "Downward API".
"""

from __future__ import annotations

from controlplane.api.errors import Cause
from controlplane.api.metadata import forbidden, required, wrong
from controlplane.api.resource import Object
from controlplane.kinds.strategies.podspec.environment import (
    FIELDS_OF_FILES,
    check_field_reference,
    check_resource_reference,
)
from controlplane.kinds.strategies.podspec.paths import check_file_path, check_mode


def check_key_paths(items: list[Object], path: str) -> list[Cause]:
    """Return what is wrong with the keys of a ConfigMap or Secret that become files."""
    causes: list[Cause] = []
    for index, item in enumerate(items):
        at = f"{path}[{index}]"
        causes += [required(f"{at}.{key}") for key in ("key", "path") if not item.get(key)]
        causes += check_file_path(item.get("path", ""), f"{at}.path")
        causes += check_mode(item, "mode", at)
    return causes


def check_downward_file(file: Object, path: str) -> list[Cause]:
    """Return what is wrong with a file that is made of a field of the pod."""
    where = file.get("path", "")
    causes = [] if where else [required(f"{path}.path")]
    causes += check_file_path(where, f"{path}.path")
    if "fieldRef" in file:
        causes += check_field_reference(file["fieldRef"], FIELDS_OF_FILES, f"{path}.fieldRef")
        if "resourceFieldRef" in file:
            text = "fieldRef and resourceFieldRef can not be specified simultaneously"
            causes.append(wrong(path, "resource", text))
    elif "resourceFieldRef" in file:
        at = f"{path}.resourceFieldRef"
        causes += check_resource_reference(file["resourceFieldRef"], at, volume=True)
    else:
        causes.append(required(path, "one of fieldRef and resourceFieldRef is required"))
    return causes + check_mode(file, "mode", path)


def check_projected(source: Object, path: str) -> list[Cause]:
    """Return what is wrong with a projected volume."""
    causes = check_mode(source, "defaultMode", path)
    seen: set[str] = set()
    for index, part in enumerate(source.get("sources", ())):
        at = f"{path}.sources[{index}]"
        for key in ("secret", "configMap"):
            if key in part:
                causes += _check_keys(part[key], seen, f"{at}.{key}", path)
        for file in part.get("downwardAPI", {}).get("items", ()):
            causes += check_downward_file(file, f"{at}.downwardAPI")
            where = file.get("path", "")
            causes += _check_once(where, where, seen, path)
        if "serviceAccountToken" in part:
            causes += _check_token(part["serviceAccountToken"], f"{at}.serviceAccountToken", path)
        if "clusterTrustBundle" in part:
            bundle = part["clusterTrustBundle"]
            causes += _check_bundle(bundle, f"{at}.clusterTrustBundle")
            where = bundle.get("path", "")
            causes += _check_once(where, where, seen, path)
        if len(part) > 1:
            text = "may not specify more than 1 volume type per source"
            causes.append(forbidden(at, text))
    return causes


def _check_keys(source: Object, seen: set[str], path: str, volume: str) -> list[Cause]:
    name = source.get("name", "")
    causes = [] if name else [required(f"{path}.name")]
    causes += check_key_paths(source.get("items", []), f"{path}.items")
    for item in source.get("items", ()):
        causes += _check_once(item.get("path", ""), name, seen, volume)
    return causes


def _check_once(where: str, told: str, seen: set[str], volume: str) -> list[Cause]:
    if where and where in seen:
        return [wrong(volume, told, "conflicting duplicate paths")]
    seen.add(where)
    return []


def _check_token(token: Object, path: str, volume: str) -> list[Cause]:
    causes: list[Cause] = []
    seconds = token.get("expirationSeconds", 0)
    if seconds < 600:
        text = "may not specify a duration less than 10 minutes"
        causes.append(wrong(f"{path}.expirationSeconds", seconds, text))
    if seconds > 1 << 32:
        text = "may not specify a duration larger than 2^32 seconds"
        causes.append(wrong(f"{path}.expirationSeconds", seconds, text))
    # Kubernetes tells this field by the path of the volume.
    if not token.get("path"):
        return [*causes, required(f"{volume}.path")]
    return causes + check_file_path(token["path"], f"{volume}.path")


def _check_bundle(bundle: Object, path: str) -> list[Cause]:
    causes: list[Cause] = []
    if "name" in bundle and "signerName" in bundle:
        causes.append(wrong(path, bundle, "only one of name and signerName may be used"))
    elif "name" in bundle:
        if "labelSelector" in bundle:
            text = "labelSelector must be unset if name is specified"
            causes.append(wrong(f"{path}.labelSelector", bundle["labelSelector"], text))
    elif "signerName" not in bundle:
        causes.append(required(path, "either name or signerName must be specified"))
    where = bundle.get("path", "")
    causes += [] if where else [required(f"{path}.path")]
    return causes + check_file_path(where, f"{path}.path")
