"""What daemon, spawner and shim say to each other, and how it is framed on a stream socket.

A frame is two big-endian 32-bit lengths, a JSON object of the first length, and raw bytes of the
second. Requests carry ``id`` and ``op``; the answer carries the same ``id`` and ``result`` or
``error``; an object with ``event`` answers nothing. Paths may be given as objects and arrive as
text.
"""

from __future__ import annotations

import json
import struct

from kubeletpy_common.record import Record

# Type checkers take this name for true; see kubeletpy_common/record.py.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from os import PathLike
    from typing import Any, Final

    Message = dict[str, Any]
    StrPath = str | PathLike[str]

PROTOCOL: Final = 1
"""Version of what is said here. A shim keeps the one it was started with for as long as its pod
lives, and daemons of other versions connect to it: raise this when they could misunderstand it."""
OLDEST_PROTOCOL: Final = 1
"""The oldest version whose shims this daemon can go on with."""
MAX_HEADER: Final = 4 << 20
MAX_PAYLOAD: Final = 64 << 20
OUTPUT_LIMIT: Final = 16 << 20
"""Bytes of stdout, and of stderr, that ExecSync keeps; the rest is read and dropped."""

_LENGTHS: Final = struct.Struct(">II")


class ProtocolError(Exception):
    """The other side sent something that is no frame of this protocol."""


class Rootfs(Record):
    """The overlay that becomes a container's root.

    All directories are relative to ``base``, which keeps the mount option below its limit of one
    page however many layers there are.

    Attributes:
        lower: layer directories, the topmost first; at least one.
        upper: the container's own writable directory.
        work: overlayfs' scratch directory, on the same file system as ``upper``.
        base: absolute path of the directory that holds them.
    """

    lower: tuple[str, ...]
    upper: str
    work: str
    base: str

    @classmethod
    def from_message(cls, message: Message) -> Rootfs:
        """Build from what :func:`to_message` and JSON made of one."""
        return cls(tuple(message["lower"]), message["upper"], message["work"], message["base"])


class SandboxSpec(Record):
    """What the spawner needs to make the process side of a pod sandbox.

    Attributes:
        sandbox_id: the CRI id.
        directory: ``<state>/sandboxes/<id>``; exists, mode 0700.
        hostname: set in the UTS namespace, if that is new.
        new_network: give the pod a network namespace of its own (else the daemon's is used).
        new_ipc: likewise for System V IPC and POSIX message queues, with an own ``/dev/shm``.
        new_uts: likewise for the host name.
        shared_pid: give the pod one PID namespace that its containers share.
        sysctls: namespaced sysctls to set, names with dots as in Kubernetes.
        cgroup_procs: ``cgroup.procs`` files that the shim joins.
        shm_size: bytes of ``/dev/shm``.
        uid_mappings: of the pod's own user namespace, as in an OCI configuration; empty: the
            host's is used.
        gid_mappings: likewise.
        external: its containers are run by an external OCI runtime.
    """

    sandbox_id: str
    directory: StrPath
    hostname: str = ""
    new_network: bool = True
    new_ipc: bool = True
    new_uts: bool = True
    shared_pid: bool = False
    sysctls: Mapping[str, str] | None = None
    cgroup_procs: tuple[StrPath, ...] = ()
    shm_size: int = 64 << 20
    uid_mappings: tuple[dict[str, int], ...] = ()
    gid_mappings: tuple[dict[str, int], ...] = ()
    external: bool = False

    @classmethod
    def from_message(cls, message: Message) -> SandboxSpec:
        """Build from what :func:`to_message` and JSON made of one."""
        values = dict(message)
        for key in ("cgroup_procs", "uid_mappings", "gid_mappings"):
            values[key] = tuple(values[key])
        return cls(**values)


