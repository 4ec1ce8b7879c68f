"""Which pods belong together: those of one Service, or of one owner."""

from __future__ import annotations

from typing import Final

from controlplane.api.selectors import LabelSelector
from controlplane.engine.informer import Informer
from controlplane.engine.ownership import controller_of
from controlplane.engine.resources import (
    REPLICA_SETS,
    REPLICATION_CONTROLLERS,
    STATEFUL_SETS,
    Object,
    Resource,
)

from .pods import PodInfo
from .terms import selector_of

OWNERS: Final[tuple[Resource, ...]] = (REPLICATION_CONTROLLERS, REPLICA_SETS, STATEFUL_SETS)
_MOST: Final = 4096


class Belonging:
    """Finds what selects the pods that belong together with one.

    Args:
        services: informer of Services.
        owners: informers of what makes pods, by kind.
    """

    def __init__(self, services: Informer, owners: dict[str, Informer]) -> None:
        self._services = services
        self._owners = owners
        self._known: dict[tuple[str, str, frozenset[tuple[str, str]]], LabelSelector] = {}
        for informer in (services, *owners.values()):
            informer.listen(self._changed)

    def _changed(self, before: Object | None, after: Object | None) -> None:
        if before is None or after is None or _selector(before) != _selector(after):
            self._known.clear()

    def selector_of(self, pod: PodInfo) -> LabelSelector:
        """Return the selector; without requirements: nothing belongs to the pod."""
        owner = controller_of(pod.pod)
        name = f"{owner['kind']}/{owner['name']}" if owner is not None else ""
        key = (pod.namespace, name, frozenset(pod.labels.items()))
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= _MOST:
                self._known.clear()
            found = self._known[key] = self._find(pod, owner)
        return found

    def _find(self, pod: PodInfo, owner: Object | None) -> LabelSelector:
        wanted: dict[str, str] = {}
        for service in self._services.of_namespace(pod.namespace):
            selector = _selector(service)
            if selector and selector.items() <= pod.labels.items():
                wanted.update(selector)
        rest: LabelSelector | None = None
        informer = self._owners.get(owner["kind"]) if owner is not None else None
        if informer is not None and owner is not None:
            value = informer.find(pod.namespace, owner["name"])
            if value is not None and value["metadata"].get("uid") == owner["uid"]:
                if value["kind"] == REPLICATION_CONTROLLERS.kind:
                    wanted.update(_selector(value))
                else:
                    rest = selector_of(_selector(value))
        own = selector_of({"matchLabels": wanted})
        assert own is not None
        more = rest.requirements if rest is not None else ()
        return LabelSelector((*own.requirements, *more))


def _selector(value: Object) -> dict[str, str]:
    found: dict[str, str] = (value.get("spec") or {}).get("selector") or {}
    return found
