"""One job of the unpacker, in a process of its own: unpack a layer, or finish one.

Paths are those of the unpacker, whose root is the directory of the snapshots.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import resource
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from kubeletpy_common.linux import processes
from runtime.images.disk import NO_SPACE
from runtime.images.errors import (
    ImageError,
    MalformedImage,
    NoSpace,
    StoreError,
    UnsafeLayer,
)
from runtime.snapshots.trees import usage
from runtime.unpacker.entries import FrameReader, FrameWriter
from runtime.unpacker.limits import UnpackLimits
from runtime.unpacker.names import shown
from runtime.unpacker.reader import Packing, confine, read_layer
from runtime.unpacker.settle import Notes, settle
from runtime.unpacker.writer import LayerWriter

_PIPE_BYTES: Final = 1 << 20
_F_SETPIPE_SZ: Final = 1031
_NAMES_AT_FAULT: Final = frozenset(
    {errno.ENAMETOOLONG, errno.ELOOP, errno.EXDEV, errno.ENOTDIR, errno.EMLINK, errno.E2BIG,
     errno.EINVAL, errno.ERANGE, errno.ENOTEMPTY, errno.EISDIR, errno.EEXIST}
)  # fmt: skip
"""Refusals of the kernel that speak of the entry, not of the disk."""

_CAPABILITIES: Final = (
    "CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER", "CAP_FSETID", "CAP_MKNOD", "CAP_SETFCAP",
    "CAP_KILL",  # the reader is another user: without it, it would outlive a writer that is killed
    "CAP_SYS_ADMIN",  # for overlayfs' own extended attributes, trusted.*
)  # fmt: skip
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class Descriptors:
    """What came with a request.

    Attributes:
        reply: where the answer goes.
        notes: a file for what waits for the lower layers.
        blob: the layer's; -1 for a job that needs none.
    """

    reply: int
    notes: int
    blob: int = -1


"""The order is that of the message."""


def run(request: dict[str, Any], descriptors: Descriptors) -> NoReturn:
    """Do a job, answer, and end this process."""
    try:
        answer = _answer(request, descriptors)
    except BaseException as error:
        text = f"the unpacker failed: {type(error).__name__}: {error}"
        answer = {"error": StoreError.__name__, "text": text}
    try:
        with socket.socket(fileno=descriptors.reply) as channel:
            channel.sendall(json.dumps(answer).encode())
    finally:
        os._exit(0)


def _answer(request: dict[str, Any], descriptors: Descriptors) -> dict[str, Any]:
    what = f"layer {request['digest']}"
    try:
        if request["job"] == "unpack":
            return _unpack(request, descriptors)
        return _finish(request, descriptors)
    except ImageError as error:
        return {"error": type(error).__name__, "text": f"{what}: {error}"}
    except OSError as error:
        if error.errno in NO_SPACE:
            # The daemon adds how full the disk is, and the name that the disk has for people.
            return {"error": NoSpace.__name__, "text": f"unpacking {what}: {error.strerror}"}
        return {"error": StoreError.__name__, "text": f"unpacking {what}: {error}"}
    except MemoryError:
        text = f"{what}: unpacking it takes more memory than the limit"
        return {"error": UnsafeLayer.__name__, "text": text}


def _unpack(request: dict[str, Any], descriptors: Descriptors) -> dict[str, Any]:
    limits = UnpackLimits(**request["limits"])
    packing = Packing(request["compression"], request["diff_id"], limits)
    pipe, reader = _start_reader(descriptors.blob, packing)
    os.close(descriptors.blob)
    _confine(limits.max_memory)
    root_fd = os.open(request["directory"], _DIRECTORY)
    os.fchown(root_fd, 0, 0)
    os.fchmod(root_fd, 0o755)
    writer = LayerWriter(root_fd, limits)
    with open(pipe, "rb", buffering=_PIPE_BYTES) as stream:
        _apply_all(FrameReader(stream), writer)
    os.waitpid(reader, 0)
    writer.set_times()
    with open(descriptors.notes, "wb") as file:
        Notes(tuple(sorted(writer.tree.implied.values())), tuple(writer.pending)).write(file)
    return {"opaque_root": writer.opaque_root}


def _start_reader(blob: int, packing: Packing) -> tuple[int, int]:
    """Fork the reader; returns the pipe from it, and its process id."""
    receiving, sending = os.pipe2(os.O_CLOEXEC)
    try:
        fcntl.fcntl(sending, _F_SETPIPE_SZ, _PIPE_BYTES)
    except OSError:
        # Beyond the system's limit: it goes without, in smaller steps.
        pass
    pid = os.fork()
    if pid:
        os.close(sending)
        return receiving, pid
    try:
        confine(blob, sending, packing.limits.max_memory)
        with open(blob, "rb", buffering=0) as file:
            read_layer(file, packing, FrameWriter(sending))
    except BaseException:
        # The writer finds the pipe closed before the end, and says so.
        os._exit(1)
    os._exit(0)


def _confine(max_memory: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (max_memory, max_memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    keep = processes.capability_numbers(_CAPABILITIES)
    processes.limit_bounding_set(keep)
    processes.set_capabilities(keep, keep, frozenset())
    processes.set_no_new_privs()


def _apply_all(frames: FrameReader, writer: LayerWriter) -> None:
    for entry in frames.entries():
        try:
            writer.apply(entry, frames.content)
        except OSError as error:
            if error.errno in _NAMES_AT_FAULT:
                raise UnsafeLayer(f"entry {shown(entry.name)}: {error}") from error
            raise
        except OverflowError as error:
            raise MalformedImage(f"entry {shown(entry.name)}: {error}") from None


def _finish(request: dict[str, Any], descriptors: Descriptors) -> dict[str, Any]:
    _confine(request["max_memory"])
    with open(descriptors.notes, "rb") as file:
        file.seek(0)
        notes = Notes.read(file)
    root_fd = os.open(request["directory"], _DIRECTORY)
    settle(root_fd, [Path(path) for path in request["lower"]], notes)
    used, inodes = usage(request["directory"])
    return {"bytes": used, "inodes": inodes}
