"""Validation of pods (pure): all errors at once, in Kubernetes' words.

Follows ``pkg/apis/core/validation`` in effect for the fields that this kubelet honours; what it
does not honour is reported by `support`.
"""

from __future__ import annotations

from .container import Container
from .container_validation import validate_container
from .fields import (
    LABEL_RULE,
    Errors,
    FieldError,
    is_label,
    is_label_value,
    is_qualified_name,
    is_subdomain,
)
from .meta import ObjectMeta
from .pod import Pod, PodDNSConfig, PodSecurityContext, PodSpec
from .resource_validation import validate_resources
from .security_validation import validate_id, validate_profile, validate_sysctls
from .volume_validation import validate_volumes

RESTART_POLICIES = ("Always", "OnFailure", "Never")
DNS_POLICIES = ("ClusterFirst", "ClusterFirstWithHostNet", "Default", "None")
_ANNOTATIONS_BYTES = 256 * 1024
_MAX_ID = 2**31 - 1
_MAX_DNS_SEARCHES = 32
_MAX_DNS_CHARACTERS = 2048
_MAX_NAMESERVERS = 3
_KERNEL_HOSTNAME = 64


def validate(pod: Pod) -> list[FieldError]:
    """Return all that is wrong with ``pod``, whose defaults are filled in; [] if nothing."""
    errors = Errors()
    if pod.api_version != "v1":
        errors.unsupported("apiVersion", pod.api_version, ("v1",))
    if pod.kind != "Pod":
        errors.unsupported("kind", pod.kind, ("Pod",))
    validate_metadata(pod.metadata, errors)
    validate_spec(pod.spec, errors)
    return errors.found


def validate_metadata(meta: ObjectMeta, errors: Errors) -> None:
    """Check name, namespace, labels and annotations."""
    errors.subdomain("metadata.name", meta.name)
    if meta.namespace:
        errors.label("metadata.namespace", meta.namespace)
    # It becomes the name of a directory and of a cgroup.
    if meta.uid and not is_label(meta.uid):
        errors.invalid("metadata.uid", meta.uid, LABEL_RULE)
    for key, value in meta.labels.items():
        if not is_qualified_name(key):
            errors.qualified("metadata.labels", key)
        if not is_label_value(value):
            errors.invalid(
                f"metadata.labels[{key}]", value,
                "a valid label must be an empty string or consist of alphanumeric characters, "
                "'-', '_' or '.', and must start and end with an alphanumeric character, and be "
                "at most 63 characters",
            )  # fmt: skip
    size = 0
    for key, value in meta.annotations.items():
        if not is_qualified_name(key.lower()):
            errors.qualified("metadata.annotations", key)
        size += len(key.encode()) + len(value.encode())
    if size > _ANNOTATIONS_BYTES:
        errors.invalid(
            "metadata.annotations", f"{size} bytes", f"may not be more than {_ANNOTATIONS_BYTES}"
        )


def validate_spec(spec: PodSpec, errors: Errors) -> None:
    """Check the spec of a pod."""
    path = "spec"
    volumes = validate_volumes(spec.volumes, errors)
    _validate_containers(spec, volumes, errors)
    errors.one_of(f"{path}.restartPolicy", spec.restart_policy, RESTART_POLICIES)
    errors.one_of(f"{path}.dnsPolicy", spec.dns_policy, DNS_POLICIES)
    errors.not_negative(
        f"{path}.terminationGracePeriodSeconds", spec.termination_grace_period_seconds
    )
    if spec.active_deadline_seconds is not None and not (
        1 <= spec.active_deadline_seconds <= _MAX_ID
    ):
        errors.invalid(
            f"{path}.activeDeadlineSeconds",
            spec.active_deadline_seconds,
            "must be between 1 and 2147483647, inclusive",
        )
    _validate_names(spec, errors)
    _validate_users(spec, errors)
    if spec.security_context is not None:
        _validate_security(spec, spec.security_context, errors)
    _validate_dns(spec, errors)
    for index, alias in enumerate(spec.host_aliases):
        errors.address(f"{path}.hostAliases[{index}].ip", alias.ip)
        for number, name in enumerate(alias.hostnames):
            errors.subdomain(f"{path}.hostAliases[{index}].hostnames[{number}]", name)
    if spec.resources is not None:
        validate_resources(f"{path}.resources", spec.resources, errors)


def _validate_names(spec: PodSpec, errors: Errors) -> None:
    if spec.hostname:
        errors.label("spec.hostname", spec.hostname)
    if spec.subdomain:
        errors.label("spec.subdomain", spec.subdomain)
    if spec.host_pid and spec.share_process_namespace:
        errors.invalid(
            "spec.shareProcessNamespace", True,
            "ShareProcessNamespace and HostPID cannot both be enabled",
        )  # fmt: skip
    if spec.hostname_override is not None:
        override = "spec.hostnameOverride"
        if len(spec.hostname_override) > _KERNEL_HOSTNAME:
            errors.invalid(override, spec.hostname_override, "must be no more than 64 bytes")
        errors.subdomain(override, spec.hostname_override)
        if spec.host_network:
            errors.forbidden(override, "cannot be set when hostNetwork is true")
        if spec.set_hostname_as_fqdn:
            errors.forbidden(override, "cannot be set when setHostnameAsFQDN is true")
    if spec.os is not None:
        errors.one_of("spec.os.name", spec.os.name, ("linux", "windows"))


