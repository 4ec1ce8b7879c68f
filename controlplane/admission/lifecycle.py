"""NamespaceLifecycle: nothing is made in a namespace that is missing or on its way out.

Source: Kubernetes documentation, "Admission Control", "NamespaceLifecycle".
"""

from __future__ import annotations

from typing import Final

from controlplane.admission.refusals import forbidden
from controlplane.api import codec
from controlplane.api.errors import ApiError, Cause, not_found
from controlplane.api.resource import Context, Object, Resource
from controlplane.plane import Plane

_IMMORTAL: Final = ("default", "kube-system", "kube-public")


class NamespaceLifecycle:
    """Watches over the namespaces of what is written.

    Args:
        plane: the parts of the server.
    """

    def __init__(self, plane: Plane) -> None:
        self._plane = plane

    async def admit(
        self, resource: Resource, value: Object, old: Object | None, context: Context
    ) -> None:
        """Refuse a write into a namespace that is not there, a creation in one that goes.

        Raises:
            ApiError: it is refused.
        """
        if not resource.namespaced:
            return
        name = value["metadata"].get("namespace", "")
        item = self._plane.store.get(f"/core/namespaces/{name}")
        if item is None:
            raise not_found("namespaces", "", name)
        if old is not None:
            return
        namespace = codec.decode(item)
        if namespace.get("status", {}).get("phase") != "Terminating":
            return
        why = f"unable to create new content in namespace {name} because it is being terminated"
        text = f"namespace {name} is being terminated"
        cause = Cause("NamespaceTerminating", text, "metadata.namespace")
        raise forbidden(resource, value["metadata"], why, causes=(cause,))

    async def admit_delete(self, resource: Resource, old: Object, context: Context) -> None:
        """Refuse to delete the namespaces that a cluster cannot be without.

        Raises:
            ApiError: it is one of them.
        """
        name = old["metadata"]["name"]
        if (resource.group, resource.plural) == ("", "namespaces") and name in _IMMORTAL:
            text = f'namespaces "{name}" is forbidden: this namespace may not be deleted'
            raise ApiError("Forbidden", text, kind="namespaces", name=name)
