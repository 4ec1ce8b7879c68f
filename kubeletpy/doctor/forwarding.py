"""What the kernel does with packets that are not its own: forwarding, reverse path, bridges.

Source: Documentation/networking/ip-sysctl.rst.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from kubeletpy.doctor.finding import Finding, error, fine, warning
from kubeletpy.doctor.looking import names, text, word
from kubeletpy.doctor.purpose import Purpose

_IPV4: Final = "/proc/sys/net/ipv4/conf"
_IPV6: Final = "/proc/sys/net/ipv6/conf"
_ROUTE_LEARNT: Final = 0x00040000  # RTF_ADDRCONF: made by a router's advertisement
_KEEP: Final = "; to keep it: echo {0}={1} >> /etc/sysctl.d/99-kubeletpy.conf"
_CONFIGURED: Final = (
    "/run/sysctl.d",
    "/etc/sysctl.d",
    "/usr/local/lib/sysctl.d",
    "/usr/lib/sysctl.d",
)


@dataclass(frozen=True)
class Facts:
    """Settings of this network namespace; "" where the kernel has none.

    Attributes:
        forward_v4: net.ipv4.ip_forward.
        forward_v6: net.ipv6.conf.all.forwarding.
        writable: /proc/sys/net can be written to, so daemons can set what they need.
        turned_off_by: files of sysctl.d that set forwarding to 0 at each boot.
        reverse_path: rp_filter by interface, ``all`` among them.
        uplinks: interfaces with a way to other machines.
        bridged: bridge-nf-call-iptables; "" where br_netfilter is not loaded.
        learnt_routes: interfaces with a default route from a router's advertisement.
        accept_ra: net.ipv6.conf.*.accept_ra of those.
    """

    forward_v4: str
    forward_v6: str
    writable: bool
    turned_off_by: tuple[str, ...] = ()
    reverse_path: dict[str, str] = field(default_factory=dict)
    uplinks: tuple[str, ...] = ()
    bridged: str = ""
    learnt_routes: tuple[str, ...] = ()
    accept_ra: dict[str, str] = field(default_factory=dict)


def look(purpose: Purpose) -> list[Finding]:
    """Look at this machine."""
    return judge(gather(), purpose)


def gather() -> Facts:
    """Read the facts."""
    learnt = learnt_defaults(text("/proc/net/ipv6_route") or "")
    return Facts(
        forward_v4=word("/proc/sys/net/ipv4/ip_forward"),
        forward_v6=word(f"{_IPV6}/all/forwarding"),
        # As far as it can be told without trying: a container's /proc/sys is mounted read-only.
        writable=not os.statvfs("/proc/sys/net").f_flag & os.ST_RDONLY,
        turned_off_by=_turned_off_by(),
        reverse_path={name: word(f"{_IPV4}/{name}/rp_filter") for name in names(_IPV4)},
        uplinks=_uplinks(),
        bridged=word("/proc/sys/net/bridge/bridge-nf-call-iptables"),
        learnt_routes=learnt,
        accept_ra={name: word(f"{_IPV6}/{name}/accept_ra") for name in learnt},
    )


def _turned_off_by() -> tuple[str, ...]:
    files = [Path(folder, name) for folder in _CONFIGURED for name in names(folder)]
    wanted = [*files, Path("/etc/sysctl.conf")]
    return tuple(str(file) for file in wanted if turns_off(text(file) or ""))


def turns_off(configuration: str) -> bool:
    """Return whether a file of sysctl.d(5) turns forwarding of IPv4 off (pure)."""
    value = ""
    for line in configuration.splitlines():
        key, _, given = line.partition("=")
        if key.strip().lstrip("-").replace("/", ".") in (
            "net.ipv4.ip_forward",
            "net.ipv4.conf.all.forwarding",
        ):
            value = given.strip()
    return value == "0"


def _uplinks() -> tuple[str, ...]:
    """Return the devices that are hardware, or a virtual machine's idea of it."""
    return tuple(
        name for name in names("/sys/class/net") if Path("/sys/class/net", name, "device").exists()
    )


