"""Listening to what others do to our tables."""

from __future__ import annotations

import errno
import os
import select
import threading
from collections.abc import Callable, Collection

from kubeletpy_common import nftables

from .layout import TABLES
from .wire import SUBSYSTEM, Kind, messages, text_of

_SIZE = 1 << 18
_JOIN_SECONDS = 5


class Watch:
    """A thread that calls ``doubt`` when somebody but ``port`` changes our tables of a family.

    Where so much was changed, by anybody, that not all could be heard, it calls ``lost``, or
    ``doubt`` if there is no such.

    Raises:
        OSError: the kernel does not announce changes here.
    """

    def __init__(
        self,
        family: int,
        port: int,
        doubt: Callable[[str], None],
        tables: Collection[str] = TABLES,
        lost: Callable[[], None] | None = None,
    ) -> None:
        self._family = family
        self._lost = lost
        self._tables = tables
        self._port = port
        self._doubt = doubt
        self._socket = nftables.listening()
        self._socket.setblocking(False)
        self._end = -1
        try:
            self._end = os.eventfd(0, os.EFD_CLOEXEC)
        except BaseException:
            self._socket.close()
            raise
        self._thread = threading.Thread(target=self._run, name="watch-rules", daemon=True)
        self._thread.start()

    def pause(self) -> None:
        """Hear nothing until `resume`: the kernel then makes no announcements for this socket."""
        nftables.leave(self._socket)

    def resume(self) -> None:
        """Hear again."""
        nftables.join(self._socket)

    def close(self) -> None:
        """End the thread, unless it is the caller."""
        if self._end < 0:
            return
        os.eventfd_write(self._end, 1)
        if threading.current_thread() is not self._thread:
            self._thread.join(_JOIN_SECONDS)
        self._socket.close()
        os.close(self._end)
        self._end = -1

    def _run(self) -> None:
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        poll.register(self._end, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll()}
            if self._end in ready:
                return
            self._read()

    def _read(self) -> None:
        try:
            data = self._socket.recv(_SIZE)
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno == errno.ENOBUFS and self._lost is not None:
                self._lost()
            elif error.errno == errno.ENOBUFS:
                self._doubt("so many rules changed that not all changes were seen")
            return
        reason = foreign_change(data, self._family, self._port, self._tables)
        if reason:
            self._doubt(reason)


def foreign_change(data: bytes, family: int, port: int, tables: Collection[str] = TABLES) -> str:
    """Return how others changed our tables; "" if they did not.

    Args:
        data: what the kernel announced.
        family: of the tables.
        port: whose changes are our own.
        tables: the names of ours.
    """
    for each in messages(data):
        if each.kind >> 8 != SUBSYSTEM or each.port == port or len(each.payload) < 4:
            continue
        kind = each.kind & 0xFF
        if each.payload[0] != family or kind >= Kind.NEW_GENERATION:
            continue
        # The first attribute of every object is the name of its table.
        table = text_of(each.attributes.get(1, b""))
        if table in tables:
            try:
                what = Kind(kind).name.lower().replace("_", " ")
            except ValueError:
                what = f"message {kind}"
            return f"another program changed table {table}: {what}"
    return ""
