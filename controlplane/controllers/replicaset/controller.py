"""The controllers of ReplicaSets and ReplicationControllers: one, but for what it reads."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import ClassVar, Final

from controlplane.api.errors import ApiError as SelectorError
from controlplane.api.selectors import LabelSelector, from_object
from controlplane.controllers.podcontrol import (
    PodControl,
    all_of,
    is_namespace_ending,
    slow_start,
)
from controlplane.controllers.pods import (
    BY_OWNER,
    ORPHANS,
    condition_of,
    has_ended,
    is_active,
    is_terminating,
    next_available,
    orphan_of,
)
from controlplane.controllers.podtemplates import pod_from
from controlplane.controllers.replicaset.pace import RATE, YOUNG, Pace
from controlplane.controllers.replicaset.ranking import first_to_go
from controlplane.controllers.replicaset.status import FAILURE, failure_of, status_of
from controlplane.engine.controller import Context, Controller, moment_of, monotonic
from controlplane.engine.informer import of_owner
from controlplane.engine.ownership import Claims, controller_of, is_controlled_by
from controlplane.engine.resources import (
    PODS,
    REPLICA_SETS,
    REPLICATION_CONTROLLERS,
    Object,
    Resource,
    is_deleting,
    key_of,
)
from kubeletpy_common.apiclient.errors import ApiError

BURST: Final = 500
"""Pods that are made or deleted before their owner is looked at again."""
_SLOW: Final = (
    f"pods fail within {YOUNG / 60:g} minutes of their creation; {RATE:g} a second is replaced"
)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What came of making or deleting pods.

    Attributes:
        wait: seconds until there is more to do.
        failure: condition for the status.
        error: to be raised once that is told.
    """

    wait: float | None = None
    failure: Object | None = None
    error: ApiError | None = None


