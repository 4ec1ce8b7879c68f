"""Checks of security contexts (pure).

Source: Kubernetes documentation, "Configure a Security Context for a Pod or Container", "Using
sysctls in a Kubernetes Cluster", "User Namespaces".
"""

from __future__ import annotations

import re
from typing import Final

from controlplane.api.errors import Cause
from controlplane.api.formats import range_problems, subdomain_problems
from controlplane.api.metadata import duplicate, forbidden, required, too_long, unsupported, wrong
from controlplane.api.resource import Object
from controlplane.kinds.strategies.podspec.paths import check_descending

_MAX_ID: Final = (1 << 31) - 1
_SEGMENT: Final = "[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_SYSCTL: Final = rf"^({_SEGMENT}[\./])*{_SEGMENT}$"
_PROFILES: Final = ["Localhost", "RuntimeDefault", "Unconfined"]
_MAX_PROFILE: Final = 4095
_NAMESPACES: Final = {
    "ipc": ("kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."),
    "net": ("net.",),
}
_NETBIOS: Final = re.compile(r"""[^\\/:*?"<>|.][^\\/:*?"<>|]{0,14}""")
_DOMAIN: Final = re.compile(
    r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}"
    r"[a-zA-Z0-9])?)*"
)


def check_pod_context(spec: Object, path: str) -> list[Cause]:
    """Return what is wrong with the security context of a pod, and its fields beside that.

    Args:
        spec: of the pod.
        path: of its ``securityContext``.
    """
    context = spec.get("securityContext", {})
    causes = _check_ids(context, ("fsGroup", "runAsUser", "runAsGroup"), path)
    for index, group in enumerate(context.get("supplementalGroups", ())):
        at = f"{path}.supplementalGroups[{index}]"
        causes += [wrong(at, group, why) for why in range_problems(group, 0, _MAX_ID)]
    if spec.get("shareProcessNamespace") and spec.get("hostPID"):
        text = "ShareProcessNamespace and HostPID cannot both be enabled"
        causes.append(wrong(f"{path}.shareProcessNamespace", True, text))
    causes += _check_sysctls(spec, context.get("sysctls", []), f"{path}.sysctls")
    for name, known in (("fsGroupChangePolicy", ["Always", "OnRootMismatch"]),):
        if name in context and context[name] not in known:
            causes.append(unsupported(f"{path}.{name}", context[name], known))
    causes += _check_seccomp(context, path)
    causes += _check_windows_options(context, path)
    causes += _check_apparmor(context, path)
    for name, known in (
        ("supplementalGroupsPolicy", ["Merge", "Strict"]),
        # The other one, MountOption, waits for a feature that is off by default (KEP-1710).
        ("seLinuxChangePolicy", ["Recursive"]),
    ):
        if name in context and context[name] not in known:
            causes.append(unsupported(f"{path}.{name}", context[name], known))
    return causes


def check_container_context(container: Object, path: str, *, host_users: bool) -> list[Cause]:
    """Return what is wrong with the security context of a container.

    Args:
        container: that has it.
        path: of ``securityContext``.
        host_users: the pod is in the user namespace of the host.
    """
    context = container.get("securityContext")
    if context is None:
        return []
    causes = _check_ids(context, ("runAsUser", "runAsGroup"), path)
    proc = context.get("procMount")
    if proc is not None:
        at = f"{path}.procMount"
        if proc not in ("Default", "Unmasked"):
            causes.append(unsupported(at, proc, ["Default", "Unmasked"]))
        if host_users and proc == "Unmasked":
            causes.append(wrong(at, proc, "`hostUsers` must be false to use `Unmasked`"))
    causes += _check_seccomp(context, path)
    if context.get("allowPrivilegeEscalation") is False:
        start = "cannot set `allowPrivilegeEscalation` to false and"
        if context.get("privileged"):
            causes.append(wrong(path, context, f"{start} `privileged` to true"))
        if "CAP_SYS_ADMIN" in context.get("capabilities", {}).get("add", ()):
            causes.append(wrong(path, context, f"{start} `capabilities.Add` CAP_SYS_ADMIN"))
    return causes + _check_windows_options(context, path) + _check_apparmor(context, path)


def _check_ids(context: Object, names: tuple[str, ...], path: str) -> list[Cause]:
    return [
        wrong(f"{path}.{name}", context[name], why)
        for name in names
        if name in context
        for why in range_problems(context[name], 0, _MAX_ID)
    ]


def _check_sysctls(spec: Object, sysctls: list[Object], path: str) -> list[Cause]:
    causes: list[Cause] = []
    seen: set[str] = set()
    for index, sysctl in enumerate(sysctls):
        at, name = f"{path}[{index}].name", sysctl.get("name", "")
        if not name:
            causes.append(required(at))
        elif len(name) > 253 or not re.fullmatch(_SYSCTL[1:-1], name, re.ASCII):
            text = f"must have at most 253 characters and match regex {_SYSCTL}"
            causes.append(wrong(at, name, text))
        elif name in seen:
            causes.append(duplicate(at, name))
        dotted = name.replace("/", ".") if "/" in name.partition(".")[0] else name
        for field, kind in (("hostNetwork", "net"), ("hostIPC", "ipc")):
            if spec.get(field) and dotted.startswith(_NAMESPACES[kind]):
                text = f"may not be specified when '{field}' is true"
                causes.append(wrong(at, name, text))
        seen.add(name)
    return causes


