"""The chains of nf_tables, asked of the kernel itself: no program need be there, no module loads.

Source: include/uapi/linux/netfilter/nf_tables.h, nfnetlink.h.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_NETLINK_NETFILTER: Final = 12
_GET_CHAIN: Final = (10 << 8) | 4  # NFNL_SUBSYS_NFTABLES, NFT_MSG_GETCHAIN
_REQUEST_DUMP: Final = 0x301
_ERROR, _DONE = 2, 3
_HEADER: Final = struct.Struct("=IHHII")
_GENERIC: Final = struct.Struct(">BBH")
_ATTRIBUTE: Final = struct.Struct("=HH")
_TYPE_MASK: Final = 0x3FFF
_TABLE, _NAME, _HOOK, _POLICY = 1, 3, 4, 5  # NFTA_CHAIN_*
_HOOK_NUMBER: Final = 1
_FAMILIES: Final = {1: "inet", 2: "ip", 3: "arp", 5: "netdev", 7: "bridge", 10: "ip6"}
_HOOKS: Final = ("prerouting", "input", "forward", "output", "postrouting", "ingress")
_SECONDS: Final = 2.0


@dataclass(frozen=True)
class Chain:
    """A chain: family and table it is of, its name; hook and policy if packets enter by it."""

    family: str
    table: str
    name: str
    hook: str = ""
    policy: str = ""


def chains() -> list[Chain]:
    """Return the chains of this network namespace.

    Raises:
        OSError: the kernel has no nf_tables, or we may not ask.
    """
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER) as endpoint:
        endpoint.settimeout(_SECONDS)
        endpoint.bind((0, 0))
        body = _GENERIC.pack(0, 0, 0)
        size = _HEADER.size + len(body)
        endpoint.send(_HEADER.pack(size, _GET_CHAIN, _REQUEST_DUMP, 1, 0) + body)
        return list(_answers(endpoint))


def _answers(endpoint: socket.socket) -> Iterator[Chain]:
    while True:
        packet = endpoint.recv(1 << 16)
        for kind, body in messages(packet):
            if kind == _DONE:
                return
            if kind == _ERROR:
                number = -struct.unpack_from("=i", body)[0]
                if number:
                    raise OSError(number, "nf_tables does not list its chains")
                return
            if found := chain(body):
                yield found


def messages(packet: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield type and body of each message of a netlink packet (pure)."""
    while len(packet) >= _HEADER.size:
        size, kind, _, _, _ = _HEADER.unpack_from(packet)
        if size < _HEADER.size:
            return
        yield kind, packet[_HEADER.size : size]
        packet = packet[(size + 3) & ~3 :]


def chain(body: bytes) -> Chain | None:
    """Return the chain of a message's body, None if it is none (pure)."""
    if len(body) < _GENERIC.size:
        return None
    family, _, _ = _GENERIC.unpack_from(body)
    found = dict(_attributes(body[_GENERIC.size :]))
    if _TABLE not in found or _NAME not in found:
        return None
    hook = policy = ""
    if _HOOK in found:
        number = dict(_attributes(found[_HOOK])).get(_HOOK_NUMBER, b"\xff" * 4)
        index = int.from_bytes(number, "big")
        hook = _HOOKS[index] if index < len(_HOOKS) else "other"
        # NF_DROP is 0, NF_ACCEPT is 1.
        policy = "accept" if int.from_bytes(found.get(_POLICY, b"\1"), "big") else "drop"
    return Chain(_FAMILIES.get(family, str(family)), _string(found[_TABLE]),
                 _string(found[_NAME]), hook, policy)  # fmt: skip


def _string(value: bytes) -> str:
    return value.rstrip(b"\0").decode(errors="replace")


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    while len(data) >= _ATTRIBUTE.size:
        size, kind = _ATTRIBUTE.unpack_from(data)
        if size < _ATTRIBUTE.size:
            return
        yield kind & _TYPE_MASK, data[_ATTRIBUTE.size : size]
        data = data[(size + 3) & ~3 :]
