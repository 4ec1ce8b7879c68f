"""The terms of the store: items, changes, and what may go wrong.

They follow etcd's (etcd documentation, "Data model"): one counter for the whole store, the
revision, which each write raises by one; an item knows the revision that made it and the one that
changed it last.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Item:
    """A key with its value; each write makes a new one, and the same one is there until the next.

    Attributes:
        key: such as ``/pods/default/web``.
        value: any bytes.
        created: revision of the write that made the key.
        modified: revision of the last write to it.
    """

    key: str
    value: bytes
    created: int
    modified: int


@dataclass(frozen=True, slots=True)
class Change:
    """One write.

    Attributes:
        revision: that it got.
        key: that was written.
        item: what is there now; None: the key was deleted.
        previous: what was there before; None: the key was made.
    """

    revision: int
    key: str
    item: Item | None
    previous: Item | None


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a list.

    Attributes:
        items: in the order of their keys.
        revision: as of which they are.
        remaining: how many more there are behind the last one.
    """

    items: tuple[Item, ...]
    revision: int
    remaining: int


class StoreError(Exception):
    """The store cannot be used; the text says what was tried and what to do."""


class TooLargeError(Exception):
    """A value is larger than the store can keep; nothing was written."""


class MismatchError(Exception):
    """A write's condition does not hold; nothing was written.

    Attributes:
        current: what is there instead; None: nothing.
    """

    def __init__(self, key: str, expected: int, current: Item | None) -> None:
        super().__init__(
            f"{key}: expected revision {expected}, found {current.modified if current else 0}"
        )
        self.current = current


class CompactedError(Exception):
    """Changes since, or the state at, this revision are no longer known.

    Attributes:
        oldest: the oldest revision that can still be asked for.
    """

    def __init__(self, revision: int, oldest: int) -> None:
        super().__init__(f"revision {revision} is too old: the oldest one kept is {oldest}")
        self.oldest = oldest


class FutureRevisionError(Exception):
    """A revision was asked for that has not been reached yet."""

    def __init__(self, revision: int, current: int) -> None:
        super().__init__(f"revision {revision} is in the future: the store is at {current}")
        self.current = current


@dataclass(frozen=True, slots=True)
class Contents:
    """What is there when a store is opened.

    Attributes:
        revision: the last one given.
        floor: as of which the items are.
        items: all that was there at ``floor``.
        changes: what came after, in order.
    """

    revision: int
    floor: int
    items: tuple[Item, ...]
    changes: tuple[Change, ...]


@dataclass(frozen=True, slots=True)
class Trim:
    """What of the history is forgotten.

    Attributes:
        floor: changes up to this revision are.
        dead: revisions of the writes whose values nobody can ask for any more.
    """

    floor: int
    dead: tuple[int, ...]


class Log(Protocol):
    """Where writes are made durable."""

    def open(self) -> Contents:
        """Return what is there.

        Raises:
            StoreError: it cannot be opened, is damaged, or is of a newer version.
        """
        ...

    def append(self, changes: list[Change], trim: Trim | None) -> None:
        """Write changes, all or none; they are on the disk when this returns.

        Args:
            changes: in the order of their revisions.
            trim: what may be forgotten; None: nothing now.

        Raises:
            StoreError: none was written, and nothing forgotten.
        """
        ...

    def close(self) -> None:
        """Let go of the files."""
        ...
