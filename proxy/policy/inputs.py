"""Pods, namespaces and policies of an API server, by list and watch."""

from __future__ import annotations

import asyncio
import enum
import logging
from collections.abc import Collection
from typing import Any, Protocol

import msgspec

from kubeletpy_common import logs
from kubeletpy_common.apiclient.client import ApiClient
from kubeletpy_common.apiclient.reflector import Changed, Reflector, Synced

from ..inputs.cluster import PAGE
from ..model import objects
from .objects import Namespace, PodObject
from .policies import Policy, policy_of

_log = logging.getLogger(__name__)

Namespaced = tuple[str, str]
"""Namespace ("" for what has none) and name."""


class Kind(enum.Enum):
    """What policies depend on; the value is the path of its collection."""

    NAMESPACE = "/api/v1/namespaces"
    POLICY = "/apis/networking.k8s.io/v1/networkpolicies"
    POD = "/api/v1/pods"


class Sink(Protocol):
    """What objects go into."""

    def put(self, kind: Kind, one: Any) -> None:
        """Take an object as it is now."""

    def drop(self, kind: Kind, key: Namespaced) -> None:
        """Forget an object."""

    def keep(self, kind: Kind, keys: Collection[Namespaced]) -> None:
        """Forget all objects of a kind but these: a list of them is whole."""


async def follow(client: ApiClient, sink: Sink) -> None:
    """Put all objects into ``sink`` and keep it up to date; ends only by being cancelled."""
    async with asyncio.TaskGroup() as group:
        for kind in Kind:
            follower = _Follower(kind, sink)
            # Pods that ended are of no interest, but that they did is: so no field selector.
            reflector = Reflector(client, kind.value, read=follower.read, page=PAGE)
            group.create_task(follower.follow(reflector), name=f"watch {kind.value}")


class _Follower:
    """One kind of objects."""

    def __init__(self, kind: Kind, sink: Sink) -> None:
        self._kind = kind
        self._sink = sink

    def read(self, change: str, data: msgspec.Raw) -> Namespaced:
        """Put an object into the sink at once, so that no list of all is in memory; its key."""
        try:
            one, key = decoded(self._kind, data)
        except objects.Unreadable as error:
            key = objects.name_of(data)
            logs.event(
                _log, logging.WARNING, "an object cannot be read and is left out",
                object="/".join(key), reason=str(error),
            )  # fmt: skip
            self._sink.drop(self._kind, key)
            return key
        if change == "DELETED":
            self._sink.drop(self._kind, key)
        else:
            self._sink.put(self._kind, one)
        return key

    async def follow(self, reflector: Reflector) -> None:
        """Say which objects there are, whenever a list is whole."""
        async for each in reflector:
            if isinstance(each, Synced):
                self._sink.keep(self._kind, set(each.items))
            elif not isinstance(each, Changed):
                raise TypeError(f"a reflector gave {type(each).__name__}")


def decoded(kind: Kind, data: bytes | msgspec.Raw) -> tuple[Any, Namespaced]:
    """Return an object of JSON, and its namespace and name.

    Raises:
        Unreadable: a field of it has a wrong type.
    """
    if kind is Kind.POLICY:
        policy: Policy = policy_of(objects.decode(dict, data))
        return policy, policy.key
    one = objects.decode(PodObject if kind is Kind.POD else Namespace, data)
    return one, (one.metadata.namespace, one.metadata.name)
