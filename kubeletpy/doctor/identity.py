"""Who the machine says it is: host name, its address, machine id, resolvers."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from kubeletpy.doctor.finding import Finding, error, fine, warning
from kubeletpy.doctor.looking import Aside, text, word
from kubeletpy.doctor.purpose import Purpose

_SECONDS: Final = 2.0
"""What the resolver gets."""
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_MACHINE_ID: Final = re.compile(r"[0-9a-f]{32}")
# What boards have whose maker set none; all of them have the same.
_NO_UUIDS: Final = frozenset(
    {
        "00000000-0000-0000-0000-000000000000",
        "ffffffff-ffff-ffff-ffff-ffffffffffff",
        "03000200-0400-0500-0006-000700080009",
        "00020003-0004-0005-0006-000700080009",
    }
)
_SYSTEMD_RESOLV: Final = "/run/systemd/resolve/resolv.conf"


@dataclass(frozen=True)
class Facts:
    """What the machine says of itself.

    Attributes:
        hostname: as by gethostname(2).
        addresses: what it resolves to; none if it does not.
        problem: why it does not.
        machine_id: of /etc/machine-id.
        product_uuid: of the firmware; "" where there is none, or we may not read it.
        nameservers: of /etc/resolv.conf.
        real_resolv_conf: systemd-resolved's list of real servers is there.
    """

    hostname: str
    addresses: tuple[str, ...]
    problem: str
    machine_id: str
    product_uuid: str
    nameservers: tuple[str, ...]
    real_resolv_conf: bool = False


def look(purpose: Purpose) -> list[Finding]:
    """Look at this machine."""
    return judge(gather(), purpose)


def gather() -> Facts:
    """Read the facts."""
    hostname = socket.gethostname()
    asking = Aside(lambda: socket.getaddrinfo(hostname, None, type=socket.SOCK_STREAM))
    addresses: tuple[str, ...] = ()
    problem = ""
    try:
        addresses = tuple(dict.fromkeys(str(one[4][0]) for one in asking.result(_SECONDS)))
    except (OSError, TimeoutError, UnicodeError) as reason:
        problem = str(reason)
    return Facts(
        hostname=hostname,
        addresses=addresses,
        problem=problem,
        machine_id=word("/etc/machine-id"),
        product_uuid=word("/sys/class/dmi/id/product_uuid").lower(),
        nameservers=nameservers(text("/etc/resolv.conf") or ""),
        real_resolv_conf=bool(word(_SYSTEMD_RESOLV)),
    )


def nameservers(configuration: str) -> tuple[str, ...]:
    """Return the servers of a resolv.conf(5) (pure)."""
    lines = (line.split() for line in configuration.splitlines())
    return tuple(words[1] for words in lines if len(words) > 1 and words[0] == "nameserver")


def judge(facts: Facts, purpose: Purpose) -> list[Finding]:
    """Return what the facts mean (pure)."""
    return [_hostname(facts, purpose), _resolved(facts), _machine_id(facts, purpose),
            *_product(facts, purpose), _nameservers(facts)]  # fmt: skip


def _hostname(facts: Facts, purpose: Purpose) -> Finding:
    name = facts.hostname.lower()
    remedy = "hostnamectl set-hostname NAME (letters, digits, `-` and `.`; of its own on each node)"
    if not _NAME.fullmatch(name) or len(name) > 253:
        return error("host name", f"{facts.hostname!r} cannot name a node", "kubelet", remedy)
    if name.split(".")[0] in ("localhost", "(none)") and purpose.joins:
        found = f"{facts.hostname!r} is not of this machine alone"
        return error("host name", found, "kubelet", remedy)
    return fine("host name", facts.hostname, "kubelet")


def _resolved(facts: Facts) -> Finding:
    if facts.addresses:
        return fine("host name's address", ", ".join(facts.addresses), "kubelet")
    found = f"{facts.hostname} does not resolve: {facts.problem}"
    remedy = f"echo '127.0.1.1 {facts.hostname}' >> /etc/hosts"
    return warning("host name's address", found, "kubelet", remedy)


def _machine_id(facts: Facts, purpose: Purpose) -> Finding:
    if _MACHINE_ID.fullmatch(facts.machine_id) and facts.machine_id.strip("0"):
        said = f"{facts.machine_id} (has to differ on every node)"
        return fine("machine id", said, "kubelet")
    shown = facts.machine_id or "missing"
    remedy = "rm -f /etc/machine-id && systemd-machine-id-setup (then reboot)"
    found = f"/etc/machine-id is {shown}: the node cannot be told from others"
    # Who has one machine tells it from no other.
    return (
        warning("machine id", found, "kubelet", remedy)
        if purpose.joins
        else fine("machine id", f"/etc/machine-id is {shown}", "kubelet")
    )


def _product(facts: Facts, purpose: Purpose) -> list[Finding]:
    if not facts.product_uuid:
        return []
    if facts.product_uuid in _NO_UUIDS and purpose.joins:
        found = f"{facts.product_uuid}, which many machines have"
        remedy = "give the virtual machine a UUID of its own (libvirt: <uuid> of the domain)"
        return [warning("product UUID", found, "kubelet", remedy)]
    said = f"{facts.product_uuid} (has to differ on every node)"
    return [fine("product UUID", said, "kubelet")]


def _nameservers(facts: Facts) -> Finding:
    name, user = "name servers", "pods with dnsPolicy Default, DNS of the cluster"
    if not facts.nameservers:
        remedy = "write `nameserver ADDRESS` into /etc/resolv.conf"
        return warning(name, "/etc/resolv.conf names none", user, remedy)
    listed = ", ".join(facts.nameservers)
    if all(_is_loopback(server) for server in facts.nameservers):
        if facts.real_resolv_conf:
            return fine(name, f"{listed}; the real ones are in {_SYSTEMD_RESOLV}", user)
        found = f"{listed}: of this machine alone, so pods cannot ask them"
        remedy = (
            "write the real ones into a file, and name it in the kubelet's configuration: "
            "resolvConf: /etc/kubeletpy/resolv.conf"
        )
        return warning(name, found, user, remedy)
    return fine(name, listed, user)


def _is_loopback(server: str) -> bool:
    try:
        return ip_address(server.partition("%")[0]).is_loopback
    except ValueError:
        return False
