"""Checks of annotations that say something of a pod's spec (pure).

Source: Kubernetes documentation, "Well-Known Labels, Annotations and Taints".
"""

from __future__ import annotations

import re
from typing import Final

from controlplane.api.errors import Cause
from controlplane.api.metadata import forbidden, wrong
from controlplane.api.resource import Object
from controlplane.kinds.strategies.podspec.paths import check_descending

MIRROR: Final = "kubernetes.io/config.mirror"
"""Says that a pod is the picture of a static one, kept by its kubelet."""

APPARMOR: Final = "container.apparmor.security.beta.kubernetes.io/"
"""Beginning of the older way to name a container's AppArmor profile."""

SECCOMP_POD: Final = "seccomp.security.alpha.kubernetes.io/pod"
"""The older way to name a pod's seccomp profile."""

SECCOMP: Final = "container.seccomp.security.alpha.kubernetes.io/"
"""Beginning of the older way to name a container's seccomp profile."""

_COST: Final = "controller.kubernetes.io/pod-deletion-cost"


def check_annotations(
    annotations: dict[str, str], spec: Object, names: set[str], path: str
) -> list[Cause]:
    """Return what is wrong with the annotations of a pod or a template.

    Args:
        annotations: of it.
        spec: of it.
        names: of all its containers.
        path: of ``annotations``.
    """
    causes: list[Cause] = []
    if MIRROR in annotations and not spec.get("nodeName"):
        text = "must set spec.nodeName if mirror pod annotation is set"
        causes.append(wrong(f"{path}[{MIRROR}]", annotations[MIRROR], text))
    cost = annotations.get(_COST, "0")
    good = re.fullmatch(r"0|-?[1-9][0-9]{0,9}", cost, re.ASCII)
    if good is None or not -(1 << 31) <= int(cost) < 1 << 31:
        causes.append(wrong(f"{path}[{_COST}]", cost, "must be a 32bit integer"))
    for key, value in annotations.items():
        if key == SECCOMP_POD or key.startswith(SECCOMP):
            causes += _check_seccomp(value, f"{path}.{key}")
        elif key.startswith(APPARMOR):
            name = key.removeprefix(APPARMOR)
            if name not in names:
                causes.append(wrong(f"{path}[{key}]", name, "container not found"))
            known = value in ("", "runtime/default", "unconfined")
            if not known and not value.startswith("localhost/"):
                text = f'invalid AppArmor profile name: "{value}"'
                causes.append(wrong(f"{path}[{key}]", value, text))
    return causes


def check_same_profiles(
    annotations: dict[str, str], spec: Object, containers: list[tuple[Object, str]], path: str
) -> list[Cause]:
    """Return where the older annotations of profiles say something else than the fields do."""
    context = spec.get("securityContext", {})
    causes: list[Cause] = []
    if "seccompProfile" in context and SECCOMP_POD in annotations:
        at = f"{path}.securityContext.seccompProfile"
        causes += _differ(context["seccompProfile"], annotations[SECCOMP_POD], "seccomp", at)
    for container, where in containers:
        own, name = container.get("securityContext", {}), container.get("name", "")
        at = f"{where}.securityContext"
        if "seccompProfile" in own and SECCOMP + name in annotations:
            text = annotations[SECCOMP + name]
            causes += _differ(own["seccompProfile"], text, "seccomp", f"{at}.seccompProfile")
        profile = own.get("appArmorProfile", context.get("appArmorProfile"))
        if profile is None or APPARMOR + name not in annotations:
            continue
        if spec.get("os", {}).get("name") != "windows":
            text = annotations[APPARMOR + name]
            causes += _differ(profile, text, "apparmor", f"{at}.appArmorProfile")
    return causes


def deprecated_profiles(
    annotations: dict[str, str], spec: Object, containers: list[tuple[Object, str]]
) -> list[tuple[str, Object, Object | None]]:
    """Return older annotations of AppArmor profiles that no field says the same as.

    Args:
        annotations: of a pod or a template.
        spec: of it.
        containers: all of them, with their paths.

    Returns:
        The key of each, its container, and the field that it stands for; None: it is none.
    """
    whole = spec.get("securityContext", {}).get("appArmorProfile")
    found: list[tuple[str, Object, Object | None]] = []
    for container, _ in containers:
        key = APPARMOR + container.get("name", "")
        if key in annotations and "appArmorProfile" not in container.get("securityContext", {}):
            profile = _profile_of(annotations[key])
            if profile is None or profile != whole:
                found.append((key, container, profile))
    return found


def _profile_of(annotation: str) -> Object | None:
    kinds = {"unconfined": "Unconfined", "runtime/default": "RuntimeDefault"}
    if annotation in kinds:
        return {"type": kinds[annotation]}
    name = annotation.removeprefix("localhost/")
    if not annotation.startswith("localhost/") or not name or name != name.strip():
        return None
    return {"type": "Localhost", "localhostProfile": name} if len(name) <= 4095 else None


def _differ(profile: Object, text: str, what: str, path: str) -> list[Cause]:
    kind = profile.get("type", "")
    same = {"Unconfined": ("unconfined",), "RuntimeDefault": ("runtime/default", "docker/default")}
    wanted = same.get(kind, ())[: 2 if what == "seccomp" else 1]
    if kind == "Localhost" and text.startswith("localhost/"):
        if profile.get("localhostProfile") == text.removeprefix("localhost/"):
            return []
        why = f"{what} profile in annotation and field must match"
        return [forbidden(f"{path}.localhostProfile", why)]
    if kind not in (*same, "Localhost") or text in wanted:
        return []
    return [forbidden(f"{path}.type", f"{what} type in annotation and field must match")]


def _check_seccomp(profile: str, path: str) -> list[Cause]:
    if profile in ("runtime/default", "docker/default", "unconfined"):
        return []
    if profile.startswith("localhost/"):
        return check_descending(profile.removeprefix("localhost/"), path)
    return [wrong(path, profile, "must be a valid seccomp profile")]
