"""Which owner is to be looked at when something that it may own changed."""

from __future__ import annotations

from typing import Any

from controlplane.api.errors import ApiError
from controlplane.api.selectors import LabelSelector, from_object
from controlplane.engine.informer import Informer
from controlplane.engine.ownership import controller_of
from controlplane.engine.queue import WorkQueue
from controlplane.engine.resources import Object, key_of


def selector_of(owner: Object) -> LabelSelector | None:
    """Return the selector of an owner; None, which fits nothing, if it has none that is one."""
    try:
        return from_object(owner["spec"].get("selector"))
    except ApiError:
        return None


class Owners:
    """Puts owners of what changed into a queue.

    Args:
        queue: of the controller.
        informer: of the owners.
    """

    def __init__(self, queue: WorkQueue, informer: Informer) -> None:
        self._queue = queue
        self._informer = informer

    def changed(self, before: Object | None, value: Object | None) -> None:
        """Listen to the informer of what is owned."""
        old = controller_of(before) if before is not None else None
        new = controller_of(value) if value is not None else None
        namespace = (value or before or {})["metadata"].get("namespace", "")
        for reference in (old, new) if old != new else (new,):
            if reference is not None:
                self._add(namespace, reference)
        if value is not None and new is None and (before is None or _differ(before, value)):
            self._add_fitting(namespace, value)

    def _add(self, namespace: str, reference: dict[str, Any]) -> None:
        if reference["kind"] != self._informer.resource.kind:
            return
        owner = self._informer.find(namespace, reference["name"])
        if owner is not None and owner["metadata"]["uid"] == reference["uid"]:
            self._queue.add(key_of(owner))

    def _add_fitting(self, namespace: str, value: Object) -> None:
        """Have all that could adopt it looked at."""
        labels = value["metadata"].get("labels") or {}
        for owner in self._informer.of_namespace(namespace):
            selector = selector_of(owner)
            if selector is not None and selector.matches(labels):
                self._queue.add(key_of(owner))


def _differ(before: Object, value: Object) -> bool:
    names = ("labels", "ownerReferences")
    return any(before["metadata"].get(one) != value["metadata"].get(one) for one in names)
