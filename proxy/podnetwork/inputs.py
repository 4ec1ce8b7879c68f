"""The Nodes of an API server, by list and watch."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection

import msgspec

from kubeletpy_common import logs
from kubeletpy_common.apiclient.client import ApiClient
from kubeletpy_common.apiclient.reflector import Changed, Reflector, Synced

from ..inputs.cluster import PAGE
from ..model import objects
from .objects import Member, NodeObject, member_of

_log = logging.getLogger(__name__)
_PATH = "/api/v1/nodes"


class Members:
    """All nodes by name; tells when one is otherwise than before in what counts.

    Attributes:
        complete: a first list was read.
        all: by name.
        listeners: are told.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self.listeners = [changed]
        self.all: dict[str, Member] = {}
        self.complete = asyncio.Event()

    def put(self, member: Member) -> None:
        """Take a node as it is now."""
        if self.all.get(member.name) != member:
            self.all[member.name] = member
            self._tell()

    def drop(self, name: str) -> None:
        """Forget a node."""
        if self.all.pop(name, None) is not None:
            self._tell()

    def keep(self, names: Collection[str]) -> None:
        """Forget all nodes but these: a list is whole."""
        for name in set(self.all) - set(names):
            self.drop(name)
        if not self.complete.is_set():
            self.complete.set()
            self._tell()

    def _tell(self) -> None:
        if self.complete.is_set():
            for each in self.listeners:
                each()


async def follow(client: ApiClient, members: Members) -> None:
    """Keep ``members`` up to date; ends only by being cancelled."""

    def read(change: str, data: msgspec.Raw) -> str:
        try:
            node: NodeObject = objects.decode(NodeObject, data)
        except objects.Unreadable as error:
            name = objects.name_of(data)[1]
            logs.event(
                _log, logging.WARNING, "a Node cannot be read and is left as it was before",
                node=name, reason=str(error),
            )  # fmt: skip
            return name
        if change == "DELETED":
            members.drop(node.metadata.name)
        else:
            members.put(member_of(node))
        return node.metadata.name

    async for each in Reflector(client, _PATH, read=read, page=PAGE):
        if isinstance(each, Synced):
            members.keep(set(each.items))
        elif not isinstance(each, Changed):
            raise TypeError(f"a reflector gave {type(each).__name__}")
