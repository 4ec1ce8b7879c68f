"""``Event``: something that happened to an object, as people read it."""

from __future__ import annotations

from datetime import datetime

import msgspec

from .base import ApiStruct, Int32, Time, micro_now
from .meta import ObjectMeta, ObjectReference
from .pod import Pod

NORMAL = "Normal"
WARNING = "Warning"


class EventSource(ApiStruct):
    """Who reports."""

    component: str = ""
    host: str = ""


class Event(ApiStruct):
    """An event of core/v1."""

    api_version: str = "v1"
    kind: str = "Event"
    metadata: ObjectMeta = msgspec.field(default_factory=ObjectMeta)
    involved_object: ObjectReference = msgspec.field(default_factory=ObjectReference)
    reason: str = ""
    message: str = ""
    source: EventSource = msgspec.field(default_factory=EventSource)
    first_timestamp: Time | None = None
    last_timestamp: Time | None = None
    count: Int32 = 0
    type: str = ""
    event_time: Time | None = None
    action: str = ""
    related: ObjectReference | None = None
    reporting_component: str = ""
    reporting_instance: str = ""


def pod_reference(pod: Pod, container: str = "", *, init: bool = False) -> ObjectReference:
    """Return the reference to ``pod``, or to a container of it, that events carry."""
    field = ""
    if container:
        field = f"spec.{'initContainers' if init else 'containers'}{{{container}}}"
    return ObjectReference(
        kind="Pod",
        api_version="v1",
        namespace=pod.metadata.namespace,
        name=pod.metadata.name,
        uid=pod.metadata.uid,
        field_path=field,
    )


def new_event(
    reference: ObjectReference,
    event_type: str,
    reason: str,
    message: str,
    *,
    host: str = "",
    at: datetime | None = None,
) -> Event:
    """Return an event of the kubelet: ``event_type`` is NORMAL or WARNING, ``reason`` one word."""
    instant = at or micro_now()
    second = instant.replace(microsecond=0)
    return Event(
        metadata=ObjectMeta(
            name=f"{reference.name}.{int(instant.timestamp() * 1e9):x}",
            namespace=reference.namespace or "default",
        ),
        involved_object=reference,
        reason=reason,
        message=message,
        source=EventSource(component="kubelet", host=host),
        first_timestamp=second,
        last_timestamp=second,
        count=1,
        type=event_type,
        reporting_component="kubelet",
        reporting_instance=host,
    )
