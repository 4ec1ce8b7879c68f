"""Makes, changes and deletes the pods and claims of StatefulSets, told of by events.

Reasons and messages of the events are those of kube-controller-manager.
"""

from __future__ import annotations

import copy

from controlplane.engine.controller import Context
from controlplane.engine.recorder import Recorder
from controlplane.engine.resources import CLAIMS, PODS, Object, is_deleting
from kubeletpy_common.apiclient.errors import ApiError

from .identity import claims_of, ordinal_of, put_right
from .plan import Act, Facts, Step, claims_are_right, conflicting_claims
from .retention import owners_are_right, with_right_owners


class Hands:
    """Does single steps.

    Args:
        context: of the process.
        recorder: of events.
    """

    def __init__(self, context: Context, recorder: Recorder) -> None:
        self._writer = context.writer
        self._recorder = recorder

    async def do(self, facts: Facts, step: Step) -> None:
        """Do a step.

        Raises:
            ApiError: it was refused; an event says so.
        """
        if step.act is Act.CREATE:
            await self._create(facts, step.pod)
        elif step.act is Act.CLAIMS:
            await self._make_claims(facts, step.pod)
            await self._retain(facts, step.pod)
        elif step.act is Act.FIX:
            await self._fix(facts, step.pod)
        elif step.act is Act.RETAIN:
            await self._retain(facts, step.pod)
        else:
            await self._delete(facts, step.pod)

    async def _create(self, facts: Facts, pod: Object) -> None:
        try:
            await self._make_claims(facts, pod)
            made = await self._writer.create(PODS, pod)
        except ApiError as error:
            # Also where somebody else's pod has the name: kube-controller-manager does not tell of
            # it, because to one that lags behind it may be its own.
            self._failed("Create", facts.owner, pod, error)
            raise
        await self._retain(facts, made)
        self._done("Create", facts.owner, pod)

    async def _delete(self, facts: Facts, pod: Object) -> None:
        try:
            await self._writer.delete(PODS, pod)
        except ApiError as error:
            self._failed("Delete", facts.owner, pod, error)
            raise
        self._done("Delete", facts.owner, pod)

    async def _fix(self, facts: Facts, pod: Object) -> None:
        """Make identity, volumes and owners of claims fit."""
        if not claims_are_right(facts, pod):
            await self._retain(facts, pod)
        try:
            if put_right(facts.owner, copy.deepcopy(pod)) is not None:
                await self._make_claims(facts, pod)
                await self._writer.change(PODS, pod, lambda value: put_right(facts.owner, value))
        except ApiError as error:
            self._failed("Update", facts.owner, pod, error)
            raise
        self._done("Update", facts.owner, pod)

    async def _make_claims(self, facts: Facts, pod: Object) -> None:
        """Make those claims of a pod that lack.

        Raises:
            ApiError: one was refused, or the old one of its name is still being deleted.
        """
        errors: list[ApiError] = []
        for claim in claims_of(facts.owner, ordinal_of(pod)):
            name = claim["metadata"]["name"]
            there = facts.find(name)
            if there is not None:
                if is_deleting(there):
                    errors.append(ApiError(409, "Conflict", f"pvc {name} is being deleted"))
                continue
            try:
                await self._writer.create(CLAIMS, claim)
            except ApiError as error:
                if error.reason != "AlreadyExists":
                    self._told_of_claim(facts.owner, pod, name, error)
                errors.append(ApiError(
                    error.code, error.reason, f"failed to create PVC {name}: {error}",
                    retry_after=error.retry_after, details=error.details,
                ))  # fmt: skip
            else:
                self._told_of_claim(facts.owner, pod, name, None)
        if len(errors) > 1:
            text = ", ".join(map(str, errors))
            raise ApiError(errors[0].code, errors[0].reason, f"[{text}]")
        if errors:
            raise errors[0]

    async def _retain(self, facts: Facts, pod: Object) -> None:
        """Make the owners of the claims of a pod as the policy wants."""
        for name in conflicting_claims(facts, pod):
            self._recorder.warning(
                facts.owner, "ConflictingController",
                f"PersistentVolumeClaim {name} has a conflicting OwnerReference that acts as a "
                "manging controller, the retention policy is ignored for this claim",
            )  # fmt: skip
        for wanted in claims_of(facts.owner, ordinal_of(pod)):
            claim = facts.find(wanted["metadata"]["name"])
            if claim is None or owners_are_right(claim, facts.owner, pod):
                continue
            meta = claim["metadata"]
            changes = {"metadata": {
                "uid": meta["uid"], "resourceVersion": meta["resourceVersion"],
                "ownerReferences": with_right_owners(claim, facts.owner, pod),
            }}  # fmt: skip
            try:
                await self._writer.patch(CLAIMS, claim, changes)
            except ApiError as error:
                if error.not_found:
                    continue
                why = f"could not update claim {meta['name']} for delete policy ownerRefs: {error}"
                told = ApiError(error.code, error.reason, why, retry_after=error.retry_after)
                self._failed("Update", facts.owner, pod, told)
                raise told from error

    def _done(self, verb: str, owner: Object, pod: Object) -> None:
        text = f"{verb} Pod {pod['metadata']['name']} in StatefulSet {owner['metadata']['name']}"
        self._recorder.normal(owner, f"Successful{verb}", f"{text} successful")

    def _failed(self, verb: str, owner: Object, pod: Object, error: ApiError) -> None:
        text = f"{verb} Pod {pod['metadata']['name']} in StatefulSet {owner['metadata']['name']}"
        self._recorder.warning(owner, f"Failed{verb}", f"{text} failed error: {error}")

    def _told_of_claim(
        self, owner: Object, pod: Object, claim: str, error: ApiError | None
    ) -> None:
        names = f"Pod {pod['metadata']['name']} in StatefulSet {owner['metadata']['name']}"
        if error is None:
            text = f"Create Claim {claim} {names} success"
            self._recorder.normal(owner, "SuccessfulCreate", text)
        else:
            text = f"Create Claim {claim} for {names} failed error: {error}"
            self._recorder.warning(owner, "FailedCreate", text)
