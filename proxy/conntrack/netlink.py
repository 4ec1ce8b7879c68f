"""The kernel's table of flows over netlink: read once, in pieces; stale flows removed one by one.

``include/uapi/linux/netfilter/nfnetlink_conntrack.h`` has the names, without their prefixes here.
The kernel itself leaves out other protocols and, where few addresses are asked for, other
addresses, so that a large table is not copied for a few flows.
"""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import time
from collections.abc import Iterator

from ..model.portal import Family
from .addresses import own_addresses
from .flows import Flow, Removed, Stale

_NETLINK_NETFILTER = 12
_SOL_NETLINK = 270
_CAP_ACK = 10
_SUBSYSTEM = 1
_GET = 1
_DELETE = 2
_REQUEST = 0x1
_ACK = 0x4
_DUMP = 0x300
_INTERRUPTED = 0x10
_ERROR = 2
_DONE = 3
_NESTED = 0x8000
_TYPE = 0x3FFF

_TUPLE_ORIGINAL = 1
_TUPLE_REPLY = 2
_ID = 12
_ZONE = 18
_FILTER = 25
_FILTER_ORIGINAL = 1
_TUPLE_IP = 1
_TUPLE_PROTOCOL = 2
_TUPLE_ZONE = 3
_PROTOCOL_NUMBER = 1
_PROTOCOL_SOURCE_PORT = 2
_PROTOCOL_DESTINATION_PORT = 3

# Bits of CTA_FILTER_ORIG_FLAGS (enum in net/netfilter/nf_internals.h).
_BY_DESTINATION = 1 << 1
_BY_PROTOCOL = 1 << 3
_BY_DESTINATION_PORT = 1 << 5

_IP_SOURCE = {Family.V4: 1, Family.V6: 3}
_IP_DESTINATION = {Family.V4: 2, Family.V6: 4}
_NUMBER = {Family.V4: socket.AF_INET, Family.V6: socket.AF_INET6}

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_GENERIC_SIZE = 4

_SIZE = 1 << 18
_BUFFER = 1 << 20
_RCVBUFFORCE = 33
_TIMEOUT_SECONDS = 30
_ATTEMPTS = 5
_FEW = 8
"""So many addresses are asked for one by one, each with a walk of the kernel over its table."""
_AT_ONCE = 64
"""Flows removed in one packet."""


def remove(found: Stale) -> Removed:
    """Remove the flows that are stale; a flow that ends by itself meanwhile is well removed.

    Raises:
        OSError: the kernel refused.
    """
    begun = time.monotonic()
    nodes = own_addresses(found.family) if found.node_ports else frozenset()
    counts = [0, 0]
    with contextlib.closing(_open()) as reading, contextlib.closing(_open()) as removing:
        for question in _questions(found):
            for attempt in range(_ATTEMPTS):
                if _once(found, nodes, question, reading, removing, counts):
                    break
                if attempt + 1 == _ATTEMPTS:
                    raise OSError(errno.EINTR, "flows change faster than they can be read")
    return Removed(counts[0], counts[1], time.monotonic() - begun)


def _once(
    found: Stale,
    nodes: frozenset[bytes],
    question: bytes,
    reading: socket.socket,
    removing: socket.socket,
    counts: list[int],
) -> bool:
    """Look through the table and remove what is stale; False if it is to be done again."""
    waiting: list[bytes] = []
    for flow in _dump(reading, found.family, question):
        if flow is None:
            _delete(removing, found.family, waiting, counts)
            return False
        counts[1] += 1
        if found.holds(flow, nodes):
            waiting.append(_handle(flow.attributes))
            if len(waiting) == _AT_ONCE:
                _delete(removing, found.family, waiting, counts)
    _delete(removing, found.family, waiting, counts)
    return True


def _open() -> socket.socket:
    made = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
    try:
        made.setsockopt(_SOL_NETLINK, _CAP_ACK, 1)
        with contextlib.suppress(PermissionError):
            made.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, _BUFFER)
        made.settimeout(_TIMEOUT_SECONDS)
        made.bind((0, 0))
    except BaseException:
        made.close()
        raise
    return made


