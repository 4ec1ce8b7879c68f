"""Calls to systemd over its private socket: D-Bus between two, without a bus between them.

Each piece of work opens a connection of its own, which takes less than a millisecond: threads
share nothing, and a systemd that is executed anew (``systemctl daemon-reexec``) breaks nothing
that lasts. On this socket signals need no subscription.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from jeepney import DBusAddress, HeaderFields, Message, MessageType, Parser, new_method_call

from kubeletpy_common.cgroups.errors import CgroupError
from kubeletpy_common.cgroups.systemd.properties import Property

SOCKET: Final = "/run/systemd/private"
_MANAGER: Final = DBusAddress(
    "/org/freedesktop/systemd1",
    bus_name="org.freedesktop.systemd1",
    interface="org.freedesktop.systemd1.Manager",
)
_ERRORS: Final = "org.freedesktop.systemd1."
NO_SUCH_UNIT: Final = f"{_ERRORS}NoSuchUnit"
UNIT_EXISTS: Final = f"{_ERRORS}UnitExists"
_NUMBERS: Final = {
    NO_SUCH_UNIT: errno.ENOENT,
    UNIT_EXISTS: errno.EEXIST,
    "org.freedesktop.DBus.Error.InvalidArgs": errno.EINVAL,
    "org.freedesktop.DBus.Error.AccessDenied": errno.EACCES,
}
_SECONDS: Final = 30.0


class UnitError(CgroupError):
    """systemd refused something; ``name`` is its D-Bus error."""

    def __init__(self, unit: str, action: str, name: str, reason: str, remedy: str = "") -> None:
        super().__init__(_NUMBERS.get(name, errno.EIO), unit, action, reason, remedy)
        self.name = name


class Bus:
    """Ways to make, change and stop units.

    Args:
        path: of systemd's private socket.
        seconds: how long one piece of work may take.
    """

    def __init__(self, path: str = SOCKET, seconds: float = _SECONDS) -> None:
        self._path = path
        self._seconds = seconds

    def version(self) -> str:
        """Return systemd's version; raises CgroupError if it does not answer."""
        with self._connected("systemd", "ask for its version") as connection:
            address = DBusAddress(_MANAGER.object_path, bus_name=_MANAGER.bus_name,
                                  interface="org.freedesktop.DBus.Properties")  # fmt: skip
            message = new_method_call(address, "Get", "ss", (_MANAGER.interface, "Version"))
            return str(connection.call(message)[0][1])

    def start_transient(self, unit: str, properties: Sequence[Property]) -> None:
        """Make a unit and wait until it runs.

        Raises:
            CgroupError: systemd refuses; UNIT_EXISTS if there is one of this name.
        """
        with self._connected(unit, "start") as connection:
            body: tuple[object, ...] = (unit, "fail", list(properties), [])
            connection.job("StartTransientUnit", "ssa(sv)a(sa(sv))", body)

    def start(self, unit: str) -> None:
        """Start a unit that systemd knows, and wait until it runs; one that does is fine."""
        with self._connected(unit, "start") as connection:
            connection.job("StartUnit", "ss", (unit, "replace"))

    def stop(self, unit: str) -> None:
        """Stop a unit and wait until it is gone; one that is gone is fine."""
        with self._connected(unit, "stop") as connection:
            try:
                connection.job("StopUnit", "ss", (unit, "replace"))
            except UnitError as error:
                if error.name != NO_SUCH_UNIT:
                    raise

    def set_properties(self, unit: str, properties: Sequence[Property]) -> None:
        """Set properties until the unit's end, and wait until systemd has written their files.

        Raises:
            CgroupError: systemd refuses, or the unit is gone.
        """
        with self._connected(unit, "set limits") as connection:
            body = (unit, True, list(properties))
            connection.call(_method("SetUnitProperties", "sba(sv)", body))
            # systemd answers first and writes then, before it takes the next message.
            connection.call(_method("GetUnit", "s", (unit,)))

    @contextmanager
    def _connected(self, unit: str, action: str) -> Iterator[_Connection]:
        deadline = time.monotonic() + self._seconds
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
                connection = _Connection(stream, unit, action, deadline)
                connection.open(self._path)
                yield connection
        except UnitError:
            raise
        except TimeoutError as error:
            reason = f"systemd did not finish it within {self._seconds:g} s"
            raise CgroupError(errno.ETIMEDOUT, unit, action, reason,
                              "look at `systemctl list-jobs`") from error  # fmt: skip
        except (OSError, ValueError) as error:
            number = error.errno if isinstance(error, OSError) and error.errno else errno.EIO
            raise CgroupError(
                number, unit, action, f"talking to systemd at {self._path}: {error}",
                "the systemd driver needs systemd as PID 1 and this process as root",
            ) from error  # fmt: skip


