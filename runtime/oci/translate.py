"""From a CRI container to an OCI runtime configuration (specification 1.2): a pure function.

The configuration is the whole truth about the process: the built-in executor runs it, and any OCI
runtime binary could. Defaults are those that containerd's CRI plugin documents. What the request
asks for and this runtime does not do yet is an error here, never left out in silence.

Masked and read-only paths are exactly those of the request, since the protocol cannot tell an
empty list ("unmasked") from none: the kubelet sends its default lists itself.
"""

from __future__ import annotations

from typing import Any

from kubeletpy_proto import cri_pb2 as cri
from runtime.oci.request import TranslationError, TranslationRequest
from runtime.oci.translate_limits import (
    translate_devices,
    translate_namespaces,
    translate_resources,
)
from runtime.oci.translate_mounts import normal_path, translate_mounts
from runtime.oci.translate_process import translate_process

OCI_VERSION = "1.2.0"


def translate(request: TranslationRequest) -> dict[str, Any]:
    """Return the OCI runtime configuration of a container.

    Raises:
        TranslationError: the request contradicts itself or cannot be honoured.
    """
    refuse_unsupported(request)
    security = request.security
    devices, rules = translate_devices(request)
    resources = translate_resources(request.container.linux.resources, request.host.cgroup_version)
    linux: dict[str, Any] = {
        "namespaces": translate_namespaces(request),
        "devices": devices,
        "cgroupsPath": request.cgroup,
        "resources": {**resources, "devices": rules},
        "rootfsPropagation": _root_propagation(request),
    }
    if not security.privileged:
        linux["maskedPaths"] = _paths(security.masked_paths, "masked_paths")
        linux["readonlyPaths"] = _paths(security.readonly_paths, "readonly_paths")
    return {
        "ociVersion": OCI_VERSION,
        "process": translate_process(request),
        "root": {"path": "rootfs", "readonly": security.readonly_rootfs},
        "mounts": translate_mounts(request),
        "linux": linux,
        "annotations": {
            "io.kubernetes.cri.container-type": "container",
            "io.kubernetes.cri.sandbox-id": request.sandbox_id,
            "io.kubernetes.cri.container-name": request.container.metadata.name,
        },
    }


def refuse_unsupported(request: TranslationRequest) -> None:
    """Refuse what would otherwise be ignored.

    Raises:
        TranslationError: naming the fields.
    """
    container, security = request.container, request.security
    namespaces = security.namespace_options
    unsupported = {
        "windows": container.HasField("windows"),
        "CDI_devices": bool(container.CDI_devices),
        "linux.security_context.namespace_options.userns_options": (
            namespaces.HasField("userns_options") and namespaces.userns_options.mode != cri.NODE
        ),
    }
    found = [name for name, given in unsupported.items() if given]
    if found:
        raise TranslationError(f"{', '.join(found)}: not supported yet; leave it out")
    options = security.selinux_options
    if options.user or options.role or options.type or options.level:
        where = "not supported yet" if request.host.selinux else "this kernel has no SELinux"
        raise TranslationError(f"linux.security_context.selinux_options: {where}; leave it out")
    refuse_profiles(
        seccomp=security.seccomp if security.HasField("seccomp") else None,
        apparmor=security.apparmor if security.HasField("apparmor") else None,
        # Deprecated fields of the protocol, still sent by old clients.
        seccomp_path=security.seccomp_profile_path,
        apparmor_path=security.apparmor_profile,
        privileged=security.privileged,
    )


def refuse_profiles(
    *,
    seccomp: cri.SecurityProfile | None,
    apparmor: cri.SecurityProfile | None,
    seccomp_path: str,
    apparmor_path: str,
    privileged: bool,
) -> None:
    """Refuse security profiles, which are not applied yet.

    A privileged container runs without a seccomp profile whatever was asked for, as with
    containerd.

    Raises:
        TranslationError: naming the profile.
    """
    unconfined = cri.SecurityProfile.Unconfined
    if seccomp is not None and seccomp.profile_type != unconfined and not privileged:
        raise TranslationError(_no_profile("seccomp", seccomp))
    if apparmor is not None and apparmor.profile_type != unconfined:
        raise TranslationError(_no_profile("apparmor", apparmor))
    for name, path in (
        ("seccomp_profile_path", "" if privileged else seccomp_path),
        ("apparmor_profile", apparmor_path),
    ):
        if path not in ("", "unconfined"):
            raise TranslationError(
                f"linux.security_context.{name} {path!r}: profiles are not supported yet; "
                "use Unconfined"
            )


def _no_profile(kind: str, profile: cri.SecurityProfile) -> str:
    name = cri.SecurityProfile.ProfileType.Name(profile.profile_type)
    reference = f" {profile.localhost_ref!r}" if profile.localhost_ref else ""
    return (
        f"linux.security_context.{kind} {name}{reference}: profiles are not supported yet; use "
        "Unconfined or leave it out"
    )


def _root_propagation(request: TranslationRequest) -> str:
    modes = {mount.propagation for mount in request.container.mounts}
    if cri.PROPAGATION_BIDIRECTIONAL in modes:
        return "rshared"
    if cri.PROPAGATION_HOST_TO_CONTAINER in modes:
        return "rslave"
    return "rprivate"


def _paths(paths: Any, what: str) -> list[str]:
    return [normal_path(path, f"linux.security_context.{what}") for path in paths]