def _questions(found: Stale) -> Iterator[bytes]:
    """Yield the filters of the dumps that together have all flows to look at."""
    if len(found.addresses) + len(found.node_ports) > _FEW:
        for protocol in sorted(found.protocols):
            yield _filter(found.family, protocol)
        return
    asked = [
        _filter(found.family, protocol, address, port)
        for protocol, address, port in found.addresses
    ]
    asked += [_filter(found.family, protocol, port=port) for protocol, port in found.node_ports]
    yield from dict.fromkeys(asked)


def _filter(family: Family, protocol: int, address: bytes = b"", port: bytes = b"") -> bytes:
    """Return attributes by which the kernel (5.8 and later; older ones send all) filters."""
    flags = _BY_PROTOCOL
    addresses = b""
    ports = _attribute(_PROTOCOL_NUMBER, bytes((protocol,)))
    # Of IPv6 the kernel (6.18 still) gives all addresses but the one asked for.
    if address and family is Family.V4:
        flags |= _BY_DESTINATION
        addresses = _attribute(_IP_DESTINATION[family], address)
    if port:
        flags |= _BY_DESTINATION_PORT
        ports += _attribute(_PROTOCOL_DESTINATION_PORT, port)
    wanted = _nest(_TUPLE_PROTOCOL, ports)
    if addresses:
        wanted = _nest(_TUPLE_IP, addresses) + wanted
    flagged = _attribute(_FILTER_ORIGINAL, struct.pack("=I", flags))
    return _nest(_TUPLE_ORIGINAL, wanted) + _nest(_FILTER, flagged)


def _dump(endpoint: socket.socket, family: Family, question: bytes) -> Iterator[Flow | None]:
    """Yield the flows of a question; None at last if the kernel may have missed some."""
    endpoint.send(_message(_GET, _REQUEST | _DUMP, family, question))
    interrupted = False
    while True:
        data = endpoint.recv(_SIZE)
        offset = 0
        while offset + _HEADER.size <= len(data):
            length, kind, flags, _, _ = _HEADER.unpack_from(data, offset)
            start, end = offset + _HEADER.size, offset + length
            offset += (length + 3) & ~3
            interrupted = interrupted or bool(flags & _INTERRUPTED)
            if kind in (_DONE, _ERROR):
                number = -int(struct.unpack_from("=i", data, start)[0])
                if number and number != errno.EINTR:
                    raise OSError(number, f"flows cannot be listed: {os.strerror(number)}")
                if interrupted or number:
                    yield None
                return
            flow = parse_flow(data[start + _GENERIC_SIZE : end], family)
            if flow is not None:
                yield flow


class _Layout:
    """How the kernel writes the two tuples of a flow; a cheap look instead of a careful one."""

    def __init__(self, family: Family) -> None:
        width = _IP_WIDTH[family]
        addresses = 2 * (4 + width)
        source = f"{width}s"
        one = f"12s{source}4s{source}4s4sB3x4s2s2x4s2s2x"
        self._struct = struct.Struct("=" + one + one)
        ports = _ATTRIBUTE.pack(28, _TUPLE_PROTOCOL | _NESTED)
        address = _ATTRIBUTE.pack(4 + width, _IP_SOURCE[family])
        within = _ATTRIBUTE.pack(4 + addresses, _TUPLE_IP | _NESTED) + address
        length = 4 + 4 + addresses + 28
        self._heads = tuple(
            _ATTRIBUTE.pack(length, kind | _NESTED) + within
            for kind in (_TUPLE_ORIGINAL, _TUPLE_REPLY)
        )
        self._middle = (
            _ATTRIBUTE.pack(4 + width, _IP_DESTINATION[family]),
            ports,
            _ATTRIBUTE.pack(5, _PROTOCOL_NUMBER),
            _ATTRIBUTE.pack(6, _PROTOCOL_SOURCE_PORT),
            _ATTRIBUTE.pack(6, _PROTOCOL_DESTINATION_PORT),
        )

    def read(self, data: bytes) -> Flow | None:
        """Return the flow; None if it is written in any other way."""
        if len(data) < self._struct.size:
            return None
        (
            head, _, to, asked, ports, number, protocol, source, _, destination, port,
            reply_head, answers, *_, reply_port, _, _,
        ) = self._struct.unpack_from(data)  # fmt: skip
        if (head, reply_head) != self._heads:
            return None
        if (to, ports, number, source, destination) != self._middle:
            return None
        return Flow(protocol, asked, port, answers, reply_port, data)


