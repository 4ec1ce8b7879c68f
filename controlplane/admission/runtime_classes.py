"""RuntimeClass: what a runtime costs beside its containers, and where it is.

Source: Kubernetes documentation, "Runtime Class", "Pod Overhead".
"""

from __future__ import annotations

from controlplane.admission.refusals import forbidden, is_of
from controlplane.admission.tolerations import merge
from controlplane.api import codec
from controlplane.api.resource import Context, Object, Resource
from controlplane.plane import Plane


class RuntimeClasses:
    """Puts overhead, node selector and tolerations of a pod's runtime class into it.

    Args:
        plane: the parts of the server.
    """

    def __init__(self, plane: Plane) -> None:
        self._plane = plane

    async def admit(
        self, resource: Resource, value: Object, old: Object | None, context: Context
    ) -> None:
        """Complete a new pod.

        Raises:
            ApiError: there is no such class, or the pod contradicts it.
        """
        if not is_of(resource, "", "pods") or old is not None or context.subresource:
            return
        spec = value.setdefault("spec", {})
        name = spec.get("runtimeClassName")
        found = None
        if name:
            item = self._plane.store.get(f"/node.k8s.io/runtimeclasses/{name}")
            if item is None:
                why = f'pod rejected: RuntimeClass "{name}" not found'
                raise forbidden(resource, value["metadata"], why)
            found = codec.decode(item)
        why = add_runtime(spec, found or {})
        if why:
            raise forbidden(resource, value["metadata"], why)


def add_runtime(spec: Object, found: Object) -> str:
    """Complete a pod by its runtime class; return why it cannot be (pure).

    Args:
        spec: of the pod, which is changed.
        found: the class; empty if the pod has none.
    """
    overhead, present = found.get("overhead", {}).get("podFixed"), spec.get("overhead")
    if "overhead" not in found and present is not None:
        return "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"
    if present and present != overhead:
        return "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"
    if overhead:
        spec["overhead"] = dict(overhead)
    scheduling = found.get("scheduling")
    if not scheduling:
        return ""
    selector = dict(spec.get("nodeSelector", {}))
    for key, wanted in scheduling.get("nodeSelector", {}).items():
        if selector.setdefault(key, wanted) != wanted:
            return (
                f"conflict: runtimeClass.scheduling.nodeSelector[{key}] = {wanted}; "
                f"pod.spec.nodeSelector[{key}] = {selector[key]}"
            )
    if selector:
        spec["nodeSelector"] = selector
    tolerations = merge(spec.get("tolerations", []), scheduling.get("tolerations", []))
    if tolerations:
        spec["tolerations"] = tolerations
    return ""
