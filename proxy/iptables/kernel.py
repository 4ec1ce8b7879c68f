"""What the kernel tells of iptables-nft's tables without a program: whether and what changed.

By the generation of the rule set, and the multicast group of changes
(linux/netfilter/nf_tables.h, nfnetlink.h).
"""

from __future__ import annotations

import errno
import logging
import os
import select
import socket
import struct
import threading
from collections.abc import Callable
from typing import Final

from kubeletpy_common import logs, nftables

from ..model.portal import Family
from . import names

_log = logging.getLogger(__name__)

_HEADER: Final = struct.Struct("=IHHII")
"""nlmsghdr: length, type, flags, sequence number, port id."""
_ATTRIBUTE: Final = struct.Struct("=HH")
_DELETED: Final = (nftables.DELETED_TABLE, nftables.DELETED_CHAIN, nftables.DELETED_RULE)
_TABLE_OF: Final = 1
_CHAIN_OF_RULE, _CHAIN_NAME, _GENERATION_ID = 2, 3, 1
_NLM_F_REQUEST: Final = 1

_OUR_TABLES: Final = frozenset(names.FIXED)

_SHARED: Final = frozenset({names.KUBELET_FIREWALL, names.MARK_MASQUERADE})
"""Chains into which kubelets write, too."""


def generation() -> int:
    """Return the number of the nftables rule set, which every transaction of anybody raises.

    Raises:
        OSError: the kernel refused.
    """
    with nftables.connected() as sock:
        sock.settimeout(5)
        request = struct.pack("=BBH", socket.AF_UNSPEC, 0, 0)
        kind = (nftables.SUBSYSTEM << 8) | nftables.GET_GENERATION
        length = _HEADER.size + len(request)
        sock.send(_HEADER.pack(length, kind, _NLM_F_REQUEST, 1, 0) + request)
        for kind, _, body in nftables.messages(sock.recv(8192)):
            if kind == nftables.NEW_GENERATION:
                return int.from_bytes(_attributes(body).get(_GENERATION_ID, b""), "big")
    raise OSError(errno.EPROTO, "the kernel did not tell the generation of the nftables rule set")


class Watch:
    """Tells when others change our chains, or the jumps into them, in the nft back end.

    Args:
        family: whose tables.
        ours: whether a netlink port (a pid, of the kernel's choice) made a change for us.
        doubt: called with the reason, in a thread of the watch.
        lost: called, in that thread, when the kernel had more to tell than could be read.
        judge: what a message of others means for us, as `harm` says it.
        needle: what every message has in it that can be one for ``judge``; others are not looked
            into, however many there are (tens of thousands, when a proxy writes all its rules).
    """

    def __init__(
        self,
        family: Family,
        ours: Callable[[int], bool],
        doubt: Callable[[str], None],
        lost: Callable[[], None],
        judge: Callable[[int, bytes], str] | None = None,
        needle: bytes = b"",
    ) -> None:
        self._judge = judge or harm
        self._needle = needle
        self._family = bytes([socket.AF_INET if family is Family.V4 else socket.AF_INET6])
        self._harm = ""
        self._ours = ours
        self._doubt = doubt
        self._lost = lost
        self._socket = nftables.listening()
        try:
            self._end, self._ended = os.pipe2(os.O_CLOEXEC)
        except OSError:
            self._socket.close()
            raise
        self._thread = threading.Thread(
            target=self._run, name=f"nftables-watch-{int(family)}", daemon=True
        )
        self._thread.start()

    def listen(self) -> None:
        """Be told of changes, as at the start."""
        nftables.join(self._socket)

    def pause(self) -> None:
        """Be told of nothing: the kernel need not say each of 50,000 rules that we write."""
        nftables.leave(self._socket)

    def stop(self) -> None:
        """End the watch and its thread."""
        os.close(self._ended)
        if threading.current_thread() is not self._thread:
            self._thread.join()
        os.close(self._end)
        self._socket.close()

    def _run(self) -> None:
        while True:
            ready, _, _ = select.select([self._socket.fileno(), self._end], [], [])
            if self._end in ready:
                return
            try:
                data = self._socket.recv(1 << 20)
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    logs.event(
                        _log, logging.ERROR, "changes of nftables by others are no longer watched",
                        reason=str(error),
                    )  # fmt: skip
                    return
                self._harm = ""
                self._lost()
                continue
            # What harms is told once the end of its transaction comes.
            if self._harm or self._needle in data:
                self._read(data)

    def _read(self, data: bytes) -> None:
        """Tell of each transaction of others that harms us, once, when it is over."""
        for kind, port, body in nftables.messages(data):
            if kind == nftables.NEW_GENERATION:
                reason, self._harm = self._harm, ""
                if reason:
                    self._doubt(reason)
            elif not self._harm and body[:1] == self._family and not self._ours(port):
                reason = self._judge(kind, body)
                self._harm = f"{reason} by process {port}" if reason else ""


