"""Security contexts of pod and container, merged and in CRI's words (pure)."""

from __future__ import annotations

from dataclasses import dataclass

from kubeletpy.api.container import (
    Container,
    SecurityContext,
    SecurityProfile,
    SELinuxOptions,
)
from kubeletpy.api.pod import Pod, PodSecurityContext
from kubeletpy_proto import cri_pb2

from .node import NodeFacts

_LARGEST_ID = 2**31 - 1
# The runtime's default set of Kubernetes (securitycontext.ConvertToRuntimeMaskedPaths).
MASKED_PATHS = (
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
)
READONLY_PATHS = (
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
)


class ConfigError(Exception):
    """A container that cannot be configured: state waiting, reason CreateContainerConfigError."""


@dataclass(frozen=True, slots=True)
class ImageUser:
    """The user that an image asks for: a number, else a name; neither means root."""

    uid: int | None = None
    name: str = ""

    @classmethod
    def of(cls, image: cri_pb2.Image) -> ImageUser:
        """Read it from the runtime's status of the image."""
        if image.HasField("uid"):
            return cls(uid=image.uid.value)
        return cls(name=image.username) if image.username else cls(uid=0)


def effective(pod: Pod, container: Container) -> SecurityContext:
    """Return the container's security context, completed by the pod's."""
    own = container.security_context or SecurityContext()
    of_pod = pod.spec.security_context or PodSecurityContext()
    return SecurityContext(
        capabilities=own.capabilities,
        privileged=own.privileged,
        read_only_root_filesystem=own.read_only_root_filesystem,
        allow_privilege_escalation=own.allow_privilege_escalation,
        proc_mount=own.proc_mount,
        se_linux_options=own.se_linux_options or of_pod.se_linux_options,
        run_as_user=_first(own.run_as_user, of_pod.run_as_user),
        run_as_group=_first(own.run_as_group, of_pod.run_as_group),
        run_as_non_root=(
            of_pod.run_as_non_root if own.run_as_non_root is None else own.run_as_non_root
        ),
        seccomp_profile=own.seccomp_profile or of_pod.seccomp_profile,
        app_armor_profile=own.app_armor_profile or of_pod.app_armor_profile,
    )


def user_namespace(ids: tuple[int, int] | None) -> cri_pb2.UserNamespace:
    """Return the user namespace of a pod: the node's, or its own with these ids of the node.

    Args:
        ids: the first one and their number.
    """
    if ids is None:
        return cri_pb2.UserNamespace(mode=cri_pb2.NODE)
    mapping = cri_pb2.IDMapping(host_id=ids[0], container_id=0, length=ids[1])
    return cri_pb2.UserNamespace(mode=cri_pb2.POD, uids=[mapping], gids=[mapping])


def namespace_options(pod: Pod, ids: tuple[int, int] | None = None) -> cri_pb2.NamespaceOption:
    """Return which namespaces are the node's, the pod's, or each container's own."""
    spec = pod.spec
    pid = cri_pb2.CONTAINER
    if spec.host_pid:
        pid = cri_pb2.NODE
    elif spec.share_process_namespace:
        pid = cri_pb2.POD
    return cri_pb2.NamespaceOption(
        network=cri_pb2.NODE if spec.host_network else cri_pb2.POD,
        ipc=cri_pb2.NODE if spec.host_ipc else cri_pb2.POD,
        pid=pid,
        userns_options=user_namespace(ids),
    )


def sandbox_security(
    pod: Pod, ids: tuple[int, int] | None = None
) -> cri_pb2.LinuxSandboxSecurityContext:
    """Return the sandbox's security context; its seccomp profile is always RuntimeDefault."""
    of_pod = pod.spec.security_context or PodSecurityContext()
    every = [*pod.spec.init_containers, *pod.spec.containers]
    return cri_pb2.LinuxSandboxSecurityContext(
        namespace_options=namespace_options(pod, ids),
        selinux_options=_selinux(of_pod.se_linux_options),
        run_as_user=_number(of_pod.run_as_user),
        run_as_group=_number(of_pod.run_as_group),
        supplemental_groups=supplemental_groups(of_pod),
        supplemental_groups_policy=_groups_policy(of_pod),
        privileged=any(
            each.security_context is not None and bool(each.security_context.privileged)
            for each in every
        ),
        seccomp=cri_pb2.SecurityProfile(profile_type=cri_pb2.SecurityProfile.RuntimeDefault),
    )


