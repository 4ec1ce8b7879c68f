"""Names and requests for links, addresses and routes: plain data, nothing is sent here."""

from __future__ import annotations

import hashlib
import re
import socket
import struct
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Interface, ip_interface
from typing import Final

from kubeletpy_common import netlink
from kubeletpy_common.netlink import CHANGE, CREATE, DUMP, GET, Reply, Request, nested
from runtime.network.allocator import Address, Interface

POD_INTERFACE: Final = "eth0"
LOOPBACK_INDEX: Final = 1  # in every network namespace, kernel: LOOPBACK_IFINDEX

_HOST_LINK: Final = re.compile(r"kp[0-9a-f]{13}")
_UP: Final = 0x1  # IFF_UP
_NODAD: Final = 0x02  # IFA_F_NODAD
_SKIP_STATS: Final = 1 << 3  # RTEXT_FILTER_SKIP_STATS
_MAIN_TABLE: Final = 254
_PROTOCOL_STATIC: Final = 4  # RTPROT_STATIC, as the CNI plugins and administrators set
_UNICAST: Final = 1
_ALIAS_BYTES: Final = 255  # kernel: IFALIASZ - 1


def host_link_name(bridge: str, sandbox_id: str) -> str:
    """Return the name of the host's end of a sandbox's link: 15 characters, the most there are.

    The bridge is part of it, so that two runtimes in one network namespace never meet.
    """
    return "kp" + hashlib.sha256(f"{bridge}/{sandbox_id}".encode()).hexdigest()[:13]


def is_host_link_name(name: str) -> bool:
    """Tell whether :func:`host_link_name` could have made ``name``."""
    return _HOST_LINK.fullmatch(name) is not None


def hardware_address(address: Address) -> str:
    """Return the locally administered MAC address that goes with a pod's address.

    It is of the IPv4 address, or, without one, of the last 32 bits of the IPv6 address, in which
    all addresses of a pool differ. Whoever has the address next has its hardware address too, so
    that no neighbour's cache can be stale. The prefix is the one kubenet used.
    """
    return "0a:58:" + ":".join(f"{octet:02x}" for octet in address.packed[-4:])


def check_sandbox_id(sandbox_id: str) -> None:
    """Raise ValueError unless the id fits into a link's alias unharmed."""
    if not sandbox_id.isprintable() or not 0 < len(sandbox_id.encode()) <= _ALIAS_BYTES:
        raise ValueError(
            f"sandbox id {sandbox_id!r} is not 1 to {_ALIAS_BYTES} bytes of printable text"
        )


@dataclass(frozen=True)
class Link:
    """A link as the kernel describes it; ``master`` is the index of its bridge."""

    index: int
    name: str
    kind: str | None
    master: int | None
    mtu: int
    alias: str | None


@dataclass(frozen=True)
class Route:
    """A unicast route of the main table; ``destination`` is None for a default route."""

    family: int
    destination: str | None
    prefix_length: int
    link: int
    priority: int


def parse_link(reply: Reply) -> Link:
    """Read the answer to :func:`get_link`."""
    return Link(
        index=reply.link_index,
        name=reply.text("IFLA_IFNAME") or "",
        kind=reply.text("IFLA_LINKINFO", "IFLA_INFO_KIND"),
        master=reply.number("IFLA_MASTER"),
        mtu=reply.number("IFLA_MTU") or 0,
        alias=reply.text("IFLA_IFALIAS"),
    )


def parse_route(reply: Reply) -> Route | None:
    """Read one answer to :func:`get_routes`; None for what is not a plain unicast route."""
    table = reply.number("RTA_TABLE") or reply.header("table")
    link = reply.number("RTA_OIF")
    if table != _MAIN_TABLE or reply.header("type") != _UNICAST or link is None:
        return None
    return Route(
        family=reply.header("family"),
        destination=reply.text("RTA_DST"),
        prefix_length=reply.header("dst_len"),
        link=link,
        priority=reply.number("RTA_PRIORITY") or 0,
    )


@lru_cache(16)
def get_link(name: str) -> Request:
    """Ask for one link by name."""
    return Request(
        f"looking up link {name}",
        netlink.RTM_GETLINK,
        GET,
        attributes=[("IFLA_IFNAME", name), ("IFLA_EXT_MASK", _SKIP_STATS)],
    )


