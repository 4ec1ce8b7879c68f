"""One proxy: sources, the model, and a syncer for each family."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import time
from collections.abc import Callable, Collection, Coroutine, Sequence
from dataclasses import replace
from typing import Any

from kubeletpy_common import logs, readiness

from .backend import Backend, RuleOptions, Wanted
from .conntrack.flows import Removed
from .inputs.sink import Key, Kind, key_of
from .model import objects
from .model.addresses import network
from .model.portal import Family
from .model.portals import Model
from .options import Missing
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
        # Networks of Services are known to newer API servers alone, and not vital.
        self._missing = set(Kind) - {Kind.SERVICE_CIDR}
        self._service_cidrs: dict[Key, tuple[str, ...]] = {}
        self.on_service_cidrs: list[Callable[[], None]] = []
        self.node: objects.Node | None = None
        self.on_node: list[Callable[[objects.Node], None]] = []
        self.complete = asyncio.Event()

    def put(self, kind: Kind, one: Any) -> None:
        """Take an object as it is now."""
        if kind is Kind.SERVICE:
            self._model.put_service(one)
        elif kind is Kind.SLICE:
            self._model.put_slice(one)
        elif kind is Kind.SERVICE_CIDR:
            self._set_service_cidrs(
                {**self._service_cidrs, key_of(one): tuple(one.spec.cidrs or ())}
            )
        elif one.metadata.name == self._node_name:
            self._set_node(one)
        self._tell()

    def drop(self, kind: Kind, key: Key) -> None:
        """Forget an object."""
        if kind is Kind.SERVICE:
            self._model.drop_service(key)
        elif kind is Kind.SLICE:
            self._model.drop_slice(key)
        elif kind is Kind.SERVICE_CIDR:
            self._keep_service_cidrs(self._service_cidrs.keys() - {key})
        elif key[1] == self._node_name:
            self._set_node(None)
        self._tell()

    def keep(self, kind: Kind, keys: Collection[Key]) -> None:
        """Forget all objects of a kind but these."""
        if kind is Kind.SERVICE:
            self._model.keep_services(keys)
        elif kind is Kind.SLICE:
            self._model.keep_slices(keys)
        elif kind is Kind.SERVICE_CIDR:
            self._keep_service_cidrs(keys)
        elif self.node is not None and all(key[1] != self._node_name for key in keys):
            self._set_node(None)
        self._missing.discard(kind)
        if not self._missing:
            self.complete.set()
        self._tell()

    def service_cidrs(self, family: Family) -> tuple[str, ...]:
        """Return the networks from which Services have their addresses, as far as known."""
        texts = (text for cidrs in self._service_cidrs.values() for text in cidrs)
        found = (network(text) for text in texts)
        return tuple(sorted({each[1] for each in found if each is not None and each[0] is family}))

    def _keep_service_cidrs(self, keys: Collection[Key]) -> None:
        kept = {key: cidrs for key, cidrs in self._service_cidrs.items() if key in keys}
        self._set_service_cidrs(kept)

    def _set_service_cidrs(self, now: dict[Key, tuple[str, ...]]) -> None:
        before, self._service_cidrs = self._service_cidrs, now
        if now != before:
            for each in self.on_service_cidrs:
                each()

    def _set_node(self, node: objects.Node | None) -> None:
        if node is None:
            # As in the peer, the last that was known of it holds: its pods are where they were.
            logs.event(_log, logging.WARNING, "the node is gone", node=self._node_name)
            return
        self.node = node
        self._model.zone = (node.metadata.labels or {}).get(objects.LABEL_ZONE, "")
        for each in self.on_node:
            each(node)

    def _tell(self) -> None:
        if self.complete.is_set():
            self._changed()


class NotKnown(Exception):
    """Something of the node was waited for and did not come; the message says what."""


class Proxy:
    """All of a running proxy.

    Args:
        node_name: of this node.
        families: that are synced.
        options: of the rules of a family, with the node as it is.
        missing: what of the node is not known yet and is needed.
        open_backend: makes the rules of one family.
        pace: how often they are synced.
        observer: is told of syncs.
        external_ips: whether externalIPs of Services count.
        service_networks: whether rules depend on the networks of Services.
    """

    def __init__(
        self,
        node_name: str,
        *,
        families: Sequence[Family],
        options: Callable[[objects.Node | None, Family], RuleOptions],
        missing: Callable[[objects.Node | None], Missing | None],
        open_backend: Callable[[RuleOptions], Backend],
        pace: Pace,
        observer: Observer,
        external_ips: bool = True,
        service_networks: bool = False,
    ) -> None:
        self.model = Model(node_name, external_ips=external_ips, started=time.time())
        self.inputs = Inputs(self.model, node_name, self._poke)
        self.inputs.on_node.append(self._node_changed)
        if service_networks:
            self.inputs.on_service_cidrs.append(self._options_changed)
        self._service_networks = service_networks
        self._name = node_name
        self._families = families
        self._options = options
        self._missing = missing
        self._open = open_backend
        self._pace = pace
        self._observer = observer
        self._syncers: list[Syncer] = []
        self._known = asyncio.Event()

    def _poke(self) -> None:
        for each in self._syncers:
            each.poke()

    def _node_changed(self, node: objects.Node) -> None:
        missing = self._missing(node)
        if missing is None:
            self._known.set()
        elif missing.vital:
            return
        self._options_changed()

    def _rule_options(self, family: Family) -> RuleOptions:
        options = self._options(self.inputs.node, family)
        if not self._service_networks:
            return options
        return replace(options, service_cidrs=self.inputs.service_cidrs(family))

    def _options_changed(self) -> None:
        for syncer in self._syncers:
            options = self._rule_options(syncer.family)
            if options != syncer.options:
                logs.event(
                    _log, logging.WARNING, "addresses or networks of the node or Services changed",
                    family=syncer.family.name,
                )  # fmt: skip
                syncer.change(self._open(options), options)

    async def filled(self, stop: asyncio.Event, tasks: list[asyncio.Task[None]]) -> bool:
        """Wait until all lists are there and the node is known; False if ``stop`` came first.

        Raises:
            NotKnown: what nothing works without did not come in time.
        """
        if not await _first(self.inputs.complete.wait(), stop, tasks):
            return False
        missing = self._missing(self.inputs.node)
        if missing is None:
            return True
        logs.event(
            _log, logging.INFO, "waiting for the node", node=self._name, missing=missing.what,
            seconds=missing.seconds,
        )  # fmt: skip
        try:
            async with asyncio.timeout(missing.seconds):
                return await _first(self._known.wait(), stop, tasks)
        except TimeoutError:
            text = (
                f"node {self._name!r} has no {missing.what}, for {missing.seconds:g} s; is its "
                "name right (--hostname-override)?"
            )
            if missing.vital:
                raise NotKnown(text) from None
            logs.event(_log, logging.WARNING, text)
            return True

    async def run(
        self,
        source: Coroutine[Any, Any, None],
        stop: asyncio.Event,
        *others: Coroutine[Any, Any, None],
    ) -> None:
        """Run until ``stop`` is set; rules stay.

        Args:
            source: puts objects into ``inputs``.
            others: run beside it; what one raises ends the proxy.

        Raises:
            NotKnown: see `filled`.
        """  # fmt: skip
        tasks = [asyncio.create_task(each) for each in (source, *others)]
        told = False
        try:
            if not await self.filled(stop, tasks):
                return
            # What is there now stays mostly: the collector need not walk it again and again.
            gc.collect()
            gc.freeze()
            for family in self._families:
                options = self._rule_options(family)
                self._syncers.append(self._syncer(options))
            tasks += [asyncio.create_task(each.run(), name="rules") for each in self._syncers]
            readiness.tell_ready("watching Services")
            await _first(asyncio.Event().wait(), stop, tasks)
            told = True
        finally:
            readiness.tell_stopping()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._end(0 if told else 1)

    def _syncer(self, options: RuleOptions) -> Syncer:
        return Syncer(self.model, self._open(options), options, self._pace, self._observer)

    async def _end(self, code: int) -> None:
        try:
            for each in self._syncers:
                await each.close(_FAREWELL)
        except TimeoutError:
            # The tool that writes rules does it in one step or not at all: nothing is left half.
            logs.event(_log, logging.WARNING, "ends while rules are being written")
            os._exit(code)

    async def once(self) -> bool:
        """Write all rules once; return whether that succeeded in all families."""
        done = True
        for family in self._families:
            syncer = self._syncer(self._rule_options(family))
            done &= await syncer.sync()
            await syncer.close(_FAREWELL)
        return done

    def plan(self) -> str:
        """Return what a full sync would write, all families one after the other."""
        texts = []
        for family in self._families:
            self.model.take(family)
            backend = self._open(self._rule_options(family))
            portals = self.model.portals(family)
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

    def forgot(self, family: Family, removed: Removed) -> None:
        """Do nothing."""


async def _first(
    wanted: Coroutine[Any, Any, Any], stop: asyncio.Event, tasks: list[asyncio.Task[None]]
) -> bool:
    """Wait for ``wanted``; False if ``stop`` came first. What a task raises is raised."""
    waiting = asyncio.ensure_future(wanted)
    stopping = asyncio.ensure_future(stop.wait())
    try:
        while not (waiting.done() or stopping.done()):
            # One that has nothing to do and ends, as the watchdog without systemd, ends nothing.
            left = (task for task in tasks if not task.done())
            await asyncio.wait({waiting, stopping, *left}, return_when=asyncio.FIRST_COMPLETED)
            for task in tasks:
                if task.done():
                    task.result()
        return waiting.done() and not stopping.done()
    finally:
        for each in (waiting, stopping):
            each.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await each
