"""Flows in the kernel's table, made and listed by netlink, without any traffic."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterable
from typing import NamedTuple

from proxy.conntrack.netlink import _attribute as attribute
from proxy.conntrack.netlink import _nest as nest
from proxy.model.portal import Family

_HEADER = struct.Struct("=IHHII")
_SUBSYSTEM = 1
_REQUEST, _ACK, _CREATE, _EXCLUSIVE, _DUMP = 1, 4, 0x400, 0x200, 0x300
_TUPLE_ORIGINAL, _TUPLE_REPLY, _STATUS, _PROTOCOL_INFO, _TIMEOUT = 1, 2, 3, 4, 7
_CONFIRMED_AND_ANSWERED = 1 << 3 | 1 << 1
_AT_ONCE = 500

UDP, SCTP, TCP = socket.IPPROTO_UDP, socket.IPPROTO_SCTP, socket.IPPROTO_TCP


class Made(NamedTuple):
    """A flow: from a client's port, to what it asked for, answered by whom."""

    protocol: int
    client: tuple[str, int]
    asked: tuple[str, int]
    answers: tuple[str, int]


def _tuple(
    kind: int, protocol: int, source: tuple[str, int], destination: tuple[str, int]
) -> bytes:
    wide = ":" in source[0]
    family = socket.AF_INET6 if wide else socket.AF_INET
    first = 3 if wide else 1
    addresses = attribute(first, socket.inet_pton(family, source[0]))
    addresses += attribute(first + 1, socket.inet_pton(family, destination[0]))
    ports = attribute(1, bytes((protocol,)))
    ports += attribute(2, struct.pack(">H", source[1]))
    ports += attribute(3, struct.pack(">H", destination[1]))
    return nest(kind, nest(1, addresses) + nest(2, ports))


def make(flows: Iterable[Made], family: Family = Family.V4) -> None:
    """Put flows into the table of this network namespace; they stay for an hour."""
    number = socket.AF_INET if family is Family.V4 else socket.AF_INET6
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12) as endpoint:
        endpoint.settimeout(30)
        endpoint.setsockopt(socket.SOL_SOCKET, 33, 1 << 20)
        endpoint.setsockopt(270, 10, 1)
        waiting: list[bytes] = []
        for flow in flows:
            body = bytes((number, 0, 0, 0))
            body += _tuple(_TUPLE_ORIGINAL, flow.protocol, flow.client, flow.asked)
            body += _tuple(_TUPLE_REPLY, flow.protocol, flow.answers, flow.client)
            body += attribute(_STATUS, struct.pack(">I", _CONFIRMED_AND_ANSWERED))
            body += attribute(_TIMEOUT, struct.pack(">I", 3600))
            if flow.protocol == TCP:
                body += nest(_PROTOCOL_INFO, nest(1, attribute(1, bytes((3,)))))
            flags = _REQUEST | _ACK | _CREATE | _EXCLUSIVE
            head = _HEADER.pack(_HEADER.size + len(body), _SUBSYSTEM << 8, flags, 0, 0)
            waiting.append(head + body)
            if len(waiting) == _AT_ONCE:
                _send(endpoint, waiting)
        _send(endpoint, waiting)


def _send(endpoint: socket.socket, waiting: list[bytes]) -> None:
    if not waiting:
        return
    endpoint.send(b"".join(waiting))
    answers = 0
    while answers < len(waiting):
        data = endpoint.recv(1 << 18)
        offset = 0
        while offset < len(data):
            length = _HEADER.unpack_from(data, offset)[0]
            number = -struct.unpack_from("=i", data, offset + _HEADER.size)[0]
            if number:
                raise OSError(number, f"a flow cannot be made: {errno.errorcode[number]}")
            answers += 1
            offset += (length + 3) & ~3
    waiting.clear()


def count() -> int:
    """Return how many flows the table of this network namespace has."""
    path = f"/proc/{os.getpid()}/task/{_thread()}/net/stat/nf_conntrack"
    with open(path, encoding="ascii") as file:
        return int(file.read().splitlines()[1].split()[0], 16)


def _thread() -> int:
    import threading

    return threading.get_native_id()
