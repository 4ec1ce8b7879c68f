"""The daemon's side of the spawner: starts it, asks it for sandboxes, replaces it when it dies."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import fcntl
import itertools
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import kubeletpy_common
import runtime
from kubeletpy_common.logs import event
from runtime.shim.messages import SandboxSpec, to_message
from runtime.spawner.sandbox import SOCKET_NAME

_log = logging.getLogger(__name__)

_ANSWER_SIZE: Final = 64 << 10
_STOP_TIMEOUT: Final = 5.0
_PREDECESSOR_TIMEOUT: Final = 30.0
"""Seconds that the spawner of a killed daemon gets to end: it may be within a slow mount."""
_BOOT: Final = (
    "import sys; sys.path[:0] = sys.argv[3:]; "
    "from runtime.spawner.main import main; main(int(sys.argv[1]), int(sys.argv[2]))"
)


@dataclass(frozen=True)
class SandboxProcess:
    """The process side of a sandbox, as the spawner made it.

    Attributes:
        shim_pid: process id of the shim, in the daemon's PID namespace.
        socket: the shim's Unix socket.
        namespaces: where each namespace of the pod's own is pinned, by its name in an OCI
            configuration: ``network``, ``ipc``, ``uts``, ``pid``, ``user``.
    """

    shim_pid: int
    socket: Path
    namespaces: dict[str, Path]


class SpawnError(Exception):
    """The process side of a sandbox could not be made."""


class Spawner:
    """Owns the spawner process.

    Args:
        lock: file that the spawner, and what it forks until it listens, holds locked. A daemon
            that was killed may leave a spawner that is still at work for a moment: its successor
            waits for the end of that before it looks at what there is.
    """

    def __init__(self, lock: Path | None = None) -> None:
        self._lock_path = lock
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._ids = itertools.count(1)
        self._pending: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._forked: dict[int, int] = {}
        self._closed = False
        self._lock = asyncio.Lock()

    async def start(self) -> None:
        """Start the process, if it does not run; it is replaced by the next call when it dies.

        Raises:
            OSError: it could not be started.
        """
        async with self._lock:
            if self._process is not None and self._process.poll() is None and self._socket:
                return
            self._forget_process("replaced")
            ours, theirs = socket.socketpair(
                socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC
            )
            ours.setblocking(False)
            lock = -1
            try:
                lock = await self._locked()
                self._process = _boot(theirs, lock)
            except BaseException:
                ours.close()
                raise
            finally:
                theirs.close()
                if lock >= 0:
                    os.close(lock)
            self._socket = ours
            asyncio.get_running_loop().add_reader(ours.fileno(), self._receive)

    async def _locked(self) -> int:
        """Return a descriptor of the locked file; -1 if there is none."""
        if self._lock_path is None:
            return -1
        descriptor = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                event(_log, logging.INFO, "waiting for the spawner of an earlier runtime to end",
                      lock=str(self._lock_path), at_most_s=_PREDECESSOR_TIMEOUT)  # fmt: skip
                async with asyncio.timeout(_PREDECESSOR_TIMEOUT):
                    await _in_daemon_thread(lambda: fcntl.flock(descriptor, fcntl.LOCK_EX))
        except TimeoutError:
            # The thread still waits on the descriptor: it is not closed, for another file could
            # get its number.
            raise OSError(
                errno.EBUSY,
                f"an earlier runtime's spawner is still at work after {_PREDECESSOR_TIMEOUT:g} s; "
                f"find it by `fuser {self._lock_path}`",
            ) from None
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    async def spawn_sandbox(self, spec: SandboxSpec, *, timeout: float = 30) -> SandboxProcess:
        """Fork a shim and pin the sandbox's namespaces.

        Args:
            spec: the sandbox.
            timeout: seconds until the shim must listen.

        Raises:
            SpawnError: it could not be made, and nobody works on it any more.
        """
        await self.start()
        assert self._socket is not None
        number = next(self._ids)
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._pending[number] = future
        try:
            request = json.dumps({"id": number, "spec": to_message(spec)}).encode()
            async with asyncio.timeout(timeout):
                await asyncio.get_running_loop().sock_sendall(self._socket, request)
                answer = await future
        except BaseException as error:
            self._kill_forked(number)
            if isinstance(error, SpawnError | OSError) and not isinstance(error, TimeoutError):
                await self._settle()
            if isinstance(error, TimeoutError):
                text = f"sandbox {spec.sandbox_id}: no shim within {timeout:g} s"
                raise SpawnError(text) from None
            if isinstance(error, OSError):
                text = f"sandbox {spec.sandbox_id}: the spawner cannot be reached: {error}"
                raise SpawnError(text) from error
            raise
        finally:
            self._pending.pop(number, None)
            for pid in [p for p, n in self._forked.items() if n == number]:
                del self._forked[pid]
        if "error" in answer:
            raise SpawnError(f"sandbox {spec.sandbox_id}: {answer['error']}")
        pins = {name: Path(path) for name, path in answer["namespaces"].items()}
        return SandboxProcess(answer["pid"], Path(spec.directory) / SOCKET_NAME, pins)

    async def _settle(self) -> None:
        """Wait until what a spawner that died had forked is done.

        It may still mount what is to be undone now; the next spawner is not started before.
        """
        if self._closed:
            return
        try:
            await self.start()
        except OSError as error:
            event(_log, logging.ERROR, "the spawner is not replaced", reason=str(error))

    async def close(self) -> None:
        """End the spawner; the shims go on."""
        self._closed = True
        async with self._lock:
            process = self._process
            self._forget_process("closed")
            if process is None:
                return
            try:
                await asyncio.to_thread(process.wait, _STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                await asyncio.to_thread(process.wait, _STOP_TIMEOUT)

    @property
    def pid(self) -> int | None:
        """Process id of the spawner, None before its start."""
        return self._process.pid if self._process is not None else None

    def _receive(self) -> None:
        while self._socket is not None:
            try:
                data = self._socket.recv(_ANSWER_SIZE)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                event(_log, logging.WARNING, "the spawner has ended", pid=self.pid)
                self._forget_process("has ended")
                return
            self._dispatch(json.loads(data))

    def _dispatch(self, message: dict[str, Any]) -> None:
        if message.get("event") == "forked":
            if message["id"] in self._pending:
                self._forked[message["pid"]] = message["id"]
            return
        if message.get("event") == "ended":
            number = self._forked.pop(message["pid"], 0)
            text = f"its shim ended with wait status {message['status']} before it listened"
            message = {"id": number, "error": text}
        future = self._pending.get(message["id"])
        if future is not None and not future.done():
            future.set_result(message)

    def _kill_forked(self, number: int) -> None:
        for pid, owner in self._forked.items():
            if owner == number:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass

    def _forget_process(self, why: str) -> None:
        if self._socket is not None:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None
        for future in self._pending.values():
            if not future.done():
                future.set_exception(SpawnError(f"the spawner process {why} meanwhile"))
        if self._process is not None:
            # Collects its exit status if it has ended; Popen reaps the rest later by itself.
            self._process.poll()
            self._process = None


async def _in_daemon_thread(call: Callable[[], None]) -> None:
    """Run ``call`` in a thread that holds up neither this task's cancelling nor the exit."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()

    def work() -> None:
        call()
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(done.set)

    threading.Thread(target=work, daemon=True, name="lock of the spawner").start()
    await done.wait()


