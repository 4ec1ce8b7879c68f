"""One proxy: sources, the model, and a syncer for each family."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Collection, Coroutine
from typing import Any

from kubeletpy_common import logs, readiness

from .backend import Backend, RuleOptions, Wanted
from .inputs.sink import Key, Kind
from .model import objects
from .model.portal import Family
from .model.portals import Model
from .syncing import Observer, Outcome, Pace, Syncer

_log = logging.getLogger(__name__)
_FAREWELL = 5.0
"""Seconds that a sync under way has when the proxy ends."""


class Inputs:
    """Takes objects from a source into the model.

    Args:
        model: is told of Services and slices.
        changed: called when something may have to be synced.

    Attributes:
        node: this node as it was last; None if it is not known.
        complete: set when there was a whole list of each kind.
    """

    def __init__(self, model: Model, node_name: str, changed: Callable[[], None]) -> None:
        self._model = model
        self._node_name = node_name
        self._changed = changed
        self._missing = set(Kind)
        self.node: objects.Node | None = None
        self.on_node: list[Callable[[objects.Node | None], None]] = []
        self.complete = asyncio.Event()

    def put(self, kind: Kind, one: Any) -> None:
        """Take an object as it is now."""
        if kind is Kind.SERVICE:
            self._model.put_service(one)
        elif kind is Kind.SLICE:
            self._model.put_slice(one)
        elif one.metadata.name == self._node_name:
            self._set_node(one)
        self._tell()

    def drop(self, kind: Kind, key: Key) -> None:
        """Forget an object."""
        if kind is Kind.SERVICE:
            self._model.drop_service(key)
        elif kind is Kind.SLICE:
            self._model.drop_slice(key)
        elif key[1] == self._node_name:
            self._set_node(None)
        self._tell()

    def keep(self, kind: Kind, keys: Collection[Key]) -> None:
        """Forget all objects of a kind but these."""
        if kind is Kind.SERVICE:
            self._model.keep_services(keys)
        elif kind is Kind.SLICE:
            self._model.keep_slices(keys)
        elif self.node is not None and all(key[1] != self._node_name for key in keys):
            self._set_node(None)
        self._missing.discard(kind)
        if not self._missing:
            self.complete.set()
        self._tell()

    def _set_node(self, node: objects.Node | None) -> None:
        self.node = node
        if node is not None:
            # A node that is gone for a moment keeps its zone: its pods are still where they were.
            self._model.zone = (node.metadata.labels or {}).get(objects.LABEL_ZONE, "")
        for each in self.on_node:
            each(node)

    def _tell(self) -> None:
        if self.complete.is_set():
            self._changed()


class Proxy:
    """All of a running proxy.

    Args:
        node_name: of this node.
        open_backend: makes the rules of one family.
        pace: how often they are synced.
        external_ips: whether externalIPs of Services count.
    """

    def __init__(
        self,
        node_name: str,
        open_backend: Callable[[RuleOptions], Backend],
        pace: Pace,
        *,
        external_ips: bool = True,
    ) -> None:
        self.model = Model(node_name, external_ips=external_ips, started=time.time())
        self.inputs = Inputs(self.model, node_name, self._poke)
        self._open = open_backend
        self._pace = pace
        self._syncers: list[Syncer] = []

    def _poke(self) -> None:
        for each in self._syncers:
            each.poke()

    async def run(
        self,
        source: Coroutine[Any, Any, None],
        options: Callable[[objects.Node | None], list[RuleOptions]],
        stop: asyncio.Event,
        observer: Observer,
    ) -> None:
        """Run until ``stop`` is set; rules stay.

        Args:
            source: puts objects into ``inputs``.
            options: of the families to sync, once the node is known.
        """
        tasks = [asyncio.create_task(source, name="source")]
        try:
            if not await _first(self.inputs.complete.wait(), stop, tasks):
                return
            for each in options(self.inputs.node):
                backend = self._open(each)
                self._syncers.append(Syncer(self.model, backend, each, self._pace, observer))
            tasks += [asyncio.create_task(each.run(), name="rules") for each in self._syncers]
            readiness.tell_ready("watching Services")
            await _first(asyncio.Event().wait(), stop, tasks)
        finally:
            readiness.tell_stopping()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._end()

    async def _end(self) -> None:
        try:
            for each in self._syncers:
                await each.close(_FAREWELL)
        except TimeoutError:
            # The tool that writes rules does it in one step or not at all: nothing is left half.
            logs.event(_log, logging.WARNING, "ends while rules are being written")
            os._exit(0)

    async def once(
        self, options: Callable[[objects.Node | None], list[RuleOptions]], observer: Observer
    ) -> bool:
        """Write all rules once; return whether that succeeded in all families."""
        done = True
        for each in options(self.inputs.node):
            syncer = Syncer(self.model, self._open(each), each, self._pace, observer)
            done &= await syncer.sync()
            await syncer.close(_FAREWELL)
        return done

    def plan(self, options: Callable[[objects.Node | None], list[RuleOptions]]) -> str:
        """Return what a full sync would write, all families one after the other."""
        texts = []
        for each in options(self.inputs.node):
            self.model.take(each.family)
            backend = self._open(each)
            portals = self.model.portals(each.family)
            texts.append(backend.plan(Wanted(portals, frozenset(portals), True)))
            backend.close()
        return "\n".join(texts)


class Quiet:
    """An observer that does nothing."""

    def queued(self, family: Family) -> None:
        """Do nothing."""

    def ended(self, family: Family, outcome: Outcome) -> None:
        """Do nothing."""

    def current(self, family: Family) -> None:
        """Do nothing."""


async def _first(
    wanted: Coroutine[Any, Any, Any], stop: asyncio.Event, tasks: list[asyncio.Task[None]]
) -> bool:
    """Wait for ``wanted``; False if ``stop`` came first. What a task raises is raised."""
    waiting = asyncio.ensure_future(wanted)
    stopping = asyncio.ensure_future(stop.wait())
    try:
        await asyncio.wait({waiting, stopping, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            if task.done():
                task.result()
        return waiting.done() and not stopping.done()
    finally:
        for each in (waiting, stopping):
            each.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await each
