"""Questions about names that are not of the cluster: others are asked.

Each question has a socket of its own, so that the kernel chooses another port each time, and an id
that cannot be guessed (RFC 5452). The same question is asked once, however many want to know it;
so a question that comes back to us, because those whom we ask ask us, ends there.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import secrets
import socket
import struct
import time
from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from kubeletpy_common import logs

from . import wire
from .cache import Cache, Foreign, read

_log = logging.getLogger(__name__)

RESOLV_CONF: Final = Path("/etc/resolv.conf")
TRY_SECONDS: Final = 2.0
TOTAL_SECONDS: Final = 5.0
MAX_ASKED: Final = 1000
"""Questions that are under way at once; more are refused."""
_REST_SECONDS: Final = 5.0
"""For which one that did not answer is asked only if no other one is there."""
_NAMESERVER: Final = re.compile(r"^\s*nameserver\s+(\S+)", re.MULTILINE)


class ForwardError(Exception):
    """Nobody answered."""


class TooManyError(ForwardError):
    """Too many questions are under way."""


@dataclass(slots=True)
class Upstream:
    """One who is asked.

    Attributes:
        address: IP address.
        port: of it.
        asked, failed: how often.
        seconds: that all answers took together.
    """

    address: str
    port: int = 53
    asked: int = 0
    failed: int = 0
    seconds: float = 0.0
    _rests_until: float = field(default=0.0, repr=False)

    @property
    def rests(self) -> bool:
        """Whether it did not answer a short time ago."""
        return time.monotonic() < self._rests_until

    def note(self, seconds: float | None) -> None:
        """Take note of an answer; None: there was none."""
        self.asked += 1
        if seconds is None:
            self.failed += 1
            self._rests_until = time.monotonic() + _REST_SECONDS
        else:
            self.seconds += seconds
            self._rests_until = 0.0

    def __str__(self) -> str:
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{host}:{self.port}"


def parse_upstream(text: str) -> Upstream:
    """Return who is meant by ``1.2.3.4``, ``1.2.3.4:53`` or ``[fd00::1]:53``.

    Raises:
        ValueError: nobody.
    """
    host, port = text, "53"
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":") or "53"
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    try:
        ip_address(host.partition("%")[0])
        number = int(port)
    except ValueError:
        raise ValueError(f"{text!r} is no IP address, with or without a port") from None
    if not 0 < number < 65536:
        raise ValueError(f"{text!r}: {number} is no port")
    return Upstream(host, number)


def nameservers(text: str) -> list[str]:
    """Return the name servers of a resolv.conf (pure)."""
    found: list[str] = []
    for one in _NAMESERVER.findall(text):
        with contextlib.suppress(ValueError):
            ip_address(one.partition("%")[0])
            found.append(one)
    return list(dict.fromkeys(found))


class Upstreams:
    """Those who are asked: given ones, or those of a resolv.conf, which is read when it changes.

    Args:
        given: whom to ask; empty: those of the file.
        path: of the file.
        own: (address, port) on which we listen: we do not ask ourselves.
    """

    def __init__(
        self, given: Sequence[Upstream], path: Path = RESOLV_CONF,
        own: AbstractSet[tuple[str, int]] = frozenset(),
    ) -> None:  # fmt: skip
        self._given = list(given)
        self._path = path
        self._own = own
        self._stamp: tuple[int, int] | None = None
        self._read: list[Upstream] = []

    def all(self) -> list[Upstream]:
        """Return all of them."""
        if not self._given:
            self._look()
        found = self._given or self._read
        return [one for one in found if (one.address, one.port) not in self._own]

    def ordered(self) -> list[Upstream]:
        """Return them in the order in which to ask."""
        return sorted(self.all(), key=lambda one: one.rests)

    def _look(self) -> None:
        try:
            status = os.stat(self._path)
            stamp = (status.st_mtime_ns, status.st_ino)
            if stamp == self._stamp:
                return
            text = self._path.read_text(errors="replace")
        except OSError as error:
            stamp, text = (0, 0), ""
            if stamp != self._stamp:
                logs.event(_log, logging.WARNING, "names outside of the cluster are not known",
                           file=str(self._path), reason=str(error))  # fmt: skip
        if stamp == self._stamp:
            return
        self._stamp = stamp
        known = {one.address: one for one in self._read}
        self._read = [known.get(one) or Upstream(one) for one in nameservers(text)]
        logs.event(_log, logging.INFO, "other names are asked of", servers=str(
            [str(one) for one in self.all()]), file=str(self._path))  # fmt: skip


class Forwarder:
    """Asks others, and remembers what they said.

    Args:
        upstreams: whom.
        cache: of what they said.
        longest, longest_negative: seconds for which it is remembered at most.
    """

    def __init__(
        self, upstreams: Upstreams, cache: Cache, longest: int = 30, longest_negative: int = 30
    ) -> None:
        self.upstreams = upstreams
        self.cache = cache
        self.rejected = 0
        self._longest = (longest, longest_negative)
        self._asking: dict[bytes, asyncio.Task[Foreign]] = {}

    def known(self, query: wire.Query) -> tuple[Foreign, int] | None:
        """Return what was said before and is good still, and how old it is."""
        return self.cache.get(_key(query), time.monotonic())

    async def ask(self, query: wire.Query, *, tcp: bool) -> Foreign:
        """Return what others say.

        Args:
            query: of a client.
            tcp: whether it came by TCP: then others are asked so, too, where an answer is cut.

        Raises:
            ForwardError: nobody said anything.
        """
        key = _key(query) + (b"t" if tcp else b"u")
        task = self._asking.get(key)
        if task is None:
            if len(self._asking) >= MAX_ASKED:
                self.rejected += 1
                raise TooManyError(f"{MAX_ASKED} questions are under way")
            task = asyncio.create_task(self._ask(query, tcp=tcp))
            self._asking[key] = task
            task.add_done_callback(lambda _: self._asking.pop(key, None))
        # Who waits may go away; the question goes on for the others.
        return await asyncio.shield(task)

    async def _ask(self, query: wire.Query, *, tcp: bool) -> Foreign:
        failures: list[str] = []
        try:
            async with asyncio.timeout(TOTAL_SECONDS):
                for upstream in self.upstreams.ordered():
                    begun = time.monotonic()
                    try:
                        foreign = await self._ask_one(upstream, query, tcp=tcp)
                    except (OSError, ValueError, TimeoutError) as error:
                        upstream.note(None)
                        failures.append(f"{upstream}: {error or type(error).__name__}")
                        continue
                    upstream.note(time.monotonic() - begun)
                    self.cache.put(_key(query), foreign, time.monotonic())
                    return foreign
        except TimeoutError:
            failures.append(f"{TOTAL_SECONDS:g} s are over")
        reason = "; ".join(failures) or "there is nobody to ask"
        logs.event(_log, logging.DEBUG, "nobody answers a question",
                   name=".".join(wire.labels(query.name)), reason=reason)  # fmt: skip
        raise ForwardError(reason)

    async def _ask_one(self, upstream: Upstream, query: wire.Query, *, tcp: bool) -> Foreign:
        ident = secrets.randbits(16)
        bits = 0x8000 if query.dnssec else 0
        message = (
            struct.pack(">6H", ident, 0x0100 | (query.flags & 0x0010), 1, 0, 0, 1)
            + query.question
            + struct.pack(">BHHIH", 0, wire.OPT, wire.PAYLOAD, bits, 0)
        )
        async with asyncio.timeout(TRY_SECONDS):
            data = await _by_udp(upstream, message, query)
            foreign = read(data, query, *self._longest)
            if foreign.truncated and tcp:
                data = await _by_tcp(upstream, message)
                foreign = read(data, query, *self._longest)
        return foreign

    async def close(self) -> None:
        """End all questions."""
        tasks = list(self._asking.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _key(query: wire.Query) -> bytes:
    return query.key + bytes((query.dnssec << 1 | bool(query.flags & 0x0010),))


async def _by_udp(upstream: Upstream, message: bytes, query: wire.Query) -> bytes:
    """Ask by a socket of its own; what does not answer this question is not looked at."""
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in upstream.address else socket.AF_INET
    kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    with socket.socket(family, kind) as one:
        # Connected: the kernel drops what comes from anybody else.
        one.connect((upstream.address, upstream.port))
        await loop.sock_sendall(one, message)
        end = 12 + len(query.question)
        while True:
            data = await loop.sock_recv(one, 65535)
            if data[:2] == message[:2] and data[12 : end - 4].lower() == query.key[:-4]:
                return data


async def _by_tcp(upstream: Upstream, message: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(upstream.address, upstream.port)
    try:
        writer.write(len(message).to_bytes(2, "big") + message)
        await writer.drain()
        length = int.from_bytes(await reader.readexactly(2), "big")
        data = await reader.readexactly(length)
    except asyncio.IncompleteReadError as error:
        raise OSError("the connection ended before the answer") from error
    finally:
        writer.close()
    if data[:2] != message[:2]:
        raise ValueError("an answer to another question")
    return data
