"""Event: one stored object, served as v1 and as events.k8s.io/v1.

Source: Kubernetes, API reference, Event v1 and events.k8s.io/v1; KEP-383.
"""

from __future__ import annotations

from typing import Any, Final

from controlplane.api.errors import Cause
from controlplane.api.formats import label_key_problems
from controlplane.api.metadata import immutable, required, wrong
from controlplane.api.resource import Column, Object, Strategy
from controlplane.server.tables import age_of

_LONGEST: Final = (("reportingInstance", 128), ("action", 128), ("reason", 128), ("message", 1024))
# Names in the core form, and in that of events.k8s.io.
_NAMES: Final = {
    "involvedObject": "regarding",
    "message": "note",
    "source": "deprecatedSource",
    "firstTimestamp": "deprecatedFirstTimestamp",
    "lastTimestamp": "deprecatedLastTimestamp",
    "count": "deprecatedCount",
    "reportingComponent": "reportingController",
}
_BACK: Final = {new: old for old, new in _NAMES.items()}
_OF_OBJECT: Final = ("kind", "namespace", "name", "uid", "apiVersion", "resourceVersion",
                     "fieldPath")  # fmt: skip
_FIXED: Final = (
    "involvedObject", "reason", "message", "source", "firstTimestamp", "lastTimestamp", "count",
    "reason", "type", "eventTime", "action", "related", "reportingComponent", "reportingInstance",
)  # fmt: skip
_SELECTABLE: Final = {
    **{f"involvedObject.{key}": f"regarding.{key}" for key in _OF_OBJECT},
    "reason": "reason",
    "reportingComponent": "reportingController",
    "type": "type",
}


class EventStrategy(Strategy):
    """The form that is kept."""

    create_on_update = True
    generation = False
    has_status = False
    names = "path"
    selectable = frozenset({*_SELECTABLE, "source"})
    columns = (
        Column("Last Seen", description="How long ago it happened last."),
        Column("Type", description="Normal, or Warning."),
        Column("Reason", description="In a word."),
        Column("Object", description="That it is about."),
        Column("Subobject", priority=1, description="Part of the object."),
        Column("Source", priority=1, description="Who tells it."),
        Column("Message", description="In a sentence."),
        Column("First Seen", priority=1, description="How long ago it happened first."),
        Column("Count", priority=1, description="How often it happened."),
        Column("Name", format="name", priority=1, description="Of the event."),
    )

    def default(self, value: Object) -> None:
        """Put in what is always there."""
        value.setdefault("source", {})
        value.setdefault("reportingComponent", "")
        value.setdefault("reportingInstance", "")
        value.setdefault("involvedObject", {})

    def validate(self, value: Object, old: Object | None) -> list[Cause]:
        """Return what is wrong."""
        return check_event(value, "reportingComponent")

    def fields(self, value: Object) -> dict[str, str]:
        """Return what field selectors can ask for."""
        return {**_fields(value), "source": _component(value)}

    def row(self, value: Object) -> list[Any]:
        """Return the cells."""
        about, source = value.get("involvedObject", {}), value.get("source", {})
        first = _age(value.get("firstTimestamp") or value.get("eventTime"))
        last = _age(value["lastTimestamp"]) if value.get("lastTimestamp") else first
        count = value.get("count") or 1
        series = value.get("series")
        if series:
            last, count = _age(series.get("lastObservedTime")), series.get("count", 0)
        kind, name = about.get("kind", "").lower(), about.get("name", "")
        instance = source.get("host") or value.get("reportingInstance", "")
        return [
            last,
            value.get("type", ""),
            value.get("reason", ""),
            f"{kind}/{name}" if name else kind,
            about.get("fieldPath", ""),
            ", ".join([_component(value), instance] if instance else [_component(value)]),
            value.get("message", "").strip(),
            first,
            count,
            value["metadata"]["name"],
        ]


