"""Events about objects, as people read them with ``kubectl describe``."""

from __future__ import annotations

import logging
import time
from datetime import UTC, datetime
from typing import Final

from kubeletpy_common import logs
from kubeletpy_common.events.sink import EventSink

from .resources import Object

_log = logging.getLogger(__name__)
NORMAL: Final = "Normal"
WARNING: Final = "Warning"
_LONGEST: Final = 1024


class Recorder:
    """Tells events of one component.

    Args:
        component: that tells them, as ``deployment-controller``.
        sink: sends them; None: they are only logged.
    """

    def __init__(self, component: str, sink: EventSink | None) -> None:
        self._component = component
        self._sink = sink

    def of(self, component: str) -> Recorder:
        """Return the recorder of another component of this process."""
        return Recorder(component, self._sink)

    def normal(self, about: Object, reason: str, message: str, field: str = "") -> None:
        """Record that something went as it should."""
        self._record(about, NORMAL, reason, message, field)

    def warning(self, about: Object, reason: str, message: str, field: str = "") -> None:
        """Record that something went wrong."""
        self._record(about, WARNING, reason, message, field)

    def _record(self, about: Object, kind: str, reason: str, message: str, field: str) -> None:
        event = event_of(about, kind, reason, message[:_LONGEST], self._component, field)
        logs.event(
            _log, logging.WARNING if kind == WARNING else logging.DEBUG, message, event=reason,
            object=f"{about['kind']}/{about['metadata'].get('namespace', '')}/"
            f"{about['metadata']['name']}",
        )  # fmt: skip
        if self._sink is not None:
            self._sink.take(event)


def event_of(
    about: Object, kind: str, reason: str, message: str, component: str, field: str = ""
) -> Object:
    """Return an event of core/v1.

    Args:
        about: the object, with its kind and apiVersion.
        kind: `NORMAL` or `WARNING`.
        reason: one word.
        message: for people.
        component: that tells it.
        field: path in the object that it is about.
    """
    meta = about["metadata"]
    stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    reference = {
        "apiVersion": about["apiVersion"], "kind": about["kind"], "name": meta["name"],
        "namespace": meta.get("namespace", ""), "uid": meta.get("uid", ""),
        "resourceVersion": meta.get("resourceVersion", ""), "fieldPath": field,
    }  # fmt: skip
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": f"{meta['name']}.{time.time_ns():x}",
            "namespace": meta.get("namespace") or "default",
        },
        "involvedObject": {name: text for name, text in reference.items() if text},
        "reason": reason,
        "message": message,
        "type": kind,
        "source": {"component": component},
        "reportingComponent": component,
        "reportingInstance": "",
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
        "count": 1,
    }
