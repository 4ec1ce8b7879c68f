"""Addresses that this machine answers for: they are put on one of its links.

The kernel then answers ARP and neighbour solicitations for them; neighbours that know the address
elsewhere are told by a gratuitous one. What we put there carries a mark (``IFA_PROTO``), so that a
process that is killed leaves nothing that the next one would not know.
"""

from __future__ import annotations

import contextlib
import ipaddress
import socket
import struct
from collections.abc import Collection
from typing import Any, Final

from pyroute2 import IPRoute

from .pool import Address

MARK: Final = 0x6B
"""``IFA_PROTO`` of our addresses (linux/if_addr.h; values from 0x10 on are free for use)."""
_FOREVER: Final = 0xFFFFFFFF
_ARP: Final = 0x0806
_NO_DAD: Final = 0x02


_ADVERTISEMENT: Final = 136
_OVERRIDE: Final = 0x20
_ALL_NODES: Final = "ff02::1"


class AnnounceError(Exception):
    """Addresses cannot be put on the link; the message says which and why."""


class Announcer:
    """Keeps addresses on a link.

    Args:
        link: its name.
    """

    def __init__(self, link: str) -> None:
        self._link = link

    def announce(self, wanted: Collection[Address]) -> None:
        """Have the link answer for these addresses and for no others of ours. Blocks.

        A link that is not there yet is missed only when it is to have addresses. One that
        somebody else put on the link stays as it is.

        Raises:
            AnnounceError: there is no such link, or the kernel refused.
        """
        with IPRoute() as netlink:
            if not wanted and not netlink.link_lookup(ifname=self._link):
                return
            index = self._index(netlink)
            there, ours = _present(netlink, index)
            try:
                for address in ours - set(wanted):
                    netlink.addr("del", index=index, address=str(address),
                                 prefixlen=address.max_prefixlen)  # fmt: skip
                added = [one for one in wanted if one not in there]
                for address in added:
                    _add(netlink, index, address)
            except Exception as error:
                raise AnnounceError(f"addresses of {self._link}: {error}") from error
        for address in added:
            tell = _tell_neighbours if address.version == 4 else _advertise
            tell(self._link, address)

    def _index(self, netlink: Any) -> int:
        found: list[int] = netlink.link_lookup(ifname=self._link)
        if not found:
            raise AnnounceError(
                f"there is no link {self._link!r} to announce load balancer addresses on; "
                "--load-balancer-interface names it"
            )
        return found[0]


def _present(netlink: Any, index: int) -> tuple[set[Address], set[Address]]:
    """Return the addresses of a link, and those of them that we put there."""
    there: set[Address] = set()
    ours: set[Address] = set()
    for message in netlink.get_addr(index=index):
        attributes = dict(message["attrs"])
        address = ipaddress.ip_address(attributes.get("IFA_LOCAL") or attributes["IFA_ADDRESS"])
        there.add(address)
        if attributes.get("IFA_PROTO") == MARK:
            ours.add(address)
    return there, ours


def _add(netlink: Any, index: int, address: Address) -> None:
    # Never chosen as the source of what this machine sends: it counts as deprecated.
    more: dict[str, Any] = {"preferred": 0, "valid": _FOREVER}
    if address.version == 6:
        # Nobody else has it; waiting for duplicates would lose a second of answers.
        more["flags"] = _NO_DAD
    netlink.addr("add", index=index, address=str(address), prefixlen=address.max_prefixlen,
                 proto=MARK, **more)  # fmt: skip


def _tell_neighbours(link: str, address: Address) -> None:
    """Send a gratuitous ARP (RFC 5227, section 3); a link without ARP needs none."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ARP)) as raw:
        raw.bind((link, _ARP))
        own: bytes = raw.getsockname()[4]
        if len(own) != 6:
            return
        head = b"\xff" * 6 + own + struct.pack("!HHHBBH", _ARP, 1, 0x0800, 6, 4, 1)
        raw.send(head + own + address.packed + b"\0" * 6 + address.packed)


def _advertise(link: str, address: Address) -> None:
    """Send an unsolicited neighbour advertisement (RFC 4861, section 7.2.6); best effort."""
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as raw:
        raw.bind((link, 0))
        own: bytes = raw.getsockname()[4]
    if len(own) != 6:
        return
    body = struct.pack("!BBHB3x", _ADVERTISEMENT, 0, 0, _OVERRIDE) + address.packed + b"\2\1" + own
    with socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6) as icmp:
        icmp.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
        # A link that has no address of its own to send from tells nobody; others ask then.
        with contextlib.suppress(OSError):
            icmp.sendto(body, (_ALL_NODES, 0, 0, socket.if_nametoindex(link)))