def container_security(
    pod: Pod,
    container: Container,
    node: NodeFacts,
    user: ImageUser,
    ids: tuple[int, int] | None = None,
) -> cri_pb2.LinuxContainerSecurityContext:
    """Return the container's security context.

    Raises:
        ConfigError: runAsNonRoot does not hold, or a localhost profile has no name.
    """
    context = effective(pod, container)
    meta = pod.metadata
    where = f'(pod: "{meta.name}_{meta.namespace}({meta.uid})", container: {container.name})'
    _verify_non_root(context, user, where)
    unmasked = context.proc_mount == "Unmasked"
    of_pod = pod.spec.security_context or PodSecurityContext()
    result = cri_pb2.LinuxContainerSecurityContext(
        privileged=bool(context.privileged),
        namespace_options=namespace_options(pod, ids),
        selinux_options=_selinux(context.se_linux_options),
        run_as_group=_number(context.run_as_group),
        readonly_rootfs=bool(context.read_only_root_filesystem),
        supplemental_groups=supplemental_groups(of_pod),
        supplemental_groups_policy=_groups_policy(of_pod),
        # Only a plain "false" forbids it: unset leaves setuid programs working.
        no_new_privs=context.allow_privilege_escalation is False,
        masked_paths=() if unmasked else MASKED_PATHS,
        readonly_paths=() if unmasked else READONLY_PATHS,
        seccomp=_seccomp(context.seccomp_profile, node),
    )
    if context.capabilities is not None:
        result.capabilities.add_capabilities.extend(context.capabilities.add)
        result.capabilities.drop_capabilities.extend(context.capabilities.drop)
    if context.run_as_user is not None:
        result.run_as_user.value = context.run_as_user
    elif user.uid is not None:
        result.run_as_user.value = user.uid
    else:
        result.run_as_username = user.name
    _set_apparmor(result, context.app_armor_profile)
    return result


def supplemental_groups(of_pod: PodSecurityContext) -> list[int]:
    """Return fsGroup and the supplemental groups, as the first process gets them."""
    own = [] if of_pod.fs_group is None else [of_pod.fs_group]
    return own + of_pod.supplemental_groups


def _verify_non_root(context: SecurityContext, user: ImageUser, where: str) -> None:
    if not context.run_as_non_root:
        return
    if context.run_as_user is not None:
        if context.run_as_user == 0:
            raise ConfigError(f"container's runAsUser breaks non-root policy {where}")
    elif user.uid == 0 or (user.uid is None and not user.name):
        raise ConfigError(f"container has runAsNonRoot and image will run as root {where}")
    elif user.uid is None:
        raise ConfigError(
            f"container has runAsNonRoot and image has non-numeric user ({user.name}), cannot "
            f"verify user is non-root {where}"
        )
    elif not 0 < user.uid <= _LARGEST_ID:
        raise ConfigError(
            f"container has runAsNonRoot and image has an invalid user id ({user.uid}). (Must be "
            f"1-({_LARGEST_ID})): must be between 0 and {_LARGEST_ID}, inclusive {where}"
        )


def _seccomp(profile: SecurityProfile | None, node: NodeFacts) -> cri_pb2.SecurityProfile:
    kinds = cri_pb2.SecurityProfile
    if profile is None:
        kind = kinds.RuntimeDefault if node.seccomp_default else kinds.Unconfined
        return cri_pb2.SecurityProfile(profile_type=kind)
    if profile.type == "Localhost":
        # An empty name would mean unconfined to some runtimes (CVE-2023-2431).
        if not profile.localhost_profile:
            raise ConfigError("localhostProfile must be set if seccompProfile type is Localhost.")
        path = node.root_dir / "seccomp" / profile.localhost_profile
        return cri_pb2.SecurityProfile(profile_type=kinds.Localhost, localhost_ref=str(path))
    kind = kinds.RuntimeDefault if profile.type == "RuntimeDefault" else kinds.Unconfined
    return cri_pb2.SecurityProfile(profile_type=kind)


def _set_apparmor(
    result: cri_pb2.LinuxContainerSecurityContext, profile: SecurityProfile | None
) -> None:
    if profile is None:
        return
    kinds = cri_pb2.SecurityProfile
    # The string form is what runtimes older than the structured one read.
    if profile.type == "Localhost":
        if not profile.localhost_profile:
            raise ConfigError("localhostProfile must be set if appArmorProfile type is Localhost.")
        result.apparmor.profile_type = kinds.Localhost
        result.apparmor.localhost_ref = profile.localhost_profile
        result.apparmor_profile = f"localhost/{profile.localhost_profile}"
    elif profile.type == "RuntimeDefault":
        result.apparmor.profile_type = kinds.RuntimeDefault
        result.apparmor_profile = "runtime/default"
    else:
        result.apparmor.profile_type = kinds.Unconfined
        result.apparmor_profile = "unconfined"


def _groups_policy(of_pod: PodSecurityContext) -> cri_pb2.SupplementalGroupsPolicy.ValueType:
    return cri_pb2.Strict if of_pod.supplemental_groups_policy == "Strict" else cri_pb2.Merge


def _selinux(options: SELinuxOptions | None) -> cri_pb2.SELinuxOption | None:
    if options is None:
        return None
    return cri_pb2.SELinuxOption(
        user=options.user, role=options.role, type=options.type, level=options.level
    )


def _number(value: int | None) -> cri_pb2.Int64Value | None:
    return None if value is None else cri_pb2.Int64Value(value=value)


def _first(one: int | None, other: int | None) -> int | None:
    return other if one is None else one
