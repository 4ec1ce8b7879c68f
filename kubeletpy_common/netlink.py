"""The one module that speaks rtnetlink by pyroute2: several requests go out in one message, typed.

pyroute2 encodes requests and decodes replies; the socket is ours, since pyroute2's own ways into
another network namespace start a process each, and its asyncio classes cost more time per pod
than the kernel's work. A socket belongs for life to the namespace that its maker was in.

Everything here blocks, if only shortly: the kernel works on a request inside sendmsg(2), holding
or awaiting the lock of all network devices. So it is called in worker threads. A
:class:`Netlink` is one thread's; making one costs a few microseconds.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from kubeletpy_common.lean import without_init

with without_init("pyroute2"):
    from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
    from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
    from pyroute2.netlink.rtnl.marshal import MarshalRtnl
    from pyroute2.netlink.rtnl.rtmsg import rtmsg

# linux/netlink.h
NLM_F_REQUEST: Final = 0x1
NLM_F_MULTI: Final = 0x2
NLM_F_ACK: Final = 0x4
NLM_F_DUMP_INTR: Final = 0x10
NLM_F_DUMP: Final = 0x300
NLM_F_REPLACE: Final = 0x100
NLM_F_EXCL: Final = 0x200
NLM_F_CREATE: Final = 0x400
NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3

# linux/rtnetlink.h
RTM_NEWLINK: Final = 16
RTM_DELLINK: Final = 17
RTM_GETLINK: Final = 18
RTM_NEWADDR: Final = 20
RTM_DELADDR: Final = 21
RTM_GETADDR: Final = 22
RTM_NEWROUTE: Final = 24
RTM_DELROUTE: Final = 25
RTM_GETROUTE: Final = 26
RTM_NEWNEIGH: Final = 28
RTM_DELNEIGH: Final = 29
RTM_GETNEIGH: Final = 30

CHANGE: Final = NLM_F_REQUEST | NLM_F_ACK
CREATE: Final = CHANGE | NLM_F_CREATE | NLM_F_EXCL
# A get without NLM_F_ACK: its answer is the end of it.
GET: Final = NLM_F_REQUEST
DUMP: Final = NLM_F_REQUEST | NLM_F_DUMP

_DEADLINE_SECONDS = 10.0
_BUFFER_BYTES = 1 << 16  # the kernel's largest part of a dump has 32 KiB
_DUMP_ATTEMPTS = 10
_HEADER: Final = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence, port
_SEQUENCE_OFFSET = 8
_IFINFOMSG_INDEX = 4
_SOL_NETLINK: Final = 270
_NETLINK_EXT_ACK: Final = 11
_MESSAGES: Final = {
    RTM_NEWLINK: ifinfmsg,
    RTM_DELLINK: ifinfmsg,
    RTM_GETLINK: ifinfmsg,
    RTM_NEWADDR: ifaddrmsg,
    RTM_DELADDR: ifaddrmsg,
    RTM_GETADDR: ifaddrmsg,
    RTM_NEWROUTE: rtmsg,
    RTM_GETROUTE: rtmsg,
}

Attributes = Sequence[tuple[str, Any]]


@dataclass(frozen=True)
class Request:
    """One request to the kernel.

    Attributes:
        purpose: what it is for, for the error text, as in "making bridge kubeletpy0".
        type: RTM_*.
        flags: NLM_F_*.
        header: fields of the fixed part (struct ifinfomsg, ifaddrmsg, rtmsg) that are not 0.
        attributes: names and values as pyroute2 encodes them.
        tolerated: errno numbers that mean the work was done already.
        ready: the whole request as it is sent, if the caller has it; header and attributes are
            not looked at then.
    """

    purpose: str
    type: int
    flags: int
    header: Mapping[str, int] = field(default_factory=dict)
    attributes: Attributes = ()
    tolerated: Collection[int] = ()
    ready: bytes | None = None

    @cached_property
    def encoded(self) -> bytes:
        """The request as it is sent, with sequence number 0."""
        if self.ready is not None:
            return self.ready
        message = _MESSAGES[self.type]()
        for name, value in self.header.items():
            message[name] = value
        message["attrs"] = list(self.attributes)
        message["header"]["type"] = self.type
        message["header"]["flags"] = self.flags
        message["header"]["sequence_number"] = 0
        message["header"]["pid"] = 0
        message.encode()
        return bytes(message.data)


def nested(*attributes: tuple[str, Any]) -> dict[str, Any]:
    """Return the value of an attribute that holds other ``attributes``."""
    return {"attrs": list(attributes)}


class Reply:
    """One message of the kernel; pyroute2 decodes it when it is asked for more than its index."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    @property
    def data(self) -> bytes:
        """The message as it came, for who reads many of one kind."""
        return self._data

    @cached_property
    def _message(self) -> Any:
        return next(MarshalRtnl().parse(self._data))

    @property
    def interrupted(self) -> bool:
        """Whether it is of a dump during which something changed."""
        flags: int = _HEADER.unpack_from(self._data)[2]
        return bool(flags & NLM_F_DUMP_INTR)

    @property
    def link_index(self) -> int:
        """The link's index (struct ifinfomsg), without the hundred other facts about it."""
        [index] = struct.unpack_from("=i", self._data, _HEADER.size + _IFINFOMSG_INDEX)
        return int(index)

    def header(self, name: str) -> int:
        """Return a field of the fixed part."""
        return int(self._message[name])

    def number(self, *path: str) -> int | None:
        """Return the integer attribute at ``path``, or None if it is not there."""
        value = self._message.get_nested(*path)
        return None if value is None else int(value)

    def fields(self, *path: str) -> dict[str, int]:
        """Return the numbers of the structure at ``path``, by name; none if it is not there."""
        value = self._message.get_nested(*path)
        return {} if value is None else {str(name): int(value[name]) for name in value}

    def text(self, *path: str) -> str | None:
        """Return the textual attribute at ``path``, or None if it is not there."""
        value = self._message.get_nested(*path)
        return None if value is None else str(value)