def _validate_users(spec: PodSpec, errors: Errors) -> None:
    """Check what a user namespace forbids, and what needs one."""
    own = spec.host_users is False
    for name, wanted in (
        ("hostNetwork", spec.host_network),
        ("hostPID", spec.host_pid),
        ("hostIPC", spec.host_ipc),
    ):
        if own and wanted:
            errors.forbidden(f"spec.{name}", "when `hostUsers` is false")
    for kind, containers in (
        ("initContainers", spec.init_containers),
        ("containers", spec.containers),
    ):
        for index, container in enumerate(containers):
            context = container.security_context
            if not own and context is not None and context.proc_mount == "Unmasked":
                errors.invalid(
                    f"spec.{kind}[{index}].securityContext.procMount",
                    "Unmasked",
                    "`hostUsers` must be false to use `Unmasked`",
                )


def _validate_containers(spec: PodSpec, volumes: set[str], errors: Errors) -> None:
    if not spec.containers:
        errors.required("spec.containers")
    seen: set[str] = set()
    host_ports: set[tuple[str, str, int]] = set()
    for path, container, init in _every_container(spec):
        if container.name and container.name in seen:
            errors.duplicate(f"{path}.name", container.name)
        seen.add(container.name)
        validate_container(path, container, volumes, errors, init=init)
        _validate_host_ports(path, container, spec.host_network, host_ports, errors)


def _every_container(spec: PodSpec) -> list[tuple[str, Container, bool]]:
    return [
        *((f"spec.initContainers[{i}]", each, True) for i, each in enumerate(spec.init_containers)),
        *((f"spec.containers[{i}]", each, False) for i, each in enumerate(spec.containers)),
    ]


def _validate_host_ports(
    path: str,
    container: Container,
    host_network: bool,
    taken: set[tuple[str, str, int]],
    errors: Errors,
) -> None:
    for index, port in enumerate(container.ports):
        where = f"{path}.ports[{index}]"
        if host_network and port.host_port and port.host_port != port.container_port:
            errors.invalid(
                f"{where}.hostPort", port.host_port,
                "must match `containerPort` when `hostNetwork` is true",
            )  # fmt: skip
        if not port.host_port:
            continue
        key = (port.protocol, port.host_ip, port.host_port)
        if key in taken:
            errors.duplicate(f"{where}.hostPort", f"{port.host_ip}/{port.protocol}/{key[2]}")
        taken.add(key)


def _validate_security(spec: PodSpec, context: PodSecurityContext, errors: Errors) -> None:
    path = "spec.securityContext"
    for name, value in (
        ("runAsUser", context.run_as_user),
        ("runAsGroup", context.run_as_group),
        ("fsGroup", context.fs_group),
    ):
        validate_id(f"{path}.{name}", value, errors)
    for index, group in enumerate(context.supplemental_groups):
        validate_id(f"{path}.supplementalGroups[{index}]", group, errors)
    if context.supplemental_groups_policy is not None:
        errors.one_of(
            f"{path}.supplementalGroupsPolicy",
            context.supplemental_groups_policy,
            ("Merge", "Strict"),
        )
    if context.fs_group_change_policy is not None:
        errors.one_of(
            f"{path}.fsGroupChangePolicy",
            context.fs_group_change_policy,
            ("Always", "OnRootMismatch"),
        )
    validate_profile(f"{path}.seccompProfile", context.seccomp_profile, errors)
    validate_profile(f"{path}.appArmorProfile", context.app_armor_profile, errors)
    validate_sysctls(spec, context, errors)


def _validate_dns(spec: PodSpec, errors: Errors) -> None:
    config = spec.dns_config
    if spec.dns_policy == "None" and (config is None or not config.nameservers):
        errors.required(
            "spec.dnsConfig.nameservers",
            "must provide at least one DNS nameserver when `dnsPolicy` is None",
        )
    if config is not None:
        _validate_dns_config(config, errors)


def _validate_dns_config(config: PodDNSConfig, errors: Errors) -> None:
    path = "spec.dnsConfig"
    if len(config.nameservers) > _MAX_NAMESERVERS:
        errors.invalid(
            f"{path}.nameservers", len(config.nameservers), "must not have more than 3 nameservers"
        )
    for index, server in enumerate(config.nameservers):
        errors.address(f"{path}.nameservers[{index}]", server)
    if len(config.searches) > _MAX_DNS_SEARCHES:
        errors.invalid(
            f"{path}.searches", len(config.searches), "must not have more than 32 search paths"
        )
    if len(" ".join(config.searches)) > _MAX_DNS_CHARACTERS:
        errors.invalid(f"{path}.searches", "", "must not have more than 2048 characters")
    for index, search in enumerate(config.searches):
        if search != "." and not is_subdomain(search.removesuffix(".").replace("_", "-")):
            errors.subdomain(f"{path}.searches[{index}]", search)
    for index, option in enumerate(config.options):
        where = f"{path}.options[{index}]"
        if not option.name:
            errors.required(f"{where}.name", "must not be empty")
        # A line feed or space would write further lines of resolv.conf.
        if any(character.isspace() for character in option.name + (option.value or "")):
            errors.invalid(where, option.name, "must not contain white space")
