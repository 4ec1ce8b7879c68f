"""The APIServices that there are, and the slices of Services, always as the store has them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import msgspec

from controlplane.aggregation.resolving import Slices
from controlplane.api import codec
from controlplane.api.resource import Object
from controlplane.auth.authorization.feed import Feed
from controlplane.plane import Plane
from controlplane.store.model import Item

GROUP: Final = "apiregistration.k8s.io"
PLURAL: Final = "apiservices"
_SERVICE_NAME: Final = "kubernetes.io/service-name"


class _Meta(msgspec.Struct):
    namespace: str = ""
    labels: dict[str, str] = {}


class _Head(msgspec.Struct):
    metadata: _Meta


class Registered:
    """APIServices by name (``v1beta1.metrics.k8s.io``).

    Args:
        plane: the parts.

    Attributes:
        resource: APIServices, as they are served.
        feeds: to be followed in the background.
    """

    def __init__(self, plane: Plane) -> None:
        found = plane.catalog.find(GROUP, "v1", PLURAL)
        slices = plane.catalog.find("discovery.k8s.io", "v1", "endpointslices")
        services = plane.catalog.find("", "v1", "services")
        assert found is not None
        assert slices is not None
        assert services is not None
        self._store = plane.store
        self.resource = found
        self.slices_prefix = slices.prefix
        self.services = services
        self._all: dict[str, Object] = {}
        self._slices: dict[tuple[str, str], dict[str, None]] = {}
        self._own = Feed(plane.store, found.prefix, self._put, self._remove, self._all.clear)
        self._parts = Feed(
            plane.store, slices.prefix, self._put_slice, self._remove_slice, self._slices.clear
        )
        self.feeds = (self._own, self._parts)

    def all(self) -> list[Object]:
        """Return all."""
        self._own.catch_up()
        return list(self._all.values())

    def get(self, name: str) -> Object | None:
        """Return one, None if there is none of the name."""
        self._own.catch_up()
        return self._all.get(name)

    def remote(self, group: str, version: str) -> Object | None:
        """Return the one of a group and version that another server serves, None if none does."""
        found = self.get(f"{version}.{group}")
        return found if found is not None and found["spec"].get("service") else None

    def of_service(self, namespace: str, name: str) -> list[str]:
        """Return the names of those whose Service is this one."""
        return [
            one["metadata"]["name"]
            for one in self.all()
            if (service := one["spec"].get("service")) is not None
            and (service["namespace"], service["name"]) == (namespace, name)
        ]

    def service(self, namespace: str, name: str) -> Object | None:
        """Return a Service, None if there is none."""
        item = self._store.get(self.services.key(namespace, name))
        return None if item is None else codec.decode(item)

    def slices(self, namespace: str, name: str) -> Slices:
        """Return the EndpointSlices of a Service."""
        self._parts.catch_up()
        keys: Iterable[str] = self._slices.get((namespace, name), ())
        items = (self._store.get(key) for key in keys)
        return [codec.decode(item) for item in items if item is not None]

    def _put(self, item: Item) -> None:
        value = codec.decode(item)
        self._all[value["metadata"]["name"]] = value

    def _remove(self, item: Item) -> None:
        self._all.pop(item.key.rpartition("/")[2], None)

    def _put_slice(self, item: Item) -> None:
        meta = msgspec.json.decode(item.value, type=_Head).metadata
        key = (meta.namespace, meta.labels.get(_SERVICE_NAME, ""))
        self._slices.setdefault(key, {})[item.key] = None

    def _remove_slice(self, item: Item) -> None:
        meta = msgspec.json.decode(item.value, type=_Head).metadata
        key = (meta.namespace, meta.labels.get(_SERVICE_NAME, ""))
        rest = self._slices.get(key, {})
        rest.pop(item.key, None)
        if not rest:
            self._slices.pop(key, None)


def service_of_slice(value: bytes) -> tuple[str, str]:
    """Return namespace and name of the Service that an encoded EndpointSlice is of."""
    meta = msgspec.json.decode(value, type=_Head).metadata
    return meta.namespace, meta.labels.get(_SERVICE_NAME, "")
