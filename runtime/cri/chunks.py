"""Lists in parts, so that no message of a stream comes near gRPC's limit (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final, Protocol, TypeVar

CHUNK_BYTES: Final = 1 << 20
"""A message is sent once it is this large; one item alone may exceed it."""

CHUNK_ITEMS: Final = 100
"""How many containers or pods are measured for one message: the reader sees the first soon."""


class Sized(Protocol):
    """A protobuf message."""

    def ByteSize(self) -> int:
        """Return the bytes that it takes on the wire."""
        ...


_Message = TypeVar("_Message", bound=Sized)
_Item = TypeVar("_Item")


def by_size(messages: Iterable[_Message], limit: int = CHUNK_BYTES) -> Iterator[list[_Message]]:
    """Yield the messages in their order, in lists of up to ``limit`` bytes, none of them empty."""
    chunk: list[_Message] = []
    size = 0
    for message in messages:
        added = message.ByteSize()
        if chunk and size + added > limit:
            yield chunk
            chunk, size = [], 0
        chunk.append(message)
        size += added
    if chunk:
        yield chunk


def by_count(items: Iterable[_Item], limit: int = CHUNK_ITEMS) -> Iterator[list[_Item]]:
    """Yield the items in their order, in lists of at most ``limit``."""
    chunk: list[_Item] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == limit:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
