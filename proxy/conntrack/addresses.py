"""The addresses of this node, by rtnetlink."""

from __future__ import annotations

import os
import socket
import struct

from ..model.portal import Family

_NETLINK_ROUTE = 0
_GET_ADDRESS = 22
_NEW_ADDRESS = 20
_REQUEST_DUMP = 0x301
_ERROR = 2
_DONE = 3
_IFA_ADDRESS = 1
_IFA_LOCAL = 2
_HEADER = struct.Struct("=IHHII")
_MESSAGE_SIZE = 8
"""struct ifaddrmsg."""
_SIZE = 1 << 16
_TIMEOUT_SECONDS = 10
_NUMBER = {Family.V4: socket.AF_INET, Family.V6: socket.AF_INET6}


def own_addresses(family: Family) -> frozenset[bytes]:
    """Return the addresses of all interfaces, as they are in packets.

    Raises:
        OSError: the kernel refused.
    """
    found: set[bytes] = set()
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_ROUTE) as endpoint:
        endpoint.settimeout(_TIMEOUT_SECONDS)
        body = bytes((_NUMBER[family],)) + bytes(_MESSAGE_SIZE - 1)
        header = _HEADER.pack(_HEADER.size + len(body), _GET_ADDRESS, _REQUEST_DUMP, 1, 0)
        endpoint.sendto(header + body, (0, 0))
        while True:
            data = endpoint.recv(_SIZE)
            offset = 0
            while offset + _HEADER.size <= len(data):
                length, kind, *_ = _HEADER.unpack_from(data, offset)
                start = offset + _HEADER.size
                if kind == _DONE:
                    return frozenset(found)
                if kind == _ERROR:
                    number = -int(struct.unpack_from("=i", data, start)[0])
                    raise OSError(number, f"addresses cannot be listed: {os.strerror(number)}")
                if kind == _NEW_ADDRESS:
                    found.add(_address(data[start + _MESSAGE_SIZE : offset + length]))
                offset += (length + 3) & ~3


def _address(data: bytes) -> bytes:
    """Return the interface's own address: IFA_ADDRESS is the other end's on some links."""
    found: dict[int, bytes] = {}
    offset = 0
    while offset + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, offset)
        if length < 4:
            break
        found[kind & 0x3FFF] = data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found.get(_IFA_LOCAL) or found.get(_IFA_ADDRESS, b"")
