"""Jobs: pods are made until enough of them succeeded, and each one is counted once."""

from __future__ import annotations

import asyncio
import copy
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from controlplane.api.selectors import from_object
from controlplane.controllers.podcontrol import PodControl, all_of, is_namespace_ending, slow_start
from controlplane.controllers.pods import BY_OWNER, ORPHANS, is_ready, orphan_of
from controlplane.engine.controller import Context, Controller, monotonic
from controlplane.engine.informer import of_owner
from controlplane.engine.ownership import Claims, controller_of
from controlplane.engine.queue import WorkQueue
from controlplane.engine.resources import JOBS, PODS, Object, is_deleting, key_of
from kubeletpy_common.apiclient.client import STRATEGIC_PATCH
from kubeletpy_common.apiclient.errors import ApiError

from . import tracking
from .backoff import Record
from .decisions import COMPLETIONS_REACHED, End, Plan, deadline_in, end_of, is_complete, plan_of
from .facts import FINALIZER, finished_condition, is_foreign, is_tracked
from .measures import CREATED, DELETED, TRACKING, Counts
from .podtemplate import named, pod_of
from .situation import Situation, observe

BATCH: Final = 0.25
"""Seconds between two looks at a Job whose pods change, so that many changes make one write."""
_MODES: Final = ("NonIndexed", "Indexed", None)


@dataclass(slots=True)
class _Left:
    """Pods that there are after what was done, and what went wrong with it."""

    active: int
    ready: int
    terminating: int
    error: ApiError | None = None


