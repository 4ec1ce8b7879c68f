"""firewalld: whether it is active, and what its default zone admits.

Source: firewalld.dbus(5), firewalld.zone(5).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Any, Final

from kubeletpy.doctor.netfilter import Chain

_NAME: Final = "org.fedoraproject.FirewallD1"
_PATH: Final = "/org/fedoraproject/FirewallD1"
_SECONDS: Final = 1.5
_ACCEPTS: Final = "ACCEPT"
# Services that its own files define, of those that are ours.
_SERVICES: Final = {
    "kube-apiserver": ((6443, "tcp"),),
    "kubelet": ((10250, "tcp"),),
    "kube-worker": ((10250, "tcp"), (10256, "tcp")),
}


@dataclass(frozen=True)
class Zones:
    """What there is of zones.

    Attributes:
        default: the default zone, which all interfaces are in that are in no other one.
        interfaces: those that are in it by name.
        target: what it does with what no rule admits.
        ports: port ranges and protocols that it admits.
        services: names of services that it admits.
        trusted: networks whose zone admits all.
    """

    default: str
    interfaces: tuple[str, ...] = ()
    target: str = "default"
    ports: tuple[tuple[str, str], ...] = ()
    services: tuple[str, ...] = ()
    trusted: tuple[str, ...] = ()

    def admits(self, number: int, protocol: str) -> bool:
        """Return whether the default zone lets a port be reached (pure)."""
        if self.target == _ACCEPTS:
            return True
        known = (pair for name in self.services for pair in _SERVICES.get(name, ()))
        if (number, protocol) in known:
            return True
        return any(kind == protocol and _within(number, listed) for listed, kind in self.ports)

    def trusts(self, network: str) -> bool:
        """Return whether all that comes from ``network`` is admitted (pure)."""
        return self.target == _ACCEPTS or any(_holds(one, network) for one in self.trusted)


def _within(number: int, listed: str) -> bool:
    first, _, last = listed.partition("-")
    try:
        return int(first) <= number <= int(last or first)
    except ValueError:
        return False


def _holds(outer: str, inner: str) -> bool:
    try:
        one, other = ip_network(outer, strict=False), ip_network(inner, strict=False)
    except ValueError:
        return False  # a MAC address, or the name of a set
    if isinstance(one, IPv4Network) and isinstance(other, IPv4Network):
        return other.subnet_of(one)
    if isinstance(one, IPv6Network) and isinstance(other, IPv6Network):
        return other.subnet_of(one)
    return False


def has_tables(chains: Iterable[Chain]) -> bool:
    """Return whether there are firewalld's rules, by either of its backends (pure)."""
    return any(
        one.table == "firewalld" or one.name in ("INPUT_direct", "IN_public", "FORWARD_direct")
        for one in chains
    )


def ask() -> Zones | None:
    """Return what firewalld says of its zones; None if it cannot be asked."""
    from jeepney import DBusAddress, new_method_call
    from jeepney.io.blocking import open_dbus_connection
    from jeepney.wrappers import DBusErrorResponse, unwrap_msg

    def call(interface: str, method: str, signature: str = "", *body: object) -> Sequence[Any]:
        address = DBusAddress(_PATH, _NAME, interface)
        message = new_method_call(address, method, signature or None, body)
        # A name that nobody has would have the bus start its service.
        message.header.flags |= 2  # NO_AUTO_START
        answer: Sequence[Any] = unwrap_msg(connection.send_and_get_reply(message, timeout=_SECONDS))
        return answer

    try:
        connection = open_dbus_connection("SYSTEM")
    except (OSError, KeyError, ValueError, EOFError):
        return None
    try:
        default = str(call(_NAME, "getDefaultZone")[0])
        active = call(f"{_NAME}.zone", "getActiveZones")[0]
        settings = call(f"{_NAME}.zone", "getZoneSettings2", "s", default)[0]
        accepting = [
            name for name in active
            if call(f"{_NAME}.zone", "getZoneSettings2", "s", name)[0].get(
                "target", ("s", ""))[1] == _ACCEPTS
        ]  # fmt: skip
        return zones(default, active, settings, accepting)
    except (DBusErrorResponse, OSError, TimeoutError, EOFError, LookupError, TypeError):
        return None
    finally:
        connection.close()


def zones(
    default: str,
    active: dict[str, dict[str, Sequence[str]]],
    settings: dict[str, tuple[str, Any]],
    accepting: Iterable[str],
) -> Zones:
    """Return the zones of what firewalld's methods return (pure).

    Args:
        default: of ``getDefaultZone``.
        active: of ``getActiveZones``: interfaces and sources of each.
        settings: of ``getZoneSettings2`` of the default zone.
        accepting: names of active zones whose target is ACCEPT.
    """
    trusted = {"trusted", *accepting}
    return Zones(
        default=default,
        interfaces=tuple(active.get(default, {}).get("interfaces", ())),
        target=str(settings.get("target", ("s", "default"))[1]),
        ports=tuple((str(one[0]), str(one[1])) for one in settings.get("ports", ("", ()))[1]),
        services=tuple(map(str, settings.get("services", ("", ()))[1])),
        trusted=tuple(
            source
            for name in active
            if name in trusted
            for source in active[name].get("sources", ())
        ),
    )