def _check_seccomp(context: Object, path: str) -> list[Cause]:
    profile, at = context.get("seccompProfile"), f"{path}.seccompProfile"
    if profile is None:
        return []
    kind, causes = profile.get("type", ""), []
    if not kind:
        text = "type is required when seccompProfile is set"
        causes.append(required(f"{at}.type", text))
    elif kind not in _PROFILES:
        causes.append(unsupported(f"{at}.type", kind, _PROFILES))
    local = profile.get("localhostProfile")
    if kind == "Localhost" and local is None:
        text = "must be set when seccomp type is Localhost"
        causes.append(required(f"{at}.localhostProfile", text))
    elif kind == "Localhost":
        causes += check_descending(local or "", f"{at}.localhostProfile")
    elif local is not None:
        text = "can only be set when seccomp type is Localhost"
        shown = {"Type": kind, "LocalhostProfile": local}
        causes.append(wrong(f"{at}.localhostProfile", shown, text))
    return causes


def _check_apparmor(context: Object, path: str) -> list[Cause]:
    profile, at = context.get("appArmorProfile"), f"{path}.appArmorProfile"
    if profile is None:
        return []
    kind, local = profile.get("type", ""), profile.get("localhostProfile")
    below, needed = f"{at}.localhostProfile", "must be set when AppArmor type is Localhost"
    if not kind:
        return [required(f"{at}.type", "type is required when appArmorProfile is set")]
    if kind not in _PROFILES:
        return [unsupported(f"{at}.type", kind, _PROFILES)]
    if kind != "Localhost":
        text = "can only be set when AppArmor type is Localhost"
        return [] if local is None else [wrong(below, local, text)]
    if local is None:
        return [required(below, needed)]
    causes: list[Cause] = []
    if local != local.strip():
        causes.append(wrong(below, local, "must not be padded with whitespace"))
    elif not local:
        causes.append(required(below, needed))
    if len(local.encode()) > _MAX_PROFILE:
        causes.append(too_long(below, _MAX_PROFILE))
    return causes


def _check_windows_options(context: Object, path: str) -> list[Cause]:
    options, at = context.get("windowsOptions", {}), f"{path}.windowsOptions"
    causes: list[Cause] = []
    if "gmsaCredentialSpecName" in options:
        name = options["gmsaCredentialSpecName"]
        below = f"{at}.gmsaCredentialSpecName"
        causes += [wrong(below, name, why) for why in subdomain_problems(name)]
    if "gmsaCredentialSpec" in options:
        text, below = options["gmsaCredentialSpec"], f"{at}.gmsaCredentialSpec"
        if not text:
            causes.append(wrong(below, text, "gmsaCredentialSpec cannot be an empty string"))
        elif len(text.encode()) > 64 << 10:
            causes.append(wrong(below, text, "gmsaCredentialSpec size must be under 64 KiB"))
    if "runAsUserName" in options:
        name = options["runAsUserName"]
        why = _user_name_problem(name)
        causes += [wrong(f"{at}.runAsUserName", name, f"runAsUserName{why}")] if why else []
    return causes


def _user_name_problem(name: str) -> str:
    domain, backslash, user = name.rpartition("\\")
    if not name:
        return " cannot be an empty string"
    if re.search(r"[\x00-\x1f\x7f]", name):
        return " cannot contain control characters"
    if "\\" in domain:
        return " cannot contain more than one backslash"
    if len(domain) >= 256:
        return "'s Domain length must be under 256 characters"
    if backslash and not (_NETBIOS.fullmatch(domain) or _DOMAIN.fullmatch(domain)):
        return "'s Domain doesn't match the NetBios nor the DNS format"
    if not user:
        return "'s User cannot be empty"
    if len(user) > 104:
        return "'s User length must not be longer than 104 characters"
    if not user.strip(". "):
        return "'s User cannot contain only periods or spaces"
    if re.search(r"""["/\\:;|=,+*?<>@\[\]]""", user):
        return """'s User cannot contain the following characters: "/\\:;|=,+*?<>@[]"""
    return ""


def check_host_process(
    spec: Object, containers: list[tuple[Object, str]], path: str
) -> list[Cause]:
    """Return what is wrong with containers that run on a Windows host itself."""
    whole = spec.get("securityContext", {}).get("windowsOptions", {}).get("hostProcess")
    causes: list[Cause] = []
    count = 0
    for container, at in containers:
        options = container.get("securityContext", {}).get("windowsOptions", {})
        own = options.get("hostProcess")
        if whole is not None and own is not None and whole != own:
            text = (
                "pod hostProcess value must be identical if both are specified, was "
                f"{str(whole).lower()}"
            )
            causes.append(wrong(f"{at}.securityContext.windowsOptions.hostProcess", own, text))
        count += bool(whole if own is None else own)
    if count and count != len(containers):
        text = (
            "If pod contains any hostProcess containers then all containers must be HostProcess "
            "containers"
        )
        causes.append(wrong(path, "", text))
    if count and not spec.get("hostNetwork"):
        text = "hostNetwork must be true if pod contains any hostProcess containers"
        causes.append(wrong(f"{path}.hostNetwork", False, text))
    return causes


def check_host_users(spec: Object, path: str) -> list[Cause]:
    """Return what a pod with a user namespace of its own cannot share with the host."""
    if spec.get("hostUsers", True):
        return []
    # These names are Kubernetes', capital letters included.
    told = {"hostNetwork": "hostNetwork", "hostPID": "HostPID", "hostIPC": "HostIPC"}
    causes = [
        forbidden(f"{path}.{told[key]}", "when `hostUsers` is false")
        for key in told
        if spec.get(key)
    ]
    for name in ("initContainers", "containers", "ephemeralContainers"):
        for index, container in enumerate(spec.get(name, ())):
            if container.get("volumeDevices"):
                at = f"{path}.{name}[{index}].volumeDevices"
                causes.append(forbidden(at, "when `hostUsers` is false"))
    return causes
