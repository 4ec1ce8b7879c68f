"""HorizontalPodAutoscalers: looks at each every 15 s, and scales what it is about.

A look reads the scale of the target, asks for its metrics, takes the largest of what they propose
(`proposals`), keeps it within bounds and rates (`stabilizing`), writes the scale, and tells in the
status what it saw. What it remembers of an autoscaler is gone when the process ends: then what
there is counts as the first recommendation.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any, ClassVar, Final

from controlplane.api.errors import ApiError as SelectorError
from controlplane.api.selectors import LabelSelector, parse_labels
from controlplane.engine.controller import Context, Controller, monotonic, timestamp
from controlplane.engine.measures import Level
from controlplane.engine.queue import WorkQueue
from controlplane.engine.resources import AUTOSCALERS, PODS, Object, key_of
from controlplane.kinds.quantity import parse
from kubeletpy_common import logs
from kubeletpy_common.apiclient.errors import ApiError

from .calculation import Situation, Tolerances
from .measures import INTERNAL, NONE, SPEC, Counts, way_of
from .metrics import MetricsClient
from .pods import Patience
from .proposals import Proposal, ProposalError, Proposals, Scaled, largest
from .stabilizing import Bounds, Memory, decide, decide_by_rules
from .status import ABLE, ACTIVE, LIMITED, TO_ZERO, Status
from .targets import Kinds, Mapping, Scales, TargetError, group_of

_log = logging.getLogger(__name__)
_FLAG: Final = "horizontal_pod_autoscaler"
_LABELS: Final = "autoscaling/labels"
_UNABLE: Final = "the HPA controller was unable to get the target's current scale: "
_DISABLED: Final = "scaling is disabled since the replica count of the target is zero"


class _Given(Exception):
    """This look ends here; all that there is to tell is in the status.

    Attributes:
        fault: whose it is: `SPEC`, that of who wrote the autoscaler, or `INTERNAL`.
    """

    def __init__(self, text: str, fault: str = INTERNAL) -> None:
        super().__init__(text)
        self.fault = fault


class AutoscalerController(Controller):
    """Looks at autoscalers."""

    name: ClassVar[str] = "horizontal-pod-autoscaler-controller"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        option = context.options.get
        self.queue = WorkQueue(
            self.name, self._look, int(option("concurrent_horizontal_pod_autoscaler_syncs", 5))
        )
        self._period = float(option(f"{_FLAG}_sync_period", 15.0))
        self._window = float(option(f"{_FLAG}_downscale_stabilization", 300.0))
        self._tolerance = float(option(f"{_FLAG}_tolerance", 0.1))
        self._patience = Patience(
            float(option(f"{_FLAG}_cpu_initialization_period", 300.0)),
            float(option(f"{_FLAG}_initial_readiness_delay", 30.0)),
        )
        self._to_zero = bool(option(f"{_FLAG}_scale_to_zero"))
        self._recorder = context.recorder.of("horizontal-pod-autoscaler")
        self._kinds = Kinds(context.client)
        self._scales = Scales(context.client)
        self._proposals = Proposals(MetricsClient(context.client), self._kinds)
        self._memories: dict[str, Memory] = {}
        self._selectors: dict[str, LabelSelector | None] = {}
        self._pods = context.informers.of(PODS)
        self._pods.index(_LABELS, _labels)
        self._counts = Counts()
        self.measures += self._counts.all
        self._autoscalers = context.informers.of(AUTOSCALERS)
        self.measures.append(Level(
            "horizontal_pod_autoscaler_controller_num_horizontal_pod_autoscalers", "Autoscalers.",
            lambda: {(): float(len(self._autoscalers))},
        ))  # fmt: skip
        self._autoscalers.listen(self._changed)

    def _changed(self, before: Object | None, value: Object | None) -> None:
        if value is None:
            assert before is not None
            self._selectors.pop(key_of(before), None)
            self._memories.pop(key_of(before), None)
            self._counts.desired.pop(key_of(before), None)
            return
        self._selectors.setdefault(key_of(value), None)
        # What was written here is no reason to look again: rates are counted by looks.
        if before is None or before["spec"] != value["spec"]:
            self.queue.add(key_of(value))

    async def sync(self, key: str) -> float | None:
        """Look at one autoscaler, and scale its target; again after the period, whatever came."""
        autoscaler = self._autoscalers.get(key)
        if autoscaler is None:
            self._memories.pop(key, None)
            return None
        status = Status.of(autoscaler, timestamp(self.context.clock()))
        begun, action, fault = monotonic(), NONE, NONE
        try:
            action = await self._scale(key, autoscaler, status)
        except _Given as given:
            fault = given.fault
            logs.event(_log, logging.DEBUG, "an autoscaler cannot scale", autoscaler=key,
                       reason=str(given))  # fmt: skip
        self._counts.looked(action, fault, monotonic() - begun)
        await self._write(autoscaler, status)
        return self._period

    async def _write(self, autoscaler: Object, status: Status) -> None:
        if status.value == (autoscaler.get("status") or {}):
            return
        wanted = {**autoscaler, "status": status.value}
        try:
            await self.context.writer.update(AUTOSCALERS, wanted, "status")
        except ApiError as error:
            if error.not_found:
                return
            self._recorder.warning(autoscaler, "FailedUpdateStatus", error.message)
            logs.event(_log, logging.WARNING, "the status of an autoscaler is not written",
                       autoscaler=key_of(autoscaler), error=error.message)  # fmt: skip

    async def _scale(self, key: str, autoscaler: Object, status: Status) -> str:
        """Scale what an autoscaler is about; returns in which direction."""
        spec = autoscaler["spec"]
        scale, mapping = await self._target(autoscaler, status)
        text = "the HPA controller was able to get the target's current scale"
        status.set(ABLE, "SucceededGetScale", text, true=True)
        current = int((scale.get("spec") or {}).get("replicas", 0))
        memory = self._memories.setdefault(key, Memory())
        memory.begin(current, monotonic())
        fewest = 1 if spec.get("minReplicas") is None else spec["minReplicas"]
        bounds = Bounds(fewest, spec["maxReplicas"], current)
        measured: list[Object] = []
        why = ""
        if current == 0 and not self._measures_at_zero(autoscaler, status, fewest):
            wanted = 0
            status.set(ACTIVE, "ScalingDisabled", _DISABLED, true=False)
            if not self._to_zero:
                status.drop(TO_ZERO)
        elif current > bounds.most:
            wanted, why = bounds.most, "Current number of replicas above Spec.MaxReplicas"
        elif 0 < current < fewest:
            wanted, why = fewest, "Current number of replicas below Spec.MinReplicas"
        else:
            best = await self._best(autoscaler, scale, current, status, measured)
            wanted, why = self._decide(autoscaler, memory, best, bounds, status)
        self._counts.desired[key] = wanted
        if wanted != current:
            await self._rescale(autoscaler, scale, mapping, (current, wanted), why, status,
                                measured)  # fmt: skip
            if spec.get("behavior"):
                memory.scaled(current, wanted, spec["behavior"], monotonic())
            self._tell_zero(autoscaler, status, current, wanted)
            status.scaled()
        status.measured(measured, current, wanted)
        return way_of(current, wanted)

    async def _target(self, autoscaler: Object, status: Status) -> tuple[Object, Mapping]:
        reference = autoscaler["spec"]["scaleTargetRef"]
        namespace = autoscaler["metadata"]["namespace"]
        try:
            group = group_of(reference.get("apiVersion", ""))
            mappings = await self._kinds.mappings(group, reference["kind"])
            return await self._scales.get(namespace, reference["name"], mappings)
        except (TargetError, ApiError) as error:
            text = str(error)
            self._recorder.warning(autoscaler, "FailedGetScale", text)
            status.set(ABLE, "FailedGetScale", f"{_UNABLE}{text}", true=False)
            raise _Given(text) from error

    def _measures_at_zero(self, autoscaler: Object, status: Status, fewest: int) -> bool:
        """Whether something that was scaled to zero may come back by itself."""
        if not self._to_zero or not status.is_true(TO_ZERO):
            return False
        return fewest != 0 or _has_outer_metric(autoscaler)

    async def _best(
        self, autoscaler: Object, scale: Object, current: int, status: Status,
        measured: list[Object],
    ) -> Proposal:  # fmt: skip
        """Return the proposal with the most replicas; puts into ``measured`` what was seen."""
        specs = autoscaler["spec"].get("metrics") or []
        try:
            scaled = self._scaled(autoscaler, scale, current, status)
            return await self._propose(autoscaler, specs, scaled, status, measured)
        except _Given as given:
            status.measured(measured, current)
            self._recorder.warning(autoscaler, "FailedComputeMetricsReplicas", str(given))
            raise

    async def _propose(
        self, autoscaler: Object, specs: list[Object], scaled: Scaled, status: Status,
        measured: list[Object],
    ) -> Proposal:  # fmt: skip
        proposals: list[Proposal] = []
        failures: list[ProposalError] = []
        for spec in specs:
            begun = monotonic()
            try:
                proposal = await self._proposals.of(spec, scaled)
            except ProposalError as error:
                fault = SPEC if error.reason == "InvalidMetricSourceType" else INTERNAL
                self._computed(NONE, fault, spec, begun)
                self._recorder.warning(autoscaler, error.reason, error.why)
                failures.append(error)
                measured.append({})
                continue
            self._computed(way_of(scaled.at.replicas, proposal.replicas), NONE, spec, begun)
            proposals.append(proposal)
            measured.append(proposal.status)
        best = largest(proposals) if proposals else None
        if best is None or (failures and best.replicas < scaled.at.replicas):
            # With one metric unknown, less could be too little.
            if not failures:
                raise _Given("there is no metric")
            first = failures[0]
            text = f"the HPA was unable to compute the replica count: {first.why}"
            status.set(ACTIVE, first.reason, text, true=False)
            raise _Given(
                f"invalid metrics ({len(failures)} invalid out of {len(specs)}), first error is: "
                f"{first}"
            )
        text = f"the HPA was able to successfully calculate a replica count from {best.name}"
        status.set(ACTIVE, "ValidMetricFound", text, true=True)
        return best

    def _computed(self, action: str, error: str, spec: Object, begun: float) -> None:
        self._counts.computed(action, error, spec.get("type", ""), monotonic() - begun)

    def _scaled(self, autoscaler: Object, scale: Object, current: int, status: Status) -> Scaled:
        namespace = autoscaler["metadata"]["namespace"]
        told = scale.get("status") or {}
        text = told.get("selector", "")
        selector = self._selector(autoscaler, text, status)
        pods = self._selected(namespace, selector)
        self._selectors[key_of(autoscaler)] = selector
        sharing = self._sharing(namespace, pods)
        if len(sharing) > 1:
            message = (
                f"pods by selector {text} are controlled by multiple HPAs: [{' '.join(sharing)}]"
            )
            self._recorder.warning(autoscaler, "AmbiguousSelector", message)
            status.set(ACTIVE, "AmbiguousSelector", message, true=False)
            raise _Given(message, SPEC)
        at = Situation(
            current, pods, self._tolerances(autoscaler), self._patience, self.context.clock()
        )
        return Scaled(namespace, text, int(told.get("replicas", 0)), at)

    def _selector(self, autoscaler: Object, text: str, status: Status) -> LabelSelector:
        if not text:
            message = "selector is required"
            self._recorder.warning(autoscaler, "SelectorRequired", message)
            status.set(ACTIVE, "InvalidSelector", "the HPA target's scale is missing a selector",
                       true=False)  # fmt: skip
            raise _Given(message, SPEC)
        try:
            return parse_labels(text)
        except SelectorError as error:
            message = (
                f"couldn't convert selector into a corresponding internal selector object: {error}"
            )
            self._recorder.warning(autoscaler, "InvalidSelector", message)
            status.set(ACTIVE, "InvalidSelector", message, true=False)
            raise _Given(message, SPEC) from error

    def _selected(self, namespace: str, selector: LabelSelector) -> list[Object]:
        """Return the pods that a selector fits; only those with one of its labels are looked at."""
        some = [one for one in selector.requirements if one.operator == "in"]
        if not some:
            pods = self._pods.of_namespace(namespace)
        else:
            pods = [
                pod for value in some[0].values
                for pod in self._pods.indexed(_LABELS, f"{namespace}/{some[0].key}={value}")
            ]  # fmt: skip
        return [pod for pod in pods if selector.matches(pod["metadata"].get("labels") or {})]

    def _sharing(self, namespace: str, pods: list[Object]) -> list[str]:
        """Return the autoscalers that one of these pods is counted by."""
        others = [
            (key, selector) for key, selector in self._selectors.items()
            if selector is not None and key.startswith(f"{namespace}/")
        ]  # fmt: skip
        return sorted(
            key for key, selector in others
            if any(selector.matches(pod["metadata"].get("labels") or {}) for pod in pods)
        )  # fmt: skip

    def _tolerances(self, autoscaler: Object) -> Tolerances:
        behavior = autoscaler["spec"].get("behavior") or {}
        found = {}
        for way in ("scaleDown", "scaleUp"):
            told = (behavior.get(way) or {}).get("tolerance")
            found[way] = self._tolerance if told is None else float(parse(told))
        return Tolerances(found["scaleDown"], found["scaleUp"])

    def _decide(
        self, autoscaler: Object, memory: Memory, best: Proposal, bounds: Bounds, status: Status
    ) -> tuple[int, str]:
        """Return the replicas that may be set, and why they are."""
        wanted, current = max(best.replicas, 0), bounds.current
        why = ""
        if wanted > current:
            why = f"{best.name} above target"
        elif wanted < current:
            why = "All metrics below target"
        behavior, now = autoscaler["spec"].get("behavior"), monotonic()
        if behavior:
            decision = decide_by_rules(memory, wanted, bounds, behavior, self._window, now)
        else:
            decision = decide(memory, wanted, bounds, self._window, now)
        status.set(ABLE, *decision.able, true=True)
        status.set(LIMITED, *decision.limit, true=decision.limited)
        replicas = decision.replicas
        if current == 0 and replicas < bounds.fewest:
            replicas = bounds.fewest
            why = why or "Current number of replicas below Spec.MinReplicas"
        return replicas, why

    async def _rescale(
        self, autoscaler: Object, scale: Object, mapping: Mapping, change: tuple[int, int],
        why: str, status: Status, measured: list[Object],
    ) -> None:  # fmt: skip
        current, wanted = change
        reference = autoscaler["spec"]["scaleTargetRef"]
        namespace = autoscaler["metadata"]["namespace"]
        try:
            await self._scales.set(namespace, reference["name"], mapping, scale, wanted)
        except ApiError as error:
            text = f"New size: {wanted}; reason: {why}; error: {error.message}"
            self._recorder.warning(autoscaler, "FailedRescale", text)
            text = f"the HPA controller was unable to update the target scale: {error.message}"
            status.set(ABLE, "FailedUpdateScale", text, true=False)
            status.measured(measured, current)
            raise _Given(text) from error
        text = f"the HPA controller was able to update the target scale to {wanted}"
        status.set(ABLE, "SucceededRescale", text, true=True)
        self._recorder.normal(autoscaler, "SuccessfulRescale", f"New size: {wanted}; reason: {why}")

    def _tell_zero(self, autoscaler: Object, status: Status, current: int, wanted: int) -> None:
        if not self._to_zero:
            status.drop(TO_ZERO)
            return
        fewest = autoscaler["spec"].get("minReplicas")
        if current > 0 and wanted == 0 and fewest == 0 and _has_outer_metric(autoscaler):
            text = "the HPA controller scaled the workload to zero"
            status.set(TO_ZERO, "ScaledToZero", text, true=True)
        else:
            text = "the HPA controller did not scale the workload to zero"
            status.set(TO_ZERO, "NotScaledToZero", text, true=False)


def _has_outer_metric(autoscaler: Object) -> bool:
    """Whether a metric is known without any pod."""
    specs: list[dict[str, Any]] = autoscaler["spec"].get("metrics") or []
    return any(one["type"] in ("Object", "External") for one in specs)


def _labels(pod: Object) -> Iterable[str]:
    meta = pod["metadata"]
    namespace = meta.get("namespace", "")
    return [f"{namespace}/{key}={value}" for key, value in (meta.get("labels") or {}).items()]
