"""What the kernel announces of nftables: every change, by anybody, in one network namespace.

Source: linux/netfilter/nfnetlink.h (NFNLGRP_NFTABLES), linux/netfilter/nf_tables.h, netlink(7).
"""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import Iterator
from typing import Final

SUBSYSTEM: Final = 10
DELETED_TABLE: Final = 2
DELETED_CHAIN: Final = 5
NEW_RULE: Final = 6
DELETED_RULE: Final = 8
NEW_GENERATION: Final = 15
GET_GENERATION: Final = 16

_NETLINK_NETFILTER: Final = 12
_SOL_NETLINK: Final = 270
_ADD_MEMBERSHIP, _DROP_MEMBERSHIP = 1, 2
_GROUP: Final = 7
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_BUFFER: Final = 4 << 20
_HEADER: Final = struct.Struct("=IHHII")
"""nlmsghdr: length, type, flags, sequence number, port id."""


def connected() -> socket.socket:
    """Return a socket for questions and announcements, bound to a port of the kernel's choice.

    Raises:
        OSError: the kernel refused.
    """
    made = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER
    )
    try:
        made.bind((0, 0))
    except OSError:
        made.close()
        raise
    return made


def listening() -> socket.socket:
    """Return a socket that hears of changes from now on, with room for many.

    Raises:
        OSError: the kernel refused.
    """
    made = connected()
    try:
        enlarge(made, _BUFFER)
        join(made)
    except OSError:
        made.close()
        raise
    return made


def join(endpoint: socket.socket) -> None:
    """Have a socket hear of changes."""
    endpoint.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _GROUP)


def leave(endpoint: socket.socket) -> None:
    """Have it hear of none: the kernel then makes no announcements for it."""
    endpoint.setsockopt(_SOL_NETLINK, _DROP_MEMBERSHIP, _GROUP)


def enlarge(endpoint: socket.socket, size: int) -> None:
    """Give a socket buffers of ``size`` bytes, or the most that the machine lets it have."""
    for forced, plain in (
        (_SO_SNDBUFFORCE, socket.SO_SNDBUF),
        (_SO_RCVBUFFORCE, socket.SO_RCVBUF),
    ):
        try:
            endpoint.setsockopt(socket.SOL_SOCKET, forced, size)
        except PermissionError:
            with contextlib.suppress(OSError):
                endpoint.setsockopt(socket.SOL_SOCKET, plain, size)


def messages(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield kind (without the subsystem), port id of who did it, and body of each message.

    Messages of other subsystems are left out; it ends at what is malformed.
    """
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, _, _, port = _HEADER.unpack_from(data, at)
        if length < _HEADER.size:
            return
        if kind >> 8 == SUBSYSTEM:
            yield kind & 0xFF, port, data[at + _HEADER.size : at + length]
        at += (length + 3) & ~3
