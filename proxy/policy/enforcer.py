"""The loop: what comes in goes to the model, and from there to a table for each family.

There is no pause between a change and the kernel: what comes while a change is being written goes
with the next one. When the kernel refuses one, or somebody else changed a table of ours, it is made
anew as a whole; until then the last good one is in force.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Collection, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from kubeletpy_common import logs

from ..backend import SyncError
from ..model.complaints import Complaints
from ..model.portal import Family
from .backend import PolicyTable
from .inputs import Kind, Namespaced
from .model import Model
from .objects import Namespace, PodObject, pod_of
from .policies import Policy

_log = logging.getLogger(__name__)
LOOK_PERIOD = 30.0
"""Seconds between looks at a table, whoever tells of changes."""
LOOK_PERIOD_UNWATCHED = 5.0
"""The same where the kernel tells nobody."""
DOUBT_PAUSE = 1.0
"""Seconds between two tables that others' changes ask for, at least."""
FIRST_RETRY, LONGEST_RETRY = 1.0, 30.0
"""Seconds after a failure: the first, doubled each time, and the longest."""


Listener = Callable[[Policy], None]
"""Is told of policies that cannot be read; of the same one again only after it changed."""


class Inputs:
    """Takes objects from a source into the model.

    Args:
        model: of them.
        node: this node's name.
        changed: called when something may have to be written.
        refused: is told of policies with problems.
    """

    def __init__(
        self, model: Model, node: str, changed: Callable[[], None], refused: Listener
    ) -> None:
        self._model = model
        self._node = node
        self._changed = changed
        self._refused = refused
        self._missing = set(Kind)
        self._complaints = Complaints()
        self.complete = asyncio.Event()

    def put(self, kind: Kind, one: Any) -> None:
        """Take an object as it is now."""
        if kind is Kind.POD:
            self._put_pod(one)
        elif kind is Kind.NAMESPACE:
            self._put_namespace(one)
        else:
            self._put_policy(one)
        self._tell()

    def _put_pod(self, one: PodObject) -> None:
        pod = pod_of(one, self._node)
        if pod is None:
            self._model.drop_pod((one.metadata.namespace, one.metadata.name))
        else:
            self._model.put_pod(pod)

    def _put_namespace(self, one: Namespace) -> None:
        self._model.put_namespace(one.metadata.name, one.metadata.labels or {})

    def _put_policy(self, policy: Policy) -> None:
        self._model.put_policy(policy)
        if self._complaints.tell("NetworkPolicy", policy.key, policy.problems):
            self._refused(policy)

    def drop(self, kind: Kind, key: Namespaced) -> None:
        """Forget an object."""
        if kind is Kind.POD:
            self._model.drop_pod(key)
        elif kind is Kind.NAMESPACE:
            self._model.drop_namespace(key[1])
        else:
            self._model.drop_policy(key)
            self._complaints.forget("NetworkPolicy", key)
        self._tell()

    def keep(self, kind: Kind, keys: Collection[Namespaced]) -> None:
        """Forget all objects of a kind but these: a list of them is whole."""
        if kind is Kind.POD:
            gone = set(self._model.pods()) - set(keys)
        elif kind is Kind.NAMESPACE:
            gone = {("", name) for name in self._model.namespaces()} - set(keys)
        else:
            gone = set(self._model.policies()) - set(keys)
        for key in gone:
            self.drop(kind, key)
        self._missing.discard(kind)
        if not self._missing and not self.complete.is_set():
            self._model.begin()
            self.complete.set()
        self._tell()

    def _tell(self) -> None:
        if self.complete.is_set():
            self._changed()


