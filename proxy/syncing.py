"""Keeping the rules of one family what the model says: when to sync, what, and what to do after.

```
           a change, a doubt            succeeded
   idle ---------------------> due ---> syncing ------> idle
    ^                           ^          | failed
    |  nothing to do            |          v
    +---------- timer           +------ waiting: everything anew, later and later
```

After a quiet time two syncs may follow each other at once: a Service and its endpoints come a
moment apart. What comes then is gathered for ``shortest`` seconds.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from kubeletpy_common import logs

from .backend import Backend, RuleOptions, Synced, SyncError, Wanted
from .model.portal import Family, Portal, PortalName
from .model.portals import Model

if TYPE_CHECKING:
    from .conntrack.flows import Removed

_log = logging.getLogger(__name__)
FULL_PERIOD = 3600.0
"""Seconds between full syncs that nothing but time asks for."""
LOOK_PERIOD = 5.0
"""Seconds between looks at the rules where the kernel tells nobody that others changed them."""
MOST_TRIGGERS = 10_000
"""Times of causes that are kept while syncs fail."""
DOUBT_PAUSE = 1.0
"""Seconds from a sync to one that others' changes ask for, at least."""
FIRST_RETRY, LONGEST_RETRY = 1.0, 30.0
"""Seconds after a failed sync: the first, doubled each time, and the longest."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How often.

    Attributes:
        shortest: seconds between the begins of syncs (``minSyncPeriod``), see `earliest_next`.
        period: seconds between two looks at the rules in any case (``syncPeriod``).
    """

    shortest: float = 1.0
    period: float = 30.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """A sync that ended: what metrics are made from.

    Attributes:
        seconds: it took.
        synced: what it did; None if it failed.
        triggers: when what caused it happened, seconds since the epoch.
        full: whether everything was asked for.
    """

    seconds: float
    synced: Synced | None
    triggers: tuple[float, ...]
    full: bool


def earliest_next(not_before: float, begun: float, shortest: float) -> float:
    """Return when the next sync may begin, with a burst of two, as the peer's limiter has it.

    Args:
        not_before: when the sync that begins now was allowed, at the earliest.
        begun: when it begins.
        shortest: seconds between syncs that follow each other all the time.
    """
    return max(not_before, begun - shortest) + shortest


class Observer(Protocol):
    """Who is told what happens, in the event loop."""

    def queued(self, family: Family) -> None:
        """Something is to be synced."""

    def ended(self, family: Family, outcome: Outcome) -> None:
        """A sync ended."""

    def current(self, family: Family) -> None:
        """The rules were looked at, and are what they should be."""

    def forgot(self, family: Family, removed: Removed) -> None:
        """Connection tracking was looked at for stale flows."""


