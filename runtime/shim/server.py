"""The shim's service: requests of the daemon over a Unix socket, answered and told of exits.

A daemon that dies takes nothing with it; a new one connects and asks what there is.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import sys

from runtime.shim.attachments import Attachment
from runtime.shim.containers import Container
from runtime.shim.execs import Command, Exec, StreamedExec
from runtime.shim.forking import LaunchError, PidNamespace
from runtime.shim.launcher import Launcher
from runtime.shim.loop import READ, WRITE, Loop
from runtime.shim.messages import (
    Decoder,
    ProtocolError,
    Started,
    StartRequest,
    encode,
    to_message,
)

# Type checkers take this name for true; see kubeletpy_common/record.py.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Final

    from runtime.shim.external.strays import Strays
    from runtime.shim.messages import ExecResult, ExitRecord, Message

_CHUNK: Final = 256 << 10
_REQUEST_CHUNK: Final = 32 << 10
_LAST_WAIT: Final = 5
"""Seconds that killed containers have to end when the shim is shut down."""
_MAX_UNSENT: Final = 128 << 20
"""Bytes that wait for a client that does not read; beyond it the client is disconnected."""


class Connection:
    """One client; frames in, frames out, never blocking."""

    def __init__(
        self,
        loop: Loop,
        sock: socket.socket,
        on_message: Callable[[Connection, Message], None],
        on_closed: Callable[[Connection], None],
    ) -> None:
        self._loop = loop
        self._socket = sock
        self._decoder = Decoder()
        self._unsent = bytearray()
        self._on_message = on_message
        self._on_closed = on_closed
        self._open = True
        sock.setblocking(False)
        loop.watch(sock.fileno(), READ, self._on_ready)

    def send(self, message: Message, payload: bytes = b"") -> None:
        """Send a frame, or keep it until the client reads."""
        if not self._open:
            return
        self._unsent += encode(message, payload)
        if len(self._unsent) > _MAX_UNSENT:
            self.close()
        else:
            self._flush()

    def send_with(self, message: Message, descriptors: list[int]) -> None:
        """Send a frame that carries descriptors, on a connection that is used for nothing else."""
        if not self._open:
            return
        frame = encode(message)
        try:
            # Nothing else waits to be sent, and a Unix socket's buffer holds this little.
            sent = socket.send_fds(self._socket, [frame], descriptors)
        except OSError:
            self.close()
            return
        if sent < len(frame):
            self.close()

    def close(self) -> None:
        """Disconnect."""
        if self._open:
            self._open = False
            self._loop.unwatch(self._socket.fileno())
            self._socket.close()
            self._on_closed(self)

    def _flush(self) -> None:
        try:
            while self._unsent:
                sent = self._socket.send(memoryview(self._unsent)[:_CHUNK])
                del self._unsent[:sent]
        except BlockingIOError:
            pass
        except OSError:
            self.close()
            return
        events = READ | WRITE if self._unsent else READ
        self._loop.watch(self._socket.fileno(), events, self._on_ready)

    def _on_ready(self) -> None:
        if self._unsent:
            self._flush()
        try:
            data = self._socket.recv(_REQUEST_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        try:
            messages = self._decoder.feed(data) if data else []
        except ProtocolError:
            data, messages = b"", []
        for message, _ in messages:
            self._on_message(self, message)
        if not data:
            self.close()


class ShimServer:
    """Serves one pod.

    Args:
        listener: the listening Unix socket.
        launcher: descriptor of the program that commands are forked from; -1: there is none.
    """

    def __init__(self, listener: socket.socket, launcher: int = -1) -> None:
        self._loop = Loop(self._on_child)
        self._listener = listener
        self._namespaces = PidNamespace()
        self._connections: set[Connection] = set()
        self._containers: dict[str, Container] = {}
        self._by_pid: dict[int, Any] = {}
        self._launcher = Launcher(launcher, self._by_pid)
        self._strays: Strays | None = None
        self._sessions: dict[tuple[Connection, int], Command | Attachment] = {}
        self._operations: dict[str, Callable[[Connection, Message], Message | None]] = {
            "start": self._start,
            "exec_sync": self._exec_sync,
            "exec": self._exec,
            "attach": self._attach,
            "close_stdin": self._close_stdin,
            "cancel": self._cancel,
            "kill": self._kill,
            "reopen_log": self._reopen_log,
            "forget": self._forget,
            "update": self._update,
            "containers": self._list,
            "shutdown": self._shutdown,
        }
        listener.setblocking(False)
        self._loop.watch(listener.fileno(), READ, self._accept)

    def serve(self) -> None:
        """Serve until a client asks to shut down; then wait for the containers' last."""
        self._loop.run()
        # One that the kernel cannot end keeps no shim: the alarm's default action ends it.
        signal.alarm(_LAST_WAIT)
        self._launcher.close()
        for container in self._containers.values():
            container.wait()

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except OSError:
            # The client was gone before it was served.
            return
        self._connections.add(Connection(self._loop, sock, self._on_message, self._on_closed))

    def _on_closed(self, connection: Connection) -> None:
        self._connections.discard(connection)
        # Nobody is left to read the output of its commands.
        for (owner, number), session in list(self._sessions.items()):
            if owner is connection:
                session.kill()
                if isinstance(session, Attachment):
                    del self._sessions[owner, number]

    def _on_message(self, connection: Connection, message: Message) -> None:
        number = message.get("id", 0)
        operation = self._operations.get(message.get("op", ""))
        try:
            if operation is None:
                raise LaunchError("protocol", f"unknown operation {message.get('op')!r}")
            result = operation(connection, message)
        except Exception as error:
            connection.send({"id": number, "error": _describe(error)})
            return
        if result is not None:
            connection.send({"id": number, "result": result})

    def _on_child(self, pid: int, status: int) -> None:
        # A pid that is not here is an orphan that this process inherited as its subreaper.
        known = self._by_pid.pop(pid, None)
        if known is not None:
            known.reaped(status)
        elif self._strays is not None:
            self._strays.ended(pid, status)

    def _start(self, connection: Connection, message: Message) -> None:
        request = StartRequest.from_message(message["request"])
        identifier, number = request.container_id, message["id"]
        if identifier in self._containers:
            raise LaunchError("setup", f"container {identifier} was started before")

        def started(outcome: Started | LaunchError) -> None:
            if isinstance(outcome, LaunchError):
                self._containers.pop(identifier, None)
                connection.send({"id": number, "error": _describe(outcome)})
            else:
                connection.send({"id": number, "result": to_message(outcome)})

        container = self._new_container(request, started)
        container.on_notice = lambda text: self._on_notice(identifier, text)
        try:
            container.start(self._namespaces, message["timeout"])
        except BaseException:
            container.close()
            raise
        self._containers[identifier] = container

    def _new_container(
        self, request: StartRequest, on_started: Callable[[Started | LaunchError], None]
    ) -> Container:
        if request.runtime is None:
            container = Container(self._loop, request, on_started, self._on_exit, self._by_pid)
            container.launcher = self._launcher
            return container
        # In pods of an external runtime only; the others need not pay for its memory.
        from runtime.shim.external.container import ExternalContainer
        from runtime.shim.external.strays import Strays

        if self._strays is None:
            self._strays = Strays(self._by_pid)
        return ExternalContainer(
            self._loop, request, on_started, self._on_exit, self._by_pid, self._strays
        )

    def _on_exit(self, record: ExitRecord) -> None:
        for connection in list(self._connections):
            connection.send({"event": "exit", "record": to_message(record)})

    def _on_notice(self, container_id: str, text: str) -> None:
        # Standard error is the shim's own log, for when no daemon listens.
        sys.stderr.write(f"container {container_id}: {text}\n")
        sys.stderr.flush()
        for connection in list(self._connections):
            connection.send({"event": "notice", "container_id": container_id, "text": text})

    def _exec_sync(self, connection: Connection, message: Message) -> None:
        container = self._running(message)
        key = (connection, message["id"])

        def done(outcome: ExecResult | LaunchError) -> None:
            self._sessions.pop(key, None)
            if isinstance(outcome, LaunchError):
                connection.send({"id": key[1], "error": _describe(outcome)})
                return
            result = {
                "exit_code": outcome.exit_code,
                "timed_out": outcome.timed_out,
                "stdout_size": len(outcome.stdout),
            }
            connection.send({"id": key[1], "result": result}, outcome.stdout + outcome.stderr)

        execution = Exec(self._loop, container, message["process"], message["timeout"], done)
        execution.start(self._namespaces)
        self._sessions[key] = execution

    def _exec(self, connection: Connection, message: Message) -> None:
        container = self._running(message)
        key = (connection, message["id"])

        def started(descriptors: dict[str, int]) -> None:
            answer = {"id": key[1], "result": {"descriptors": list(descriptors)}}
            connection.send_with(answer, list(descriptors.values()))

        def done(outcome: int | LaunchError) -> None:
            self._sessions.pop(key, None)
            if isinstance(outcome, LaunchError):
                connection.send({"id": key[1], "error": _describe(outcome)})
            else:
                connection.send({"event": "end", "exit_code": outcome})

        streams = frozenset(message["streams"])
        command = StreamedExec(self._loop, container, message["process"], streams, started, done)
        command.start(self._namespaces)
        self._sessions[key] = command

    def _attach(self, connection: Connection, message: Message) -> None:
        container = self._running(message)

        def ended(complete: bool) -> None:
            connection.send({"event": "end", "complete": complete})

        streams = frozenset(message["streams"])
        attachment = Attachment(self._loop, container, streams, ended)
        descriptors = attachment.open()
        answer = {"id": message["id"], "result": {"descriptors": list(descriptors)}}
        self._sessions[connection, message["id"]] = attachment
        connection.send_with(answer, list(descriptors.values()))
        attachment.close_pipes()

    def _close_stdin(self, connection: Connection, message: Message) -> Message:
        container = self._containers.get(message["container_id"])
        if container is not None:
            container.close_stdin()
        return {}

    def _cancel(self, connection: Connection, message: Message) -> Message:
        session = self._sessions.get((connection, message["request_id"]))
        if isinstance(session, Command):
            session.kill()
        return {}

    def _kill(self, connection: Connection, message: Message) -> Message:
        container = self._containers.get(message["container_id"])
        if container is not None and container.exit is None:
            if message["all"]:
                _signal_all(container, message["signal"])
            container.signal(message["signal"])
        return {}

    def _reopen_log(self, connection: Connection, message: Message) -> Message:
        container = self._running(message)
        if container.log is not None:
            container.log.reopen()
        return {}

    def _forget(self, connection: Connection, message: Message) -> Message | None:
        container = self._containers.get(message["container_id"])
        if container is None:
            return {}
        if container.exit is None:
            raise LaunchError("running", f"container {message['container_id']} still runs")
        del self._containers[message["container_id"]]
        answer = {"id": message["id"], "result": {}}
        container.forget(lambda: connection.send(answer))
        return None

    def _update(self, connection: Connection, message: Message) -> None:
        container, number = self._running(message), message["id"]

        def done(error: str) -> None:
            answer = {"error": {"code": "refused", "message": error}} if error else {"result": {}}
            connection.send({"id": number, **answer})

        container.update(message["resources"], done)

    def _list(self, connection: Connection, message: Message) -> Message:
        reports = [to_message(c.report()) for c in self._containers.values() if c.started_at_ns]
        return {"containers": reports}

    def _shutdown(self, connection: Connection, message: Message) -> Message:
        for container in self._containers.values():
            container.signal(signal.SIGKILL)
        # The answer goes out before the loop looks whether to go on.
        self._loop.stop()
        return {}

    def _running(self, message: Message) -> Container:
        container = self._containers.get(message["container_id"])
        if container is None or not container.running:
            raise LaunchError("not-running", f"container {message['container_id']} does not run")
        return container


def _signal_all(container: Container, number: int) -> None:
    if not container.request.cgroup_procs:
        return
    try:
        with open(container.request.cgroup_procs[0]) as stream:
            processes = stream.read().split()
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENODEV):
            raise
        # A scope goes with its last process: systemd does not wait for us.
        return
    for process in processes:
        try:
            os.kill(int(process), number)
        except ProcessLookupError:
            continue


def _describe(error: Exception) -> dict[str, Any]:
    if isinstance(error, LaunchError):
        return {"code": error.code, "message": str(error)}
    return {"code": "setup", "message": f"{type(error).__name__}: {error}"}