class JobController(Controller):
    """Makes pods for Jobs, and counts how they end."""

    name: ClassVar[str] = "job-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._recorder = context.recorder.of(self.name)
        self._jobs = context.informers.of(JOBS)
        self._pods = context.informers.of(PODS)
        self._pods.index(BY_OWNER, of_owner)
        self._pods.index(ORPHANS, orphan_of)
        self._claims = Claims(context.writer, JOBS, PODS, finalizer=FINALIZER)
        self._control = PodControl(context, self.name)
        self._records: dict[str, Record] = {}
        self._looked: dict[str, float] = {}
        self._lost = WorkQueue("job-orphan-pods", self._release_lost)
        self._counts = Counts()
        self.measures += self._counts.all
        self._jobs.listen(self._job_changed)
        self._pods.listen(self._pod_changed)

    async def run(self) -> None:
        """Work, until cancelled; not before all informers are filled."""
        await self.context.informers.synced()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.queue.run())
            tasks.create_task(self._lost.run())

    def _job_changed(self, before: Object | None, job: Object | None) -> None:
        found = job or before
        assert found is not None
        generation = before and job and before["metadata"].get("generation")
        if job is not None and generation == job["metadata"].get("generation"):
            self._enqueue_later(key_of(job))
        else:
            self.queue.add(key_of(found))
        if job is None or finished_condition(job) is not None:
            for pod in self._pods.indexed(BY_OWNER, found["metadata"]["uid"]):
                if is_tracked(pod):
                    self._lost.add(key_of(pod))

    def _pod_changed(self, before: Object | None, pod: Object | None) -> None:
        owners = [self._owner(value) for value in (before, pod) if value is not None]
        for job in owners:
            if job is not None:
                self._enqueue_later(key_of(job))
        if pod is None:
            return
        if is_tracked(pod) and (owners[-1] is None or finished_condition(owners[-1]) is not None):
            self._lost.add(key_of(pod))
        if controller_of(pod) is None:
            self._wake_adopters(pod)

    def _wake_adopters(self, pod: Object) -> None:
        labels = pod["metadata"].get("labels") or {}
        for job in self._jobs.of_namespace(pod["metadata"]["namespace"]) if labels else ():
            selector = from_object(job["spec"].get("selector"))
            if selector is not None and selector.matches(labels):
                self._enqueue_later(key_of(job))

    def _owner(self, pod: Object) -> Object | None:
        """Return the Job that controls a pod, None if none does."""
        reference = controller_of(pod)
        if reference is None or reference["kind"] != JOBS.kind:
            return None
        job = self._jobs.find(pod["metadata"]["namespace"], reference["name"])
        return job if job is not None and job["metadata"]["uid"] == reference["uid"] else None

    def _enqueue_later(self, key: str) -> None:
        due = self._looked.get(key, 0.0) + BATCH - monotonic()
        if due > 0:
            self.queue.add_after(key, due)
        else:
            self.queue.add(key)

    async def _release_lost(self, key: str) -> float | None:
        """Take the finalizer off a pod that no Job will count any more."""
        await self.context.informers.certain()
        pod = self._pods.get(key)
        if pod is None or not is_tracked(pod):
            return None
        reference = controller_of(pod)
        if reference is not None:
            if (reference["kind"], reference["apiVersion"]) != (JOBS.kind, JOBS.group_version):
                return None
            job = self._owner(pod)
            if job is not None and (is_foreign(job) or finished_condition(job) is None):
                return None
        await self._release(pod)
        return None

    async def _release(self, pod: Object) -> None:
        """Take the finalizer off; one that is gone is no fault."""
        meta = pod["metadata"]
        changes = {"metadata": {"uid": meta["uid"],
                                "$deleteFromPrimitiveList/finalizers": [FINALIZER]}}  # fmt: skip
        try:
            await self.context.writer.patch(PODS, pod, changes, kind=STRATEGIC_PATCH)
        except ApiError as error:
            # Gone, or another pod has the name.
            if not (error.not_found or error.reason in ("Conflict", "Invalid")):
                raise
            self._pods.forget(pod)

    async def sync(self, key: str) -> float | None:
        """Make, delete and count the pods of a Job."""
        job = self._jobs.get(key)
        if job is None or finished_condition(job) is not None:
            self._records.pop(key, None)
            self._looked.pop(key, None)
            return None
        if is_foreign(job):
            return None
        if job["spec"].get("completionMode") not in _MODES:
            text = "Skipped Job sync because completion mode is unknown"
            self._recorder.warning(job, "UnknownCompletionMode", text)
            return None
        begun, well, did = monotonic(), False, [TRACKING]
        try:
            pause = await self._bring(key, job, did)
            well = True
        finally:
            self._looked[key] = now = monotonic()
            self._counts.synced(job, did[-1], now - begun, well=well)
        return pause

    async def _bring(self, key: str, job: Object, did: list[str]) -> float | None:
        """Make it so; puts into ``did`` what was done to its pods."""
        meta = job["metadata"]
        candidates = [*self._pods.indexed(BY_OWNER, meta["uid"]),
                      *self._pods.indexed(ORPHANS, meta["namespace"])]  # fmt: skip
        selector = from_object(job["spec"].get("selector"))
        pods = await self._claims.claim(job, selector, candidates)
        now = self.context.clock()
        found = observe(job, pods, self._records.get(key, Record()), now)
        status = tracking.started(job, now)
        end, plan = end_of(found), Plan()
        ends = end is not None
        if ends:
            did += [DELETED] if found.active else []
            left = await self._end(found)
            if left.active:
                # It has not ended as long as one of its pods might go on.
                end = None
        else:
            if not is_deleting(job):
                plan = plan_of(found)
                did += [DELETED] if plan.delete else [CREATED] if plan.create else []
            left = await self._carry_out(found, plan)
            if is_complete(found, left.active):
                end = COMPLETIONS_REACHED
            elif not is_deleting(job):
                self._tell_suspension(job, status)
        tracking.counted(status, left.active, left.ready, left.terminating)
        await self._count(key, found, status, end)
        if left.error is not None:
            raise left.error
        deadline = deadline_in({**job, "status": status}, now) if not ends else None
        return min((wait for wait in (plan.wait, deadline) if wait is not None), default=None)

    def _tell_suspension(self, job: Object, status: dict[str, Any]) -> None:
        reason = tracking.follow_suspension(job, status, self.context.clock())
        if reason:
            self._recorder.normal(job, reason, f"Job {reason.lower()}")

    async def _end(self, found: Situation) -> _Left:
        """Delete what is active; finalizers stay until all is counted."""
        return await self._delete(found, found.active, counted=True)

    async def _carry_out(self, found: Situation, plan: Plan) -> _Left:
        if plan.delete:
            return await self._delete(found, plan.delete, counted=False)
        left = _Left(len(found.active), found.ready, found.terminating)
        if plan.create:
            made, left.error = await self._create(found, plan.create)
            left.active += made
        return left

    async def _delete(self, found: Situation, pods: list[Object], *, counted: bool) -> _Left:
        gone: list[Object] = []

        async def delete(number: int) -> None:
            pod = pods[number]
            if not counted and is_tracked(pod):
                await self._release(pod)
            await self._control.delete(found.job, pod)
            gone.append(pod)

        errors = await all_of(list(range(len(pods))), delete)
        return _Left(
            len(found.active) - len(gone),
            found.ready - sum(is_ready(pod) for pod in gone),
            found.terminating + len(gone),
            errors[0] if errors else None,
        )

    async def _create(
        self, found: Situation, indexes: list[int | None]
    ) -> tuple[int, ApiError | None]:
        namespace = found.job["metadata"]["namespace"]
        names = named(found.job, indexes, lambda name: self._pods.find(namespace, name) is not None)

        async def create(number: int) -> None:
            index = indexes[number]
            before = found.delayed.get(index) if index is not None else None
            pod = pod_of(found.job, index, before)
            pod["metadata"]["name"] = names[number]
            await self._control.create(found.job, pod, once=True)

        made, error = await slow_start(len(indexes), create)
        self._counts.created(found, made, int(error is not None))
        if error is not None and is_namespace_ending(error):
            error = None
        return made, error

    async def _count(
        self, key: str, found: Situation, status: dict[str, Any], end: End | None
    ) -> None:
        """Count the pods that ended, and say that the Job has, if so; see `tracking`."""
        now = self.context.clock()
        marked = tracking.mark(found, status, end)
        tracking.announce(status, end, now)
        job, wrote = await self._write(found.job, status)
        if wrote:
            self._records[key] = found.record
        status = copy.deepcopy(job["status"])
        status.setdefault("uncountedTerminatedPods", {})
        released, error = await self._release_all(marked.release)
        tracked = {pod["metadata"]["uid"] for pod in found.pods if is_tracked(pod)} - released
        tracking.settle(status, tracked)
        finished = (
            error is None and marked.all_seen and end is not None
            and tracking.finish(status, end, now)
        )  # fmt: skip
        job, _ = await self._write(job, status)
        if error is not None:
            raise error
        if finished and end is not None:
            self._tell_end(job, end)
        elif not marked.all_seen:
            self.queue.add(key)

    async def _release_all(self, pods: list[Object]) -> tuple[set[str], ApiError | None]:
        released: set[str] = set()

        async def release(number: int) -> None:
            await self._release(pods[number])
            released.add(pods[number]["metadata"]["uid"])

        errors = await all_of(list(range(len(pods))), release)
        return released, errors[0] if errors else None

    async def _write(self, job: Object, status: dict[str, Any]) -> tuple[Object, bool]:
        """Write a status if it says something new; returns the Job as it is now."""
        wanted = tracking.tidy(status)
        if wanted == tracking.tidy(job.get("status") or {}):
            return {**job, "status": wanted}, False
        made = await self.context.writer.update(JOBS, {**job, "status": wanted}, "status")
        self._counts.counted(job, job.get("status") or {}, wanted)
        return made, True

    def _tell_end(self, job: Object, end: End) -> None:
        self._counts.ended(job, end.reason, well=end.is_success)
        if not end.is_success:
            self._recorder.warning(job, end.reason, end.message)
            return
        completions = job["spec"].get("completions")
        if completions is not None and job["status"].get("succeeded", 0) > completions:
            self._recorder.warning(job, "TooManySucceededPods",
                                   "Too many succeeded pods running after completion count "
                                   "reached")  # fmt: skip
        self._recorder.normal(job, "Completed", "Job completed")
