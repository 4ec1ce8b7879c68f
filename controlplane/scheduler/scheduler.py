"""The scheduler: events of the cluster become state and attempts."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine
from typing import Any, Final

from controlplane.engine.controller import Context
from controlplane.engine.resources import NAMESPACES, NODES, PODS, Object

from . import events
from .binding import Binder, UnboundError
from .cluster import Cluster
from .nodes import NodeInfo
from .placing import NoFitError, Placer, Profile
from .plugins.base import Attempt
from .pods import DEFAULT_SCHEDULER, PodInfo, is_bound, is_over
from .profiles import default_profile, hints_of
from .queue import Queued, SchedulingQueue
from .reporting import ERROR, UNSCHEDULABLE, Reporter, refusal
from .statuses import SchedulingError

_log = logging.getLogger(__name__)
_SLICE: Final = 0.01
"""Seconds of work after which others have their turn."""
_MOST_UNDER_WAY: Final = 500
"""Pods whose binding is under way, above which no more are placed."""


class Scheduler:
    """Gives pods to nodes.

    Args:
        context: of the process.
    """

    name = "scheduler"

    def __init__(self, context: Context) -> None:
        self._context = context
        self._profiles: dict[str, Profile] = {DEFAULT_SCHEDULER: default_profile(DEFAULT_SCHEDULER)}
        self._bell = asyncio.Event()
        self._tasks: asyncio.TaskGroup | None = None
        self._under_way: set[str] = set()
        self.cluster = Cluster()
        self.placer = Placer(self.cluster)
        self.queue = SchedulingQueue(time.monotonic, hints_of(self._profiles))
        self.queue.bell = self._bell.set
        self._binder = Binder(context)
        self._reporter = Reporter(context, self._binder)
        self._pods = context.informers.of(PODS)
        context.informers.of(NAMESPACES).listen(self._namespace)
        context.informers.of(NODES).listen(self._node)
        self._pods.listen(self._pod)

    async def run(self) -> None:
        """Work, until cancelled."""
        await self._context.informers.synced()
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            await self._work()

    async def _work(self) -> None:
        begun = time.monotonic()
        while True:
            one = self.queue.pop() if len(self._under_way) < _MOST_UNDER_WAY else None
            if one is not None:
                self._attempt(one)
                if time.monotonic() - begun < _SLICE:
                    continue
                await asyncio.sleep(0)
            else:
                await self._rest()
            begun = time.monotonic()

    async def _rest(self) -> None:
        due = self.queue.next_due()
        try:
            async with asyncio.timeout(None if due is None else max(due - time.monotonic(), 0.0)):
                await self._bell.wait()
        except TimeoutError:
            pass
        self._bell.clear()

    def _spawn(self, work: Coroutine[Any, Any, None], what: str) -> None:
        assert self._tasks is not None
        self._tasks.create_task(self._guarded(work), name=what)

    async def _guarded(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception:
            _log.exception("the scheduler did not finish something")

    # Attempts.

    def _attempt(self, one: Queued) -> None:
        pod = one.pod
        if pod.deleting:
            name = pod.pod["metadata"]["name"]
            self._reporter.failed(pod, f"skip schedule deleting pod: {pod.namespace}/{name}")
            self.queue.remove(pod.uid)
            return
        profile = self._profiles[pod.scheduler]
        attempt = Attempt(pod, self.cluster)
        try:
            node = self.placer.place(profile, attempt)
        except NoFitError as error:
            self._refuse(one, error)
        except SchedulingError as error:
            self._fail(one, str(error))
        except Exception as error:
            _log.exception("an attempt failed")
            self._fail(one, f"{type(error).__name__}: {error}")
        else:
            self._give(one, attempt, node)

    def _refuse(self, one: Queued, error: NoFitError) -> None:
        pod, diagnosis = one.pod, error.diagnosis
        plugins = frozenset(diagnosis.plugins) if diagnosis is not None else frozenset()
        message = str(error) if diagnosis is None else diagnosis.message
        self.queue.refuse(one, plugins)
        self._tell(pod, UNSCHEDULABLE, message, None)

    def _fail(self, one: Queued, message: str) -> None:
        self.queue.fail(one)
        self.placer.nominations.drop(one.pod.uid)
        self._tell(one.pod, ERROR, message, "")

    def _tell(self, pod: PodInfo, reason: str, message: str, nominated: str | None) -> None:
        self._reporter.failed(pod, message)
        condition = refusal(pod.pod, reason, message)
        self._spawn(self._reporter.mark(pod, condition, nominated), f"tell of {pod.key}")

    def _give(self, one: Queued, attempt: Attempt, node: NodeInfo) -> None:
        pod = one.pod
        self.queue.remove(pod.uid)
        self.placer.nominations.drop(pod.uid)
        self.cluster.assume(pod, node.name)
        self._under_way.add(pod.uid)
        self._spawn(self._bind(one, node.name), f"bind {pod.key}")

    async def _bind(self, one: Queued, node: str) -> None:
        pod = one.pod
        done = False
        try:
            if await self._binder.bind(pod, node):
                self._reporter.scheduled(pod, node)
            done = True
        except UnboundError as error:
            done = True
            self._unassume(pod)
            self._fail(one, str(error))
        finally:
            self._under_way.discard(pod.uid)
            self._bell.set()
            if not done:
                self._unassume(pod)
                self.queue.fail(one)

    def _unassume(self, pod: PodInfo) -> None:
        if self.cluster.is_assumed(pod.uid):
            assumed = self.cluster.pod(pod.uid)
            self.cluster.forget(pod.uid)
            self.queue.move(events.POD, events.DELETE, assumed, None)

    # What happens in the cluster.

    def _namespace(self, before: Object | None, after: Object | None) -> None:
        value = after or before
        assert value is not None
        meta = value["metadata"]
        labels = None if after is None else meta.get("labels") or {}
        self.cluster.set_namespace(meta["name"], labels)

    def _node(self, before: Object | None, after: Object | None) -> None:
        if after is None:
            assert before is not None
            self.queue.move(events.NODE, events.DELETE, before, None)
            self.cluster.set_node(before["metadata"]["name"], None)
            return
        if before is None:
            self.cluster.set_node(after["metadata"]["name"], after)
            self.queue.move(events.NODE, events.ADD, None, after)
            return
        actions = list(events.of_node(before, after))
        images = (before.get("status") or {}).get("images") != after["status"].get("images")
        cordoned = before["spec"].get("unschedulable") != after["spec"].get("unschedulable")
        if actions or images or cordoned:
            self.cluster.set_node(after["metadata"]["name"], after)
        for action in actions:
            self.queue.move(events.NODE, action, before, after)

    def _pod(self, before: Object | None, after: Object | None) -> None:
        if before is not None and (
            after is None or is_over(after) or after["metadata"]["uid"] != before["metadata"]["uid"]
        ):
            self._gone(before["metadata"]["uid"])
        if after is None or is_over(after):
            return
        if is_bound(after):
            self._bound(after)
        elif (after["spec"].get("schedulerName") or DEFAULT_SCHEDULER) in self._profiles:
            self._unbound(before, after)

    def _gone(self, uid: str) -> None:
        known = self.cluster.pod(uid)
        if known is not None:
            self.cluster.take(uid)
            self.queue.move(events.POD, events.DELETE, known, None)
        queued = self.queue.find(uid)
        if queued is not None:
            self.queue.remove(uid)
            if self.placer.nominations.node_of(uid) or queued.pod.nominated:
                self._denominate(queued.pod)

    def _denominate(self, pod: PodInfo) -> None:
        """Let others have the node that was promised to a pod."""
        self.placer.nominations.drop(pod.uid)
        self.queue.move(
            events.POD, events.DELETE, pod, None, lambda one: one.priority <= pod.priority
        )

    def _bound(self, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        known = self.cluster.pod(uid)
        if known is not None and not self.cluster.is_assumed(uid) and is_same(known.pod, pod):
            known.pod = pod
            return
        info = PodInfo(pod)
        was_assumed = self.cluster.is_assumed(uid)
        self.cluster.put(info)
        if known is None or was_assumed:
            self.queue.remove(uid)
            self.placer.nominations.drop(uid)
            self.queue.move(events.POD, events.ADD, None, info)
            return
        for action in events.of_pod(known, info):
            self.queue.move(events.POD, action, known, info)

    def _unbound(self, before: Object | None, pod: Object) -> None:
        uid = pod["metadata"]["uid"]
        info = PodInfo(pod)
        if self.cluster.is_assumed(uid):
            if info.deleting:
                self._unassume(info)
            return
        queued = self.queue.find(uid)
        if queued is None:
            self.queue.add(info)
            self.placer.nominations.set(info, info.nominated)
            return
        old = queued.pod
        self.queue.update(info, list(events.of_pod(old, info)))
        if old.nominated or info.nominated:
            self.placer.nominations.set(info, info.nominated)
        else:
            self.placer.nominations.set(info, self.placer.nominations.node_of(uid))
        if old.nominated and old.nominated != info.nominated:
            self.queue.move(
                events.POD, events.DELETE, old, None, lambda one: one.priority <= old.priority
            )


def is_same(before: Object, after: Object) -> bool:
    """Whether two states of a pod that has a node are the same to the scheduler (pure)."""
    old, new = before["metadata"], after["metadata"]
    return (
        old.get("labels") == new.get("labels")
        and ("deletionTimestamp" in old) == ("deletionTimestamp" in new)
        and before["spec"] == after["spec"]
        and _resources(before) == _resources(after)
    )


def _resources(pod: Object) -> list[Any]:
    status = pod.get("status") or {}
    return [
        (one["name"], one.get("resources"), one.get("allocatedResources"))
        for key in ("containerStatuses", "initContainerStatuses")
        for one in status.get(key) or ()
        if one.get("resources") is not None or one.get("allocatedResources") is not None
    ]  # fmt: skip
