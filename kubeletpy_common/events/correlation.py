"""Which events are written, and how: the rules by which Kubernetes' clients keep events few.

As in client-go's ``EventCorrelator`` with its defaults: the same thing happening again counts up
the event that is there; more than ten events within ten minutes that differ in their message only
become one that is counted up; and of one object 25 events pass at once, then one in five minutes.
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

SIMILAR, INTERVAL = 10, 600.0
"""Different messages of similar events within so many seconds, beyond which they are combined."""
BURST, REFILL = 25, 1 / 300
"""Events of one object at once, and how many more each second."""
REMEMBERED = 4096
"""Entries of each memory; who was not seen for the longest time is forgotten."""
COMBINED = "(combined from similar events): "

Event = dict[str, Any]
"""An event of core/v1, as plain data."""
Key = tuple[str, ...]
_V = TypeVar("_V")


@dataclass(frozen=True, slots=True)
class Write:
    """What to send.

    Attributes:
        key: of the event; what is about one key must be sent in order.
        event: to create, or with the count to give to the one of its name.
        again: whether it is there already.
    """

    key: Key
    event: Event
    again: bool


class _Memory(OrderedDict[Key, _V], Generic[_V]):
    """A bounded map: what was used last stays longest."""

    def recall(self, key: Key) -> _V | None:
        value = self.get(key)
        if value is not None:
            self.move_to_end(key)
        return value

    def keep(self, key: Key, value: _V) -> None:
        self[key] = value
        self.move_to_end(key)
        while len(self) > REMEMBERED:
            self.popitem(last=False)


@dataclass
class _Similar:
    messages: set[Key] = field(default_factory=set)
    last: float = 0.0


@dataclass
class _Bucket:
    tokens: float
    at: float


class Correlator:
    """Decides about events one after the other."""

    def __init__(self) -> None:
        self._similar: _Memory[_Similar] = _Memory()
        self._written: _Memory[Event] = _Memory()
        self._buckets: _Memory[_Bucket] = _Memory()

    def observe(self, event: Event, now: float) -> Write | None:
        """Return what to write about ``event``, None if it is one too many.

        Args:
            event: one occurrence; its own count does not matter.
            now: seconds, growing.
        """
        event = copy.deepcopy(event)
        key = self._aggregate(event, now)
        before = self._written.recall(key)
        event["count"] = 1
        if before is not None:
            event["count"] = before["count"] + 1
            event["firstTimestamp"] = before["firstTimestamp"]
            event["metadata"] = before["metadata"]
        self._written.keep(key, event)
        if not self._passes(event, now):
            return None
        return Write(key, event, before is not None)

    def missing(self, key: Key) -> None:
        """Take note that an event is not in the API server any more: it is to be made anew."""
        self._written.pop(key, None)

    def _aggregate(self, event: Event, now: float) -> Key:
        """Return the key of ``event``; the message of one of many similar ones says so."""
        own, similar = _own_key(event), _similar_key(event)
        known = self._similar.recall(similar)
        if known is None or now - known.last > INTERVAL:
            known = _Similar()
        known.messages.add(own)
        known.last = now
        self._similar.keep(similar, known)
        if len(known.messages) < SIMILAR:
            return own
        # The set need not grow beyond what tells that there are too many.
        known.messages.pop()
        event["message"] = COMBINED + event["message"]
        return similar

    def _passes(self, event: Event, now: float) -> bool:
        key = (*_source_key(event), *_about_key(event))
        bucket = self._buckets.recall(key) or _Bucket(float(BURST), now)
        bucket.tokens = min(bucket.tokens + (now - bucket.at) * REFILL, BURST)
        bucket.at = now
        self._buckets.keep(key, bucket)
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True


def _source_key(event: Event) -> Key:
    source = event.get("source") or {}
    return source.get("component", ""), source.get("host", "")


def _about_key(event: Event) -> Key:
    about = event["involvedObject"]
    return tuple(about.get(name, "") for name in ("kind", "namespace", "name", "uid", "apiVersion"))


def _similar_key(event: Event) -> Key:
    last = ("type", "reason", "reportingComponent", "reportingInstance")
    own = (event.get(name, "") for name in last)
    return (*_source_key(event), *_about_key(event), *own)


def _own_key(event: Event) -> Key:
    return (
        *_similar_key(event), event["involvedObject"].get("fieldPath", ""),
        event.get("message", ""),
    )  # fmt: skip
