"""The spawner process: waits for the daemon's requests and forks a shim for each.

Only the standard library and this project's own few modules are loaded: every page is inherited by
every shim. It is started by :mod:`runtime.spawner.client` and ends when the daemon's end of the
socket closes; the shims go on.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import socket

from kubeletpy_common.linux import processes
from runtime.shim import launcher_program
from runtime.spawner import pause_program
from runtime.spawner.sandbox import describe, run_shim

# Type checkers take this name for true; see kubeletpy_common/record.py.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Final, NoReturn

_REQUEST_SIZE: Final = 64 << 10


def main(descriptor: int, lock: int) -> None:
    """Serve the daemon on the socket ``descriptor`` until it closes.

    ``lock`` is a locked file, or -1: its lock lasts as long as this process, and as long as what it
    forks has not answered; a later daemon waits for it.

    Each message is one JSON object. A request ``{"id", "spec"}`` is answered by the shim itself,
    with ``{"id", "pid", "namespaces"}`` or ``{"id", "error"}``; the spawner adds
    ``{"event": "forked", "id", "pid"}`` before and ``{"event": "ended", "pid", "status"}`` after.
    """
    processes.close_from(3, keep=(descriptor, lock) if lock >= 0 else (descriptor,))
    os.setsid()
    os.chdir("/")
    os.umask(0o022)
    room = processes.title_room()
    processes.set_title("kubeletpy-spawn", "kubeletpy-spawner", room)
    # Others must not reach this interpreter, or what it holds open, through /proc from within a
    # container that it is about to become (CVE-2019-5736).
    processes.set_dumpable(False)
    processes.last_capability()
    # Shows that the release of this code is needed, see kubeletpy_common/releases.py.
    processes.keep_mapped(__file__)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    for number in (signal.SIGINT, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_IGN)
    programs = (pause_program.open_program(), launcher_program.open_program())
    channel = socket.socket(fileno=descriptor)
    channel.set_inheritable(False)
    if lock >= 0:
        os.set_inheritable(lock, False)
    wake_read, wake_write = os.pipe()
    for end in (wake_read, wake_write):
        os.set_blocking(end, False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    gc.collect()
    # The collector would otherwise write into every page that the shims share with this process.
    gc.freeze()
    _serve(channel, (wake_read, wake_write), room, programs, lock)


def _serve(
    channel: socket.socket,
    wake: tuple[int, int],
    room: tuple[int, int],
    programs: tuple[int, int],
    lock: int,
) -> None:
    wake_read = wake[0]
    poller = select.poll()
    poller.register(channel, select.POLLIN)
    poller.register(wake_read, select.POLLIN)
    while True:
        ready = {fd for fd, _ in poller.poll()}
        if wake_read in ready:
            os.read(wake_read, 512)
            _reap(channel)
        if channel.fileno() in ready:
            try:
                data = channel.recv(_REQUEST_SIZE)
            except ConnectionResetError:
                # The daemon ended with messages unread.
                return
            if not data:
                return
            request = json.loads(data)
            pid = os.fork()
            if pid:
                _send(channel, {"event": "forked", "id": request["id"], "pid": pid})
                continue
            signal.set_wakeup_fd(-1)
            for end in wake:
                os.close(end)
            _become_shim(channel, request, room, programs, lock)


def _become_shim(
    channel: socket.socket,
    request: dict[str, Any],
    room: tuple[int, int],
    programs: tuple[int, int],
    lock: int,
) -> NoReturn:
    def ready(namespaces: dict[str, str]) -> None:
        _send(channel, {"id": request["id"], "pid": os.getpid(), "namespaces": namespaces})
        channel.close()
        if lock >= 0:
            os.close(lock)

    try:
        run_shim(request["spec"], room, *programs, ready)
    except BaseException as error:
        if channel.fileno() >= 0:
            _send(channel, {"id": request["id"], "error": describe(error)})
        else:
            _log_last_words()
    os._exit(1)


def _log_last_words() -> None:
    import traceback

    # stderr is the shim's own log file by now; the daemon sees the socket close.
    traceback.print_exc()


def _reap(channel: socket.socket) -> None:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        _send(channel, {"event": "ended", "pid": pid, "status": status})


def _send(channel: socket.socket, message: dict[str, Any]) -> None:
    try:
        channel.send(json.dumps(message).encode())
    except (BrokenPipeError, ConnectionResetError):
        # The daemon has ended; what it asked for is found by its successor.
        pass