def get_links() -> Request:
    """Ask for all links."""
    return Request(
        "listing links",
        netlink.RTM_GETLINK,
        DUMP,
        attributes=[("IFLA_EXT_MASK", _SKIP_STATS)],
    )


def get_routes(family: int) -> Request:
    """Ask for all routes of a family; asked for all families, the kernel leaves out IPv6."""
    return Request("listing routes", netlink.RTM_GETROUTE, DUMP, header={"family": family})


def get_addresses() -> Request:
    """Ask for all addresses of both families."""
    return Request("listing addresses", netlink.RTM_GETADDR, DUMP)


def add_bridge(name: str, mac: str, mtu: int) -> Request:
    """Make a bridge, with spanning tree off, and set it up.

    A bridge without an address of its own takes the lowest of its ports and changes it as pods
    come and go, which leaves the other pods with a stale gateway; so it is given one.
    """
    return Request(
        f"making bridge {name}",
        netlink.RTM_NEWLINK,
        CREATE,
        header={"flags": _UP, "change": _UP},
        attributes=[
            ("IFLA_IFNAME", name),
            ("IFLA_MTU", mtu),
            ("IFLA_ADDRESS", mac),
            ("IFLA_LINKINFO", nested(("IFLA_INFO_KIND", "bridge"))),
        ],
    )


def add_veth(name: str, bridge: int, mtu: int, mac: str, netns_fd: int) -> Request:
    """Make a pair of links: one end here, up and in the bridge, the other in the pod's netns.

    The pod's end cannot be set up in the same request: the kernel configures it before it
    joins the two (veth_open: ENOTCONN).

    Args:
        name: of the host's end, from :func:`host_link_name`.
        bridge: its index.
        mtu: of both ends, bytes.
        mac: of the pod's end.
        netns_fd: a descriptor of the pod's network namespace.
    """
    # Encoding it anew would take longer than the kernel's work; what differs has a fixed size.
    data = _veth_template(bridge, mtu).encoded
    for placeholder, value in (
        (_NAME_PLACEHOLDER.encode(), name.encode()),
        (bytes.fromhex(_MAC_PLACEHOLDER.replace(":", "")), bytes.fromhex(mac.replace(":", ""))),
        (struct.pack("=I", _FD_PLACEHOLDER), struct.pack("=I", netns_fd)),
    ):
        if data.count(placeholder) != 1 or len(placeholder) != len(value):
            raise ValueError(f"{value!r} cannot take the place of {placeholder!r} in {data!r}")
        data = data.replace(placeholder, value)
    return Request(
        f"making link {name} to {POD_INTERFACE} of the pod",
        netlink.RTM_NEWLINK,
        CREATE,
        ready=data,
    )


_NAME_PLACEHOLDER: Final = "kp-name-of-host"
_MAC_PLACEHOLDER: Final = "02:fa:ce:fa:ce:01"
_FD_PLACEHOLDER: Final = 0x7FACEFD0


@lru_cache(4)
def _veth_template(bridge: int, mtu: int) -> Request:
    peer = nested(
        ("IFLA_IFNAME", POD_INTERFACE),
        ("IFLA_NET_NS_FD", _FD_PLACEHOLDER),
        ("IFLA_MTU", mtu),
        ("IFLA_ADDRESS", _MAC_PLACEHOLDER),
    )
    return Request(
        "making a link",
        netlink.RTM_NEWLINK,
        CREATE,
        header={"flags": _UP, "change": _UP},
        attributes=[
            ("IFLA_IFNAME", _NAME_PLACEHOLDER),
            ("IFLA_MASTER", bridge),
            ("IFLA_MTU", mtu),
            (
                "IFLA_LINKINFO",
                nested(
                    ("IFLA_INFO_KIND", "veth"),
                    ("IFLA_INFO_DATA", nested(("VETH_INFO_PEER", peer))),
                ),
            ),
        ],
    )


def set_port(name: str, alias: str) -> Request:
    """Name the owner of a bridge port, and let the bridge send a frame back to where it is from.

    With net.bridge.bridge-nf-call-iptables (most clusters) a pod's packet to a service whose
    endpoint is the pod itself is rewritten while it is inside the bridge, and must leave by the
    port it came in by. The price, that a pod hears its own broadcasts, is harmless: addresses
    are set without duplicate detection, and for the link-local one the kernel knows its own
    probes by their nonce (RFC 7527).
    """
    return Request(
        f"setting port {name} of the bridge",
        netlink.RTM_NEWLINK,
        CHANGE,
        attributes=[
            ("IFLA_IFNAME", name),
            ("IFLA_IFALIAS", alias),
            (
                "IFLA_LINKINFO",
                nested(
                    ("IFLA_INFO_SLAVE_KIND", "bridge"),
                    ("IFLA_INFO_SLAVE_DATA", nested(("IFLA_BRPORT_MODE", 1))),
                ),
            ),
        ],
    )