def learnt_defaults(routes: str) -> tuple[str, ...]:
    """Return devices with a default route of a router's advertisement (pure; ipv6_route)."""
    found = []
    for line in routes.splitlines():
        words = line.split()
        if len(words) < 10 or words[0].strip("0") or words[1] != "00":
            continue
        if int(words[8], 16) & _ROUTE_LEARNT:
            found.append(words[9])
    return tuple(dict.fromkeys(found))


def judge(facts: Facts, purpose: Purpose) -> list[Finding]:
    """Return what the facts mean (pure)."""
    return [
        _forwarding(facts, "IPv4 forwarding", "net.ipv4.ip_forward", facts.forward_v4),
        _forwarding(facts, "IPv6 forwarding", "net.ipv6.conf.all.forwarding", facts.forward_v6),
        _reverse_path(facts, purpose), _bridges(facts), *_advertisements(facts),
    ]  # fmt: skip


def _forwarding(facts: Facts, name: str, key: str, value: str) -> Finding:
    v4 = key.startswith("net.ipv4")
    if value == "1":
        if v4 and facts.turned_off_by:
            files = ", ".join(facts.turned_off_by)
            found = f"on, but {files} turns it off whenever its settings are applied"
            remedy = f"sed -i '/ip_forward/d;/all.forwarding/d' {' '.join(facts.turned_off_by)}"
            return warning(name, found, "pods, Services", remedy)
        return fine(name, "on", "pods, Services")
    if not value:
        if v4:
            return error(name, "the kernel has no IPv4", "pods", "boot a kernel with CONFIG_INET")
        return fine(name, "the kernel has no IPv6: pods have IPv4 alone", "pods, Services")
    remedy = f"sysctl -w {key}=1" + _KEEP.format(key, 1)
    if not facts.writable:
        found = "off, and /proc/sys is read-only, so the runtime cannot turn it on"
        if not v4:
            return warning(name, found, "pods, Services", f"on the host: {remedy}")
        remedy = f"in a container: start it with --privileged; on the host: {remedy}"
        return error(name, found, "pods, Services", remedy)
    found = "off: pods reach nothing beyond this node (the runtime turns it on at its start)"
    return (
        warning(name, found, "pods, Services", remedy)
        if v4
        else fine(name, "off (the runtime turns it on at its start)", "pods, Services")
    )


def _reverse_path(facts: Facts, purpose: Purpose) -> Finding:
    name, user = "reverse path filter", "Services, pod network"
    everywhere = facts.reverse_path.get("all", "")
    strict = [
        one
        for one in facts.uplinks
        # ip-sysctl.rst: the larger one of `all` and the interface's own counts.
        if max(everywhere, facts.reverse_path.get(one, "")) == "1"
    ]
    if not strict:
        return fine(name, "not strict on any uplink", user)
    if len(facts.uplinks) < 2 or not purpose.joins:
        return fine(name, f"strict on {', '.join(strict)}, the only way out", user)
    found = (
        f"strict on {', '.join(strict)}, with several uplinks ({', '.join(facts.uplinks)}): what "
        "comes in at one and would leave by another is dropped"
    )
    keys = " ".join(f"net.ipv4.conf.{one}.rp_filter=2" for one in ("all", *strict))
    return warning(name, found, user, f"sysctl -w {keys}")


def _bridges(facts: Facts) -> Finding:
    if facts.bridged == "1":
        return fine("bridged packets", "seen by iptables", "NetworkPolicies")
    state = "br_netfilter is not loaded" if not facts.bridged else "bridge-nf-call-iptables is 0"
    found = f"{state}; who enforces NetworkPolicies sets it at its start"
    if facts.writable or facts.bridged:
        return fine("bridged packets", found, "NetworkPolicies")
    remedy = "on the host: modprobe br_netfilter && sysctl -w net.bridge.bridge-nf-call-iptables=1"
    found = f"{state}, and cannot be set here: policies do not hold between pods of one node"
    return warning("bridged packets", found, "NetworkPolicies", remedy)


def _advertisements(facts: Facts) -> list[Finding]:
    lost = [name for name in facts.learnt_routes if facts.accept_ra.get(name) == "1"]
    if not lost:
        return []
    # The runtime sets accept_ra to 2 before it turns forwarding on.
    found = f"of {', '.join(lost)}, by a router's advertisement; the runtime sees that it stays"
    return [fine("IPv6 default route", found, "node")]
