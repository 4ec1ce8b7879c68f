"""Checks of where containers mount volumes (pure).

Source: Kubernetes documentation, "Volumes": "Using subPath", "Mount propagation", "Recursive
read-only mounts", "Raw Block Volume Support".
"""

from __future__ import annotations

from collections.abc import Mapping

from controlplane.api.errors import Cause
from controlplane.api.metadata import forbidden, missing, required, unsupported, wrong
from controlplane.api.resource import Object
from controlplane.kinds.strategies.podspec.paths import check_descending, check_no_backsteps


def check_mounts(container: Object, volumes: Mapping[str, Object], path: str) -> list[Cause]:
    """Return what is wrong with ``volumeMounts``.

    Args:
        container: that has them.
        volumes: of the pod, by name.
        path: of the container.
    """
    devices = {
        d.get("name", ""): d.get("devicePath", "") for d in container.get("volumeDevices", ())
    }
    causes: list[Cause] = []
    seen: set[str] = set()
    base = f"{path}.volumeMounts"
    for index, mount in enumerate(container.get("volumeMounts", ())):
        at, name, where = f"{base}[{index}]", mount.get("name", ""), mount.get("mountPath", "")
        if not name:
            causes.append(required(f"{at}.name"))
        if name not in volumes:
            causes.append(missing(f"{at}.name", name))
        if not where:
            causes.append(required(f"{at}.mountPath"))
        if where in seen:
            causes.append(wrong(f"{at}.mountPath", where, "must be unique"))
        seen.add(where)
        if name in devices:
            text = "must not already exist in volumeDevices"
            causes.append(wrong(f"{at}.name", name, text))
        if where in devices.values():
            text = "must not already exist as a path in volumeDevices"
            causes.append(wrong(f"{at}.mountPath", where, text))
        causes += _check_mount(mount, container, base, at)
    return causes


def check_devices(container: Object, volumes: Mapping[str, Object], path: str) -> list[Cause]:
    """Return what is wrong with ``volumeDevices``."""
    mounts = {m.get("name", ""): m.get("mountPath", "") for m in container.get("volumeMounts", ())}
    causes: list[Cause] = []
    names: set[str] = set()
    paths: set[str] = set()
    for index, device in enumerate(container.get("volumeDevices", ())):
        at = f"{path}.volumeDevices[{index}]"
        name, where = device.get("name", ""), device.get("devicePath", "")
        source = volumes.get(name)
        if not name:
            causes.append(required(f"{at}.name"))
        if name in names:
            causes.append(wrong(f"{at}.name", name, "must be unique"))
        if source is None:
            causes.append(missing(f"{at}.name", name))
        elif not source.keys() & {"persistentVolumeClaim", "ephemeral"}:
            text = (
                "can only use volume source type of PersistentVolumeClaim or Ephemeral for block "
                "mode"
            )
            causes.append(wrong(f"{at}.name", name, text))
        if not where:
            causes.append(required(f"{at}.devicePath"))
        if where in paths:
            causes.append(wrong(f"{at}.devicePath", where, "must be unique"))
        if where and check_no_backsteps(where, at):
            causes.append(wrong(f"{at}.devicePath", where, "can not contain backsteps ('..')"))
        else:
            paths.add(where)
        if name in mounts:
            causes.append(wrong(f"{at}.name", name, "must not already exist in volumeMounts"))
        if where in mounts.values():
            text = "must not already exist as a path in volumeMounts"
            causes.append(wrong(f"{at}.devicePath", where, text))
        if name:
            names.add(name)
    return causes


def _check_mount(mount: Object, container: Object, base: str, at: str) -> list[Cause]:
    # Kubernetes names these fields without the mount's index.
    causes: list[Cause] = []
    below, expression = mount.get("subPath", ""), mount.get("subPathExpr", "")
    if below:
        causes += check_descending(below, f"{base}.subPath")
    if expression:
        if below:
            text = "subPathExpr and subPath are mutually exclusive"
            causes.append(wrong(f"{at}.subPathExpr", expression, text))
        causes += check_descending(expression, f"{base}.subPathExpr")
    propagation = mount.get("mountPropagation")
    if propagation is not None:
        causes += _check_propagation(propagation, container, f"{base}.mountPropagation")
    recursive = mount.get("recursiveReadOnly")
    path = f"{base}.recursiveReadOnly"
    if recursive in ("Enabled", "IfPossible"):
        if not mount.get("readOnly"):
            causes.append(forbidden(path, "may only be specified when readOnly is true"))
        if propagation not in (None, "None"):
            text = "may only be specified when mountPropagation is None or not specified"
            causes.append(forbidden(path, text))
    elif recursive not in (None, "Disabled"):
        causes.append(unsupported(path, recursive, ["Disabled", "Enabled", "IfPossible"]))
    return causes


def _check_propagation(mode: str, container: Object, path: str) -> list[Cause]:
    known = ["Bidirectional", "HostToContainer", "None"]
    causes = [] if mode in known else [unsupported(path, mode, known)]
    if mode == "Bidirectional" and not container.get("securityContext", {}).get("privileged"):
        text = "Bidirectional mount propagation is available only to privileged containers"
        causes.append(forbidden(path, text))
    return causes
