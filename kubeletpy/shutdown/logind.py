"""systemd-logind over D-Bus: a lock that delays a shutdown, and the news of one.

Source: org.freedesktop.login1(5), "Inhibitor Locks" (systemd.io/INHIBITOR_LOCKS).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kubeletpy_common.atomic import write_atomic

if TYPE_CHECKING:
    from jeepney import Message
    from jeepney.io.blocking import DBusConnection

_SERVICE, _OBJECT = "org.freedesktop.login1", "/org/freedesktop/login1"
_INTERFACE = "org.freedesktop.login1.Manager"
_SIGNAL = "PrepareForShutdown"
_SECONDS = 10.0
OVERRIDE = Path("/etc/systemd/logind.conf.d/99-kubelet.conf")
_RELOADED_WITHIN = 3.0
_SIGHUP = 1


class LogindError(Exception):
    """logind is not there, or refused; the message says what was asked."""


class Logind:
    """One connection to the system bus.

    Args:
        override: file that raises the longest delay, where it is too short.
    """

    def __init__(self, override: Path = OVERRIDE) -> None:
        self._override = override
        self._connection: DBusConnection | None = None
        self._lock: Any = None

    async def open(self) -> None:
        """Connect, and ask to be told of shutdowns.

        Raises:
            LogindError: there is no system bus, or no logind on it.
        """
        await asyncio.to_thread(self._open)

    def _open(self) -> None:
        from jeepney import MatchRule, message_bus
        from jeepney.io.blocking import Proxy, open_dbus_connection

        try:
            self._connection = open_dbus_connection(bus="SYSTEM", enable_fds=True)
            rule = MatchRule(type="signal", interface=_INTERFACE, member=_SIGNAL, path=_OBJECT)
            Proxy(message_bus, self._connection, timeout=_SECONDS).AddMatch(rule)
        except Exception as error:
            raise LogindError(f"system bus: {error or type(error).__name__}") from error

    def close(self) -> None:
        """Release the lock and disconnect."""
        self.release()
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    async def allow_delay(self, seconds: int) -> None:
        """Have logind wait for so long, at a shutdown, if it would wait less.

        Raises:
            LogindError: it cannot be had.
        """
        if await asyncio.to_thread(self._delay) >= seconds:
            return
        try:
            self._override.parent.mkdir(parents=True, exist_ok=True)
            text = f"# Kubelet logind override\n[Login]\nInhibitDelayMaxSec={seconds}\n"
            write_atomic(self._override, text, mode=0o644)
        except OSError as error:
            raise LogindError(f"{self._override} cannot be written: {error}") from error
        await asyncio.to_thread(self._reload)
        pause, found = 0.1, 0.0
        try:
            async with asyncio.timeout(_RELOADED_WITHIN):
                while (found := await asyncio.to_thread(self._delay)) < seconds:
                    await asyncio.sleep(pause)
                    pause *= 2
        except TimeoutError:
            raise LogindError(
                f"InhibitDelayMaxSec stays {found:g} s, and {seconds} s are needed for "
                f"shutdownGracePeriod; see {self._override} and `systemctl status systemd-logind`"
            ) from None

    def _delay(self) -> float:
        return float(self._property("InhibitDelayMaxUSec")) / 1e6

    def _property(self, name: str) -> Any:
        body = self._call(
            _SERVICE, _OBJECT, "org.freedesktop.DBus.Properties", "Get", "ss", (_INTERFACE, name)
        )
        return body[0][1]

    def _reload(self) -> None:
        self._call(
            "org.freedesktop.systemd1", "/org/freedesktop/systemd1",
            "org.freedesktop.systemd1.Manager", "KillUnit", "ssi",
            ("systemd-logind.service", "all", _SIGHUP),
        )  # fmt: skip

    async def inhibit(self) -> None:
        """Take the lock; one that is held is given back for it.

        Raises:
            LogindError: it is refused.
        """
        body = await asyncio.to_thread(
            self._call, _SERVICE, _OBJECT, _INTERFACE, "Inhibit", "ssss",
            ("shutdown", "kubelet", "Kubelet needs time to handle node shutdown", "delay"),
        )  # fmt: skip
        held, self._lock = self._lock, body[0]
        if held is not None:
            held.close()

    def release(self) -> None:
        """Give the lock back: the machine may go down."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _call(
        self, service: str, path: str, interface: str, method: str, signature: str, body: Any
    ) -> Any:
        from jeepney import DBusAddress, new_method_call
        from jeepney.wrappers import unwrap_msg

        assert self._connection is not None
        address = DBusAddress(path, bus_name=service, interface=interface)
        message = new_method_call(address, method, signature, body)
        try:
            answer = self._connection.send_and_get_reply(message, timeout=_SECONDS)
            return unwrap_msg(answer)
        except Exception as error:
            raise LogindError(f"{method}: {error or type(error).__name__}") from error

    async def shutdowns(self) -> AsyncIterator[bool]:
        """Yield True when a shutdown begins, False when one is cancelled.

        Raises:
            LogindError: the connection is lost.
        """
        assert self._connection is not None
        # What was told while something else was asked for is not told again.
        if await asyncio.to_thread(self._property, "PreparingForShutdown"):
            yield True
        loop, readable = asyncio.get_running_loop(), asyncio.Event()
        descriptor = os.dup(self._connection.sock.fileno())
        loop.add_reader(descriptor, readable.set)
        try:
            while True:
                try:
                    message = self._connection.receive(timeout=0)
                except TimeoutError:
                    readable.clear()
                    await readable.wait()
                    continue
                except Exception as error:
                    raise LogindError(f"system bus: {error or type(error).__name__}") from error
                begins = news_of(message)
                if begins is not None:
                    yield begins
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)


def news_of(message: Message) -> bool | None:
    """Return what a message says of a shutdown; None: nothing (pure)."""
    from jeepney import HeaderFields, MessageType

    header = message.header
    if header.message_type is not MessageType.signal:
        return None
    if header.fields.get(HeaderFields.member) != _SIGNAL or not message.body:
        return None
    return bool(message.body[0])
