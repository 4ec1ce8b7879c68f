"""What the kernel was built with; modules that can be loaded count as there."""

from __future__ import annotations

import gzip
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from kubeletpy.doctor.finding import Finding, error, fine, warning
from kubeletpy.doctor.looking import names, text, word
from kubeletpy.doctor.purpose import Purpose
from kubeletpy_common.cgroups.detection import cgroup_mounts


@dataclass(frozen=True)
class Feature:
    """A part of the kernel that can be left out when it is built.

    Attributes:
        name: of the finding.
        option: of the kernel's configuration, without ``CONFIG_``.
        module: its name where it can be one; "" if it cannot.
        needed_by: what uses it.
        required: without it nothing works, else what is said in ``lost`` does not.
        lost: what does not work without it.
    """

    name: str
    option: str
    module: str
    needed_by: str
    required: bool
    lost: str


FEATURES: Final = (
    Feature("bridge", "BRIDGE", "bridge", "pod network", True, "pods get no network"),
    Feature("veth", "VETH", "veth", "pod network", True, "pods get no network"),
    Feature(
        "nf_tables", "NF_TABLES", "nf_tables", "proxy", False,
        "the proxy's mode nftables does not work; its mode iptables does where the kernel has "
        "ip_tables",
    ),
    Feature(
        "connection tracking", "NF_CONNTRACK", "nf_conntrack", "proxy", True,
        "addresses cannot be translated: no Services, no way from pods to other networks",
    ),
    Feature(
        "br_netfilter", "BRIDGE_NETFILTER", "br_netfilter", "NetworkPolicies", False,
        "NetworkPolicies do not hold between pods of one node",
    ),
    Feature(
        "vxlan", "VXLAN", "vxlan", "pod network", False,
        "nodes that are not on one network segment cannot reach each other's pods",
    ),
)  # fmt: skip
_ID_MAPPED_OVERLAY: Final = (5, 19)
_OPTIONS_OF_V2: Final = Feature(
    "BPF for cgroups", "CGROUP_BPF", "", "runtime", True,
    "containers' access to devices cannot be limited on cgroup v2",
)  # fmt: skip


@dataclass(frozen=True)
class Facts:
    """What the kernel has.

    Attributes:
        release: as by uname(2).
        options: of its configuration: ``y``, ``m`` or ``n``; empty if that is nowhere to be read.
        modules: those that are loaded, built in, or can be loaded.
        modules_known: the list of those that can be loaded was found.
        seccomp: the actions it knows.
        user_namespaces: how many there may be; None if there are none at all.
        cgroup2: cgroup v2 is in use for the controllers.
    """

    release: str
    options: dict[str, str] = field(default_factory=dict)
    modules: frozenset[str] = frozenset()
    modules_known: bool = False
    seccomp: tuple[str, ...] = ()
    user_namespaces: int | None = None
    cgroup2: bool = False


def look(purpose: Purpose) -> list[Finding]:
    """Look at this kernel."""
    return judge(gather(), purpose)


def gather() -> Facts:
    """Read the facts."""
    release = os.uname().release
    folder = Path("/lib/modules", release)
    listed = [text(folder / name) for name in ("modules.builtin", "modules.dep")]
    loaded = frozenset(names("/sys/module"))
    count = word("/proc/sys/user/max_user_namespaces")
    mounts = cgroup_mounts(text("/proc/self/mountinfo") or "")
    return Facts(
        release=release,
        options=_configuration(release),
        modules=loaded | module_names("\n".join(one for one in listed if one)),
        modules_known=listed[1] is not None,
        seccomp=tuple(word("/proc/sys/kernel/seccomp/actions_avail").split()),
        user_namespaces=int(count) if count.isdigit() else None,
        cgroup2=any(m.kind == "cgroup2" and str(m.path) == "/sys/fs/cgroup" for m in mounts),
    )


def _configuration(release: str) -> dict[str, str]:
    for path in (f"/boot/config-{release}", f"/lib/modules/{release}/config"):
        found = text(path)
        if found:
            return options(found)
    try:
        with gzip.open("/proc/config.gz", "rt", errors="replace") as file:
            return options(file.read())
    except (OSError, EOFError):
        return {}