class ReplicaSetController(Controller):
    """Keeps as many pods of a template as its owner says."""

    name: ClassVar[str] = "replicaset-controller"
    resource: ClassVar[Resource] = REPLICA_SETS
    component: ClassVar[str] = "replicaset-controller"
    counts_terminating: ClassVar[bool] = True
    """Whether the status says how many pods are being deleted."""

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._owners = context.informers.of(self.resource)
        self._owners.index(BY_OWNER, of_owner)
        self._pods = context.informers.of(PODS)
        self._pods.index(BY_OWNER, of_owner)
        self._pods.index(ORPHANS, orphan_of)
        self._control = PodControl(context, self.component)
        self._recorder = context.recorder.of(self.component)
        self._claims = Claims(context.writer, self.resource, PODS)
        self._selectors: dict[str, LabelSelector | None] = {}
        self._paces: dict[str, Pace] = {}
        self._owners.listen(self._owner_changed)
        self._pods.listen(self._pod_changed)

    def selector_of(self, owner: Object) -> LabelSelector | None:
        """Return which pods an owner wants; None: none, it is invalid (pure)."""
        try:
            return from_object(owner["spec"].get("selector"))
        except SelectorError:
            return None

    async def sync(self, key: str) -> float | None:
        """Make or delete pods until there are as many as wanted, and tell the status."""
        owner = self._owners.get(key)
        if owner is None:
            return None
        selector = self._selectors.get(key)
        active = await self._claimed(owner, selector)
        outcome = await self._manage(owner, active) if not is_deleting(owner) else _Outcome()
        # What was just made and deleted counts: memory knows it already.
        ours = [pod for pod in self._of(owner) if _fits(selector, pod)]
        active = [pod for pod in ours if is_active(pod)]
        terminating = sum(map(is_terminating, ours)) if self.counts_terminating else None
        now = self.context.clock()
        status = status_of(owner, active, terminating, now, outcome.failure)
        await self._tell(owner, status)
        if outcome.error is not None:
            raise outcome.error
        pause = next_available(active, owner["spec"].get("minReadySeconds", 0), now)
        return min((one for one in (outcome.wait, pause) if one is not None), default=None)

    async def _claimed(self, owner: Object, selector: LabelSelector | None) -> list[Object]:
        """Return the active pods that are the owner's, after adopting and releasing."""
        namespace = owner["metadata"]["namespace"]
        found = [*self._of(owner), *self._pods.indexed(ORPHANS, namespace)]
        return await self._claims.claim(owner, selector, [pod for pod in found if is_active(pod)])

    def _of(self, owner: Object) -> list[Object]:
        return self._pods.indexed(BY_OWNER, owner["metadata"]["uid"])

    async def _manage(self, owner: Object, active: list[Object]) -> _Outcome:
        """Make or delete pods."""
        missing = owner["spec"]["replicas"] - len(active)
        if missing > 0:
            return await self._make(owner, len(active), min(missing, BURST))
        if missing < 0:
            return await self._remove(owner, active, min(-missing, BURST))
        pace = self._paces.get(owner["metadata"]["uid"])
        still = pace.slow(monotonic()) if pace is not None else None
        return _Outcome(still, condition_of(owner, FAILURE) if still is not None else None)

    async def _make(self, owner: Object, active: int, missing: int) -> _Outcome:
        meta, now = owner["metadata"], monotonic()
        generation = meta.get("generation", 0)
        pace = self._paces.setdefault(meta["uid"], Pace(now))
        held = pace.held(generation, active, now)
        if held is not None:
            return _Outcome(held, condition_of(owner, FAILURE))
        was_slow = pace.slow(now) is not None
        count, pause = pace.allowed(missing, self._failed_young(owner), now)
        slow = None
        if pace.slow(now) is not None:
            slow = failure_of(owner, "FailedPods", _SLOW, self.context.clock())
            if not was_slow:
                self._recorder.warning(owner, slow["reason"], slow["message"])
        template = owner["spec"].get("template") or {"spec": {}}

        async def make(_: int) -> None:
            await self._control.create(owner, pod_from(template, owner, self.resource))

        error = (await slow_start(count, make))[1]
        if error is None:
            pace.made()
            return _Outcome(pause, slow)
        if is_namespace_ending(error):
            return _Outcome()
        there = sum(map(is_active, self._of(owner)))
        again = pace.refused(generation, there, monotonic(), error.retry_after)
        return _Outcome(
            again, failure_of(owner, "FailedCreate", str(error), self.context.clock())
        )  # fmt: skip

    def _failed_young(self, owner: Object) -> int:
        now = self.context.clock()
        return sum(
            has_ended(pod) and _age(pod, now) < YOUNG and not is_deleting(pod)
            for pod in self._of(owner)
        )

    async def _remove(self, owner: Object, active: list[Object], count: int) -> _Outcome:
        now = self.context.clock()
        going = first_to_go(active, self._related(owner), count, now)

        async def remove(number: int) -> None:
            await self._control.delete(owner, going[number])

        errors = await all_of(list(range(len(going))), remove)
        if not errors:
            return _Outcome()
        text = f"unable to delete pods: {errors[0]}"
        return _Outcome(None, failure_of(owner, "FailedDelete", text, now), errors[0])

    def _related(self, owner: Object) -> Iterator[Object]:
        """Return the pods of all that have the same controller as this owner."""
        above = controller_of(owner)
        if above is not None:
            for sibling in self._owners.indexed(BY_OWNER, above["uid"]):
                yield from self._of(sibling)

    async def _tell(self, owner: Object, status: Object) -> None:
        """Write the status, if it says anything new."""
        if (owner.get("status") or {}) == status:
            return

        def changed(value: Object) -> Object:
            value["status"] = status
            return value

        try:
            await self.context.writer.change(self.resource, owner, changed, subresource="status")
        except ApiError as error:
            # It is gone: there is nothing to tell of it.
            if not error.not_found:
                raise

    def _owner_changed(self, before: Object | None, owner: Object | None) -> None:
        known = owner or before
        assert known is not None
        key = key_of(known)
        if before is not None and (
            owner is None or before["metadata"]["uid"] != owner["metadata"]["uid"]
        ):
            self._paces.pop(before["metadata"]["uid"], None)
        if owner is None:
            self._selectors.pop(key, None)
        elif before is None or before["spec"].get("selector") != owner["spec"].get("selector"):
            self._selectors[key] = self.selector_of(owner)
        self.queue.add(key)

    def _pod_changed(self, before: Object | None, pod: Object | None) -> None:
        """Have the owners looked at for which a change of a pod matters."""
        if before is not None and pod is not None and _digest(before) == _digest(pod):
            return
        owners = {key for one in (before, pod) if one and (key := self._owner_of(one))}
        for key in owners:
            self.queue.add(key)
        if pod is not None and controller_of(pod) is None and is_active(pod):
            for key in self._wanting(pod):
                self.queue.add(key)

    def _owner_of(self, pod: Object) -> str | None:
        reference = controller_of(pod)
        if reference is None or reference["kind"] != self.resource.kind:
            return None
        owner = self._owners.find(pod["metadata"]["namespace"], reference["name"])
        return key_of(owner) if owner is not None and is_controlled_by(pod, owner) else None

    def _wanting(self, pod: Object) -> list[str]:
        """Return the owners that a pod without one fits."""
        owners = map(key_of, self._owners.of_namespace(pod["metadata"]["namespace"]))
        return [key for key in owners if _fits(self._selectors.get(key), pod)]


class ReplicationControllerController(ReplicaSetController):
    """The same for ReplicationControllers, whose selector is a map of labels."""

    name: ClassVar[str] = "replicationcontroller-controller"
    resource: ClassVar[Resource] = REPLICATION_CONTROLLERS
    component: ClassVar[str] = "replication-controller"
    counts_terminating: ClassVar[bool] = False

    def selector_of(self, owner: Object) -> LabelSelector | None:
        """Return which pods an owner wants; an empty selector wants none."""
        labels = owner["spec"].get("selector")
        return from_object({"matchLabels": labels}) if labels else None


def _fits(selector: LabelSelector | None, pod: Object) -> bool:
    return selector is not None and selector.matches(pod["metadata"].get("labels") or {})


def _age(pod: Object, now: datetime) -> float:
    return (now - moment_of(pod["metadata"]["creationTimestamp"])).total_seconds()


def _digest(pod: Object) -> tuple[object, ...]:
    """Return all of a pod that matters to its owner."""
    meta = pod["metadata"]
    return (
        is_active(pod),
        is_deleting(pod),
        condition_of(pod, "Ready"),
        meta.get("labels"),
        meta.get("ownerReferences"),
        meta["uid"],
    )
