"""What each metric of an autoscaler proposes, and the status of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from controlplane.engine.resources import Object
from kubeletpy_common.apiclient.errors import ApiError

from . import calculation
from .calculation import Result, Situation
from .metrics import MetricsClient
from .pods import CalculationError, milli, quantity
from .targets import Kinds, TargetError, group_of

_OPERATORS: Final = {"In": "in", "NotIn": "notin"}


@dataclass(frozen=True, slots=True)
class Proposal:
    """Replicas by one metric.

    Attributes:
        replicas: proposed.
        name: of the metric, for people.
        status: as in ``currentMetrics``.
    """

    replicas: int
    name: str
    status: Object


class ProposalError(Exception):
    """A metric proposes nothing.

    Attributes:
        reason: of the condition and the event.
        why: what they say.
    """

    def __init__(self, reason: str, why: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason
        self.why = why


@dataclass(frozen=True, slots=True)
class Scaled:
    """What is scaled.

    Attributes:
        namespace: of the autoscaler and its target.
        selector: of the pods, as text.
        replicas: that there are, as the scale's status says.
        at: everything that a calculation needs.
    """

    namespace: str
    selector: str
    replicas: int
    at: Situation


class Proposals:
    """Asks metrics and makes proposals of them.

    Args:
        metrics: to ask.
        kinds: which resources objects are of.
    """

    def __init__(self, metrics: MetricsClient, kinds: Kinds) -> None:
        self._metrics = metrics
        self._kinds = kinds

    async def of(self, spec: Object, scaled: Scaled) -> Proposal:
        """Return what a metric proposes.

        Args:
            spec: MetricSpec.
            scaled: what is scaled.

        Raises:
            ProposalError: nothing.
        """
        kind = spec.get("type", "")
        if kind == "Resource":
            return await self._resource(spec["resource"], "", scaled)
        if kind == "ContainerResource":
            one = spec["containerResource"]
            return await self._resource(one, one["container"], scaled)
        if kind == "Pods":
            return await self._pods(spec["pods"], scaled)
        if kind == "Object":
            return await self._object(spec["object"], scaled)
        if kind == "External":
            return await self._external(spec["external"], scaled)
        text = f'unknown metric source type "{kind}"'
        raise ProposalError("InvalidMetricSourceType", text, text)

    async def _resource(self, source: Object, container: str, scaled: Scaled) -> Proposal:
        name, target = source["name"], source["target"]
        try:
            result, current, told = await self._used(name, target, container, scaled)
        except CalculationError as error:
            word = f"{container} container" if container else f"{name} resource"
            kind = "ContainerResource" if container else "Resource"
            text = f"failed to get {word} metric value: {error}"
            raise ProposalError(f"FailedGet{kind}Metric", str(error), text) from error
        status: Object = {"name": name, "current": current}
        if container:
            status["container"] = container
            return Proposal(
                result.replicas, told, {"type": "ContainerResource", "containerResource": status}
            )
        return Proposal(result.replicas, told, {"type": "Resource", "resource": status})

    async def _used(
        self, name: str, target: Object, container: str, scaled: Scaled
    ) -> tuple[Result, Object, str]:
        """Return the result, the current value, and the metric in words."""
        average, share = target.get("averageValue"), target.get("averageUtilization")
        if average is None and share is None:
            raise CalculationError(
                "invalid resource metric source: neither an average utilization target nor an "
                "average value (usage) target was set"
            )
        by = "usage" if average is not None else "utilization"
        try:
            found = await self._fetched(name, container, scaled)
            if average is not None:
                result = calculation.by_average(found, milli(average), name, scaled.at)
                return (
                    result,
                    {"averageValue": quantity(result.usage, name)},
                    f"{name} resource",
                )
            result = calculation.by_utilization(found, int(share or 0), name, container, scaled.at)
        except CalculationError as error:
            raise CalculationError(f"failed to get {name} {by}: {error}") from error
        current = {
            "averageUtilization": result.utilization,
            "averageValue": quantity(result.usage, name),
        }
        word = "container resource" if container else "resource"
        return result, current, f"{name} {word} utilization (percentage of request)"

    async def _fetched(self, name: str, container: str, scaled: Scaled) -> Any:
        try:
            return await self._metrics.of_resource(
                name, scaled.namespace, scaled.selector, container
            )
        except CalculationError as error:
            raise CalculationError(f"unable to get metrics for resource {name}: {error}") from error

    async def _pods(self, source: Object, scaled: Scaled) -> Proposal:
        name, selector = source["metric"]["name"], source["metric"].get("selector")
        try:
            try:
                found = await self._metrics.of_pods(
                    name, scaled.namespace, scaled.selector, query_of(selector)
                )
            except CalculationError as error:
                raise CalculationError(f"unable to get metric {name}: {error}") from error
            target = milli(source["target"]["averageValue"])
            result = calculation.by_average(found, target, "", scaled.at)
        except CalculationError as error:
            text = f"failed to get pods metric value: {error}"
            raise ProposalError("FailedGetPodsMetric", str(error), text) from error
        current = {"averageValue": quantity(result.usage)}
        status = {"metric": _identifier(source), "current": current}
        return Proposal(result.replicas, f"pods metric {name}", {"type": "Pods", "pods": status})

    async def _object(self, source: Object, scaled: Scaled) -> Proposal:
        target, about = source["target"], source["describedObject"]
        name, selector = source["metric"]["name"], source["metric"].get("selector")
        whole = target.get("type") == "Value" and target.get("value") is not None
        each = target.get("type") == "AverageValue" and target.get("averageValue") is not None
        reason, prefix = "FailedGetObjectMetric", "failed to get object metric value: "
        if not whole and not each:
            text = ("invalid object metric source: neither a value target nor an average value "
                    "target was set")  # fmt: skip
            raise ProposalError(reason, text, prefix + text)
        try:
            usage = await self._of_object(name, about, query_of(selector), scaled.namespace)
            if whole:
                result = calculation.by_value(usage, milli(target["value"]), scaled.at)
            else:
                result = calculation.by_value_per_pod(
                    usage, milli(target["averageValue"]), scaled.replicas, scaled.at.tolerances
                )
        except CalculationError as error:
            more = "" if whole else f"failed to get {name} object metric: "
            raise ProposalError(reason, str(error), f"{prefix}{more}{error}") from error
        key = "value" if whole else "averageValue"
        status = {
            "metric": _identifier(source), "describedObject": about,
            "current": {key: quantity(result.usage)},
        }  # fmt: skip
        told = f"{about['kind']} metric {name}"
        if each:
            told = f"external metric {name}({text_of(selector)})"
        return Proposal(result.replicas, told, {"type": "Object", "object": status})

    async def _of_object(self, name: str, about: Object, selector: str, namespace: str) -> int:
        try:
            group = group_of(about.get("apiVersion", ""))
            if about["kind"] == "Namespace" and not group:
                # Whatever it is called: an autoscaler sees no other namespace than its own.
                return await self._metrics.of_object(name, namespace, "", "", selector)
            mapping = (await self._kinds.mappings(group, about["kind"]))[0]
            return await self._metrics.of_object(
                name, namespace, mapping.qualified, about["name"], selector
            )
        except (CalculationError, TargetError, ApiError) as error:
            # The order of these words is the peer's.
            raise CalculationError(
                f"unable to get metric {name}: {about['kind']} on {namespace} "
                f"{about['name']}/{error}"
            ) from error

    async def _external(self, source: Object, scaled: Scaled) -> Proposal:
        target, name = source["target"], source["metric"]["name"]
        selector = source["metric"].get("selector")
        each, whole = target.get("averageValue"), target.get("value")
        reason, prefix = "FailedGetExternalMetric", f"failed to get {name} external metric value: "
        if each is None and whole is None:
            text = ("invalid external metric source: neither a value target nor an average value "
                    "target was set")  # fmt: skip
            raise ProposalError(reason, text, prefix + text)
        try:
            values = await self._of_external(name, selector, scaled.namespace)
            usage = calculation.total(values)
            if each is not None:
                result = calculation.by_value_per_pod(
                    usage, milli(each), scaled.replicas, scaled.at.tolerances
                )
            else:
                result = calculation.by_value(usage, milli(whole), scaled.at)
        except CalculationError as error:
            more = f"failed to get {name} external metric: " if each is not None else (
                f"failed to get external metric {name}: ")  # fmt: skip
            raise ProposalError(reason, str(error), f"{prefix}{more}{error}") from error
        key = "averageValue" if each is not None else "value"
        status = {"metric": _identifier(source), "current": {key: quantity(result.usage)}}
        told = f"external metric {name}({text_of(selector)})"
        return Proposal(result.replicas, told, {"type": "External", "external": status})

    async def _of_external(
        self, name: str, selector: Mapping[str, Any] | None, namespace: str
    ) -> Sequence[int]:
        try:
            return await self._metrics.external(name, namespace, query_of(selector))
        except CalculationError as error:
            raise CalculationError(
                f"unable to get external metric {namespace}/{name}/{text_of(selector)}: {error}"
            ) from error


def _identifier(source: Object) -> Object:
    metric = source["metric"]
    found: Object = {"name": metric["name"]}
    if metric.get("selector") is not None:
        found["selector"] = metric["selector"]
    return found


def query_of(selector: Mapping[str, Any] | None) -> str:
    """Return a selector as a parameter of a request (pure).

    Raises:
        CalculationError: it is none.
    """
    found = [(key, f"{key}={value}") for key, value in ((selector or {}).get("matchLabels")
                                                        or {}).items()]  # fmt: skip
    for one in (selector or {}).get("matchExpressions") or ():
        key, operator = one["key"], one["operator"]
        values = ",".join(sorted(one.get("values") or ()))
        if operator in _OPERATORS:
            found.append((key, f"{key} {_OPERATORS[operator]} ({values})"))
        elif operator == "Exists":
            found.append((key, key))
        elif operator == "DoesNotExist":
            found.append((key, f"!{key}"))
        else:
            raise CalculationError(f'"{operator}" is not a valid label selector operator')
    return ",".join(text for _, text in sorted(found))


def text_of(selector: Mapping[str, Any] | None) -> str:
    """Return a selector as messages of the Go peer show it (pure)."""
    if selector is None:
        return "nil"
    labels = sorted((selector.get("matchLabels") or {}).items())
    listed = "".join(f"{key}: {value}," for key, value in labels)
    expressions = "".join(
        f"LabelSelectorRequirement{{Key:{one['key']},Operator:{one['operator']},"
        f"Values:[{' '.join(one.get('values') or ())}],}},"
        for one in selector.get("matchExpressions") or ()
    )
    return (
        f"&LabelSelector{{MatchLabels:map[string]string{{{listed}}},"
        f"MatchExpressions:[]LabelSelectorRequirement{{{expressions}}},}}"
    )


def largest(proposals: Sequence[Proposal]) -> Proposal:
    """Return the proposal with the most replicas, the first of several; none of 0 wins over one."""
    best = proposals[0]
    for one in proposals[1:]:
        if best.replicas == 0 or one.replicas > best.replicas:
            best = one
    return best