class StartRequest(Record):
    """What the shim needs to start a container.

    Attributes:
        container_id: the CRI id.
        bundle: ``<state>/containers/<id>``, holding ``config.json`` (OCI runtime specification) and
            the empty directory ``rootfs``; ``exit.json`` is written there.
        rootfs: the overlay to mount on ``rootfs``, inside the container's mount namespace.
        linux: what :func:`runtime.oci.confinement.shared_confinement` takes from the configuration:
            the shim keeps no more of it, for as long as the container runs.
        log_path: the CRI log file; None drops the output.
        terminal: connect the process to a new pseudo terminal.
        stdin: keep a pipe (or the terminal) open for the process's standard input.
        stdin_once: close it after the first attached client leaves.
        cgroup_procs: ``cgroup.procs`` files that the process joins.
        oom_file: the file whose ``oom_kill`` count tells of OOM kills.
        runtime: None, or how to call the external OCI runtime that is to run it:
            :class:`runtime.shim.external.command_line.CommandLine` as a message.
    """

    container_id: str
    bundle: StrPath
    rootfs: Rootfs
    linux: Mapping[str, Any]
    log_path: StrPath | None = None
    terminal: bool = False
    stdin: bool = False
    stdin_once: bool = False
    cgroup_procs: tuple[StrPath, ...] = ()
    oom_file: StrPath | None = None
    runtime: Message | None = None

    @classmethod
    def from_message(cls, message: Message) -> StartRequest:
        """Build from what :func:`to_message` and JSON made of one."""
        values = dict(message)
        values["rootfs"] = Rootfs.from_message(values["rootfs"])
        values["cgroup_procs"] = tuple(values["cgroup_procs"])
        return cls(**values)


class Started(Record):
    """A container's first process runs.

    Attributes:
        pid: its process id in the daemon's PID namespace.
        started_at_ns: when execve succeeded, nanoseconds since the epoch.
    """

    pid: int
    started_at_ns: int


class ExitRecord(Record):
    """How a container's first process ended.

    Attributes:
        container_id: the CRI id.
        exit_code: its exit status, or 128 plus the number of the signal that ended it.
        exited_at_ns: when it was reaped, nanoseconds since the epoch.
        oom_killed: the kernel's OOM killer struck in the container's cgroup.
    """

    container_id: str
    exit_code: int
    exited_at_ns: int
    oom_killed: bool = False


class ContainerReport(Record):
    """What a shim knows of one container.

    Attributes:
        container_id: the CRI id.
        pid: process id of its first process, in the daemon's PID namespace.
        started_at_ns: when execve succeeded, nanoseconds since the epoch.
        exit: how it ended, None while it runs.
    """

    container_id: str
    pid: int
    started_at_ns: int
    exit: ExitRecord | None = None


class ExecResult(Record):
    """What came of a command run by ExecSync.

    Attributes:
        stdout: at most :data:`OUTPUT_LIMIT` bytes of its standard output.
        stderr: likewise of its standard error.
        exit_code: its exit status, or 128 plus the number of the signal that ended it.
        timed_out: it was killed because its time was up.
    """

    stdout: bytes
    stderr: bytes
    exit_code: int
    timed_out: bool = False


def to_message(value: Record) -> Message:
    """Turn one of the records above into what JSON can carry."""
    return {key: _plain(item) for key, item in value.to_dict().items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return to_message(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value.__fspath__() if hasattr(value, "__fspath__") else value


def encode(message: Message, payload: bytes = b"") -> bytes:
    """Return the frame of ``message`` and ``payload``.

    Raises:
        ProtocolError: one of them is larger than the protocol allows.
    """
    header = json.dumps(message, separators=(",", ":")).encode()
    if len(header) > MAX_HEADER or len(payload) > MAX_PAYLOAD:
        raise ProtocolError(f"frame of {len(header)}+{len(payload)} bytes is too large to send")
    return _LENGTHS.pack(len(header), len(payload)) + header + payload


class Decoder:
    """Cuts a stream of bytes into frames, however the bytes arrive."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[tuple[Message, bytes]]:
        """Take more bytes, and return the frames that are complete now.

        Raises:
            ProtocolError: a length is beyond the limits, or a header is no JSON object.
        """
        self._buffer += data
        frames: list[tuple[Message, bytes]] = []
        while (frame := self._take()) is not None:
            frames.append(frame)
        return frames

    def _take(self) -> tuple[Message, bytes] | None:
        if len(self._buffer) < _LENGTHS.size:
            return None
        header_size, payload_size = _LENGTHS.unpack_from(self._buffer)
        if header_size > MAX_HEADER or payload_size > MAX_PAYLOAD:
            raise ProtocolError(f"frame of {header_size}+{payload_size} bytes is too large")
        start, end = _LENGTHS.size, _LENGTHS.size + header_size + payload_size
        if len(self._buffer) < end:
            return None
        header = bytes(self._buffer[start : start + header_size])
        payload = bytes(self._buffer[start + header_size : end])
        del self._buffer[:end]
        try:
            message = json.loads(header)
        except ValueError as error:
            raise ProtocolError(f"frame header is no JSON: {error}") from error
        if not isinstance(message, dict):
            raise ProtocolError("frame header is no JSON object")
        return message, payload
