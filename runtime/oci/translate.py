"""From a CRI container to an OCI runtime configuration (specification 1.2): a pure function.

The configuration is the whole truth about the process: the built-in executor runs it, and any OCI
runtime binary could. Defaults are those that containerd's CRI plugin documents. What the request
asks for and this runtime does not do yet is an error here, never left out in silence.

Masked and read-only paths are those of the request, since the protocol cannot tell an empty list
("unmasked") from none: the kubelet sends its default lists itself. Only sysctls of the host are
never writable, privileged containers aside.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kubeletpy_proto import cri_pb2 as cri
from runtime.oci.request import HostFacts, TranslationError, TranslationRequest
from runtime.oci.seccomp import default_profile, requested_profile
from runtime.oci.translate_limits import (
    translate_devices,
    translate_namespaces,
    translate_resources,
)
from runtime.oci.translate_mounts import normal_path, translate_mounts
from runtime.oci.translate_process import translate_process
from runtime.oci.translate_users import linux_mappings

OCI_VERSION = "1.2.0"
PROC_SYS = "/proc/sys"


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
        **linux_mappings(request),
    }
    process = translate_process(request)
    if (profile := _seccomp(request, process)) is not None:
        linux["seccomp"] = profile
    if not security.privileged:
        linux["maskedPaths"] = _paths(security.masked_paths, "masked_paths")
        linux["readonlyPaths"] = _read_only_paths(request)
    return {
        "ociVersion": OCI_VERSION,
        "process": process,
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
    if container.HasField("windows"):
        raise TranslationError("windows: this is a runtime for Linux; leave it out")
    refuse_selinux(security.selinux_options, request.host)
    refuse_apparmor(
        security.apparmor if security.HasField("apparmor") else None,
        # A deprecated field of the protocol, still sent by old clients.
        security.apparmor_profile,
        request.host,
    )


def refuse_selinux(options: cri.SELinuxOption, host: HostFacts) -> None:
    """Refuse SELinux labels where they would confine something, as they are not applied.

    Without SELinux in the kernel a label means nothing to any runtime, and clients that do not know
    the node send it all the same.

    Raises:
        TranslationError: a label is asked for on a machine with SELinux.
    """
    asked = options.user or options.role or options.type or options.level
    if asked and host.selinux:
        raise TranslationError(
            "linux.security_context.selinux_options: labels are not supported; leave it out"
        )


def refuse_apparmor(profile: cri.SecurityProfile | None, path: str, host: HostFacts) -> None:
    """Refuse AppArmor profiles, which are not applied.

    Args:
        profile: the structured field, if given.
        path: the deprecated field.
        host: the machine.

    Raises:
        TranslationError: naming the profile.
    """
    where = "profiles are not supported" if host.apparmor else "this kernel has no AppArmor"
    if profile is not None and profile.profile_type != cri.SecurityProfile.Unconfined:
        name = cri.SecurityProfile.ProfileType.Name(profile.profile_type)
        reference = f" {profile.localhost_ref!r}" if profile.localhost_ref else ""
        raise TranslationError(
            f"linux.security_context.apparmor {name}{reference}: {where}; use Unconfined or leave "
            "it out"
        )
    if path not in ("", "unconfined"):
        raise TranslationError(
            f"linux.security_context.apparmor_profile {path!r}: {where}; use Unconfined"
        )


def _seccomp(request: TranslationRequest, process: dict[str, Any]) -> Mapping[str, Any] | None:
    kind, path = requested_profile(request.security)
    if kind == cri.SecurityProfile.Unconfined:
        return None
    if kind == cri.SecurityProfile.RuntimeDefault:
        return default_profile(process["capabilities"]["bounding"], request.host.machine)
    if kind != cri.SecurityProfile.Localhost:
        raise TranslationError(f"linux.security_context.seccomp: profile type {kind} is unknown")
    if request.localhost_profile is None:
        raise TranslationError(f"seccomp profile {path!r} was not read")
    return request.localhost_profile


def _read_only_paths(request: TranslationRequest) -> list[str]:
    """Return the read-only paths asked for, and sysctls where those are the host's.

    Root needs no capability to write /proc/sys/kernel/hostname, nor those of the network and of
    IPC: the namespace that the writer is in counts, which here is the host's.
    """
    paths = _paths(request.security.readonly_paths, "readonly_paths")
    shared = {"network", "ipc", "uts"} - request.namespaces.keys()
    covered = {"/proc", PROC_SYS} & set(paths)
    return [*paths, PROC_SYS] if shared and not covered else paths


def _root_propagation(request: TranslationRequest) -> str:
    modes = {mount.propagation for mount in request.container.mounts}
    if cri.PROPAGATION_BIDIRECTIONAL in modes:
        return "rshared"
    if cri.PROPAGATION_HOST_TO_CONTAINER in modes:
        return "rslave"
    return "rprivate"


def _paths(paths: Any, what: str) -> list[str]:
    return [normal_path(path, f"linux.security_context.{what}") for path in paths]
