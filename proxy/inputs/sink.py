"""Taking objects in: the one way by which sources speak to the model."""

from __future__ import annotations

import enum
from collections.abc import Collection
from typing import Any, Protocol

from proxy.model import objects

Key = tuple[str, str]
"""Namespace ("" for what has none) and name."""


class Kind(enum.Enum):
    """What a proxy reads."""

    SERVICE = "Service"
    SLICE = "EndpointSlice"
    NODE = "Node"
    SERVICE_CIDR = "ServiceCIDR"

    @property
    def type(self) -> type[Any]:
        """The struct of its objects."""
        return _TYPES[self]


_TYPES = {
    Kind.SERVICE: objects.Service,
    Kind.SLICE: objects.EndpointSlice,
    Kind.NODE: objects.Node,
    Kind.SERVICE_CIDR: objects.ServiceCIDR,
}


class Sink(Protocol):
    """What objects go into."""

    def put(self, kind: Kind, one: Any) -> None:
        """Take an object as it is now."""

    def drop(self, kind: Kind, key: Key) -> None:
        """Forget an object."""

    def keep(self, kind: Kind, keys: Collection[Key]) -> None:
        """Forget all objects of a kind but these: a list of them is whole."""


def key_of(one: Any) -> Key:
    """Return what names an object."""
    return one.metadata.namespace, one.metadata.name
