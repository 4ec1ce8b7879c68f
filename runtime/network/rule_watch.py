"""Hearing of rules that others take away (``iptables -F``, ``nft flush ruleset``), from the kernel.

The nft back end of iptables tells of every change (nfnetlink.h, NFNLGRP_NFTABLES). The legacy one
tells nobody: the sizes of its tables are looked at now and then, without a program. What a daemon
of ours writes is noticed, too, so what is heard is a reason to look, and no more.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from typing import Final

from kubeletpy_common import legacy_tables, logs, nftables
from runtime.network import rules

_LOGGER = logging.getLogger(__name__)
_SIZE: Final = 1 << 18
_AT_ONCE: Final = 32
_DELETED: Final = (nftables.DELETED_TABLE, nftables.DELETED_CHAIN, nftables.DELETED_RULE)
_TABLES: Final = ("filter", "nat")
_LOOK_SECONDS: Final = 10.0
"""Between looks at the legacy back end, one system call for each table."""


class RuleWatch:
    """Sets ``doubted`` when rules that name a chain were taken away, by anybody.

    Args:
        chain: its name.
    """

    def __init__(self, chain: str) -> None:
        # Names end with a NUL: other chains may begin like this one.
        self._needle = chain.encode() + b"\0"
        self._socket: socket.socket | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._seen: list[object] = []
        self._tried = False
        self.doubted = asyncio.Event()

    def begin(self) -> bool:
        """Listen from now on, in the network namespace of the caller; whether that began now."""
        if self._tried:
            return False
        self._tried = True
        if legacy_tables.are_written_by(rules.find("iptables-restore")):
            return self._look()
        try:
            listening = nftables.listening()
        except OSError as error:
            self._tell(error)
            return False
        listening.setblocking(False)
        self._socket = listening
        asyncio.get_running_loop().add_reader(listening, self._read)
        return True

    def close(self) -> None:
        """Hear nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket)
            self._socket.close()
            self._socket = None

    def _tell(self, error: OSError) -> None:
        logs.event(
            _LOGGER, logging.WARNING, "rules of pods that others take away are missing until the "
            "runtime starts again: changes cannot be heard of", reason=str(error),
        )  # fmt: skip

    def _look(self) -> bool:
        """Compare the legacy tables with what they were, now and ever after; whether they tell."""
        now: list[object] = []
        for version in (4, 6):
            try:
                now.append(legacy_tables.sizes(version, _TABLES))
            except OSError as error:
                # A machine may have one of them.
                refused = error
        if not now:
            self._tell(refused)
            return False
        if self._seen and now != self._seen:
            self.doubted.set()
        self._seen = now
        self._timer = asyncio.get_running_loop().call_later(_LOOK_SECONDS, self._look)
        return True

    def _read(self) -> None:
        assert self._socket is not None
        for _ in range(_AT_ONCE):
            try:
                data = self._socket.recv(_SIZE)
            except BlockingIOError:
                return
            except OSError as error:
                # ENOBUFS: more was changed than could be read.
                self.doubted.set()
                if error.errno != errno.ENOBUFS:
                    self._tell(error)
                    self.close()
                return
            # Whoever writes tens of thousands of rules is not looked into.
            if self._needle in data and takes_away(data, self._needle):
                self.doubted.set()


def takes_away(data: bytes, needle: bytes) -> bool:
    """Whether messages of nftables delete what has ``needle`` in its name or rule (pure)."""
    return any(kind in _DELETED and needle in body for kind, _, body in nftables.messages(data))