def _boot(channel: socket.socket, lock: int) -> subprocess.Popen[bytes]:
    """Start the interpreter from a sealed copy in memory.

    A container that gets hold of the file its processes were forked from, through
    /proc/self/exe, holds a copy that nobody can write to (CVE-2019-5736).
    """
    roots = {str(Path(package.__file__ or "").parent.parent)
             for package in (runtime, kubeletpy_common)}  # fmt: skip
    image = _sealed_copy(Path(sys.executable).resolve())
    try:
        return subprocess.Popen(
            # -I -S: nothing of the user's environment or site-packages is loaded.
            [
                sys.executable,
                "-I",
                "-S",
                "-c",
                _BOOT,
                str(channel.fileno()),
                str(lock),
                *sorted(roots),
            ],
            executable=f"/proc/self/fd/{image}",
            pass_fds=(channel.fileno(), image, *([lock] if lock >= 0 else [])),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env={"LC_ALL": "C.UTF-8"},
        )
    finally:
        os.close(image)


def _sealed_copy(program: Path) -> int:
    copy = os.memfd_create(program.name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    with open(program, "rb") as source:
        size = os.fstat(source.fileno()).st_size
        sent = 0
        while sent < size:
            sent += os.sendfile(copy, source.fileno(), sent, size - sent)
    seals = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
    fcntl.fcntl(copy, fcntl.F_ADD_SEALS, seals)
    return copy
