"""Events that are told once, and not each time that a thing is looked at."""

from __future__ import annotations

import time
from typing import Final

from controlplane.engine.recorder import Recorder
from controlplane.engine.resources import Object

AGAIN: Final = 1800.0
"""Seconds after which the same is told once more: a server forgets events in an hour."""
_MOST: Final = 10_000


class Sayings:
    """Tells events about objects, each time that something else is to be told of one.

    Args:
        recorder: sends them.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._said: dict[str, tuple[str, str, float]] = {}

    def say(self, about: Object, kind: str, reason: str, message: str) -> None:
        """Tell an event, unless it was the last one about this object.

        Args:
            kind: ``Normal`` or ``Warning``.
        """
        uid, now = about["metadata"]["uid"], time.monotonic()
        before = self._said.pop(uid, None)
        if before is not None and before[:2] == (reason, message) and now < before[2] + AGAIN:
            self._said[uid] = before
            return
        if len(self._said) >= _MOST:
            del self._said[next(iter(self._said))]
        self._said[uid] = (reason, message, now)
        tell = self._recorder.warning if kind == "Warning" else self._recorder.normal
        tell(about, reason, message)

    def forget(self, about: Object) -> None:
        """Take note that an object is well, or gone: what comes next is news."""
        self._said.pop(about["metadata"]["uid"], None)
