"""The Pod Security Standards ``baseline`` and ``restricted``, as of Kubernetes 1.36 (pure).

A check returns why a pod is refused, and in brackets what in it is the reason; "" if it is not.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from controlplane.admission.pod_security.fields import (
    containers,
    context_of,
    joined,
    named,
    plural,
    refused,
    setters,
)
from controlplane.api.resource import Object

Check = Callable[[Object, Object], str]
"""Looks at the metadata and the spec of a pod."""

_CAPABILITIES: Final = frozenset(
    {"AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD",
     "NET_BIND_SERVICE", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"}
)  # fmt: skip
_SYSCTLS: Final = frozenset(
    {"kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.tcp_syncookies",
     "net.ipv4.ping_group_range", "net.ipv4.ip_unprivileged_port_start",
     "net.ipv4.ip_local_reserved_ports", "net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout",
     "net.ipv4.tcp_keepalive_intvl", "net.ipv4.tcp_keepalive_probes", "net.ipv4.tcp_rmem",
     "net.ipv4.tcp_wmem"}
)  # fmt: skip
_SELINUX_TYPES: Final = frozenset(
    {"", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"}
)
_VOLUMES: Final = frozenset(
    {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "image", "persistentVolumeClaim",
     "projected", "secret"}
)  # fmt: skip
_APPARMOR: Final = "container.apparmor.security.beta.kubernetes.io/"
_GOOD_PROFILES: Final = ("RuntimeDefault", "Localhost")


def problems(level: str, meta: Object, spec: Object) -> str:
    """Return all that keeps a pod from being of a level; "" if nothing does.

    Args:
        level: ``privileged``, ``baseline`` or ``restricted``.
        meta: metadata of the pod.
        spec: of the pod.
    """
    found = (check(meta, spec) for check in _LEVELS[level])
    return ", ".join(one for one in found if one)


def _app_armor(meta: Object, spec: Object) -> str:
    who, values = setters(
        spec,
        lambda c: _bad_profile(c.get("appArmorProfile")),
        lambda c: c["appArmorProfile"]["type"],
    )
    annotations = sorted(
        f'{key}="{value}"'
        for key, value in meta.get("annotations", {}).items()
        if key.startswith(_APPARMOR)
        and value not in ("", "runtime/default")
        and not value.startswith("localhost/")
    )
    listed = [*sorted(values), *annotations]
    if annotations:
        who.append(plural("annotation", len(annotations)))
    if not who:
        return ""
    detail = f"{' and '.join(who)} must not set AppArmor profile type to {joined(listed)}"
    return refused(plural("forbidden AppArmor profile", len(listed)), detail)


def _bad_profile(profile: Any) -> bool:
    return profile is not None and profile.get("type") not in _GOOD_PROFILES


def _capabilities(meta: Object, spec: Object) -> str:
    added = {c["name"]: _added(c) - _CAPABILITIES for c in containers(spec)}
    bad = [name for name, found in added.items() if found]
    if not bad:
        return ""
    listed = joined(sorted(set().union(*added.values())))
    detail = f"{named(bad)} must not include {listed} in securityContext.capabilities.add"
    return refused("non-default capabilities", detail)


def _added(container: Object) -> set[str]:
    return set(context_of(container).get("capabilities", {}).get("add", []))


def _host_namespaces(meta: Object, spec: Object) -> str:
    found = [f"{key}=true" for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key)]
    return refused("host namespaces", ", ".join(found)) if found else ""


def _host_paths(meta: Object, spec: Object) -> str:
    found = [one["name"] for one in spec.get("volumes", []) if "hostPath" in one]
    return refused("hostPath volumes", named(found, "volume")) if found else ""


def _host_ports(meta: Object, spec: Object) -> str:
    ports = {
        c["name"]: {str(port["hostPort"]) for port in c.get("ports", []) if port.get("hostPort")}
        for c in containers(spec)
    }
    bad = [name for name, found in ports.items() if found]
    if not bad:
        return ""
    every = sorted(set().union(*ports.values()))
    uses = "uses" if len(bad) == 1 else "use"
    detail = f"{named(bad)} {uses} {plural('hostPort', len(every))} {', '.join(every)}"
    return refused("hostPort", detail)


def _hosts_of_probes(meta: Object, spec: Object) -> str:
    hosts = {c["name"]: set(_hosts(c)) for c in containers(spec)}
    bad = sorted(name for name, found in hosts.items() if found)
    if not bad:
        return ""
    every = sorted(set().union(*hosts.values()))
    uses = "uses" if len(bad) == 1 else "use"
    what = plural("probe or lifecycle host", len(every))
    return refused("probe or lifecycle host", f"{named(bad)} {uses} {what} {joined(every)}")


def _hosts(container: Object) -> Iterable[str]:
    lifecycle = container.get("lifecycle", {})
    probes = ("livenessProbe", "readinessProbe", "startupProbe")
    handlers = [container.get(key, {}) for key in probes]
    handlers += [lifecycle.get(key, {}) for key in ("postStart", "preStop")]
    for handler in handlers:
        for kind in ("httpGet", "tcpSocket"):
            host = (handler.get(kind) or {}).get("host")
            if host:
                yield host


def _privileged(meta: Object, spec: Object) -> str:
    bad = [c["name"] for c in containers(spec) if context_of(c).get("privileged")]
    detail = f"{named(bad)} must not set securityContext.privileged=true"
    return refused("privileged", detail) if bad else ""


def _proc_mount(meta: Object, spec: Object) -> str:
    kinds = {c["name"]: context_of(c).get("procMount", "Default") for c in containers(spec)}
    bad = [name for name, kind in kinds.items() if kind != "Default"]
    if not bad:
        return ""
    listed = joined(sorted(set(kinds.values()) - {"Default"}))
    return refused("procMount", f"{named(bad)} must not set securityContext.procMount to {listed}")


def _selinux(meta: Object, spec: Object) -> str:
    kinds: set[str] = set()
    words: set[str] = set()

    def bad(context: Object) -> bool:
        options = context.get("seLinuxOptions")
        if options is None:
            return False
        found = {key for key in ("user", "role") if options.get(key)}
        words.update(found)
        if options.get("type", "") not in _SELINUX_TYPES:
            kinds.add(options["type"])
            return True
        return bool(found)

    who, _ = setters(spec, bad, lambda _: "")
    if not who:
        return ""
    told = [f"{plural('type', len(kinds))} {joined(sorted(kinds))}"] if kinds else []
    told += [f"{key} may not be set" for key in ("user", "role") if key in words]
    what = "set forbidden securityContext.seLinuxOptions"
    return refused("seLinuxOptions", f"{' and '.join(who)} {what}: {'; '.join(told)}")


def _bad_seccomp(spec: Object) -> str:
    who, values = setters(
        spec, lambda c: _bad_profile(c.get("seccompProfile")), lambda c: c["seccompProfile"]["type"]
    )
    what = "must not set securityContext.seccompProfile.type to"
    detail = f"{' and '.join(who)} {what} {joined(sorted(values))}"
    return refused("seccompProfile", detail) if who else ""


def _seccomp(meta: Object, spec: Object) -> str:
    return _bad_seccomp(spec)


def _sysctls(meta: Object, spec: Object) -> str:
    names = [one["name"] for one in context_of(spec).get("sysctls", [])]
    bad = [name for name in names if name not in _SYSCTLS]
    return refused("forbidden sysctls", ", ".join(bad)) if bad else ""


def _host_process(meta: Object, spec: Object) -> str:
    who, _ = setters(spec, lambda c: bool(c.get("windowsOptions", {}).get("hostProcess")))
    what = "must not set securityContext.windowsOptions.hostProcess=true"
    return refused("hostProcess", f"{' and '.join(who)} {what}") if who else ""


def _escalation(meta: Object, spec: Object) -> str:
    key = "allowPrivilegeEscalation"
    bad = [c["name"] for c in containers(spec) if context_of(c).get(key) is not False]
    if not bad or _is_windows(spec):
        return ""
    return refused(f"{key} != false", f"{named(bad)} must set securityContext.{key}=false")


def _few_capabilities(meta: Object, spec: Object) -> str:
    if _is_windows(spec):
        return ""
    keeping = [
        c["name"]
        for c in containers(spec)
        if "ALL" not in context_of(c).get("capabilities", {}).get("drop", [])
    ]
    added = {c["name"]: _added(c) - {"NET_BIND_SERVICE"} for c in containers(spec)}
    adding = [name for name, found in added.items() if found]
    told = []
    if keeping:
        told.append(f'{named(keeping)} must set securityContext.capabilities.drop=["ALL"]')
    if adding:
        listed = joined(sorted(set().union(*added.values())))
        what = f"must not include {listed} in securityContext.capabilities.add"
        told.append(f"{named(adding)} {what}")
    return refused("unrestricted capabilities", "; ".join(told)) if told else ""


def _volumes(meta: Object, spec: Object) -> str:
    kinds = {
        one["name"]: next((key for key in one if key != "name"), "unknown")
        for one in spec.get("volumes", [])
    }
    bad = {name: kind for name, kind in kinds.items() if kind not in _VOLUMES}
    if not bad:
        return ""
    every = sorted(set(bad.values()))
    uses = "uses" if len(bad) == 1 else "use"
    what = f"{plural('restricted volume type', len(every))} {joined(every)}"
    return refused("restricted volume types", f"{named(list(bad), 'volume')} {uses} {what}")


def _non_root(meta: Object, spec: Object) -> str:
    if spec.get("hostUsers") is False:
        return ""
    key = "runAsNonRoot"
    who, _ = setters(spec, lambda c: c.get(key) is False)
    if who:
        return refused(
            f"{key} != true", f"{' and '.join(who)} must not set securityContext.{key}=false"
        )
    lacking = [c["name"] for c in containers(spec) if context_of(c).get(key) is None]
    if context_of(spec).get(key) or not lacking:
        return ""
    return refused(f"{key} != true", f"pod or {named(lacking)} must set securityContext.{key}=true")


def _not_user_zero(meta: Object, spec: Object) -> str:
    if spec.get("hostUsers") is False:
        return ""
    who, _ = setters(spec, lambda c: c.get("runAsUser") == 0)
    return refused("runAsUser=0", f"{' and '.join(who)} must not set runAsUser=0") if who else ""


def _some_seccomp(meta: Object, spec: Object) -> str:
    if _is_windows(spec):
        return ""
    bad = _bad_seccomp(spec)
    if bad or context_of(spec).get("seccompProfile"):
        return bad
    lacking = [c["name"] for c in containers(spec) if not context_of(c).get("seccompProfile")]
    what = 'must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost"'
    return refused("seccompProfile", f"pod or {named(lacking)} {what}") if lacking else ""


def _relaxed_proc_mount(meta: Object, spec: Object) -> str:
    return "" if spec.get("hostUsers") is False else _proc_mount(meta, spec)


def _is_windows(spec: Object) -> bool:
    return bool(spec.get("os", {}).get("name") == "windows")


_LEVELS: Final[dict[str, tuple[Check, ...]]] = {
    "privileged": (),
    "baseline": (
        _app_armor, _capabilities, _host_namespaces, _host_paths, _host_ports, _hosts_of_probes,
        _privileged, _relaxed_proc_mount, _selinux, _seccomp, _sysctls, _host_process,
    ),
    "restricted": (
        _app_armor, _host_namespaces, _host_ports, _hosts_of_probes, _privileged, _selinux,
        _sysctls, _host_process, _escalation, _few_capabilities, _proc_mount, _volumes, _non_root,
        _not_user_zero, _some_seccomp,
    ),
}  # fmt: skip