@lru_cache(64)
def set_up(index: int, purpose: str, *, mtu: int | None = None) -> Request:
    """Set a link up, and its MTU, unless that is None."""
    return Request(
        purpose,
        netlink.RTM_NEWLINK,
        CHANGE,
        header={"index": index, "flags": _UP, "change": _UP},
        attributes=[] if mtu is None else [("IFLA_MTU", mtu)],
    )


def add_address(index: int, interface: Interface, *, tolerated: tuple[int, ...] = ()) -> Request:
    """Give a link an address; an IPv6 one is usable at once, nobody else can have it."""
    address = str(interface.ip)
    attributes: list[tuple[str, object]] = [("IFA_LOCAL", address), ("IFA_ADDRESS", address)]
    if isinstance(interface, IPv4Interface):
        family = socket.AF_INET
        attributes.append(("IFA_BROADCAST", str(interface.network.broadcast_address)))
    else:
        family = socket.AF_INET6
        attributes.append(("IFA_FLAGS", _NODAD))
    return Request(
        f"adding address {interface}",
        netlink.RTM_NEWADDR,
        CREATE,
        header={"family": family, "prefixlen": interface.network.prefixlen, "index": index},
        attributes=attributes,
        tolerated=tolerated,
    )


def delete_address(index: int, interface: Interface, *, tolerated: tuple[int, ...]) -> Request:
    """Take an address away."""
    return Request(
        f"removing address {interface}",
        netlink.RTM_DELADDR,
        CHANGE,
        header={
            "family": socket.AF_INET if interface.version == 4 else socket.AF_INET6,
            "prefixlen": interface.network.prefixlen,
            "index": index,
        },
        attributes=[("IFA_LOCAL", str(interface.ip)), ("IFA_ADDRESS", str(interface.ip))],
        tolerated=tolerated,
    )


def parse_address(reply: Reply) -> tuple[int, Interface] | None:
    """Return the link's index and the address of an answer; None for what is no global one."""
    text = reply.text("IFA_LOCAL") or reply.text("IFA_ADDRESS")
    if text is None:
        return None
    found = ip_interface(f"{text}/{reply.header('prefixlen')}")
    return None if found.ip.is_link_local else (reply.header("index"), found)


@lru_cache(64)
def add_default_route(index: int, gateway: Address) -> Request:
    """Send everything that is not local to ``gateway``."""
    return Request(
        f"adding the default route by {gateway}",
        netlink.RTM_NEWROUTE,
        CREATE,
        header={
            "family": socket.AF_INET if gateway.version == 4 else socket.AF_INET6,
            "table": _MAIN_TABLE,
            "proto": _PROTOCOL_STATIC,
            "type": _UNICAST,
        },
        attributes=[("RTA_GATEWAY", str(gateway)), ("RTA_OIF", index)],
    )


def delete_link(name: str, *, tolerated: tuple[int, ...] = ()) -> Request:
    """Remove a link; a veth's other end goes too."""
    return Request(
        f"removing link {name}",
        netlink.RTM_DELLINK,
        CHANGE,
        attributes=[("IFLA_IFNAME", name)],
        tolerated=tolerated,
    )


def set_group(name: str, group: int, *, tolerated: tuple[int, ...] = ()) -> Request:
    """Put a link into a group."""
    return Request(
        f"marking link {name} for removal",
        netlink.RTM_NEWLINK,
        CHANGE,
        attributes=[("IFLA_IFNAME", name), ("IFLA_GROUP", group)],
        tolerated=tolerated,
    )


def delete_group(group: int, *, tolerated: tuple[int, ...] = ()) -> Request:
    """Remove all links of a group, which costs the kernel hardly more than removing one."""
    return Request(
        f"removing the links of group {group}",
        netlink.RTM_DELLINK,
        CHANGE,
        attributes=[("IFLA_GROUP", group)],
        tolerated=tolerated,
    )
