"""The daemon's side of the unpacker: starts it when a layer is coming, ends it when it is idle."""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import kubeletpy_common
import runtime
from kubeletpy_common.logs import event
from runtime.images.disk import disk_errors
from runtime.images.errors import NoSpace, StoreError, by_name
from runtime.images.space import describe
from runtime.unpacker.limits import UnpackLimits

_log = logging.getLogger(__name__)

_START_SECONDS: Final = 30.0
_JOB_SECONDS: Final = 3600.0
_STOP_SECONDS: Final = 5.0
IDLE_SECONDS: Final = 15.0
"""How long the process waits for another layer before it ends, and its memory is free."""

_MAX_ANSWER: Final = 1 << 20
_LIBRARIES: Final = ("zstandard",)
_BOOT: Final = (
    "import sys; sys.path += sys.argv[3:]; "
    "from runtime.unpacker.main import main; main(int(sys.argv[1]), sys.argv[2])"
)


@dataclass(frozen=True)
class Layer:
    """A blob, and what its uncompressed bytes must be.

    Attributes:
        blob: the file.
        digest: of the blob; for errors.
        compression: ``gzip``, ``zstd`` or ``none``.
        diff_id: the digest of its uncompressed bytes.
    """

    blob: Path
    digest: str
    compression: str
    diff_id: str


@dataclass
class Unpacked:
    """A layer that is unpacked, but for what needs the layers below it.

    Attributes:
        number: its snapshot.
        digest: of its blob.
        opaque_root: it hides all layers below it.
        notes: a nameless file of what is still to be done.
    """

    number: int
    digest: str
    opaque_root: bool
    notes: int

    def close(self) -> None:
        """Forget what was to be done; idempotent."""
        if self.notes >= 0:
            os.close(self.notes)
            self.notes = -1


