"""Pods that wait for a node.

::

            add                      pop
     -------------> active ------------------> an attempt
                      ^  ^                         |
       pause is over  |  | an event that matters   | it fits on no node
                      |  |                         v
                    paused <------ waiting <-------+
                      ^   an event                 |
                      +----------------------------+  the attempt failed

A pod that fits nowhere waits until something happens that may change it, by the word of the
plugins that spoke against it, and at the latest for some minutes. It pauses a while, ever longer,
so that it does not take the turn of others; when nobody else is there it need not.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from . import hinting
from .events import ANYTHING, Hints
from .events import WAITING as WAITING_POD
from .pods import PodInfo

FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 10.0
EARLY: Final = 50.0
"""Pods a second that need not pause when nobody else is there."""
LONGEST_WAIT: Final = 300.0
"""Seconds after which a pod is tried again even if nothing happened."""
ACTIVE, PAUSED, WAITING, TRIED = "active", "paused", "waiting", "tried"


@dataclass(slots=True, eq=False)
class Queued:
    """A pod in the queue.

    Attributes:
        pod: as it is known.
        since: when it came into the queue, or was last tried.
        attempts: to place it.
        refusals, errors: attempts in which it fitted nowhere; those that failed, in a row.
        plugins: that spoke against it; empty: any event may help.
        gated: it waits for its scheduling gates.
        place: where it is.
        due: when its pause is over.
        ticket: of its entry in a heap; entries with another ticket are old.
    """

    pod: PodInfo
    since: float
    attempts: int = 0
    refusals: int = 0
    errors: int = 0
    plugins: frozenset[str] = frozenset()
    gated: bool = False
    place: str = ACTIVE
    due: float = 0.0
    ticket: int = -1
    first: float = field(default=0.0)


class SchedulingQueue:
    """The queue.

    Args:
        clock: seconds that only grow.
        hints: by the name of a plugin.
        first_pause, longest_pause, longest_wait: seconds.
        blocked: says whether a pod must not be tried now (its preemption is under way).
    """

    def __init__(
        self, clock: Callable[[], float], hints: Mapping[str, Hints], *,
        first_pause: float = FIRST_PAUSE, longest_pause: float = LONGEST_PAUSE,
        longest_wait: float = LONGEST_WAIT, blocked: Callable[[str], bool] = lambda uid: False,
    ) -> None:  # fmt: skip
        self._clock = clock
        self._hints = hints
        self._first = first_pause
        self._longest = longest_pause
        self._wait = longest_wait
        self._blocked = blocked
        self._all: dict[str, Queued] = {}
        self._waiting: dict[str, Queued] = {}
        self._groups: dict[frozenset[str], dict[str, Queued]] = {}
        self._early = EARLY
        self._early_at = clock()
        self._active: list[tuple[int, float, int, Queued]] = []
        self._paused: list[tuple[float, int, int, Queued]] = []
        self._tickets = itertools.count()
        self.bell: Callable[[], None] = lambda: None

    def __len__(self) -> int:
        return len(self._all)

    def sizes(self) -> dict[str, int]:
        """Return how many pods are active, paused, waiting and gated."""
        found = {"active": 0, "backoff": 0, "unschedulable": 0, "gated": 0}
        names = {ACTIVE: "active", PAUSED: "backoff", WAITING: "unschedulable"}
        for one in self._all.values():
            name = "gated" if one.gated else names.get(one.place)
            if name is not None:
                found[name] += 1
        return found

    def find(self, uid: str) -> Queued | None:
        """Return a pod of the queue."""
        return self._all.get(uid)

    def add(self, pod: PodInfo) -> None:
        """Take a pod that has no node."""
        now = self._clock()
        one = self._all[pod.uid] = Queued(pod, now, first=now)
        if pod.spec.get("schedulingGates"):
            one.gated = True
            self._rest(one)
        else:
            self._activate(one)

    def update(self, pod: PodInfo, actions: Sequence[int]) -> None:
        """Take a pod as it is now.

        Args:
            actions: what changed of it, see `events.of_pod`.
        """
        one = self._all.get(pod.uid)
        if one is None:
            self.add(pod)
            return
        before, one.pod = one.pod, pod
        if one.gated:
            if not pod.spec.get("schedulingGates"):
                one.gated = False
                self._activate(one)
        elif one.place == WAITING and any(
            self._is_worth(one, WAITING_POD, action, before, pod) for action in actions
        ):
            self._wake(one)

    def remove(self, uid: str) -> None:
        """Let a pod go: it has a node, or is gone."""
        one = self._all.pop(uid, None)
        if one is not None:
            one.ticket = -1
            self._leave(one)

    def pop(self) -> Queued | None:
        """Return the pod whose turn it is; None: none has to be tried now."""
        self._end_pauses()
        one = self._pop_active() or self._pop_paused()
        if one is not None:
            one.place = TRIED
            one.ticket = -1
            one.attempts += 1
        return one

    def refuse(self, one: Queued, plugins: frozenset[str]) -> None:
        """Have a pod wait that fits nowhere."""
        if self._all.get(one.pod.uid) is one:
            one.since = self._clock()
            one.refusals += 1
            one.errors = 0
            one.plugins = plugins
            self._rest(one)

    def fail(self, one: Queued) -> None:
        """Have a pod tried again after a pause: the attempt failed."""
        if one.pod.uid not in self._all:
            self._all[one.pod.uid] = one
        one.since = self._clock()
        one.errors += 1
        one.plugins = frozenset()
        self._pause(one)

    def move(
        self, resource: str, action: int, before: Any, after: Any,
        of: Callable[[PodInfo], bool] | None = None,
    ) -> None:  # fmt: skip
        """Wake the pods that an event may make fit.

        Args:
            resource, action: of the event.
            before, after: the object; see `events.Hint`.
            of: only pods of which it says so.
        """
        for plugins, group in list(self._groups.items()):
            # Most events matter to no pod of a group: its pods are not even looked at.
            tables = [self._hints.get(name, ()) for name in plugins]
            if not hinting.may_be_worth(tables, resource, action):
                continue
            for one in list(group.values()):
                if (of is None or of(one.pod)) and hinting.is_worth(
                    one.pod, tables, resource, action, before, after
                ):
                    self._wake(one)

    def activate(self, uid: str) -> None:
        """Have a waiting pod tried now."""
        one = self._all.get(uid)
        if one is not None and one.place in (WAITING, PAUSED) and not one.gated:
            self._activate(one)

    def next_due(self) -> float | None:
        """Return when the queue changes by itself: a pause or a wait is over; None: never."""
        while self._paused and self._paused[0][2] != self._paused[0][3].ticket:
            heapq.heappop(self._paused)
        dues = [self._paused[0][3].due] if self._paused else []
        oldest = min((one.since for one in self._waiting.values() if not one.gated), default=None)
        if oldest is not None:
            dues.append(oldest + self._wait)
        return min(dues, default=None)

    def _is_worth(self, one: Queued, resource: str, action: int, before: Any, after: Any) -> bool:
        tables = [self._hints.get(name, ()) for name in one.plugins]
        return hinting.is_worth(one.pod, tables, resource, action, before, after)

    def _wake(self, one: Queued) -> None:
        if self._blocked(one.pod.uid):
            return
        if self._due(one) > self._clock():
            self._pause(one)
        else:
            self._activate(one)

    def _due(self, one: Queued) -> float:
        count = one.errors or one.refusals
        if not count or not self._first:
            return one.since
        return one.since + min(self._first * float(1 << min(count - 1, 30)), self._longest)

    def _activate(self, one: Queued) -> None:
        self._leave(one)
        one.place, one.ticket = ACTIVE, next(self._tickets)
        heapq.heappush(self._active, (-one.pod.priority, one.since, one.ticket, one))
        self.bell()

    def _pause(self, one: Queued) -> None:
        self._leave(one)
        one.place, one.ticket, one.due = PAUSED, next(self._tickets), self._due(one)
        # Of pauses that end in the same second the more important pod comes first.
        heapq.heappush(self._paused, (int(one.due), -one.pod.priority, one.ticket, one))
        self.bell()

    def _rest(self, one: Queued) -> None:
        one.place, one.ticket = WAITING, -1
        self._waiting[one.pod.uid] = one
        if not one.gated:
            self._groups.setdefault(one.plugins, {})[one.pod.uid] = one

    def _leave(self, one: Queued) -> None:
        """Take a pod out of those that wait."""
        if self._waiting.pop(one.pod.uid, None) is not None:
            group = self._groups.get(one.plugins)
            if group is not None and group.pop(one.pod.uid, None) is not None and not group:
                del self._groups[one.plugins]

    def _end_pauses(self) -> None:
        now = self._clock()
        while self._paused:
            _, _, ticket, one = self._paused[0]
            if ticket == one.ticket:
                if one.due > now:
                    break
                self._activate(one)
            heapq.heappop(self._paused)
        # They are in the order in which they began to wait.
        old = itertools.takewhile(
            lambda one: one.gated or one.since + self._wait <= now, self._waiting.values()
        )
        for one in list(old):
            if not one.gated and self._is_worth(one, ANYTHING, 0, None, None):
                self._wake(one)

    def _pop_active(self) -> Queued | None:
        while self._active:
            _, _, ticket, one = heapq.heappop(self._active)
            if ticket == one.ticket:
                return one
        return None

    def _pop_paused(self) -> Queued | None:
        """Return a pod that need not pause: nobody else is there.

        Only so many a second: a thousand pods that fit nowhere shall not keep a core busy.
        """
        now = self._clock()
        self._early = min(self._early + (now - self._early_at) * EARLY, EARLY)
        self._early_at = now
        if not self._paused or self._early < 1:
            return None
        errors: list[tuple[float, int, int, Queued]] = []
        found = None
        while self._paused and found is None:
            entry = heapq.heappop(self._paused)
            ticket, one = entry[2], entry[3]
            if ticket == one.ticket:
                if one.errors:
                    errors.append(entry)
                else:
                    found = one
        for entry in errors:
            heapq.heappush(self._paused, entry)
        if found is not None:
            self._early -= 1
        return found
