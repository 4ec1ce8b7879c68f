"""The event recorder: what happened to pods, for people.

An event is logged, and kept in a bounded ring that the kubelet serves at ``/events``; the same
thing happening again to the same object raises the count of the event that is there, as
``kubectl get events`` shows it.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable

from kubeletpy_common import logs

from .api.base import micro_now
from .api.events import NORMAL, WARNING, Event, new_event, pod_reference
from .api.meta import ObjectReference
from .api.pod import Pod

_log = logging.getLogger(__name__)
_Key = tuple[str, str, str, str, str, str]

LONGEST_MESSAGE = 1024
"""The API server's limit for the message of an event, in characters."""


class Recorder:
    """Keeps the latest events.

    Args:
        host: name of the node.
        capacity: how many different events are kept.
    """

    def __init__(self, host: str, capacity: int = 1000) -> None:
        self._host = host
        self._capacity = capacity
        self.listeners: list[Callable[[Event], None]] = []
        """Each is called with every event, new or counted up."""
        self._events: OrderedDict[_Key, Event] = OrderedDict()

    def normal(self, pod: Pod, reason: str, message: str, container: str = "") -> None:
        """Record that something went as it should, about ``pod`` or a container of it."""
        self._record(_reference(pod, container), NORMAL, reason, message)

    def warning(self, pod: Pod, reason: str, message: str, container: str = "") -> None:
        """Record that something went wrong with ``pod`` or a container of it."""
        self._record(_reference(pod, container), WARNING, reason, message)

    def node(self, kind: str, reason: str, message: str) -> None:
        """Record something about the node; ``kind`` is NORMAL or WARNING."""
        reference = ObjectReference(kind="Node", name=self._host, uid=self._host)
        self._record(reference, kind, reason, message)

    def events(self) -> list[Event]:
        """Return the events kept, the one that happened last at the end."""
        return list(self._events.values())

    def _record(self, reference: ObjectReference, kind: str, reason: str, message: str) -> None:
        message = message[:LONGEST_MESSAGE]
        key = (reference.kind, reference.uid, reference.field_path, kind, reason, message)
        event = self._events.pop(key, None)
        if event is None:
            event = new_event(reference, kind, reason, message, host=self._host)
            while len(self._events) >= self._capacity:
                self._events.popitem(last=False)
        else:
            event.count += 1
            event.last_timestamp = micro_now().replace(microsecond=0)
        self._events[key] = event
        logs.event(
            _log,
            logging.WARNING if kind == WARNING else logging.INFO,
            message,
            event=reason,
            object=f"{reference.kind}/{reference.namespace}/{reference.name}",
            field=reference.field_path,
            count=event.count,
        )
        for listener in self.listeners:
            listener(event)


def _reference(pod: Pod, container: str) -> ObjectReference:
    init = any(one.name == container for one in pod.spec.init_containers)
    return pod_reference(pod, container, init=init)
