"""Validation of security contexts, profiles and sysctls (pure)."""

from __future__ import annotations

import re

from kubeletpy_common.sysctls import SAFE_SYSCTLS

from .container import Capabilities, SecurityContext, SecurityProfile
from .fields import Errors, stays_inside
from .pod import PodSecurityContext, PodSpec

_MAX_ID = 2**31 - 1
_PROFILES = ("Localhost", "RuntimeDefault", "Unconfined")
_SYSCTL = re.compile(r"[a-z0-9]([-_a-z0-9]*[a-z0-9])?([./][a-z0-9]([-_a-z0-9]*[a-z0-9])?)*")
_SYSCTL_LENGTH = 253


def validate_id(path: str, value: int | None, errors: Errors) -> None:
    """Check a user or group id: 0 to 2**31-1."""
    if value is not None and not 0 <= value <= _MAX_ID:
        errors.invalid(path, value, "must be between 0 and 2147483647, inclusive")


def validate_profile(path: str, profile: SecurityProfile | None, errors: Errors) -> None:
    """Check a seccomp or AppArmor profile."""
    if profile is None:
        return
    errors.one_of(f"{path}.type", profile.type, _PROFILES)
    where = f"{path}.localhostProfile"
    if profile.type == "Localhost":
        if not profile.localhost_profile:
            errors.required(where, "must be set when type is Localhost")
        elif not stays_inside(profile.localhost_profile):
            errors.invalid(where, profile.localhost_profile, "must be a relative path without '..'")
    elif profile.localhost_profile is not None:
        errors.invalid(where, profile.localhost_profile, "can only be set when type is Localhost")


def validate_sysctls(spec: PodSpec, context: PodSecurityContext, errors: Errors) -> None:
    """Check names and values, and that each belongs to a namespace of the pod's own."""
    seen: set[str] = set()
    for index, sysctl in enumerate(context.sysctls):
        path = f"spec.securityContext.sysctls[{index}]"
        if not sysctl.name:
            errors.required(f"{path}.name")
            continue
        if len(sysctl.name) > _SYSCTL_LENGTH or not _SYSCTL.fullmatch(sysctl.name):
            errors.invalid(f"{path}.name", sysctl.name, "must be a dotted name of a sysctl")
            continue
        name = sysctl.name.replace("/", ".")
        if name in seen:
            errors.duplicate(f"{path}.name", sysctl.name)
        seen.add(name)
        if name not in SAFE_SYSCTLS:
            errors.forbidden(f"{path}.name", f"sysctl {name!r} is not allowlisted on this node")
        if spec.host_network and name.startswith("net."):
            errors.forbidden(f"{path}.name", "may not be set when 'hostNetwork' is true")
        if spec.host_ipc and name.startswith("kernel.shm"):
            errors.forbidden(f"{path}.name", "may not be set when 'hostIPC' is true")
        # Several settings in one string are how CVE-2022-0811 reached core_pattern.
        if "+" in sysctl.value or not sysctl.value.isprintable():
            errors.invalid(f"{path}.value", sysctl.value, "must not contain '+' or control bytes")


def validate_security_context(path: str, context: SecurityContext, errors: Errors) -> None:
    """Check the security context of one container."""
    validate_id(f"{path}.runAsUser", context.run_as_user, errors)
    validate_id(f"{path}.runAsGroup", context.run_as_group, errors)
    validate_profile(f"{path}.seccompProfile", context.seccomp_profile, errors)
    validate_profile(f"{path}.appArmorProfile", context.app_armor_profile, errors)
    if context.proc_mount is not None:
        errors.one_of(f"{path}.procMount", context.proc_mount, ("Default", "Unmasked"))
    capabilities = context.capabilities or Capabilities()
    for kind, names in (("add", capabilities.add), ("drop", capabilities.drop)):
        for index, name in enumerate(names):
            if not name:
                errors.required(f"{path}.capabilities.{kind}[{index}]")
    if context.allow_privilege_escalation is False:
        where = f"{path}.allowPrivilegeEscalation"
        if context.privileged:
            errors.invalid(
                where,
                False,
                "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
            )
        if any(name in ("SYS_ADMIN", "CAP_SYS_ADMIN") for name in capabilities.add):
            errors.invalid(
                where,
                False,
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.add` "
                "CAP_SYS_ADMIN",
            )
