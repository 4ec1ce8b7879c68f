"""Keeping the kernel as the plan has it: nodes come and go, others change what is there.

::

    Nodes --> members --+
                        +--> plan --> difference --> kernel --+
    kernel's facts -----+                                     |
         ^----- mirror <------- announcements of the kernel --+

Nothing is removed for want of knowledge: without the list of Nodes, or without this node's own
pod CIDRs, all stays as it is.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from kubeletpy_common import logs

from . import plan
from .difference import Difference, difference
from .entries import Facts
from .inputs import Members
from .kernel import Kernel, drain, watch_socket
from .mirror import Mirror
from .objects import Member
from .settings import Settings

_log = logging.getLogger(__name__)
LOOK_PERIOD: Final = 300.0
"""Seconds between looks at everything, though the kernel tells of changes."""
GATHER: Final = 0.005
"""Seconds in which changes that come together are waited for."""
FIRST_RETRY, LONGEST_RETRY = 0.5, 30.0
"""Seconds after a failure: the first, doubled each time, and the longest."""
_CALM: Final = 10.0
"""Seconds without a correction after which the next is made at once again."""
_LONGEST_PAUSE: Final = 5.0

Listener = Callable[[plan.Plan], None]


class Mesh:
    """Writes the network of this node; made in the event loop.

    Args:
        settings: of it.
        node: this node's name.
        planned: is told of every new plan that is in the kernel.
    """

    def __init__(self, settings: Settings, node: str, planned: Listener) -> None:
        self._settings, self._node, self._planned = settings, node, planned
        self._mirror = Mirror(settings.device)
        self._wake = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="pod-network")
        self._kernel: Kernel | None = None
        self._listening: socket.socket
        self._plan: plan.Plan | None = None
        self._planned_for: Facts | None = None
        self._told: plan.Plan | None = None
        self._nodes_changed = False
        self._failures = 0
        self._corrections = 0
        self._corrected = 0.0
        self._not_before = 0.0
        self._waits = False
        self.members = Members(self._changed)

    def _changed(self) -> None:
        self._nodes_changed = True
        self._wake.set()

    async def run(self) -> None:
        """Keep the kernel right; ends only by being cancelled. What is there stays."""
        loop = asyncio.get_running_loop()
        listening = self._listening = watch_socket()
        try:
            self._kernel = await self._call(Kernel, self._settings.device)
            loop.add_reader(listening, self._heard)
            await self.members.complete.wait()
            while True:
                await self._turn()
        finally:
            loop.remove_reader(listening)
            listening.close()
            if self._kernel is not None:
                self._kernel.close()
            self._thread.shutdown(wait=False)

    def _heard(self) -> None:
        drain(self._listening, self._mirror)
        if self._mirror.stale or self._mirror.changed:
            self._wake.set()

    async def _turn(self) -> None:
        """Wait for something to do, and do it."""
        try:
            async with asyncio.timeout(LOOK_PERIOD):
                await self._wake.wait()
        except TimeoutError:
            self._mirror.stale = True
        await asyncio.sleep(max(GATHER, self._not_before - time.monotonic()))
        self._wake.clear()
        self._mirror.changed = False
        try:
            await self.once()
        except OSError as error:
            self._failed(error)
        else:
            self._failures = 0

    async def once(self) -> Difference | None:
        """Make the kernel as it is to be; return what was done, None where nothing can be said.

        Raises:
            OSError: the kernel refused something.
        """
        kernel, mirror = self._kernel, self._mirror
        assert kernel is not None
        if mirror.stale:
            mirror.begin()
            try:
                mirror.replace(*await self._call(kernel.read))
            except OSError:
                mirror.stale = True
                raise
        own = self.members.all.get(self._node)
        if own is None or not own.cidrs:
            self._tell_waiting(own)
            return None
        before, made = self._plan, self._planning(own)
        found = difference(made.entries, mirror.entries)
        if found:
            if before is made and not self._failures:
                self._correct(found)
            begun = time.monotonic()
            try:
                await self._call(kernel.apply, found, mirror.index)
            except OSError:
                mirror.stale = True
                raise
            if found.device or found.old_device:
                mirror.stale = True
                self._wake.set()
            drain(self._listening, mirror)
            logs.event(
                _log, logging.INFO, "pod network changed", **found.summary(),
                seconds=round(time.monotonic() - begun, 4),
            )  # fmt: skip
        if self._told is not made:
            self._told = made
            self._planned(made)
        return found

    def _planning(self, own: Member) -> plan.Plan:
        """Return the plan of now; the last one if nothing that it depends on changed."""
        facts = self._mirror.facts
        if self._plan is None or self._nodes_changed or self._planned_for != facts:
            self._nodes_changed = False
            self._planned_for = facts
            others = [each for name, each in self.members.all.items() if name != self._node]
            self._plan = plan.make(self._settings, own, others, facts)
        return self._plan

    def _tell_waiting(self, own: Member | None) -> None:
        if not self._waits:
            logs.event(
                _log, logging.WARNING, "the pod network waits for this node's pod CIDRs",
                node=self._node, registered=own is not None, remedy="the controller manager gives "
                "them (--allocate-node-cidrs); what routes there are stay",
            )  # fmt: skip
        self._waits = True

    def _correct(self, found: Difference) -> None:
        """Note that somebody else changed what is ours; one who does so all the time is slowed."""
        now = time.monotonic()
        # What the kernel did without a word is seen by the next look.
        self._mirror.stale |= bool(self._corrections)
        self._corrections = self._corrections + 1 if now - self._corrected < _CALM else 0
        self._corrected = now
        pause = min(0.01 * 2 ** min(self._corrections, 10), _LONGEST_PAUSE)
        self._not_before = now + (pause if self._corrections > 4 else 0.0)
        logs.event(
            _log, logging.WARNING, "somebody else changed the pod network; it is made right",
            **found.summary(), times=self._corrections + 1,
        )  # fmt: skip

    def _failed(self, error: OSError) -> None:
        pause = min(FIRST_RETRY * 2**self._failures, LONGEST_RETRY)
        self._failures = min(self._failures + 1, 10)
        logs.event(
            _log, logging.ERROR, "the pod network could not be made as it is to be",
            reason=str(error), retry_seconds=pause,
        )  # fmt: skip
        self._mirror.stale = True
        with contextlib.suppress(RuntimeError):
            asyncio.get_running_loop().call_later(pause, self._wake.set)

    async def _call(self, function: Any, *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._thread, function, *arguments)
