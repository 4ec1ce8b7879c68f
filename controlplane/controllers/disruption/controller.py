"""Carries out what PodDisruptionBudgets need."""

from __future__ import annotations

import asyncio
from typing import ClassVar, Final

from controlplane.controllers.owners import selector_of
from controlplane.engine.controller import Context, Controller
from controlplane.engine.queue import WorkQueue
from controlplane.engine.resources import BUDGETS, PODS, Object, key_of
from kubeletpy_common.apiclient.errors import ApiError

from .budget import (
    Disrupted,
    desired,
    disrupted,
    failed_status,
    healthy,
    is_told,
    needs_scale,
    selector_text,
    stale_in,
    status_of,
    without_target,
)
from .scales import FOLLOWED, ScaleError, Scales

_BY_LABEL: Final = "labels"
"""Index of pods by namespace and label."""


class DisruptionController(Controller):
    """Tells of each budget how many pods may be evicted."""

    name: ClassVar[str] = "disruption-controller"
    component: ClassVar[str] = "controllermanager"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self._budgets = context.informers.of(BUDGETS)
        self._pods = context.informers.of(PODS)
        self._scales = Scales(context)
        self._recorder = context.recorder.of(self.component)
        self._stale = WorkQueue("disruption-stale-conditions", self._clean, 1)
        self._budgets.listen(self.enqueue)
        self._pods.listen(self._pod_changed)
        for resource in FOLLOWED:
            context.informers.of(resource).listen(self._scale_changed)

    async def run(self) -> None:
        """Work, until cancelled."""
        await self.context.informers.synced()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.queue.run())
            tasks.create_task(self._stale.run())

    async def sync(self, key: str) -> float | None:
        """Tell what a budget allows."""
        budget = self._budgets.get(key)
        if budget is None:
            return None
        try:
            return await self._look_at(budget)
        except (ScaleError, ValueError) as error:
            # Nothing of it changes by itself: what does change wakes this.
            await self._fail(budget, str(error))
            return None
        except ApiError as error:
            if not error.conflict:
                await self._fail(budget, str(error))
            raise

    async def _look_at(self, budget: Object) -> float | None:
        spec, now = budget["spec"], self.context.clock()
        pods = self._pods_of(budget)
        if not pods:
            self._recorder.normal(budget, "NoPods", "No matching pods found")
        try:
            expected = len(pods)
            if needs_scale(spec):
                expected, alone = await self._scales.expected(pods)
                if alone:
                    self._recorder.warning(budget, "UnmanagedPods", _unmanaged(spec))
            wanted = desired(spec, expected)
        except (ScaleError, ValueError, ApiError) as error:
            text = f"Failed to calculate the number of expected pods: {error}"
            self._recorder.warning(budget, "CalculateExpectedPodCountFailed", text)
            raise
        gone = disrupted(budget.get("status") or {}, pods, now)
        self._tell_of_late(budget, gone)
        status = status_of(budget, healthy(pods, gone), wanted, expected, gone, now)
        await self._write(budget, status)
        return gone.recheck

    def _tell_of_late(self, budget: Object, gone: Disrupted) -> None:
        for pod in gone.late:
            text = f"Pod was expected by PDB {key_of(budget)} to be deleted but it wasn't"
            self._recorder.warning(pod, "NotDeleted", text)

    async def _fail(self, budget: Object, why: str) -> None:
        """Have nothing evicted while nobody knows what may be."""
        await self._write(budget, failed_status(budget, why, self.context.clock()))

    async def _write(self, budget: Object, status: Object) -> None:
        # As it was looked at, and no newer: an eviction may have been allowed meanwhile.
        if not is_told(budget, status):
            await self.context.writer.update(BUDGETS, {**budget, "status": status}, "status")

    def _pods_of(self, budget: Object) -> list[Object]:
        selector = selector_of(budget)
        if selector is None:
            return []
        return [
            pod for pod in self._candidates(budget)
            if selector.matches(pod["metadata"].get("labels") or {})
        ]  # fmt: skip

    def _candidates(self, budget: Object) -> list[Object]:
        """Return pods of which some fit a budget; few where the namespace has many."""
        namespace = budget["metadata"]["namespace"]
        wanted = budget["spec"]["selector"].get("matchLabels") or {}
        if not wanted:
            return self._pods.of_namespace(namespace)
        # Made for the first budget: who has none pays nothing.
        self._pods.index(_BY_LABEL, _labels_of)
        found = (self._pods.indexed(_BY_LABEL, _pair(namespace, *one)) for one in wanted.items())
        return min(found, key=len)

    def _of_pod(self, pod: Object) -> list[Object]:
        labels = pod["metadata"].get("labels") or {}
        found = []
        for budget in self._budgets.of_namespace(pod["metadata"]["namespace"]):
            selector = selector_of(budget)
            if selector is not None and selector.matches(labels):
                found.append(budget)
        return found

    def _pod_changed(self, before: Object | None, pod: Object | None) -> None:
        budgets = self._of_pod(pod) if pod is not None else []
        relabelled = before is not None and (
            pod is None or before["metadata"].get("labels") != pod["metadata"].get("labels")
        )
        if pod is not None and len(budgets) > 1 and (before is None or relabelled):
            meta = pod["metadata"]
            text = (
                f'Pod "{meta["namespace"]}"/"{meta["name"]}" matches multiple '
                f'PodDisruptionBudgets.  Chose "{budgets[0]["metadata"]["name"]}" arbitrarily.'
            )
            self._recorder.warning(pod, "MultiplePodDisruptionBudgets", text)
        if before is not None and relabelled:
            budgets += self._of_pod(before)
        for budget in budgets:
            self.queue.add(key_of(budget))
        if pod is not None:
            left = stale_in(pod, self.context.clock())
            if left is not None:
                self._stale.add_after(key_of(pod), left)

    def _scale_changed(self, before: Object | None, owner: Object | None) -> None:
        if before is None or owner is None:
            return
        if before["spec"].get("replicas") != owner["spec"].get("replicas"):
            for budget in self._budgets.of_namespace(owner["metadata"]["namespace"]):
                self.queue.add(key_of(budget))

    async def _clean(self, key: str) -> float | None:
        """Take back what a pod says of a disruption that did not come."""
        pod = self._pods.get(key)
        left = stale_in(pod, self.context.clock()) if pod is not None else None
        if pod is None or left is None:
            return None
        if left > 0:
            return left

        def changed(value: Object) -> Object | None:
            return without_target(value, self.context.clock())

        try:
            await self.context.writer.change(PODS, pod, changed, subresource="status")
        except ApiError as error:
            if not error.not_found:
                raise
        return None


def _labels_of(pod: Object) -> list[str]:
    meta = pod["metadata"]
    return [_pair(meta["namespace"], *one) for one in (meta.get("labels") or {}).items()]


def _pair(namespace: str, key: str, value: str) -> str:
    return f"{namespace}/{key}={value}"


def _unmanaged(spec: Object) -> str:
    return (
        "Pods selected by this PodDisruptionBudget (selector: "
        f"{selector_text(spec.get('selector'))}) were found to be unmanaged. As a result, the "
        "status of the PDB cannot be calculated correctly, which may result in undefined "
        'behavior. To account for these pods please set ".spec.minAvailable" field of the PDB to '
        "an integer value."
    )
