"""Carries out what was decided for one Deployment."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any, Final

from controlplane.controllers.deployment import revisions, rollout, status
from controlplane.controllers.podcontrol import is_namespace_ending
from controlplane.controllers.podtemplates import HASH_LABEL, hash_of, name_of, same_template
from controlplane.engine.controller import Context
from controlplane.engine.ownership import is_controlled_by, reference_to
from controlplane.engine.resources import DEPLOYMENTS, REPLICA_SETS, Object
from kubeletpy_common.apiclient.errors import ApiError

COMPONENT: Final = "deployment-controller"


class Steps:
    """The Deployment and its ReplicaSets as they become.

    Args:
        context: of the process.
        deployment: as it is known.
        sets: its ReplicaSets.

    Attributes:
        deployment: as the server has it now.
        new: ReplicaSet of the template that is declared now; None: it is not there.
        old: all others, oldest first.
    """

    def __init__(self, context: Context, deployment: Object, sets: list[Object]) -> None:
        self._context = context
        self._writer = context.writer
        self._recorder = context.recorder.of(COMPONENT)
        self.deployment = deployment
        self.new, self.old = rollout.split(deployment, sets)

    @property
    def everything(self) -> list[Object]:
        """All ReplicaSets, the new one last."""
        return [*self.old, *([self.new] if self.new is not None else [])]

    async def sync_revision(self) -> None:
        """Bring annotations of the new ReplicaSet and revision of the Deployment up to date."""
        new, deployment = self.new, self.deployment
        if new is None:
            return
        before = revisions.annotations_of(new)
        wanted = revisions.annotations_of_new(deployment, before, self._revision())
        seconds = deployment["spec"].get("minReadySeconds", 0)
        if wanted != before or new["spec"].get("minReadySeconds", 0) != seconds:
            spec = {**new["spec"], "minReadySeconds": seconds}
            await self._change_set(new, spec, wanted)
            return
        conditions = None
        if status.deadline_of(deployment) is not None and self._progress() is None:
            text = f'Found new replica set "{new["metadata"]["name"]}"'
            conditions = self._conditions_with("True", "FoundNewReplicaSet", text)
        await self._tell_revision(wanted.get(revisions.REVISION, ""), conditions)

    async def create_new(self) -> None:
        """Create the ReplicaSet of the template, as large as it may be now.

        Raises:
            ApiError: it was refused (the Deployment's conditions say so), or its name is taken by
                another one: the next attempt has another name.
        """
        wanted = self._wanted_new()
        try:
            self.new = await self._writer.create(REPLICA_SETS, wanted)
        except ApiError as error:
            if error.reason == "AlreadyExists":
                self.new = await self._found_new(wanted, error)
                await self._tell_revision(str(self._revision()), None)
                return
            if not is_namespace_ending(error):
                await self._tell_refused(wanted, error)
            raise
        name, size = self.new["metadata"]["name"], rollout.replicas_of(self.new)
        if size:
            self._recorder.normal(
                self.deployment,
                "ScalingReplicaSet",
                f"Scaled up replica set {name} from 0 to {size}",
            )
        conditions = None
        if status.deadline_of(self.deployment) is not None:
            text = f'Created new replica set "{name}"'
            conditions = self._conditions_with("True", "NewReplicaSetCreated", text)
        await self._tell_revision(str(self._revision()), conditions)

    def _revision(self) -> int:
        return revisions.latest(self.old) + 1

    def _wanted_new(self) -> Object:
        deployment = self.deployment
        meta, spec = deployment["metadata"], deployment["spec"]
        hashed = hash_of(spec["template"], (deployment.get("status") or {}).get("collisionCount"))
        label = {HASH_LABEL: hashed}
        template = copy.deepcopy(spec["template"])
        labels = {**((template.get("metadata") or {}).get("labels") or {}), **label}
        template["metadata"] = {**(template.get("metadata") or {}), "labels": labels}
        selector = copy.deepcopy(spec["selector"])
        selector["matchLabels"] = {**(selector.get("matchLabels") or {}), **label}
        annotations = revisions.annotations_of_new(deployment, {}, self._revision())
        annotations |= revisions.sizes(
            rollout.replicas_of(deployment), rollout.highest_of(deployment)
        )
        made: dict[str, Any] = {
            "replicas": rollout.size_of_new(deployment, self.old, 0),
            "selector": selector,
            "template": template,
        }
        if spec.get("minReadySeconds"):
            made["minReadySeconds"] = spec["minReadySeconds"]
        return {
            "metadata": {
                "name": name_of(meta["name"], hashed),
                "namespace": meta["namespace"],
                "labels": labels,
                "annotations": annotations,
                "ownerReferences": [reference_to(deployment, DEPLOYMENTS)],
            },
            "spec": made,
        }

    async def _found_new(self, wanted: Object, error: ApiError) -> Object:
        """Return the ReplicaSet that has the name, if it is ours.

        Raises:
            ApiError: it is another one: a hash for two templates, or somebody else's.
        """
        there = await self._writer.read(REPLICA_SETS, wanted)
        template = self.deployment["spec"]["template"]
        ours = is_controlled_by(there, self.deployment)
        if ours and same_template(there["spec"]["template"], template):
            return there
        before = self.deployment.get("status") or {}
        await self._write({**before, "collisionCount": before.get("collisionCount", 0) + 1})
        raise error

    async def _tell_refused(self, wanted: Object, error: ApiError) -> None:
        text = f'Failed to create new replica set "{wanted["metadata"]["name"]}": {error}'
        reason = "ReplicaSetCreateError"
        self._recorder.warning(self.deployment, reason, text)
        if status.deadline_of(self.deployment) is not None:
            before = self.deployment.get("status") or {}
            conditions = self._conditions_with("False", reason, text)
            if conditions != before.get("conditions"):
                await self._write({**before, "conditions": conditions})

    async def scale(self, target: Object, size: int, *, mark: bool = False) -> bool:
        """Give a ReplicaSet a size, told of by an event; return whether it had another one.

        Args:
            target: one of `everything`.
            size: that it gets.
            mark: whether to write down for which size of the Deployment, even if it has the size.

        Raises:
            ApiError: it was refused, or someone else sized it meanwhile (Conflict).
        """
        before = rollout.replicas_of(target)
        if before == size and not mark:
            return False
        wanted = rollout.replicas_of(self.deployment)
        annotations = {
            **revisions.annotations_of(target),
            **revisions.sizes(wanted, rollout.highest_of(self.deployment)),
        }
        if before != size or annotations != revisions.annotations_of(target):
            await self._change_set(target, {**target["spec"], "replicas": size}, annotations)
        if before == size:
            return False
        way, name = "up" if before < size else "down", target["metadata"]["name"]
        self._recorder.normal(
            self.deployment, "ScalingReplicaSet",
            f"Scaled {way} replica set {name} from {before} to {size}",
        )  # fmt: skip
        return True

    async def scale_all(self, steps: Iterable[rollout.Scaling], *, mark: bool = False) -> bool:
        """Take steps one after the other; return whether any changed anything."""
        changed = False
        for one in steps:
            # Each step before may have made another version of it.
            uid = one.target["metadata"]["uid"]
            target = next(each for each in self.everything if each["metadata"]["uid"] == uid)
            changed = await self.scale(target, one.size, mark=mark) or changed
        return changed

    async def _change_set(self, target: Object, spec: Object, annotations: dict[str, str]) -> None:
        meta = {**target["metadata"], "annotations": annotations}
        changed = await self._writer.update(
            REPLICA_SETS, {**target, "metadata": meta, "spec": spec}
        )
        if self.new is target:
            self.new = changed
        else:
            self.old = [changed if one is target else one for one in self.old]

    async def forget(self) -> None:
        """Delete old ReplicaSets beyond the history that is kept."""
        for one in revisions.to_forget(self.deployment, self.old):
            await self._writer.delete(REPLICA_SETS, one)

    async def tell(self, *, of_rollout: bool) -> None:
        """Write the status, if it says anything new; ``of_rollout``: with progress and failures."""
        made = status.rollout_status if of_rollout else status.status_of
        wanted = made(self.deployment, self.new, self.old, self._context.clock())
        if wanted != (self.deployment.get("status") or {}):
            await self._write(wanted)

    async def tell_pause(self) -> None:
        """Write a condition once the Deployment was paused or resumed."""
        conditions = status.pause_change(self.deployment, self._context.clock())
        if conditions is not None:
            before = self.deployment.get("status") or {}
            await self._write({**before, "conditions": conditions})

    async def roll_back(self) -> None:
        """Do what the annotation of an old client asks for: take a former template again."""
        wanted = int(revisions.annotations_of(self.deployment)[revisions.ROLLBACK])
        wanted = wanted or revisions.last_but_one(self.everything)
        found = next((one for one in self.everything if revisions.revision_of(one) == wanted), None)
        name, event = self.deployment["metadata"]["name"], self._recorder
        if not wanted or found is None:
            text = "Unable to find the revision to rollback to." if wanted else (
                "Unable to find last revision.")  # fmt: skip
            event.warning(self.deployment, "DeploymentRollbackRevisionNotFound", text)
            await self._rolled_back(None)
        elif same_template(found["spec"]["template"], self.deployment["spec"]["template"]):
            text = "The rollback revision contains the same template as current deployment "
            event.warning(self.deployment, "DeploymentRollbackTemplateUnchanged", f'{text}"{name}"')
            await self._rolled_back(None)
        else:
            await self._rolled_back(found)
            text = f'Rolled back deployment "{name}" to revision {wanted}'
            event.normal(self.deployment, "DeploymentRollback", text)

    async def _rolled_back(self, found: Object | None) -> None:
        deployment = self.deployment
        annotations = dict(revisions.annotations_of(deployment))
        annotations.pop(revisions.ROLLBACK)
        spec = deployment["spec"]
        if found is not None:
            annotations = revisions.annotations_after_rollback(deployment, found)
            template = copy.deepcopy(found["spec"]["template"])
            template["metadata"]["labels"].pop(HASH_LABEL, None)
            spec = {**spec, "template": template}
        meta = {**deployment["metadata"], "annotations": annotations}
        self.deployment = await self._writer.update(
            DEPLOYMENTS, {**deployment, "metadata": meta, "spec": spec}
        )

    def _progress(self) -> Object | None:
        conditions = (self.deployment.get("status") or {}).get("conditions") or ()
        return status.find(conditions, status.PROGRESSING)

    def _conditions_with(self, value: str, reason: str, message: str) -> status.Conditions:
        before = (self.deployment.get("status") or {}).get("conditions") or []
        now = self._context.clock()
        return status.with_condition(
            before, status.condition(status.PROGRESSING, value, reason, message, now)
        )

    async def _tell_revision(self, revision: str, conditions: status.Conditions | None) -> None:
        """Write revision and conditions of the Deployment, if they are new."""
        annotations = revisions.annotations_of(self.deployment)
        if conditions is None and annotations.get(revisions.REVISION) == revision:
            return
        before = self.deployment.get("status") or {}
        wanted = {**before, "conditions": conditions} if conditions is not None else before
        await self._write(wanted, {**annotations, revisions.REVISION: revision})

    async def _write(self, wanted: Object, annotations: dict[str, str] | None = None) -> None:
        """Write the status; annotations go with it, as this subresource of Deployments lets them.

        Raises:
            ApiError: Conflict: the Deployment changed meanwhile, so that all is to be thought anew.
        """
        value = {**self.deployment, "status": wanted}
        if annotations is not None:
            value["metadata"] = {**value["metadata"], "annotations": annotations}
        self.deployment = await self._writer.update(DEPLOYMENTS, value, "status")
