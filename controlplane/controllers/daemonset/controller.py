"""Carries out what DaemonSets need."""

from __future__ import annotations

from typing import Any, ClassVar, Final

from controlplane.controllers import history
from controlplane.controllers.backoff import Backoff
from controlplane.controllers.owners import Owners, selector_of
from controlplane.controllers.podcontrol import PodControl, all_of, is_namespace_ending, slow_start
from controlplane.controllers.pods import BY_OWNER, ORPHANS, next_available, orphan_of
from controlplane.controllers.podtemplates import pod_from
from controlplane.engine.controller import Context, Controller, monotonic
from controlplane.engine.informer import of_owner
from controlplane.engine.ownership import Claims
from controlplane.engine.resources import (
    DAEMON_SETS,
    NODES,
    PODS,
    Object,
    is_deleting,
    key_of,
)
from kubeletpy_common.apiclient.errors import ApiError

from .fitting import fits, kept_to, node_of, with_tolerations
from .plan import GENERATION_LABEL, Facts, Plan, by_node, generation_of, manage, update
from .status import status_of

_AT_ONCE: Final = 250
"""Pods that one look makes, or deletes, at most."""
FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 900.0
"""Seconds before a pod that fails again and again is deleted."""


class DaemonSetController(Controller):
    """Makes the pods of DaemonSets."""

    name: ClassVar[str] = "daemonset-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._sets = context.informers.of(DAEMON_SETS)
        self._nodes = context.informers.of(NODES)
        self._pods = context.informers.of(PODS)
        self._pods.index(BY_OWNER, of_owner)
        self._pods.index(ORPHANS, orphan_of)
        self._history = history.History(context, DAEMON_SETS, history.REVISION_LABEL)
        self._claims = Claims(context.writer, DAEMON_SETS, PODS)
        self._control = PodControl(context, self.name)
        self._recorder = context.recorder.of(self.name)
        self._backoff = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        owners = Owners(self.queue, self._sets)
        self._sets.listen(self.enqueue)
        self._pods.listen(owners.changed)
        self._history.revisions.listen(owners.changed)
        self._nodes.listen(self._node_changed)

    async def sync(self, key: str) -> float | None:
        """Bring a set one step further."""
        owner = self._sets.get(key)
        if owner is None or is_deleting(owner):
            return None
        if not owner["spec"].get("selector"):
            text = "This daemon set is selecting all pods. A non-empty selector is required."
            self._recorder.warning(owner, "SelectingAll", text)
            return None
        revision, old = await self._revisions(owner)
        digest = (revision["metadata"].get("labels") or {})[history.REVISION_LABEL]
        await self._claimed(owner)
        failure: ApiError | None = None
        waits: list[float | None] = []
        try:
            waits.append(await self._work(owner, digest, old))
        except ApiError as error:
            failure = error
        waits.append(await self._tell(owner, digest))
        if failure is not None:
            raise failure
        return min((wait for wait in waits if wait), default=None)

    async def _work(self, owner: Object, digest: str, old: list[Object]) -> float | None:
        """Make and delete pods, and forget old revisions; return when to look again."""
        facts = self._facts(owner, digest)
        todo = manage(facts)
        wait = self._ended(owner, todo)
        await self._carry_out(owner, digest, todo)
        await self._carry_out(owner, digest, update(self._facts(owner, digest)))
        live = {
            (pod["metadata"].get("labels") or {}).get(history.REVISION_LABEL)
            for pod in self._pods_of(owner)
        }
        limit = owner["spec"].get("revisionHistoryLimit", 10)
        # Those in use count as well, but stay.
        number = max(len(old) - limit, 0) if limit >= 0 else 0
        free = [one for one in history.ordered(old)
                if one["metadata"]["labels"].get(history.REVISION_LABEL) not in live]  # fmt: skip
        await self._history.delete(free[:number])
        return wait

    def _pods_of(self, owner: Object) -> list[Object]:
        return self._pods.indexed(BY_OWNER, owner["metadata"]["uid"])

    def _facts(self, owner: Object, digest: str) -> Facts:
        nodes = {node["metadata"]["name"]: node for node in self._nodes}
        return Facts(owner, nodes, by_node(self._pods_of(owner)), digest, self.context.clock())

    async def _claimed(self, owner: Object) -> list[Object]:
        found = self._pods_of(owner)
        found += self._pods.indexed(ORPHANS, owner["metadata"]["namespace"])
        return await self._claims.claim(owner, selector_of(owner), found)

    async def _revisions(self, owner: Object) -> tuple[Object, list[Object]]:
        """Return the revision of the template as it is, which is made, and all others."""
        data = history.data_of(owner)
        same: list[Object] = []
        old: list[Object] = []
        for one in await self._history.claimed(owner, selector_of(owner)):
            labels = one["metadata"].get("labels") or {}
            if history.REVISION_LABEL not in labels:
                one = await self._history.relabel(one, one["metadata"]["name"])
            (same if history.is_same(one["data"], data) else old).append(one)
        if not same and old and await self._history.is_unchanged(owner, old[-1]):
            same.append(old.pop())
        number = max((one["revision"] for one in old), default=0) + 1
        if not same:
            return await self._made(owner, data, number), old
        kept = same[-1]
        if len(same) > 1:
            await self._merge(owner, kept, same[:-1])
        if kept["revision"] < number:
            kept = await self._history.renumber(kept, number)
        return kept, old

    async def _made(self, owner: Object, data: Object, number: int) -> Object:
        """Make a revision; a name that is taken is counted in the status before another is tried.

        So pods and revisions of one template have one name, whoever goes on from here.
        """
        while True:
            collisions = (owner.get("status") or {}).get("collisionCount") or 0
            made, more = await self._history.create(owner, data, number, collisions)
            if made is not None:
                return made

            def counted(value: Object, more: int = more) -> Object:
                return {**value, "status": {**(value.get("status") or {}), "collisionCount": more}}

            owner = await self.context.writer.change(
                DAEMON_SETS, owner, counted, subresource="status"
            )

    async def _merge(self, owner: Object, kept: Object, others: list[Object]) -> None:
        """Make several revisions of one template one."""
        digest = kept["metadata"]["labels"][history.REVISION_LABEL]
        gone = {one["metadata"]["labels"].get(history.REVISION_LABEL) for one in others}
        for pod in await self._claimed(owner):
            if (pod["metadata"].get("labels") or {}).get(history.REVISION_LABEL) in gone:
                changes = {"metadata": {"labels": {history.REVISION_LABEL: digest}}}
                await self.context.writer.patch(PODS, pod, changes)
        await self._history.delete(others)

    def _ended(self, owner: Object, todo: Plan) -> float | None:
        """Have pods that ended deleted, failed ones with ever longer pauses between."""
        waits = []
        for node, pod in todo.failed:
            generation = (owner.get("status") or {}).get("observedGeneration", 0)
            key, now = f"{owner['metadata']['uid']}/{generation}/{node}", monotonic()
            wait = self._backoff.wait(key, now)
            if wait:
                waits.append(wait)
                continue
            self._backoff.attempt(key, now)
            text = f"Found failed daemon pod {key_of(pod)} on node {node}, will try to kill it"
            self._recorder.warning(owner, "FailedDaemonPod", text)
            todo.delete.append(pod)
        for node, pod in todo.succeeded:
            text = f"Found succeeded daemon pod {key_of(pod)} on node {node}, will try to delete it"
            self._recorder.normal(owner, "SucceededDaemonPod", text)
            todo.delete.append(pod)
        return min(waits, default=None)

    async def _carry_out(self, owner: Object, digest: str, todo: Plan) -> None:
        nodes, doomed = todo.create[:_AT_ONCE], todo.delete[:_AT_ONCE]

        async def create(number: int) -> None:
            try:
                await self._control.create(owner, new_pod(owner, digest, nodes[number]))
            except ApiError as error:
                if not is_namespace_ending(error):
                    raise

        async def delete(number: int) -> None:
            await self._control.delete(owner, doomed[number])

        _, error = await slow_start(len(nodes), create)
        errors = [error] if error is not None else []
        errors += await all_of(list(range(len(doomed))), delete)
        if errors:
            raise errors[0]
        if len(todo.create) > _AT_ONCE or len(todo.delete) > _AT_ONCE:
            self.queue.add(key_of(owner))

    async def _tell(self, owner: Object, digest: str) -> float | None:
        """Write the status; return when a pod may be available."""
        known = self._sets.get(key_of(owner))
        if known is None or known["metadata"]["uid"] != owner["metadata"]["uid"]:
            return None
        # What was looked at is the generation of the sync, what is told of is newer.
        facts = self._facts({**owner, "status": known.get("status") or {}}, digest)
        status = status_of(facts)

        def changed(value: Object) -> Object | None:
            return None if value.get("status") == status else {**value, "status": status}

        await self.context.writer.change(DAEMON_SETS, known, changed, subresource="status")
        pods = (pod for there in facts.pods.values() for pod in there)
        return next_available(pods, facts.min_ready, facts.now)

    def _node_changed(self, before: Object | None, node: Object | None) -> None:
        """Have sets looked at for which a node came, went or became another."""
        if before is not None and node is not None and _fitting(before) == _fitting(node):
            return
        name = (node or before or {})["metadata"]["name"]
        for owner in self._sets:
            if before is not None and node is not None:
                there = any(node_of(pod) == name for pod in self._pods_of(owner))
                if fits(owner, before) == fits(owner, node) and there == fits(owner, node)[0]:
                    continue
            self.queue.add(key_of(owner))


def new_pod(owner: Object, digest: str, node: str) -> Object:
    """Return the pod of a set for a node (pure).

    Args:
        owner: the set.
        digest: of its revision.
        node: that the scheduler will give it to.
    """
    pod = pod_from(owner["spec"]["template"], owner, DAEMON_SETS)
    labels: dict[str, Any] = pod["metadata"]["labels"]
    generation = generation_of(owner)
    if generation is not None:
        labels[GENERATION_LABEL] = str(generation)
    labels[history.REVISION_LABEL] = digest
    pod["spec"]["tolerations"] = with_tolerations(pod["spec"])
    pod["spec"]["affinity"] = kept_to(pod["spec"].get("affinity"), node)
    return pod


def _fitting(node: Object) -> tuple[Any, Any]:
    """Return what of a node decides about daemons."""
    return node["metadata"].get("labels") or {}, node["spec"].get("taints") or []
