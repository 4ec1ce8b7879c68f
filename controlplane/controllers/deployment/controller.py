"""The controller of Deployments."""

from __future__ import annotations

from typing import ClassVar

from controlplane.api.errors import ApiError as SelectorError
from controlplane.api.selectors import LabelSelector, from_object
from controlplane.controllers.deployment import revisions, rollout, status
from controlplane.controllers.deployment.steps import COMPONENT, Steps
from controlplane.controllers.podcontrol import is_namespace_ending
from controlplane.controllers.pods import BY_OWNER, ORPHANS, has_ended, orphan_of
from controlplane.engine.controller import Context, Controller
from controlplane.engine.informer import of_owner
from controlplane.engine.ownership import Claims, controller_of, is_controlled_by
from controlplane.engine.resources import (
    DEPLOYMENTS,
    PODS,
    REPLICA_SETS,
    Object,
    is_deleting,
    key_of,
)
from kubeletpy_common.apiclient.errors import ApiError


class DeploymentController(Controller):
    """Has the ReplicaSet of the declared template take over from those of former ones."""

    name: ClassVar[str] = "deployment-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._deployments = context.informers.of(DEPLOYMENTS)
        self._sets = context.informers.of(REPLICA_SETS)
        self._sets.index(BY_OWNER, of_owner)
        self._sets.index(ORPHANS, orphan_of)
        self._pods = context.informers.of(PODS)
        self._pods.index(BY_OWNER, of_owner)
        self._claims = Claims(context.writer, DEPLOYMENTS, REPLICA_SETS)
        self._recorder = context.recorder.of(COMPONENT)
        self._selectors: dict[str, LabelSelector | None] = {}
        self._deployments.listen(self._deployment_changed)
        self._sets.listen(self._set_changed)
        self._pods.listen(self._pod_changed)

    async def sync(self, key: str) -> float | None:
        """Take the next step of a rollout, or of scaling, and tell the status."""
        deployment = self._deployments.get(key)
        if deployment is None:
            return None
        selector = self._selectors.get(key)
        if selector is None or not selector.requirements:
            text = "This deployment is selecting all pods. A non-empty selector is required."
            self._recorder.warning(deployment, "SelectingAll", text)
            return None
        try:
            return await self._steps(deployment, selector)
        except ApiError as error:
            # What is gone meanwhile has the Deployment looked at again, if that is still there.
            if is_namespace_ending(error) or error.not_found:
                return None
            raise

    async def _steps(self, deployment: Object, selector: LabelSelector) -> float | None:
        uid, namespace = deployment["metadata"]["uid"], deployment["metadata"]["namespace"]
        found = [*self._sets.indexed(BY_OWNER, uid), *self._sets.indexed(ORPHANS, namespace)]
        sets = await self._claims.claim(deployment, selector, found)
        steps = Steps(self.context, deployment, sets)
        if is_deleting(deployment):
            await steps.sync_revision()
            await steps.tell(of_rollout=False)
            return None
        await steps.tell_pause()
        await steps.sync_revision()
        if _wants_rollback(deployment) and not deployment["spec"].get("paused"):
            if steps.new is None:
                await steps.create_new()
            await steps.roll_back()
        elif deployment["spec"].get("paused") or rollout.is_scaled(deployment, steps.everything):
            await self._scale(steps)
            if deployment["spec"].get("paused") and not _wants_rollback(deployment):
                await steps.forget()
            await steps.tell(of_rollout=False)
        else:
            await (self._roll if rollout.is_rolling(deployment) else self._recreate)(steps)
            return status.seconds_to_deadline(steps.deployment, self.context.clock())
        return None

    async def _scale(self, steps: Steps) -> None:
        """Size the ReplicaSets of a Deployment that was scaled, or is paused."""
        deployment = steps.deployment
        only = rollout.active_or_latest(steps.new, steps.old)
        if only is not None:
            mark = rollout.is_scaled(deployment, [only])
            await steps.scale(only, rollout.replicas_of(deployment), mark=mark)
        elif rollout.is_saturated(deployment, steps.new):
            active = [one for one in steps.old if rollout.replicas_of(one)]
            await steps.scale_all(rollout.Scaling(one, 0) for one in active)
        elif rollout.is_rolling(deployment):
            parts = rollout.proportions(deployment, steps.everything)
            await steps.scale_all(parts, mark=True)

    async def _roll(self, steps: Steps) -> None:
        """Take one step of a rolling update: the new one larger, else the old ones smaller."""
        if steps.new is None:
            await steps.create_new()
        new = steps.new
        assert new is not None
        size, wanted = rollout.replicas_of(new), rollout.replicas_of(steps.deployment)
        if size < wanted:
            wanted = rollout.size_of_new(steps.deployment, steps.everything, size)
        if not await steps.scale(new, wanted):
            going = rollout.scale_down_of_old(steps.deployment, steps.old, new)
            if not await steps.scale_all(going):
                await self._forget_if_complete(steps)
        await steps.tell(of_rollout=True)

    async def _recreate(self, steps: Steps) -> None:
        """Take one step: first all old pods go, then the new ones come."""
        active = [one for one in steps.old if rollout.replicas_of(one)]
        down = await steps.scale_all(rollout.Scaling(one, 0) for one in active)
        if not down and not self._runs_old(steps):
            if steps.new is None:
                await steps.create_new()
            assert steps.new is not None
            await steps.scale(steps.new, rollout.replicas_of(steps.deployment))
            await self._forget_if_complete(steps)
        await steps.tell(of_rollout=True)

    async def _forget_if_complete(self, steps: Steps) -> None:
        if status.is_complete(steps.deployment, steps.deployment.get("status") or {}):
            await steps.forget()

    def _runs_old(self, steps: Steps) -> bool:
        """Whether pods of old templates may still run, even if they are about to end."""
        if rollout.told(steps.old, "replicas"):
            return True
        uids = [one["metadata"]["uid"] for one in steps.old]
        return any(not has_ended(pod) for uid in uids for pod in self._pods.indexed(BY_OWNER, uid))

    def _deployment_changed(self, before: Object | None, deployment: Object | None) -> None:
        known = deployment or before
        assert known is not None
        key = key_of(known)
        if deployment is None:
            self._selectors.pop(key, None)
        else:
            self._selectors[key] = _selector(deployment)
        self.queue.add(key)

    def _set_changed(self, before: Object | None, value: Object | None) -> None:
        for one in (before, value):
            key = self._owner_of(one) if one is not None else None
            if key is not None:
                self.queue.add(key)
        if value is None or controller_of(value) is not None or is_deleting(value):
            return
        if before is None or _adoptable(before) != _adoptable(value):
            labels = value["metadata"].get("labels") or {}
            for each in map(key_of, self._deployments.of_namespace(value["metadata"]["namespace"])):
                selector = self._selectors.get(each)
                if selector is not None and selector.requirements and selector.matches(labels):
                    self.queue.add(each)

    def _pod_changed(self, before: Object | None, pod: Object | None) -> None:
        """Have a Deployment looked at that waits until the last old pod is gone."""
        if pod is not None or before is None:
            return
        reference = controller_of(before)
        if reference is None or reference["kind"] != REPLICA_SETS.kind:
            return
        owner = self._sets.find(before["metadata"]["namespace"], reference["name"])
        if owner is None or not is_controlled_by(before, owner):
            return
        key = self._owner_of(owner)
        if key is not None and not rollout.is_rolling(self._deployments.get(key) or {"spec": {}}):
            self.queue.add(key)

    def _owner_of(self, value: Object) -> str | None:
        reference = controller_of(value)
        if reference is None or reference["kind"] != DEPLOYMENTS.kind:
            return None
        owner = self._deployments.find(value["metadata"]["namespace"], reference["name"])
        return key_of(owner) if owner is not None and is_controlled_by(value, owner) else None


def _selector(deployment: Object) -> LabelSelector | None:
    try:
        return from_object(deployment["spec"].get("selector"))
    except SelectorError:
        return None


def _adoptable(value: Object) -> tuple[object, object]:
    return value["metadata"].get("labels"), value["metadata"].get("ownerReferences")


def _wants_rollback(deployment: Object) -> bool:
    text = revisions.annotations_of(deployment).get(revisions.ROLLBACK, "")
    return text.removeprefix("-").isdecimal() and text.isascii()