class NewEventStrategy(EventStrategy):
    """The form of events.k8s.io/v1, whose checks are stricter."""

    home = "core"
    converts = True
    names = "subdomain"
    selectable = frozenset(_SELECTABLE.values())

    def default(self, value: Object) -> None:
        """Put in what is always there."""
        value.setdefault("deprecatedSource", {})
        value.setdefault("regarding", {})

    def validate(self, value: Object, old: Object | None) -> list[Cause]:
        """Return what is wrong; fields have the names of the kept form, as in Kubernetes."""
        new = self.to_stored(value)
        causes = check_event(new, "reportingController")
        if old is None:
            return causes + _check_strictly(new)
        before = self.to_stored(old)
        if new.get("series") != before.get("series"):
            causes += _check_series(new)
        # Kubernetes looks at the reason twice.
        shown = {"reportingComponent": "reportingController"}
        return causes + [
            immutable(shown.get(key, key), new.get(key))
            for key in _FIXED
            if (new.get(key) or None) != (before.get(key) or None)
        ]

    def fields(self, value: Object) -> dict[str, str]:
        """Return what field selectors can ask for."""
        return {_SELECTABLE[key]: text for key, text in _fields(value).items()}

    def row(self, value: Object) -> list[Any]:
        """Return the cells."""
        return super().row(self.to_stored(value))

    def to_stored(self, value: Object) -> Object:
        """Return the form of the core group."""
        renamed = {_BACK.get(key, key): item for key, item in value.items()}
        return {"reportingComponent": "", "reportingInstance": "", **renamed, "apiVersion": "v1"}

    def to_served(self, value: Object) -> Object:
        """Return the form of events.k8s.io."""
        renamed = {_NAMES.get(key, key): item for key, item in value.items()}
        for key in ("reportingController", "reportingInstance"):
            if not renamed.get(key):
                renamed.pop(key, None)
        return {**renamed, "apiVersion": "events.k8s.io/v1"}


def check_event(event: Object, controller: str) -> list[Cause]:
    """Return what is wrong with an event in the kept form.

    Args:
        event: it.
        controller: what the form of the request calls ``reportingComponent``.
    """
    namespace = event["metadata"].get("namespace", "")
    about = event.get("involvedObject", {}).get("namespace", "")
    causes: list[Cause] = []
    mismatch = wrong("involvedObject.namespace", about, "does not match event.namespace")
    if not event.get("eventTime"):
        fits = namespace == about if about else namespace in ("", "default")
        return [] if fits else [mismatch]
    if not about and namespace not in ("default", "kube-system"):
        causes.append(mismatch)
    name = event.get("reportingComponent", "")
    if not name:
        causes.append(required(controller))
    causes += [wrong(controller, name, why) for why in label_key_problems(name)]
    for key, most in _LONGEST:
        text = event.get(key, "")
        if not text and key != "message":
            causes.append(required(key))
        if len(text.encode()) > most:
            causes.append(wrong(key, "", f"can have at most {most} characters"))
    return causes


def _check_strictly(event: Object) -> list[Cause]:
    causes = _check_series(event)
    if not event.get("eventTime"):
        causes.append(required("eventTime"))
    kind = event.get("type", "")
    if kind not in ("Normal", "Warning"):
        causes.append(wrong("type", "", f"has invalid value: {kind}"))
    return causes + [
        wrong(key, "", "needs to be unset")
        for key in ("firstTimestamp", "lastTimestamp", "count", "source")
        if event.get(key)
    ]


def _check_series(event: Object) -> list[Cause]:
    series = event.get("series")
    if series is None:
        return []
    causes: list[Cause] = []
    if series.get("count", 0) < 2:
        causes.append(wrong("series.count", "", "should be at least 2"))
    if not series.get("lastObservedTime"):
        causes.append(required("series.lastObservedTime"))
    return causes


def _fields(value: Object) -> dict[str, str]:
    about = value.get("involvedObject", {})
    return {
        **{f"involvedObject.{key}": about.get(key, "") for key in _OF_OBJECT},
        "reason": value.get("reason", ""),
        "reportingComponent": value.get("reportingComponent", ""),
        "type": value.get("type", ""),
    }


def _component(value: Object) -> str:
    named: str = value.get("source", {}).get("component") or value.get("reportingComponent", "")
    return named


def _age(moment: str | None) -> str:
    return age_of(moment) if moment else "<unknown>"