class Unpacker:
    """Unpacks layers into the directories ``<base>/<number>/fs``.

    Any number of jobs may be asked for at the same time; the caller bounds them.
    """

    def __init__(self, base: Path) -> None:
        """Work in ``base``, the directory of the snapshots; nothing is started yet."""
        self._base = base
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None
        self._starting = asyncio.Lock()
        self._ids = itertools.count(1)
        self._jobs = 0
        self._idle: asyncio.TimerHandle | None = None
        self._ends: set[asyncio.Task[None]] = set()

    @property
    def pid(self) -> int | None:
        """Process id of the unpacker, None when there is none."""
        return self._process.pid if self._process is not None else None

    async def start(self) -> None:
        """Start the process unless it runs; it ends by itself when there is nothing to do.

        Raises:
            StoreError: it could not be started.
        """
        async with self._starting:
            if self._process is not None and self._process.poll() is None:
                self._rest()
                return
            self._forget()
            channel, theirs = socket.socketpair(
                socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC
            )
            channel.setblocking(False)
            self._channel = channel
            try:
                # Only the process holds the other end then, so that its death is noticed.
                with theirs, disk_errors("starting the unpacker"):
                    self._process = await asyncio.to_thread(_boot, theirs, self._base)
                await self._greeting(channel)
            except BaseException:
                self._forget()
                raise
            asyncio.get_running_loop().add_reader(channel.fileno(), self._lost)
            self._rest()

    async def _greeting(self, channel: socket.socket) -> None:
        try:
            async with asyncio.timeout(_START_SECONDS):
                data = await asyncio.get_running_loop().sock_recv(channel, 64 << 10)
        except TimeoutError:
            raise StoreError(f"the unpacker did not start within {_START_SECONDS:g} s") from None
        message = json.loads(data) if data else {"error": "the unpacker ended at its start"}
        if "error" in message:
            raise StoreError(message["error"])

    async def unpack(self, layer: Layer, number: int, limits: UnpackLimits) -> Unpacked:
        """Unpack a layer into the empty directory of snapshot ``number``, and verify it.

        On failure, or if this is cancelled, the work has ended when this raises; the directory is
        the caller's to remove.

        Raises:
            UnsafeLayer: an entry reaches out of the root, or a bound was exceeded.
            MalformedImage: the blob is damaged.
            DigestMismatch: the uncompressed bytes are not what the image config promised.
            NoSpace, StoreError: the disk is full or failed.
        """
        request = {
            "job": "unpack",
            "directory": f"{number}/fs",
            "digest": layer.digest,
            "compression": layer.compression,
            "diff_id": layer.diff_id,
            "limits": asdict(limits),
        }
        with ExitStack() as resources:
            with disk_errors(f"unpacking layer {layer.digest}", self._base):
                notes = os.open(self._base, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
                undo = ExitStack()
                resources.enter_context(undo)
                undo.callback(os.close, notes)
                blob = os.open(layer.blob, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
                resources.callback(os.close, blob)
            answer = await self._job(request, (notes, blob))
            undo.pop_all()
            return Unpacked(number, layer.digest, answer["opaque_root"], notes)

    async def settle(
        self, unpacked: Unpacked, lower: Iterable[int], limits: UnpackLimits
    ) -> tuple[int, int]:
        """Finish a layer by what is below it, and measure it.

        Args:
            unpacked: what :meth:`unpack` returned.
            lower: numbers of the snapshots below, the topmost first; they are ready.
            limits: bounds.

        Returns:
            the bytes and the inodes that it takes on the disk.

        Raises:
            UnsafeLayer: a hard link's target is nowhere, or is not a file.
            NoSpace, StoreError: the disk is full or failed.
        """
        request = {
            "job": "finish",
            "directory": f"{unpacked.number}/fs",
            "digest": unpacked.digest,
            "lower": [f"{number}/fs" for number in lower],
            "max_memory": limits.max_memory,
        }
        answer = await self._job(request, (unpacked.notes,))
        return answer["bytes"], answer["inodes"]

    async def close(self) -> None:
        """End the process; jobs must have ended or been cancelled."""
        self._forget()
        if self._ends:
            await asyncio.wait(self._ends)

    async def _job(self, request: dict[str, Any], descriptors: Sequence[int]) -> dict[str, Any]:
        self._jobs += 1
        try:
            await self.start()
            answer = await self._ask(request, descriptors)
        finally:
            self._jobs -= 1
            self._rest()
        if not answer:
            raise StoreError(
                f"layer {request['digest']}: the process that unpacked it was killed, perhaps for "
                "want of memory; see the kernel's log"
            )
        message: dict[str, Any] = json.loads(answer)
        if "error" in message:
            kind, text = by_name(message["error"]), message["text"]
            raise kind(f"{text}: {describe(self._base)}" if kind is NoSpace else text)
        return message

    async def _ask(self, request: dict[str, Any], descriptors: Sequence[int]) -> bytes:
        """Send a request and return its answer; empty if the job's process died."""
        number = next(self._ids)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        with ours:
            ours.setblocking(False)
            with theirs:
                await self._send({"id": number, **request}, (theirs.fileno(), *descriptors))
            answer = asyncio.ensure_future(_read_all(ours))
            try:
                async with asyncio.timeout(_JOB_SECONDS):
                    return await asyncio.shield(answer)
            except TimeoutError:
                raise StoreError(
                    f"layer {request['digest']}: not unpacked within {_JOB_SECONDS:g} s"
                ) from None
            finally:
                if not answer.done():
                    await self._send({"kill": number}, ())
                    await _to_its_end(answer)

    async def _send(self, message: dict[str, Any], descriptors: Sequence[int]) -> None:
        data = json.dumps(message).encode()
        while self._channel is not None:
            try:
                socket.send_fds(self._channel, [data], descriptors)
                return
            except BlockingIOError:
                # More requests are waiting than a socket holds; the unpacker takes them in no time.
                await asyncio.sleep(0.01)
            except OSError as error:
                event(_log, logging.WARNING, "the unpacker cannot be reached", why=str(error))
                return

    def _rest(self) -> None:
        """Set the time at which the process ends, or do away with it while there are jobs."""
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        if self._process is not None and self._jobs == 0:
            self._idle = asyncio.get_running_loop().call_later(IDLE_SECONDS, self._forget)

    def _lost(self) -> None:
        """The process has closed its end: it died, for it never does so by itself."""
        event(_log, logging.WARNING, "the unpacker has ended", pid=self.pid)
        self._forget()

    def _forget(self) -> None:
        if self._idle is not None:
            self._idle.cancel()
            self._idle = None
        loop = asyncio.get_running_loop()
        if self._channel is not None:
            loop.remove_reader(self._channel.fileno())
            self._channel.close()
            self._channel = None
        process, self._process = self._process, None
        if process is not None:
            task = loop.create_task(_reap(process))
            self._ends.add(task)
            task.add_done_callback(self._ends.discard)


async def _read_all(channel: socket.socket) -> bytes:
    data = b""
    loop = asyncio.get_running_loop()
    while len(data) < _MAX_ANSWER:
        try:
            chunk = await loop.sock_recv(channel, 64 << 10)
        except ConnectionResetError:
            break
        if not chunk:
            break
        data += chunk
    return data


async def _to_its_end(task: asyncio.Future[bytes]) -> None:
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError:
            # The caller was cancelled before; what the job uses is only free after its end.
            continue


async def _reap(process: subprocess.Popen[bytes]) -> None:
    """Collect a process that was told to end."""
    stop: Callable[[], None]
    for stop in (lambda: None, process.kill):
        stop()
        try:
            await asyncio.to_thread(process.wait, _STOP_SECONDS)
            return
        except subprocess.TimeoutExpired:
            continue


def _boot(channel: socket.socket, base: Path) -> subprocess.Popen[bytes]:
    roots = {str(Path(package.__file__ or "").parent.parent)
             for package in (runtime, kubeletpy_common)}  # fmt: skip
    for name in _LIBRARIES:
        found = importlib.util.find_spec(name)
        if found is not None and found.origin is not None:
            roots.add(str(Path(found.origin).parent.parent))
    return subprocess.Popen(
        # -I -S: nothing of the user's environment is loaded.
        [sys.executable, "-I", "-S", "-c", _BOOT, str(channel.fileno()), str(base), *sorted(roots)],
        pass_fds=(channel.fileno(),),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env={"LC_ALL": "C.UTF-8"},
    )
