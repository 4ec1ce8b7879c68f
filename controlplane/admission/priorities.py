"""Priority: the number behind a pod's priority class, and the two classes that always are.

Source: Kubernetes documentation, "Pod Priority and Preemption".
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from controlplane.admission.refusals import forbidden, is_of
from controlplane.api import codec, metadata
from controlplane.api.errors import ApiError
from controlplane.api.resource import Context, Object, Resource
from controlplane.plane import Plane

_GROUP: Final = "scheduling.k8s.io"
_PREFIX: Final = f"/{_GROUP}/priorityclasses/"
_CRITICAL: Final = 2_000_000_000
SYSTEM_CLASSES: Final = {
    "system-node-critical": (
        _CRITICAL + 1000,
        "Used for system critical pods that must not be moved from their current node.",
    ),
    "system-cluster-critical": (
        _CRITICAL,
        "Used for system critical pods that must run in the cluster, but can be moved to another "
        "node if necessary.",
    ),
}


class Priority:
    """Puts the priority into pods, and keeps the default class the only one.

    Args:
        plane: the parts of the server.
    """

    def __init__(self, plane: Plane) -> None:
        self._plane = plane

    async def admit(
        self, resource: Resource, value: Object, old: Object | None, context: Context
    ) -> None:
        """Complete a pod; refuse a second default class.

        Raises:
            ApiError: there is no such class, or the pod's numbers are not those of its class.
        """
        if context.subresource:
            return
        if is_of(resource, _GROUP, "priorityclasses"):
            self._check_class(resource, value, old)
        elif is_of(resource, "", "pods"):
            spec = value.setdefault("spec", {})
            if old is not None:
                for key in ("priority", "preemptionPolicy"):
                    if key in old.get("spec", {}):
                        spec.setdefault(key, old["spec"][key])
            else:
                why = add_priority(spec, self._class_of(spec))
                if why:
                    raise forbidden(resource, value["metadata"], why)

    def _class_of(self, spec: Object) -> Object | None:
        name = spec.get("priorityClassName")
        if not name:
            return default_class(self._classes())
        item = self._plane.store.get(_PREFIX + name)
        return codec.decode(item) if item is not None else None

    def _classes(self) -> list[Object]:
        return [codec.decode(item) for item in self._plane.store.read(_PREFIX).items]

    def _check_class(self, resource: Resource, value: Object, old: Object | None) -> None:
        if not value.get("globalDefault"):
            return
        present = default_class(self._classes())
        if present is None:
            return
        name = present["metadata"]["name"]
        if old is None or name != old["metadata"]["name"]:
            why = f"PriorityClass {name} is already marked as default. Only one default can exist"
            raise forbidden(resource, value["metadata"], why)


def default_class(classes: Iterable[Object]) -> Object | None:
    """Return the class of pods that name none, None if there is none (pure)."""
    marked = [one for one in classes if one.get("globalDefault")]
    return min(marked, key=lambda one: int(one.get("value", 0)), default=None)


def add_priority(spec: Object, found: Object | None) -> str:
    """Put priority and preemption policy into a new pod; return why it cannot be (pure).

    Args:
        spec: of the pod, which is changed.
        found: the class that it names, or the default one.
    """
    name = spec.get("priorityClassName")
    if name and found is None:
        return f"no PriorityClass with name {name} was found"
    number = int(found.get("value", 0)) if found is not None else 0
    policy = found.get("preemptionPolicy") if found is not None else "PreemptLowerPriority"
    if spec.get("priority") not in (None, number):
        return (
            f"the integer value of priority ({spec['priority']}) must not be provided in pod spec; "
            f"priority admission controller computed {number} from the given PriorityClass name"
        )
    if policy and spec.get("preemptionPolicy") not in (None, policy):
        return (
            f"the string value of PreemptionPolicy ({spec['preemptionPolicy']}) must not be "
            f"provided in pod spec; priority admission controller computed {policy} from the given "
            "PriorityClass name"
        )
    if found is not None:
        spec["priorityClassName"] = found["metadata"]["name"]
    spec["priority"] = number
    if policy:
        spec["preemptionPolicy"] = policy
    return ""


async def make_system_classes(plane: Plane) -> None:
    """Make the priority classes of the system that are not there.

    Raises:
        ApiError: one cannot be made.
        StoreError: the store cannot be written.
    """
    resource = plane.catalog.find(_GROUP, "v1", "priorityclasses")
    assert resource is not None
    for name, (number, text) in SYSTEM_CLASSES.items():
        if plane.store.get(resource.key("", name)) is not None:
            continue
        value = {
            "apiVersion": resource.api_version,
            "kind": resource.kind,
            "metadata": {"name": name},
            "value": number,
            "description": text,
            "preemptionPolicy": "PreemptLowerPriority",
        }
        try:
            made = Context(now=metadata.now(), manager="kube-apiserver")
            await plane.registry.create(resource, "", value, made)
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