class _Writer:
    """Writes the table of one family."""

    def __init__(self, model: Model, table: PolicyTable) -> None:
        self._model = model
        self._table = table
        self._family = table.family
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"policies-{self._family.name}")
        self._wake = asyncio.Event()
        self._whole = "start"
        self._failures = 0
        self._not_before = 0.0
        self._unheard = False
        self._unwatch: Any = None

    def poke(self) -> None:
        """Something in the model changed."""
        if self._model.pending(self._family):
            self._wake.set()

    def doubt(self, reason: str) -> None:
        """Have the table made anew; may be called from any thread."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._doubted, reason)

    def _doubted(self, reason: str) -> None:
        if not self._whole:
            self._whole = reason
            self._not_before = max(self._not_before, time.monotonic())
        self._wake.set()

    def lost(self) -> None:
        """Have the table looked at; may be called from any thread.

        A proxy beside us that writes all of its rules makes so many announcements. If both wrote
        everything anew because of the other's announcements, they would never end.
        """
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._look_soon)

    def _look_soon(self) -> None:
        self._unheard = True
        self._wake.set()

    async def run(self) -> None:
        """Write whenever there is something to write; ends only by being cancelled."""
        self._unwatch = await self._call(self._table.watch, self.doubt, self.lost)
        period = LOOK_PERIOD if self._unwatch is not None else LOOK_PERIOD_UNWATCHED
        while True:
            self._wake.clear()
            if not (self._whole or self._unheard or self._model.pending(self._family)):
                try:
                    async with asyncio.timeout(period):
                        await self._wake.wait()
                except TimeoutError:
                    self._unheard = True
                continue
            if self._unheard:
                await self._look()
            if self._whole and (left := self._not_before - time.monotonic()) > 0:
                await asyncio.sleep(left)
            await self.write()

    async def begin(self) -> None:
        """Write everything, again and again until that succeeds."""
        while not await self.write():  # noqa: ASYNC110 - a retry
            await asyncio.sleep(max(self._not_before - time.monotonic(), 0.0))

    async def _look(self) -> None:
        self._unheard = False
        if not self._whole and not await self._call(self._table.intact):
            self._whole = "the table is not there any more"

    async def write(self) -> bool:
        """Write what is to be written now; return whether that succeeded."""
        if not self._whole and not self._model.pending(self._family):
            return True
        reason, self._whole = self._whole, ""
        begun = time.monotonic()
        try:
            if not reason and not await self._call(
                self._table.alter, self._model.take(self._family)
            ):
                reason = "much changed"
            if reason:
                await self._call(self._table.replace, self._model.contents(self._family))
        except SyncError as error:
            self._failed(error)
            return False
        self._failures = 0
        seconds = time.monotonic() - begun
        if reason:
            self._not_before = time.monotonic() + DOUBT_PAUSE
        logs.event(
            _log, logging.INFO if reason else logging.DEBUG, "network policies are in force",
            family=self._family.name, reason=reason or "changes", seconds=round(seconds, 4),
        )  # fmt: skip
        return True

    def _failed(self, error: SyncError) -> None:
        pause = min(FIRST_RETRY * 2**self._failures, LONGEST_RETRY)
        self._failures = min(self._failures + 1, 10)
        self._whole = "the last change failed"
        self._not_before = time.monotonic() + pause
        logs.event(
            _log, logging.ERROR, "network policies could not be written; the last good ones are "
            "in force", family=self._family.name, reason=str(error), retry_seconds=pause,
        )  # fmt: skip

    async def close(self) -> None:
        """Give back sockets and the thread; rules stay."""
        if self._unwatch is not None:
            await self._call(self._unwatch)
        await self._call(self._table.close)
        self._thread.shutdown(wait=False)

    async def _call(self, function: Any, *arguments: Any) -> Any:
        return await self._loop.run_in_executor(self._thread, function, *arguments)


def _silent(policy: Policy) -> None:
    """Tell nobody: the log has it."""


class Enforcer:
    """All that enforces policies; made in the event loop.

    Args:
        node: this node's name.
        families: that are enforced.
        refused: is told of policies with problems.
    """

    def __init__(self, node: str, families: Sequence[Family], refused: Listener = _silent) -> None:
        self.model = Model(families)
        self.inputs = Inputs(self.model, node, self._poke, refused)
        self._families = families
        self._writers: list[_Writer] = []

    def _poke(self) -> None:
        for each in self._writers:
            each.poke()

    async def run(
        self, source: Coroutine[Any, Any, None], ready: Callable[[], None] | None = None
    ) -> None:
        """Enforce what ``source`` puts into ``inputs``; ends only by being cancelled. Rules stay.

        Args:
            ready: called when the tables are in force for the first time.
        """
        feeding = asyncio.create_task(source, name="objects for policies")
        tasks = [feeding]
        try:
            complete = asyncio.create_task(self.inputs.complete.wait())
            await asyncio.wait({feeding, complete}, return_when=asyncio.FIRST_COMPLETED)
            if feeding.done():
                complete.cancel()
                feeding.result()
            self._writers = [_Writer(self.model, PolicyTable(each)) for each in self._families]
            await asyncio.gather(*(each.begin() for each in self._writers))
            if ready is not None:
                ready()
            tasks += [asyncio.create_task(each.run()) for each in self._writers]
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await asyncio.gather(*(each.close() for each in self._writers))
            self._writers = []


def clean_up() -> None:
    """Remove the tables of all families.

    Raises:
        SyncError: the kernel refused.
    """
    for family in Family:
        table = PolicyTable(family)
        try:
            table.cleanup()
        finally:
            table.close()