_IP_WIDTH = {Family.V4: 4, Family.V6: 16}
_LAYOUTS = {family: _Layout(family) for family in Family}


def parse_flow(data: bytes, family: Family) -> Flow | None:
    """Return the flow in a message's attributes; None for one without ports or of another kind."""
    return _LAYOUTS[family].read(data) or parse_carefully(data, family)


def parse_carefully(data: bytes, family: Family) -> Flow | None:
    """Return the flow, wherever its attributes are."""
    found = dict(_attributes(data))
    try:
        asked, answers = (
            dict(_attributes(found[kind])) for kind in (_TUPLE_ORIGINAL, _TUPLE_REPLY)
        )
        ports = dict(_attributes(asked[_TUPLE_PROTOCOL]))
        return Flow(
            ports[_PROTOCOL_NUMBER][0],
            dict(_attributes(asked[_TUPLE_IP]))[_IP_DESTINATION[family]],
            ports[_PROTOCOL_DESTINATION_PORT][:2],
            dict(_attributes(answers[_TUPLE_IP]))[_IP_SOURCE[family]],
            dict(_attributes(answers[_TUPLE_PROTOCOL]))[_PROTOCOL_SOURCE_PORT][:2],
            data,
        )
    except (KeyError, IndexError):
        return None


def _handle(data: bytes) -> bytes:
    """Return what names a flow, of its attributes: its tuple, and its number.

    By the number too, since another flow of the same client may have come in its place.
    """
    found = dict(_attributes(data))
    handle = _nest(_TUPLE_ORIGINAL, found[_TUPLE_ORIGINAL])
    for kind in (_ID, _ZONE):
        if kind in found:
            handle += _attribute(kind, found[kind])
    return handle


def _delete(
    endpoint: socket.socket, family: Family, handles: list[bytes], counts: list[int]
) -> None:
    """Remove flows; empties ``handles`` and counts those removed."""
    if not handles:
        return
    endpoint.send(b"".join(_message(_DELETE, _REQUEST | _ACK, family, each) for each in handles))
    answers = 0
    while answers < len(handles):
        data = endpoint.recv(_SIZE)
        offset = 0
        while offset + _HEADER.size <= len(data):
            length, kind, _, _, _ = _HEADER.unpack_from(data, offset)
            if kind == _ERROR:
                answers += 1
                number = -int(struct.unpack_from("=i", data, offset + _HEADER.size)[0])
                if not number:
                    counts[0] += 1
                elif number != errno.ENOENT:
                    raise OSError(number, f"a flow cannot be removed: {os.strerror(number)}")
            offset += (length + 3) & ~3
    handles.clear()


def _message(kind: int, flags: int, family: Family, body: bytes) -> bytes:
    length = _HEADER.size + _GENERIC_SIZE + len(body)
    generic = bytes((_NUMBER[family], 0, 0, 0))
    return _HEADER.pack(length, _SUBSYSTEM << 8 | kind, flags, 0, 0) + generic + body


def _attribute(kind: int, payload: bytes) -> bytes:
    length = len(payload) + 4
    return _ATTRIBUTE.pack(length, kind) + payload + bytes(-length & 3)


def _nest(kind: int, payload: bytes) -> bytes:
    return _ATTRIBUTE.pack(len(payload) + 4, kind | _NESTED) + payload


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    offset = 0
    end = len(data)
    while offset + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < 4:
            return
        yield kind & _TYPE, data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
