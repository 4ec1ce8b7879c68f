"""Services, EndpointSlices and Nodes of files: JSON or YAML, single objects or lists of them.

For dry runs, tests, benchmarks, and for learning what a Service becomes without any cluster.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from kubeletpy_common import logs
from kubeletpy_common.documents import DocumentError, parse_all
from proxy.model import objects

from .sink import Key, Kind, Sink, key_of
from .watching import changes

_log = logging.getLogger(__name__)
SUFFIXES = (".json", ".yaml", ".yml")
LARGEST = 1024 * 1024 * 1024
"""Bytes of one file: 44,000 Services with their slices are about 100 MB."""
_KINDS = {each.value: each for each in Kind}


class FileError(Exception):
    """A file that cannot be taken; the message names it and what is expected."""


class _Typed(msgspec.Struct):
    kind: str = ""


class _Items(msgspec.Struct):
    kind: str = ""
    items: list[msgspec.Raw] | None = None


def load(path: Path, sink: Sink) -> None:
    """Put all objects of a file, or of the files of a directory, into ``sink``.

    What is of another kind is passed over. What was there before and is in no file is dropped.

    Raises:
        FileError: a file cannot be read, or an object of it cannot be taken. What came before it
            was put in already; nothing was dropped.
    """
    keys: dict[Kind, set[Key]] = {kind: set() for kind in Kind}
    for file in files_of(path):
        try:
            for kind, one in _objects(_content(file)):
                key = key_of(one)
                if key in keys[kind]:
                    raise FileError(f"{kind.value} {'/'.join(key)} is there twice")
                keys[kind].add(key)
                sink.put(kind, one)
        except (DocumentError, objects.Unreadable, FileError) as error:
            raise FileError(f"{file}: {error}") from None
    for kind, found in keys.items():
        sink.keep(kind, found)


async def follow(path: Path, sink: Sink) -> None:
    """Put all objects into ``sink``, again whenever a file changes; ends only by being cancelled.

    Raises:
        FileError: the files cannot be taken at the begin. Later what was there stays, and the
            reason is told.
    """
    first = True
    try:
        async for _ in changes(path):
            try:
                load(path, sink)
            except FileError as error:
                if first:
                    raise
                logs.event(
                    _log, logging.ERROR, "objects stay as they were; the files cannot be taken",
                    reason=str(error),
                )  # fmt: skip
            first = False
    except OSError as error:
        raise FileError(f"{path}: {error.strerror}") from None


def files_of(path: Path) -> list[Path]:
    """Return the files to read: the path itself, or what of a directory ends in `SUFFIXES`.

    Raises:
        FileError: there is no such file.
    """
    if not path.is_dir():
        return [path]
    try:
        return sorted(
            each for each in path.iterdir()
            if each.suffix in SUFFIXES and not each.name.startswith(".")
        )  # fmt: skip
    except OSError as error:
        raise FileError(f"{path}: {error.strerror}") from None


def _content(file: Path) -> bytes:
    try:
        with open(file, "rb") as opened:
            data = opened.read(LARGEST + 1)
    except OSError as error:
        raise FileError(str(error.strerror)) from None
    if len(data) > LARGEST:
        raise FileError(f"larger than {LARGEST} bytes")
    return data


def _objects(data: bytes) -> Iterator[tuple[Kind, Any]]:
    if data.lstrip()[:1] == b"{":
        yield from _of_json(data)
        return
    for document in parse_all(data, largest=LARGEST):
        yield from _of_json(msgspec.json.encode(document))


def _of_json(data: bytes | msgspec.Raw) -> Iterator[tuple[Kind, Any]]:
    """Yield the objects of a JSON text: itself, or the items of a list; each decoded alone."""
    try:
        found = msgspec.json.decode(data, type=_Items)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise FileError(f"malformed JSON: {error}") from None
    if not found.kind.endswith("List"):
        if kind := _KINDS.get(found.kind):
            yield kind, _decoded(kind, data)
        elif not found.kind:
            raise FileError("an object without a kind")
        return
    # Items of a ServiceList do not say what they are.
    inherited = found.kind.removesuffix("List")
    for item in found.items or ():
        name = msgspec.json.decode(item, type=_Typed).kind or inherited
        if kind := _KINDS.get(name):
            yield kind, _decoded(kind, item)


def _decoded(kind: Kind, data: bytes | msgspec.Raw) -> Any:
    one = objects.decode(kind.type, data)
    if not one.metadata.namespace and kind is not Kind.NODE:
        one.metadata.namespace = "default"
    if not one.metadata.name:
        raise FileError(f"a {kind.value} without a name")
    return one
