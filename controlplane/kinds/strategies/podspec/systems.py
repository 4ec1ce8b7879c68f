"""Checks of what only one operating system has (pure).

Source: Kubernetes API reference, PodSpec, ``os``.
"""

from __future__ import annotations

from typing import Final

from controlplane.api.errors import Cause
from controlplane.api.metadata import forbidden, required, unsupported
from controlplane.api.resource import Object

_OF_LINUX_PODS: Final = ("hostUsers", "hostPID", "hostIPC", "shareProcessNamespace")
_OF_LINUX_POD_CONTEXTS: Final = (
    "appArmorProfile", "seLinuxOptions", "seccompProfile", "fsGroup", "fsGroupChangePolicy",
    "sysctls", "runAsUser", "runAsGroup", "supplementalGroups", "supplementalGroupsPolicy",
    "seLinuxChangePolicy",
)  # fmt: skip
_OF_LINUX_CONTEXTS: Final = (
    "appArmorProfile", "seLinuxOptions", "seccompProfile", "capabilities",
    "readOnlyRootFilesystem", "privileged", "allowPrivilegeEscalation", "procMount", "runAsUser",
    "runAsGroup",
)  # fmt: skip


def check_system(spec: Object, containers: list[tuple[Object, str]], path: str) -> list[Cause]:
    """Return what a pod says that its operating system does not have.

    Args:
        spec: of the pod.
        containers: all of them, with their paths.
        path: of ``spec``.
    """
    if "os" not in spec:
        return []
    name, at = spec["os"].get("name", ""), f"{path}.os"
    if not name:
        return [required(f"{at}.name")]
    if name not in ("linux", "windows"):
        return [unsupported(at, name, ["linux", "windows"])]
    context = spec.get("securityContext", {})
    if name == "linux":
        text = "windows options cannot be set for a linux pod"
        return [
            forbidden(f"{at}.securityContext.windowsOptions", text)
            for value, at in [(spec, path), *containers]
            if "windowsOptions" in value.get("securityContext", {})
        ]
    text = "cannot be set for a windows pod"
    found = [
        f"{path}.{key}"
        for key in _OF_LINUX_PODS
        if spec.get(key) or (key in spec and key in ("hostUsers", "shareProcessNamespace"))
    ]
    found += [f"{path}.securityContext.{key}" for key in _OF_LINUX_POD_CONTEXTS if key in context]
    found += [
        f"{at}.securityContext.{key}"
        for container, at in containers
        for key in _OF_LINUX_CONTEXTS
        if key in container.get("securityContext", {})
    ]
    return [forbidden(where, text) for where in found]
