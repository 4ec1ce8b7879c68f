"""The scheduler: events of the cluster become state and attempts."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Iterator
from typing import TYPE_CHECKING, Any, Final

from controlplane.engine.controller import Context
from controlplane.engine.informer import Listener
from controlplane.engine.resources import (
    BUDGETS,
    CLAIMS,
    CSI_NODES,
    NAMESPACES,
    NODES,
    PODS,
    SERVICES,
    STORAGE_CLASSES,
    VOLUMES,
    Object,
    Resource,
)

from . import events
from .belonging import OWNERS, Belonging
from .binding import Binder, UnboundError
from .cluster import Cluster
from .configuration import Configuration, VolumeBindingArgs, args_of, complete
from .counting import FAILED, REFUSED, SCHEDULED, Counts
from .eviction import Evictor
from .nodes import NodeInfo
from .placing import NoFitError, Placer, Profile
from .plugins.base import Attempt
from .plugins.volumes import VolumeBinding
from .pods import DEFAULT_SCHEDULER, PodInfo, is_bound, is_over
from .preemption import Candidate, preempt
from .profiles import Means, hints_of, profiles_of
from .queue import Queued, SchedulingQueue
from .reporting import ERROR, UNSCHEDULABLE, Reporter, refusal
from .statuses import SchedulingError
from .storage import ATTACHMENTS, CAPACITIES, CSI_DRIVERS, PodVolumes, Storage
from .volumebinding import VolumeBinder, VolumesError

if TYPE_CHECKING:
    from prometheus_client.core import Metric

_log = logging.getLogger(__name__)
NO_CLAIMS: Final = "no new claims to deallocate"
"""What the Go peer says of every pod that fits nowhere before it looks whom to preempt."""
NO_STATE: Final = "not found"
"""What it says instead, without preempting, of a pod that was refused before nodes were tried."""
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
        configuration = complete(context.options.get("scheduler_configuration") or Configuration())
        informers = context.informers
        self._storage = Storage.of(context)
        belonging = Belonging(
            informers.of(SERVICES), {one.kind: informers.of(one) for one in OWNERS}
        )
        self._budgets = informers.of(BUDGETS)
        means = Means(self._storage, belonging.selector_of)
        self._profiles = profiles_of(configuration, means)
        self._bell = asyncio.Event()
        self._tasks: asyncio.TaskGroup | None = None
        self._under_way: set[str] = set()
        self.cluster = Cluster()
        self.placer = Placer(self.cluster, configuration.percentage_of_nodes_to_score)
        self._counts = Counts()
        self._binder = Binder(context)
        self._reporter = Reporter(context, self._binder)
        self._evictor = Evictor(context, self._binder, self._reporter)
        self.queue = SchedulingQueue(
            time.monotonic, hints_of(self._profiles),
            first_pause=configuration.pod_initial_backoff_seconds,
            longest_pause=configuration.pod_max_backoff_seconds, blocked=self._evictor.is_busy,
        )  # fmt: skip
        self.queue.bell = self._bell.set
        self._volumes = VolumeBinder(
            context, self._storage, self.cluster, bind_timeout(configuration)
        )
        informers.of(NAMESPACES).listen(self._namespace)
        informers.of(NODES).listen(self._node)
        informers.of(PODS).listen(self._pod)
        self._listen_to_storage()

    def _listen_to_storage(self) -> None:
        informers = self._context.informers
        for resource in (CLAIMS, VOLUMES, STORAGE_CLASSES, CSI_NODES, CSI_DRIVERS, CAPACITIES,
                         ATTACHMENTS):  # fmt: skip
            informers.of(resource).listen(self._moving(resource))

    def _moving(self, resource: Resource) -> Listener:
        """Return what wakes pods after a change of a resource."""

        def changed(before: Object | None, after: Object | None) -> None:
            action = events.OTHER
            if before is None or after is None:
                action = events.ADD if before is None else events.DELETE
            self.queue.move(resource.kind, action, before, after)

        return changed

    def metrics(self) -> Iterator[Metric]:
        """Yield what was counted, see `engine.serving`."""
        return self._counts.metrics(self.queue)

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
            self._refuse(one, profile, error)
        except SchedulingError as error:
            self._fail(one, str(error))
        except Exception as error:
            _log.exception("an attempt failed")
            self._fail(one, f"{type(error).__name__}: {error}")
        else:
            self._give(one, attempt, node)

    def _refuse(self, one: Queued, profile: Profile, error: NoFitError) -> None:
        pod, diagnosis = one.pod, error.diagnosis
        self._counts.attempt(REFUSED, pod.scheduler)
        if diagnosis is None:
            self.queue.refuse(one, frozenset())
            self.placer.nominations.drop(pod.uid)
            self._tell(pod, UNSCHEDULABLE, str(error), "")
            return
        nominated: str | None = None if profile.preempts else ""
        diagnosis.after = NO_CLAIMS if profile.claims else ""
        if profile.claims and diagnosis.before:
            diagnosis.after = NO_STATE
        elif profile.preempts:
            outcome = preempt(
                self.placer, profile, pod, self.cluster.nodes, error.checks, diagnosis,
                list(self._budgets), self.cluster.lowest_priority or 0,
            )  # fmt: skip
            words = [diagnosis.after, outcome.message] if outcome.candidate is None else []
            diagnosis.after = ", ".join(filter(None, words))
            if outcome.candidate is not None:
                nominated = outcome.candidate.node
                self._make_room(pod, outcome.candidate)
            elif outcome.clear:
                nominated = ""
        self.queue.refuse(one, frozenset(diagnosis.plugins))
        if nominated is not None:
            self.placer.nominations.set(pod, nominated)
        self._tell(pod, UNSCHEDULABLE, diagnosis.message, nominated)

    def _make_room(self, pod: PodInfo, candidate: Candidate) -> None:
        less = [
            other for other in self.placer.nominations.on(candidate.node)
            if other.priority < pod.priority
        ]  # fmt: skip
        for other in less:
            self.placer.nominations.drop(other.uid)
        self._evictor.begin(pod)
        self._counts.preempted(len(candidate.victims))

        async def work() -> None:
            if not await self._evictor.make_room(pod, candidate, less):
                self.queue.activate(pod.uid)

        self._spawn(work(), f"make room for {pod.key}")

    def _fail(self, one: Queued, message: str) -> None:
        self._counts.attempt(FAILED, one.pod.scheduler)
        known = self._context.informers.of(PODS).get(one.pod.key)
        if known is None or known["metadata"]["uid"] != one.pod.uid or is_bound(known):
            return
        one.pod = PodInfo(known)
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
        volumes: PodVolumes | None = attempt.kept.get(VolumeBinding.name, {}).get(node.name)
        if volumes is not None and (volumes.bindings or volumes.provisions):
            volumes = self._volumes.assume(volumes, node.name)
        else:
            volumes = None
        self._under_way.add(pod.uid)
        self._spawn(self._bind(one, node.name, volumes), f"bind {pod.key}")

    async def _bind(self, one: Queued, node: str, volumes: PodVolumes | None) -> None:
        pod = one.pod
        done = False
        try:
            if volumes is not None:
                await self._reporter.mark(pod, None, node)
                await self._volumes.bind(volumes, node, lambda: self.cluster.is_assumed(pod.uid))
            if await self._binder.bind(pod, node):
                self._reporter.scheduled(pod, node)
                self._counts.attempt(SCHEDULED, pod.scheduler, time.monotonic() - one.first)
            done = True
        except (UnboundError, VolumesError) as error:
            done = True
            self._give_up(one, volumes)
            self._fail(one, str(error))
        finally:
            self._under_way.discard(pod.uid)
            self._bell.set()
            if not done:
                self._give_up(one, volumes)
                self.queue.fail(one)

    def _give_up(self, one: Queued, volumes: PodVolumes | None) -> None:
        if volumes is not None:
            self._volumes.forget(volumes)
        self._unassume(one.pod)

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
        if actions or _apart(before) != _apart(after):
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
            self._volumes.notice()
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
                self._volumes.notice()
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


def bind_timeout(configuration: Configuration) -> float:
    """Return the seconds that volumes of a pod may take, of all profiles the most."""
    found = [args_of(one, VolumeBinding.name) for one in configuration.profiles]
    return float(max(
        one.bind_timeout_seconds for one in found if isinstance(one, VolumeBindingArgs)
    ))  # fmt: skip


def is_same(before: Object, after: Object) -> bool:
    """Whether two states of a pod that has a node are the same to the scheduler (pure)."""
    old, new = before["metadata"], after["metadata"]
    return (
        old.get("labels") == new.get("labels")
        and ("deletionTimestamp" in old) == ("deletionTimestamp" in new)
        and before["spec"] == after["spec"]
        and _resources(before) == _resources(after)
    )


def _apart(node: Object) -> tuple[Any, Any]:
    """Return what of a node matters to scores or keeps pods away, but wakes none (pure)."""
    status, spec = node.get("status") or {}, node.get("spec") or {}
    return status.get("images"), spec.get("unschedulable")


def _resources(pod: Object) -> list[Any]:
    status = pod.get("status") or {}
    return [
        (one["name"], one.get("resources"), one.get("allocatedResources"))
        for key in ("containerStatuses", "initContainerStatuses")
        for one in status.get(key) or ()
        if one.get("resources") is not None or one.get("allocatedResources") is not None
    ]  # fmt: skip
