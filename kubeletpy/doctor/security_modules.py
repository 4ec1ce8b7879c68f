"""AppArmor and SELinux: whether they enforce, whom, and what that costs.

Sources: apparmor(7), Documentation/admin-guide/LSM/apparmor.rst; selinux(8), semanage-fcontext(8).
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from kubeletpy.doctor.finding import Finding, error, fine, warning
from kubeletpy.doctor.looking import program, text, word
from kubeletpy.doctor.purpose import Purpose

_APPARMOR: Final = "/sys/module/apparmor/parameters/enabled"
_PROFILES: Final = "/sys/kernel/security/apparmor/profiles"
# Programs that daemons of ours start; a profile of the distribution may know other paths than ours.
_STARTED: Final = (
    "nginx",
    "docker-registry",
    "iptables-restore",
    "xtables-nft-multi",
    "nft",
    "busybox",
)
_UNCONFINED: Final = frozenset({"", "unconfined", "kernel"})
# What container runtimes' data have, so that confined containers may use it.
_TYPES: Final = {
    "/var/lib/kubeletpy/runtime": "container_var_lib_t",
    "/var/lib/kubeletpy/kubelet": "container_file_t",
    "/var/log/pods": "container_log_t",
    "/opt/kubeletpy": "bin_t",
}


@dataclass(frozen=True)
class Facts:
    """What security modules say.

    Attributes:
        apparmor: it is enabled.
        profile: the one that confines this process, with its mode; ``unconfined`` if none does.
        enforced: names of profiles that are enforced.
        programs: where the programs are that daemons of ours start.
        selinux: ``1`` if it enforces, ``0`` if it only tells, "" if it is off.
        context: this process's.
        labels: of directories of ours, those that are there.
        semanage: the program that keeps labels is there.
    """

    apparmor: bool
    profile: str = ""
    enforced: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    selinux: str = ""
    context: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    semanage: bool = True


def look(purpose: Purpose) -> list[Finding]:
    """Look at this machine."""
    return judge(gather(), purpose)


def gather() -> Facts:
    """Read the facts."""
    apparmor = word(_APPARMOR) == "Y"
    selinux = word("/sys/fs/selinux/enforce")
    current = word("/proc/self/attr/apparmor/current") or word("/proc/self/attr/current")
    found = (program(name) for name in _STARTED)
    return Facts(
        apparmor=apparmor,
        profile=current if apparmor else "",
        enforced=enforced(text(_PROFILES) or ""),
        programs=tuple(os.path.realpath(path) for path in found if path),
        selinux=selinux,
        context=word("/proc/self/attr/current").strip("\0") if selinux else "",
        labels=_labels() if selinux else (),
        semanage=program("semanage") is not None,
    )


def _labels() -> tuple[tuple[str, str], ...]:
    found = []
    for path in _TYPES:
        if Path(path).exists():
            try:
                label = os.getxattr(path, "security.selinux").rstrip(b"\0").decode()
            except OSError:
                label = ""
            found.append((path, label))
    return tuple(found)


def enforced(profiles: str) -> tuple[str, ...]:
    """Return the names of enforced profiles in securityfs' list of them (pure)."""
    lines = (line.strip() for line in profiles.splitlines())
    return tuple(line.removesuffix(" (enforce)") for line in lines if line.endswith(" (enforce)"))


def judge(facts: Facts, purpose: Purpose) -> list[Finding]:
    """Return what the facts mean (pure)."""
    return [*_apparmor(facts), *_selinux(facts)]


def _apparmor(facts: Facts) -> list[Finding]:
    name = "AppArmor"
    if not facts.apparmor:
        return [fine(name, "off", "pods")]
    label, _, mode = facts.profile.partition(" ")
    if label not in _UNCONFINED and mode == "(enforce)":
        found = f"the profile {label} confines this process, and all that it would start"
        remedy = (
            f"aa-disable {label.split('//')[0]} (package apparmor-utils), or start it outside of "
            "what is confined; of a container: --security-opt apparmor=unconfined"
        )
        return [error(name, found, "runtime", remedy)]
    found_here = [
        fine(
            name,
            "enforcing; our daemons are unconfined. Containers are confined by seccomp, "
            "capabilities and namespaces, not by AppArmor: pods that ask for a profile of their "
            "own (type Localhost) are refused",
            "pods",
        )
    ]
    confined = [path for path in facts.programs if path in facts.enforced]
    confined += [Path(path).name for path in facts.programs if Path(path).name in facts.enforced]
    if confined:
        listed = ", ".join(confined)
        remedy = f"aa-complain {' '.join(confined)} (package apparmor-utils)"
        said = f"profiles confine programs that daemons start with files of ours: {listed}"
        found_here.append(warning("AppArmor profiles", said, "ingress, registry, proxy", remedy))
    return found_here


def _selinux(facts: Facts) -> list[Finding]:
    name = "SELinux"
    if not facts.selinux:
        return [fine(name, "off", "pods")]
    if facts.selinux == "0":
        return [fine(name, "permissive: it tells, and forbids nothing", "pods")]
    found = [_context(facts)]
    wrong = [
        (path, label, wanted)
        for path, label in facts.labels
        if (wanted := _TYPES[path]) not in label.split(":")
    ]
    if wrong:
        said = "; ".join(f"{path} is {label or 'without a label'}" for path, label, _ in wrong)
        commands = [f"semanage fcontext -a -t {wanted} '{path}(/.*)?'" for path, _, wanted in wrong]
        remedy = " && ".join([*commands, f"restorecon -R {' '.join(path for path, _, _ in wrong)}"])
        if not facts.semanage:
            remedy = f"dnf install policycoreutils-python-utils && {remedy}"
        found.append(warning("SELinux labels", said, "pods", remedy))
    return found


def _context(facts: Facts) -> Finding:
    kind = facts.context.split(":")[2] if facts.context.count(":") >= 2 else ""
    if kind in (
        "",
        "unconfined_t",
        "unconfined_service_t",
        "container_runtime_t",
        "initrc_t",
        "spc_t",
    ):
        said = (
            f"enforcing; this process is {facts.context or 'unlabelled'}. Containers run in the "
            "runtime's context: pods that ask for seLinuxOptions are refused"
        )
        return fine("SELinux", said, "pods")
    said = f"enforcing; this process is confined as {facts.context}"
    remedy = (
        f"semanage permissive -a {kind} (undo: -d), or start it from a unit: systemd runs what is "
        "labelled bin_t as unconfined_service_t"
    )
    return error("SELinux", said, "runtime", remedy)
