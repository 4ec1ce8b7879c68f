"""The namespaces that every cluster has."""

from __future__ import annotations

from typing import Final

from controlplane.api.errors import ApiError
from controlplane.builtin.following import context
from controlplane.plane import Plane

DEFAULT: Final = "default"
SYSTEM: Final = "kube-system"
PUBLIC: Final = "kube-public"
NODE_LEASES: Final = "kube-node-lease"
INITIAL: Final = (DEFAULT, SYSTEM, PUBLIC, NODE_LEASES)


async def make_namespaces(plane: Plane) -> None:
    """Make those of the first namespaces that are not there.

    Raises:
        ApiError: one cannot be made.
        StoreError: the store cannot be written.
    """
    resource = plane.catalog.find("", "v1", "namespaces")
    assert resource is not None
    for name in INITIAL:
        if plane.store.get(resource.key("", name)) is not None:
            continue
        value = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        try:
            await plane.registry.create(resource, "", value, context("kube-apiserver"))
        except ApiError as error:
            if error.reason != "AlreadyExists":
                raise