class _Connection:
    def __init__(self, stream: socket.socket, unit: str, action: str, deadline: float) -> None:
        self._stream = stream
        self._unit = unit
        self._action = action
        self._deadline = deadline
        self._parser = Parser()
        self._serial = 0

    def open(self, path: str) -> None:
        self._wait()
        self._stream.connect(path)
        # D-Bus specification, "Authentication Protocol": EXTERNAL is who the kernel says we are.
        # BEGIN goes along with it, and the first message waits for the answer: a message that
        # systemd reads together with BEGIN lies there until more arrives (seen with 252).
        identity = str(os.geteuid()).encode().hex()
        self._stream.sendall(f"\0AUTH EXTERNAL {identity}\r\nBEGIN\r\n".encode())
        answer = b""
        while b"\r\n" not in answer:
            answer += self._read(1024)
        line, _, rest = answer.partition(b"\r\n")
        if not line.startswith(b"OK "):
            raise PermissionError(errno.EACCES, f"systemd refused us: {line[:100]!r}")
        self._parser.add_data(rest)

    def call(self, message: Message) -> Any:
        """Return the answer's body."""
        return self._answer(self._send(message))[0]

    def job(self, member: str, signature: str, body: tuple[object, ...]) -> None:
        """Call what answers with a job, and wait for the job's end."""
        (path,), signals = self._answer(self._send(_method(member, signature, body)))
        while True:
            for message in signals:
                if message.header.fields.get(HeaderFields.member) == "JobRemoved":
                    _, job, _, result = message.body
                    if job == path:
                        self._judge(result)
                        return
            signals = [self._receive()]

    def _judge(self, result: str) -> None:
        # "skipped": a stop of what was not running.
        if result not in ("done", "skipped"):
            reason = f"the job ended as {result!r}"
            raise UnitError(self._unit, self._action, "", reason,
                            f"look at `systemctl status {self._unit}`")  # fmt: skip

    def _answer(self, serial: int) -> tuple[Any, list[Message]]:
        """Return the answer's body, and the signals that came before it."""
        signals: list[Message] = []
        while True:
            message = self._receive()
            kind, fields = message.header.message_type, message.header.fields
            if kind is MessageType.signal:
                signals.append(message)
            elif fields.get(HeaderFields.reply_serial) == serial:
                if kind is MessageType.error:
                    name = str(fields.get(HeaderFields.error_name, ""))
                    reason = f"systemd: {message.body[0] if message.body else name}"
                    raise UnitError(self._unit, self._action, name, reason)
                return message.body, signals

    def _send(self, message: Message) -> int:
        self._serial += 1
        self._wait()
        self._stream.sendall(message.serialise(serial=self._serial))
        return self._serial

    def _receive(self) -> Message:
        while (message := self._parser.get_next_message()) is None:
            self._parser.add_data(self._read(1 << 16))
        return message

    def _read(self, size: int) -> bytes:
        self._wait()
        data = self._stream.recv(size)
        if not data:
            raise ConnectionResetError(errno.ECONNRESET, "systemd closed the connection")
        return data

    def _wait(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._stream.settimeout(left)


def _method(member: str, signature: str, body: tuple[object, ...]) -> Message:
    return new_method_call(_MANAGER, member, signature, body)