def options(configuration: str) -> dict[str, str]:
    """Return the options of the features above in a kernel's configuration (pure)."""
    wanted = {feature.option for feature in (*FEATURES, _OPTIONS_OF_V2)}
    found = dict.fromkeys(wanted, "n")
    for line in configuration.splitlines():
        name, _, value = line.removeprefix("CONFIG_").partition("=")
        if name in wanted:
            found[name] = value.strip()
    return found


def module_names(listed: str) -> frozenset[str]:
    """Return the names in ``modules.builtin`` or ``modules.dep`` (pure)."""
    paths = (line.split(":", 1)[0].strip() for line in listed.splitlines())
    return frozenset(
        path.rsplit("/", 1)[-1].split(".ko", 1)[0].replace("-", "_") for path in paths if path
    )


def judge(facts: Facts, purpose: Purpose) -> list[Finding]:
    """Return what the facts mean (pure)."""
    wanted = [*FEATURES, *([_OPTIONS_OF_V2] if facts.cgroup2 else [])]
    found = [_feature(feature, facts, purpose) for feature in wanted]
    return [*found, _seccomp(facts), _user_namespaces(facts), _id_mapped_mounts(facts)]


def _feature(feature: Feature, facts: Facts, purpose: Purpose) -> Finding:
    has = facts.options.get(feature.option)
    if feature.module in facts.modules or has == "y":
        return fine(feature.name, "the kernel has it", feature.needed_by)
    if has is None and not facts.modules_known:
        found = "cannot be told: no configuration and no list of modules of this kernel is here"
        return fine(feature.name, found, feature.needed_by)
    if has == "m" and not facts.modules_known:
        found = (
            f"a module, and /lib/modules/{facts.release} is not here: {feature.lost} unless the "
            "host has loaded it"
        )
        remedy = (
            f"on the host: modprobe {feature.module}; in a container mount /lib/modules into it"
        )
        return warning(feature.name, found, feature.needed_by, remedy)
    found = f"Linux {facts.release} has no CONFIG_{feature.option}: {feature.lost}"
    remedy = (
        f"boot your distribution's standard kernel, or install its further modules (Ubuntu: "
        f"apt-get install linux-modules-extra-{facts.release})"
    )
    # A node by itself needs no way to others.
    if feature.option == "VXLAN" and not purpose.joins:
        return fine(feature.name, found, feature.needed_by)
    kind = error if feature.required else warning
    return kind(feature.name, found, feature.needed_by, remedy)


def _seccomp(facts: Facts) -> Finding:
    if "errno" in facts.seccomp:
        return fine("seccomp", "the kernel filters system calls", "runtime")
    remedy = "boot a kernel with CONFIG_SECCOMP_FILTER"
    found = "the kernel cannot filter system calls: pods with a seccomp profile do not start"
    return error("seccomp", found, "runtime", remedy)


def _user_namespaces(facts: Facts) -> Finding:
    if facts.user_namespaces:
        return fine("user namespaces", f"up to {facts.user_namespaces}", "pods")
    if facts.user_namespaces is None:
        found, remedy = "the kernel has none", "boot a kernel with CONFIG_USER_NS"
    else:
        found = "user.max_user_namespaces is 0"
        remedy = "sysctl -w user.max_user_namespaces=15000"
    lost = f"{found}: pods with hostUsers: false do not start"
    return warning("user namespaces", lost, "pods", remedy)


def _id_mapped_mounts(facts: Facts) -> Finding:
    if version(facts.release) >= _ID_MAPPED_OVERLAY:
        return fine("id-mapped mounts", f"Linux {facts.release}", "pods")
    found = f"Linux {facts.release} maps no ids on overlayfs: pods with hostUsers: false do not run"
    return warning("id-mapped mounts", found, "pods", "boot Linux 5.19 or newer (6.3 for tmpfs)")


def version(release: str) -> tuple[int, int]:
    """Return the first two numbers of a kernel's release; zeros if it has none (pure)."""
    parts = release.replace("-", ".").split(".")[:2]
    numbers = [int(part) if part.isdigit() else 0 for part in parts]
    return numbers[0], numbers[1] if len(numbers) > 1 else 0
