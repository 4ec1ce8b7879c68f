"""Ports that will be listened at, and who has them now."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import Final

from kubeletpy.doctor.finding import Finding, error, fine, warning
from kubeletpy.doctor.looking import text
from kubeletpy.doctor.processes import Process, holders
from kubeletpy.doctor.purpose import Port, Purpose

_OURS: Final = "kubeletpy-vx"
"""The link of our own pod network."""
_LISTENS: Final = "0A"  # TCP_LISTEN; a UDP socket that is bound counts whatever its state


@dataclass(frozen=True)
class Socket:
    """A socket that has a port: the protocol, its number, and its inode."""

    protocol: str
    port: int
    inode: int


@dataclass(frozen=True)
class Facts:
    """The sockets here, whose those are whose port is wanted (the kernel's are nobody's), links."""

    sockets: tuple[Socket, ...]
    holders: dict[int, Process]
    links: tuple[str, ...] = ()


def look(purpose: Purpose) -> list[Finding]:
    """Look at this machine."""
    return judge(gather(purpose), purpose)


def gather(purpose: Purpose) -> Facts:
    """Read the facts."""
    found = [
        one
        for protocol in ("tcp", "udp")
        for family in ("", "6")
        for one in sockets(protocol, text(f"/proc/net/{protocol}{family}") or "")
    ]
    wanted = {(port.protocol, port.number) for port in purpose.ports}
    taken = [one.inode for one in found if (one.protocol, one.port) in wanted]
    return Facts(tuple(found), holders(taken), tuple(name for _, name in socket.if_nameindex()))


def sockets(protocol: str, table: str) -> list[Socket]:
    """Return what listens, in the text of /proc/net/tcp or its like (pure; proc(5))."""
    found = []
    for line in table.splitlines()[1:]:
        words = line.split()
        if len(words) < 10 or (protocol == "tcp" and words[3] != _LISTENS):
            continue
        found.append(Socket(protocol, int(words[1].rpartition(":")[2], 16), int(words[9])))
    return found


def judge(facts: Facts, purpose: Purpose) -> list[Finding]:
    """Return what the facts mean (pure)."""
    return [_port(port, facts) for port in purpose.ports]


def _port(port: Port, facts: Facts) -> Finding:
    name = f"port {port.number}/{port.protocol}"
    taken = [
        one for one in facts.sockets if (one.protocol, one.port) == (port.protocol, port.number)
    ]
    if not taken:
        return fine(name, "free", port.user)
    owners = {str(one): one for one in map(facts.holders.get, [s.inode for s in taken]) if one}
    if port.protocol == "udp" and not owners:
        if _OURS in facts.links:
            return fine(name, f"our own {_OURS}", port.user)
        found = "a VXLAN device of the kernel has it; another network's would take our packets"
        seen = f"ip -d link show type vxlan | grep -B2 'dstport {port.number}'"
        return warning(name, found, port.user, f"see whose it is: {seen}; ip link delete NAME")
    if owners and all(owner.ours for owner in owners.values()):
        return fine(name, f"our own {', '.join(owners)}", port.user)
    said = ", ".join(owners) or "another user's process, or one of another PID namespace"
    pids = " ".join(str(one.pid) for one in owners.values())
    remedy = f"see what it is: ss -lptn 'sport = :{port.number}', and stop it"
    if pids:
        remedy = f"stop it (systemctl status {pids} tells the unit)"
    if port.setting:
        remedy += f"; or choose another port: {port.setting}"
    return error(name, f"taken by {said}", port.user, remedy)