def open_socket() -> socket.socket:
    """Open a route netlink socket in the network namespace of the calling thread.

    Raises:
        OSError: the kernel refused.
    """
    opened = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
    )
    opened.settimeout(_DEADLINE_SECONDS)
    # Errors then come with the kernel's own words for what is wrong, where it has some.
    opened.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
    return opened


class Netlink:
    """A conversation with the network namespace of ``sock``, which is closed with it.

    Args:
        sock: from :func:`open_socket`; by default a new one, in the calling thread's namespace.
    """

    def __init__(self, sock: socket.socket | None = None) -> None:
        self._socket = sock or open_socket()
        self._sequence = 0

    def __enter__(self) -> Netlink:
        return self

    def __exit__(self, *error: object) -> None:
        self._socket.close()

    def exchange(self, *requests: Request) -> list[list[Reply]]:
        """Send all ``requests`` in one message; return the replies to each.

        The kernel works on them in order, and goes on after one that failed.

        Raises:
            OSError: the first request that failed, by its purpose; or the socket did.
        """
        first = self._sequence + 1
        self._sequence += len(requests)
        data = bytearray()
        for number, request in enumerate(requests, first):
            start = len(data)
            data += request.encoded
            struct.pack_into("=I", data, start + _SEQUENCE_OFFSET, number)
        exchanged = _Exchange(requests, first)
        try:
            self._socket.send(data)
            while exchanged.pending:
                exchanged.receive(self._socket.recv(_BUFFER_BYTES))
        except TimeoutError:
            raise TimeoutError(
                errno.ETIMEDOUT,
                f"{requests[0].purpose}: the kernel has not answered for {_DEADLINE_SECONDS:g} s",
            ) from None
        except OSError as error:
            raise OSError(
                error.errno, f"{requests[0].purpose}: talking to the kernel: {error.strerror}"
            ) from error
        if exchanged.failure is not None:
            raise exchanged.failure
        return exchanged.replies

    def dump(self, request: Request) -> list[Reply]:
        """Return all there is of the kind that ``request`` (with the flags DUMP) asks for.

        What changes during a dump may be missing from it, of which the kernel tells; then it is
        done again.

        Raises:
            OSError: as for :meth:`exchange`.
        """
        for _ in range(_DUMP_ATTEMPTS):
            [replies] = self.exchange(request)
            if not any(reply.interrupted for reply in replies):
                return replies
        raise OSError(
            errno.EINTR, f"{request.purpose}: changed during each of {_DUMP_ATTEMPTS} attempts"
        )


class _Exchange:
    """What has been answered of ``requests``, whose sequence numbers begin at ``first``."""

    def __init__(self, requests: Sequence[Request], first: int) -> None:
        self._requests = requests
        self._first = first
        self.pending = set(range(first, first + len(requests)))
        self.replies: list[list[Reply]] = [[] for _ in requests]
        self.failure: OSError | None = None

    def receive(self, data: bytes) -> None:
        """Take in one datagram, which holds one message or more."""
        offset = 0
        while offset + _HEADER.size <= len(data):
            length, kind, flags, number, _ = _HEADER.unpack_from(data, offset)
            message = data[offset : offset + length]
            offset += max(_HEADER.size, (length + 3) & ~3)
            if number not in self.pending:
                continue
            position = number - self._first
            if kind in (NLMSG_ERROR, NLMSG_DONE):
                self._judge(self._requests[position], message)
            else:
                self.replies[position].append(Reply(message))
            if kind in (NLMSG_ERROR, NLMSG_DONE) or not flags & NLM_F_MULTI:
                self.pending.discard(number)

    def _judge(self, request: Request, message: bytes) -> None:
        """Note the failure that an acknowledgement or the end of a dump tells of, if any."""
        # Both have the result, 0 or -errno, after the header.
        [result] = struct.unpack_from("=i", message, _HEADER.size)
        number = -int(result)
        if number <= 0 or number in request.tolerated or self.failure is not None:
            return
        reason = os.strerror(number)
        text = _kernels_words(message)
        # OSError makes the subclass that its number asks for.
        self.failure = OSError(
            number, f"{request.purpose}: {reason}" + (f" ({text})" if text else "")
        )


def _kernels_words(message: bytes) -> str:
    """Return what the kernel says about an error besides its number; often nothing."""
    for decoded in MarshalRtnl().parse(message):
        text = decoded.get_attr("NLMSGERR_ATTR_MSG")
        if text:
            return str(text)
    return ""
