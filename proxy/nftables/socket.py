"""A netlink socket that speaks with nf_tables: transactions, dumps, generation ids."""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator, Sequence

from kubeletpy_common.nftables import enlarge

from .wire import (
    BATCH_BEGIN,
    BATCH_END,
    HEADER,
    SUBSYSTEM,
    Flags,
    Kind,
    Message,
    Received,
    attributes,
    generic,
    messages,
)

_NETLINK_NETFILTER = 12
_SOL_NETLINK = 270
_CAP_ACK = 10
_EXT_ACK = 11
_NLMSG_ERROR = 2
_NLMSG_DONE = 3

_BUFFER = 8 << 20
_ANSWER_SIZE = 1 << 18
_HEADROOM = 4096
_ATTEMPTS = 5
_TIMEOUT_SECONDS = 30

_ERROR_TEXT = 1
_ERROR_OFFSET = 2


class Refused(Exception):
    """The kernel refused a transaction; nothing of it is in force.

    Attributes:
        number: the errno.
    """

    def __init__(self, number: int, text: str) -> None:
        super().__init__(text)
        self.number = number


class RuleSocket:
    """Transactions and questions to nf_tables, in the network namespace in which it was made."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_NETFILTER)
        try:
            for option in (_CAP_ACK, _EXT_ACK):
                self._socket.setsockopt(_SOL_NETLINK, option, 1)
            enlarge(self._socket, _BUFFER)
            # Not settimeout(): that would wait for answers that are optional, too.
            self._socket.setsockopt(
                socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("@ll", _TIMEOUT_SECONDS, 0)
            )
            self._socket.bind((0, 0))
        except BaseException:
            self._socket.close()
            raise
        self._sequence = 0

    @property
    def port(self) -> int:
        """The port id under which changes of this socket are announced."""
        return int(self._socket.getsockname()[0])

    @property
    def largest(self) -> int:
        """Most bytes that a transaction may have: it must fit into one packet."""
        return self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) - _HEADROOM

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def commit(self, changes: Sequence[Message]) -> None:
        """Carry out ``changes``, all or none.

        Raises:
            Refused: the kernel refused one of them; the text names it.
            OSError: the messages did not get to the kernel.
        """
        if not changes:
            return
        first = self._sequence + 1
        last = first + len(changes) - 1
        self._sequence = last + 1
        parts = [_batch(BATCH_BEGIN, first - 1)]
        parts.extend(change.encode(first + place) for place, change in enumerate(changes[:-1]))
        parts.append(changes[-1].encode(last, Flags.ACK))
        parts.append(_batch(BATCH_END, last + 1))
        packet = b"".join(parts)
        if len(packet) > self.largest:
            raise OSError(errno.EMSGSIZE, f"a transaction of {len(packet)} bytes is too large")
        self._send(packet)
        self._read_verdicts(changes, first)

    def _send(self, packet: bytes) -> None:
        for attempt in range(_ATTEMPTS):
            try:
                self._socket.sendto(packet, (0, 0))
            except OSError as error:
                if error.errno != errno.ENOBUFS or attempt + 1 == _ATTEMPTS:
                    raise
            else:
                return

    def _read_verdicts(self, changes: Sequence[Message], first: int) -> None:
        """Read the answers: the kernel has put all of them there before the send returned."""
        refusals: list[Refused] = []
        acknowledged = False
        last = first + len(changes) - 1
        while True:
            try:
                data = self._socket.recv(_ANSWER_SIZE, socket.MSG_DONTWAIT)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                refusals.append(Refused(errno.ENOBUFS, "more errors than could be read"))
                continue
            for each in messages(data):
                if each.kind != _NLMSG_ERROR or each.sequence < first - 1:
                    continue
                refusal = _refusal(each, changes, first)
                if refusal is not None:
                    refusals.append(refusal)
                elif each.sequence == last:
                    acknowledged = True
        if refusals:
            raise refusals[0]
        if not acknowledged:
            raise Refused(errno.EPROTO, "the kernel did not acknowledge the transaction")

    def dump(self, kind: Kind, family: int, *parts: bytes) -> Iterator[dict[int, bytes]]:
        """Yield the attributes of each object of a kind (GET_*), as the kernel has them.

        Raises:
            OSError: the kernel refused; EINTR: the rules changed again and again meanwhile.
        """
        for _ in range(_ATTEMPTS):
            found = self._dump(kind, family, parts)
            if found is not None:
                yield from found
                return
        raise OSError(errno.EINTR, "the rules change faster than they can be read")

    def _dump(
        self, kind: Kind, family: int, parts: tuple[bytes, ...]
    ) -> list[dict[int, bytes]] | None:
        self._ask(kind, generic(family) + b"".join(parts), Flags.DUMP)
        found: list[dict[int, bytes]] = []
        interrupted = False
        while True:
            for each in messages(self._receive()):
                if each.sequence != self._sequence:
                    continue
                interrupted = interrupted or bool(each.flags & Flags.DUMP_INTERRUPTED)
                if each.kind in (_NLMSG_DONE, _NLMSG_ERROR):
                    number = -int(struct.unpack_from("=i", each.payload)[0])
                    if number == errno.EINTR:
                        interrupted = True
                    elif number:
                        raise OSError(number, os.strerror(number))
                    return None if interrupted else found
                found.append(each.attributes)

    def get(self, kind: Kind, family: int, *parts: bytes) -> dict[int, bytes] | None:
        """Return the attributes of one object, None if there is none such.

        Raises:
            OSError: the kernel refused.
        """
        self._ask(kind, generic(family) + b"".join(parts), Flags(0))
        while True:
            for each in messages(self._receive()):
                if each.sequence != self._sequence:
                    continue
                if each.kind != _NLMSG_ERROR:
                    return each.attributes
                number = -int(struct.unpack_from("=i", each.payload)[0])
                if number == errno.ENOENT:
                    return None
                raise OSError(number, os.strerror(number))

    def generation(self) -> int:
        """Return the number that grows by one with each transaction of anybody."""
        found = self.get(Kind.GET_GENERATION, 0)
        return int.from_bytes(found[1], "big") if found else 0

    def _receive(self) -> bytes:
        try:
            return self._socket.recv(_ANSWER_SIZE)
        except BlockingIOError:
            raise TimeoutError(
                errno.ETIMEDOUT, f"the kernel did not answer in {_TIMEOUT_SECONDS} s"
            ) from None

    def _ask(self, kind: Kind, body: bytes, flags: Flags) -> None:
        self._sequence += 1
        header = HEADER.pack(
            HEADER.size + len(body),
            SUBSYSTEM << 8 | kind,
            Flags.REQUEST | flags,
            self._sequence,
            0,
        )
        self._socket.sendto(header + body, (0, 0))


def _batch(kind: int, sequence: int) -> bytes:
    body = generic(0, SUBSYSTEM)
    return HEADER.pack(HEADER.size + len(body), kind, Flags.REQUEST, sequence, 0) + body


def _refusal(answer: Received, changes: Sequence[Message], first: int) -> Refused | None:
    """Return what an answer says is wrong; None for an acknowledgement."""
    number = -int(struct.unpack_from("=i", answer.payload)[0])
    if not number:
        return None
    reason = os.strerror(number)
    offset = None
    # A capped answer repeats the header of the request alone, then come the extended attributes.
    for kind, payload in attributes(answer.payload, 4 + HEADER.size):
        if kind == _ERROR_TEXT:
            reason += f" ({payload.rstrip(bytes(1)).decode('utf-8', 'replace')})"
        elif kind == _ERROR_OFFSET:
            offset = int(struct.unpack("=I", payload)[0])
    place = answer.sequence - first
    if not 0 <= place < len(changes):
        return Refused(number, f"the kernel refused the transaction as a whole: {reason}")
    change = changes[place]
    where = change.describe(offset)
    return Refused(number, f"the kernel refused to {where}: {reason}")