class Syncer:
    """Syncs one family; made in the event loop.

    Args:
        model: what is wanted.
        backend: carries it out; called in a thread of this syncer's own.
        options: of the backend, for stale connections.
        pace: how often.
        observer: is told.
    """

    def __init__(
        self, model: Model, backend: Backend, options: RuleOptions, pace: Pace, observer: Observer
    ) -> None:
        self.family = options.family
        self.applied: Mapping[PortalName, Portal] = {}
        """What the last sync that succeeded wrote."""
        self._model = model
        self._backend = backend
        self._options = options
        self._pace = pace
        self._observer = observer
        self._loop = asyncio.get_running_loop()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=f"rules-{self.family.name}")
        self._wake = asyncio.Event()
        self._full = "start"
        self._changed: set[PortalName] = set()
        self._triggers: list[float] = []
        self._failures = 0
        self._not_before = 0.0
        self._full_at = 0.0
        self._begun = 0.0
        self._look_at = 0.0
        self._unwatch: Any = None
        self._next: tuple[Backend, RuleOptions] | None = None

    @property
    def options(self) -> RuleOptions:
        """What the rules depend on besides portals."""
        return self._options if self._next is None else self._next[1]

    def change(self, backend: Backend, options: RuleOptions) -> None:
        """Go on with other options: everything is written anew by ``backend``."""
        self._next = (backend, options)
        self.ask_full("the node changed")

    def poke(self) -> None:
        """Something in the model changed."""
        if self._model.pending(self.family):
            self._observer.queued(self.family)
            self._wake.set()

    def ask_full(self, reason: str) -> None:
        """Have everything written anew."""
        if not self._full:
            self._full = reason
            self._observer.queued(self.family)
        self._wake.set()

    def doubt(self, reason: str) -> None:
        """Call `ask_full` from any thread: others changed our rules."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._doubted, reason)

    def _doubted(self, reason: str) -> None:
        # Who undoes again and again what we do is not to have all of a core from us.
        self._not_before = max(self._not_before, self._begun + DOUBT_PAUSE)
        self.ask_full(reason)

    async def run(self) -> None:
        """Sync whenever there is something to do; ends only by being cancelled."""
        self._unwatch = await self._call(self._backend.watch, self.doubt)
        while True:
            await self._wait_until_due()
            if self._next is not None:
                await self._replace(*self._next)
            await self.sync()

    async def _replace(self, backend: Backend, options: RuleOptions) -> None:
        self._next = None
        if self._unwatch is not None:
            await self._call(self._unwatch)
        await self._call(self._backend.close)
        self._backend, self._options = backend, options
        self._unwatch = await self._call(backend.watch, self.doubt)

    async def close(self, seconds: float) -> None:
        """Give back everything; rules stay. A sync under way has ``seconds`` to end.

        Raises:
            TimeoutError: it did not end in time.
        """
        async with asyncio.timeout(seconds):
            if self._unwatch is not None:
                await self._call(self._unwatch)
            await self._call(self._backend.close)
            if self._next is not None:
                await self._call(self._next[0].close)
        self._thread.shutdown(wait=False)

    async def sync(self) -> bool:
        """Do what is to be done now; return whether it succeeded."""
        self._wake.clear()
        taken = self._model.take(self.family)
        self._changed |= taken.changed
        self._triggers = (self._triggers + taken.triggers)[-MOST_TRIGGERS:]
        reason, self._full = self._full, ""
        if not reason and not self._changed:
            return True
        changed, self._changed = self._changed, set()
        # The thread reads this one while the model goes on.
        portals = dict(self._model.portals(self.family))
        begun = time.monotonic()
        self._begun = begun
        self._not_before = earliest_next(self._not_before, begun, self._pace.shortest)
        try:
            synced = await self._call(
                self._backend.sync, Wanted(portals, frozenset(changed), bool(reason))
            )
        except SyncError as error:
            self._failed(changed, time.monotonic() - begun, error, bool(reason))
            return False
        self._succeeded(synced, time.monotonic() - begun, reason, begun)
        before, self.applied = self.applied, portals
        names = portals.keys() | before.keys() if reason else changed
        removed = await self._call(self._forget_flows, before, portals, names)
        if removed is not None:
            self._observer.forgot(self.family, removed)
        return True

    async def _wait_until_due(self) -> None:
        while not self._due():
            left = self._look_at - time.monotonic()
            if left <= 0:
                await self._look()
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._wake.wait()
            self._wake.clear()
        if time.monotonic() >= self._look_at:
            # Changes that come again and again do not keep it from looking.
            await self._look()
        if (left := self._not_before - time.monotonic()) > 0:
            await asyncio.sleep(left)

    def _due(self) -> bool:
        waiting = self._full or self._changed or self._next
        return bool(waiting) or self._model.pending(self.family)

    async def _look(self) -> None:
        period = self._pace.period
        if self._unwatch is None:
            period = min(period, LOOK_PERIOD)
        self._look_at = time.monotonic() + period
        if self._full:
            return
        if time.monotonic() - self._full_at > FULL_PERIOD:
            self.ask_full("an hour went by")
        elif not await self._call(self._backend.intact):
            self.ask_full("rules are not there any more")
        elif not self._due():
            self._observer.current(self.family)

    def _succeeded(self, synced: Synced, seconds: float, reason: str, begun: float) -> None:
        if reason or synced.full:
            self._full_at = begun
        if self._failures:
            logs.event(_log, logging.INFO, "rules are written again", family=self.family.name)
        self._failures = 0
        triggers, self._triggers = tuple(self._triggers), []
        level = logging.INFO if reason else logging.DEBUG
        logs.event(
            _log, level, "rules are up to date", family=self.family.name,
            reason=reason or "changes", seconds=round(seconds, 3), written=synced.portals_written,
        )  # fmt: skip
        self._observer.ended(self.family, Outcome(seconds, synced, triggers, bool(reason)))

    def _failed(
        self, changed: set[PortalName], seconds: float, error: SyncError, full: bool
    ) -> None:
        pause = min(FIRST_RETRY * 2**self._failures, LONGEST_RETRY)
        self._failures = min(self._failures + 1, 10)
        self._changed |= changed
        self._full = "the last sync failed"
        self._not_before = time.monotonic() + max(pause, self._pace.shortest)
        logs.event(
            _log, logging.ERROR, "rules could not be written; the last good ones are in force",
            family=self.family.name, reason=str(error), retry_seconds=pause,
        )  # fmt: skip
        self._observer.ended(self.family, Outcome(seconds, None, (), full))

    def _forget_flows(
        self,
        before: Mapping[PortalName, Portal],
        after: Mapping[PortalName, Portal],
        names: set[PortalName],
    ) -> Removed | None:
        """Remove flows of UDP and SCTP that the new rules would not make."""
        # Only where there is a Service of UDP or SCTP its code is needed.
        from .conntrack import flows

        old = {name: before[name] for name in names if name in before}
        new = {name: after[name] for name in names if name in after}
        try:
            stale = flows.stale(old, new, self._options)
            return flows.remove(stale) if stale else None
        except OSError as error:
            logs.event(
                _log, logging.ERROR, "stale flows could not be removed; clients of UDP may wait "
                "until they time out", family=self.family.name, reason=str(error),
            )  # fmt: skip
            return None

    async def _call(self, function: Any, *arguments: Any) -> Any:
        return await self._loop.run_in_executor(self._thread, function, *arguments)
