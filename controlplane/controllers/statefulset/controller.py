"""Carries out what StatefulSets need."""

from __future__ import annotations

from typing import ClassVar, Final

from controlplane.api.selectors import LabelSelector
from controlplane.controllers import history
from controlplane.controllers.backoff import Backoff
from controlplane.controllers.owners import Owners, selector_of
from controlplane.controllers.podcontrol import slow_start
from controlplane.controllers.pods import (
    BY_OWNER,
    ORPHANS,
    has_ended,
    next_available,
    orphan_of,
)
from controlplane.engine.controller import Context, Controller, monotonic
from controlplane.engine.informer import of_owner
from controlplane.engine.ownership import Claims
from controlplane.engine.resources import CLAIMS, PODS, STATEFUL_SETS, Object, is_deleting, key_of
from kubeletpy_common.apiclient.errors import ApiError

from .hands import Hands
from .identity import is_member, parent_of, revision_of
from .plan import Act, Facts, Plan, Revisions, Step, plan
from .status import status_of

FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 60.0
"""Seconds before a pod that ends again and again is made anew."""


class StatefulSetController(Controller):
    """Makes the pods and claims of StatefulSets."""

    name: ClassVar[str] = "statefulset-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._sets = context.informers.of(STATEFUL_SETS)
        self._pods = context.informers.of(PODS)
        self._pods.index(BY_OWNER, of_owner)
        self._pods.index(ORPHANS, orphan_of)
        self._pod_claims = context.informers.of(CLAIMS)
        self._history = history.History(context, STATEFUL_SETS, history.HASH_LABEL)
        self._claims = Claims(context.writer, STATEFUL_SETS, PODS)
        self._hands = Hands(context, context.recorder.of(self.name))
        self._backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        owners = Owners(self.queue, self._sets)
        self._sets.listen(self.enqueue)
        self._pods.listen(owners.changed)
        self._pods.listen(self._pod_gone)
        self._history.revisions.listen(owners.changed)
        self._pod_claims.listen(self._claim_gone)

    async def sync(self, key: str) -> float | None:
        """Bring a set one step further."""
        owner = self._sets.get(key)
        if owner is None:
            return None
        selector = selector_of(owner)
        found = await self._history.claimed(owner, selector)
        await self._claim_pods(owner, selector)
        between = await self._revisions(owner, found)
        if between is None:
            return None
        revisions, collisions = between
        facts = self._facts(owner, revisions)
        error = await self._carry_out(facts, plan(facts))
        await self._tell(owner, revisions, collisions)
        await self._truncate(owner, revisions)
        if error is not None:
            raise error
        return self._next(facts)

    def _pods_of(self, owner: Object) -> list[Object]:
        pods = self._pods.indexed(BY_OWNER, owner["metadata"]["uid"])
        return [pod for pod in pods if is_member(owner, pod)]

    async def _claim_pods(self, owner: Object, selector: LabelSelector | None) -> None:
        meta = owner["metadata"]
        found = self._pods.indexed(BY_OWNER, meta["uid"])
        found += self._pods.indexed(ORPHANS, meta["namespace"])
        await self._claims.claim(owner, selector, found, lambda pod: is_member(owner, pod))

    async def _revisions(
        self, owner: Object, found: list[Object]
    ) -> tuple[Revisions, int] | None:  # fmt: skip
        """Return the current and the wanted revision, which is made; None: the set has to go."""
        status = owner.get("status") or {}
        collisions = status.get("collisionCount") or 0
        if is_deleting(owner):
            # Its revisions go before it: none is made again.
            if not found:
                return None
            update = found[-1]
        else:
            update, collisions = await self._update_revision(owner, found, collisions)
        current = next(
            (one for one in found if one["metadata"]["name"] == status.get("currentRevision")),
            update,
        )
        names = (current["metadata"]["name"], update["metadata"]["name"])
        templates = (history.template_of(current), history.template_of(update))
        return Revisions(*names, *templates), collisions

    async def _update_revision(
        self, owner: Object, found: list[Object], collisions: int
    ) -> tuple[Object, int]:
        data = history.data_of(owner)
        number = found[-1]["revision"] + 1 if found else 1
        same = [one for one in found if history.is_same(one["data"], data)]
        if same:
            if same[-1] is not found[-1]:
                # A template of before: its revision is the newest again.
                return await self._history.renumber(same[-1], number), collisions
            return same[-1], collisions
        if found and await self._history.is_unchanged(owner, found[-1]):
            return found[-1], collisions
        while True:
            made, collisions = await self._history.create(owner, data, number, collisions)
            if made is not None:
                return made, collisions

    def _facts(self, owner: Object, revisions: Revisions) -> Facts:
        namespace, pods = owner["metadata"]["namespace"], self._pods_of(owner)
        held = frozenset(
            pod["metadata"]["name"] for pod in pods
            if has_ended(pod) and self._backoff.wait(_backoff_key(owner, pod), monotonic())
        )  # fmt: skip
        return Facts(
            owner, pods, revisions, lambda name: self._pod_claims.find(namespace, name),
            self.context.clock(), held,
        )  # fmt: skip

    async def _carry_out(self, facts: Facts, todo: Plan) -> ApiError | None:
        """Do what is planned; return what failed first, after which nothing was begun."""
        for phase in todo.phases:

            async def work(number: int, phase: list[list[Step]] = phase) -> None:
                for step in phase[number]:
                    if step.act is Act.DELETE and has_ended(step.pod):
                        self._backoff.attempt(_backoff_key(facts.owner, step.pod), monotonic())
                    await self._hands.do(facts, step)

            if todo.parallel:
                _, error = await slow_start(len(phase), work)
                if error is not None:
                    return error
                continue
            for number in range(len(phase)):
                try:
                    await work(number)
                except ApiError as error:
                    return error
        return None

    async def _tell(self, owner: Object, revisions: Revisions, collisions: int) -> None:
        now = self.context.clock()
        status = status_of(owner, self._pods_of(owner), revisions, collisions, now)

        def changed(value: Object) -> Object | None:
            return None if value.get("status") == status else {**value, "status": status}

        known = self._sets.get(key_of(owner)) or owner
        if known["metadata"]["uid"] != owner["metadata"]["uid"]:
            return
        await self.context.writer.change(STATEFUL_SETS, known, changed, subresource="status")

    async def _truncate(self, owner: Object, revisions: Revisions) -> None:
        live = {revisions.current, revisions.update, *map(revision_of, self._pods_of(owner))}
        found = history.ordered(self._history.revisions.indexed(BY_OWNER, owner["metadata"]["uid"]))
        limit = owner["spec"].get("revisionHistoryLimit", 10)
        await self._history.delete(
            history.beyond(found, lambda one: one["metadata"]["name"] in live, limit)
        )

    def _next(self, facts: Facts) -> float | None:
        """Return the seconds after which a pod may be available, or be made anew."""
        pods = self._pods_of(facts.owner)
        waits = [next_available(pods, facts.min_ready, self.context.clock())]
        now = monotonic()
        waits += [self._backoff.wait(_backoff_key(facts.owner, pod), now)
                  for pod in pods if has_ended(pod)]  # fmt: skip
        return min((wait for wait in waits if wait), default=None)

    def _pod_gone(self, before: Object | None, value: Object | None) -> None:
        """A name is free again that a set may wait for."""
        if value is None and before is not None:
            owner = self._sets.find(before["metadata"]["namespace"], parent_of(before))
            if owner is not None:
                self.queue.add(key_of(owner))

    def _claim_gone(self, before: Object | None, value: Object | None) -> None:
        """A pod may lack a claim now, or need not wait for an old one."""
        if value is None and before is not None:
            for owner in self._sets.of_namespace(before["metadata"]["namespace"]):
                if owner["spec"].get("volumeClaimTemplates"):
                    self.queue.add(key_of(owner))


def _backoff_key(owner: Object, pod: Object) -> str:
    return f"{owner['metadata']['uid']}/{pod['metadata']['name']}"