def harm(kind: int, body: bytes) -> str:
    """Return what a message of nftables means for us, in words; "" if it is none of our business.

    Args:
        kind: the type of the message, without the subsystem.
        body: what follows the netlink header.
    """
    if kind != nftables.NEW_RULE and kind not in _DELETED:
        return ""
    attributes = _attributes(body)
    table = _text(attributes.get(_TABLE_OF, b""))
    if table not in _OUR_TABLES:
        return ""
    if kind == nftables.DELETED_TABLE:
        return f"table {table} was deleted"
    if kind == nftables.DELETED_CHAIN:
        chain = _text(attributes.get(_CHAIN_NAME, b""))
        return f"chain {chain} was deleted" if names.is_ours(table, chain) else ""
    chain = _text(attributes.get(_CHAIN_OF_RULE, b""))
    done = "added to" if kind == nftables.NEW_RULE else "deleted from"
    told = f"a rule of table {table} was {done} chain {chain}"
    if names.is_ours(table, chain) and chain not in _SHARED:
        return told
    # Of chains that are not ours only the loss of a jump into ours counts; in the rule the target
    # stands as text.
    is_jump = any(chain.encode() + b"\0" in body for chain in names.FIXED[table])
    if kind == nftables.DELETED_RULE and (is_jump or chain in _SHARED):
        return told
    return ""


def loss(kind: int, body: bytes, table: str, chain: str) -> str:
    """Return how a message of nftables takes away a chain, rules of it or the way into it, or "".

    Args:
        kind, body: as of `harm`.
        table, chain: what is looked after; nothing else in the table is.
    """
    if kind not in _DELETED:
        return ""
    attributes = _attributes(body)
    if _text(attributes.get(_TABLE_OF, b"")) != table:
        return ""
    if kind == nftables.DELETED_TABLE:
        return f"table {table} was deleted"
    if kind == nftables.DELETED_CHAIN:
        return (
            f"chain {chain} was deleted" if _text(attributes.get(_CHAIN_NAME, b"")) == chain else ""
        )
    where = _text(attributes.get(_CHAIN_OF_RULE, b""))
    # In a rule the target stands as text.
    if where == chain or chain.encode() + b"\0" in body:
        return f"a rule of table {table} was deleted from chain {where}"
    return ""


def _attributes(body: bytes) -> dict[int, bytes]:
    """Return the attributes of a message that follow its ``nfgenmsg``."""
    found: dict[int, bytes] = {}
    at = 4
    while at + _ATTRIBUTE.size <= len(body):
        length, kind = _ATTRIBUTE.unpack_from(body, at)
        if length < _ATTRIBUTE.size:
            break
        found[kind & 0x3FFF] = body[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3
    return found


def _text(value: bytes) -> str:
    return value.split(b"\0", 1)[0].decode(errors="replace")
