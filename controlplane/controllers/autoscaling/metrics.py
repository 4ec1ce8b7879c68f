"""Asking metrics.k8s.io, custom.metrics.k8s.io and external.metrics.k8s.io.

What comes is another server's word: what is malformed in it is no measurement.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from controlplane.engine.controller import moment_of, monotonic
from controlplane.engine.resources import Object
from controlplane.kinds.quantity import QuantityError
from controlplane.operation.durations import parse_duration
from kubeletpy_common.apiclient.client import ApiClient
from kubeletpy_common.apiclient.errors import ApiError

from .pods import CalculationError, PodMetric, milli

RESOURCE: Final = "/apis/metrics.k8s.io/v1beta1"
CUSTOM: Final = "/apis/custom.metrics.k8s.io"
EXTERNAL: Final = "/apis/external.metrics.k8s.io/v1beta1"
_VERSIONS: Final = ("v1beta2", "v1beta1")
_DEFAULT_WINDOW: Final = 60.0
_KEEP: Final = 600.0
_SECONDS: Final = 15.0
# What is said of an answer that says nothing itself.
_WORDS: Final = {
    404: "the server could not find the requested resource",
    503: "the server is currently unable to handle the request",
}


class MetricsClient:
    """Asks.

    Args:
        client: of the API server.
    """

    def __init__(self, client: ApiClient) -> None:
        self._client = client
        self._version = ""
        self._until = 0.0

    async def of_resource(
        self, resource: str, namespace: str, selector: str, container: str
    ) -> dict[str, PodMetric]:
        """Return what pods use of a resource, by name of the pod.

        Args:
            resource: such as ``cpu``.
            namespace: of the pods.
            selector: of the pods.
            container: only this one counts; "": all.

        Raises:
            CalculationError: nobody knows.
        """
        api = "resource"
        path = f"{RESOURCE}/namespaces/{namespace}/pods"
        items = await self._items(path, {"labelSelector": selector}, api, "get pods.metrics.k8s.io")
        found: dict[str, PodMetric] = {}
        for item in items:
            value = used(item, resource, container)
            if value is not None:
                window = _duration(item.get("window"))
                found[_name(item)] = PodMetric(value, _moment(item.get("timestamp")), window)
        return found

    async def of_pods(
        self, metric: str, namespace: str, selector: str, metric_selector: str
    ) -> dict[str, PodMetric]:
        """Return a custom metric of pods, by name of the pod.

        Raises:
            CalculationError: nobody knows.
        """
        path = f"namespaces/{namespace}/pods/*/{metric}"
        items = await self._custom(path, selector, metric_selector)
        if not items:
            raise CalculationError("no metrics returned from custom metrics API")
        found: dict[str, PodMetric] = {}
        for item in items:
            value = _value(item)
            seconds = item.get("windowSeconds", item.get("window"))
            if value is not None:
                window = float(seconds) if isinstance(seconds, int) else _DEFAULT_WINDOW
                name = str((item.get("describedObject") or {}).get("name"))
                found[name] = PodMetric(value, _moment(item.get("timestamp")), window)
        return found

    async def of_object(
        self, metric: str, namespace: str, resource: str, name: str, metric_selector: str
    ) -> int:
        """Return a custom metric of one object, in thousandths.

        Args:
            metric: its name.
            namespace: of the object; of a namespace: itself.
            resource: plural and group, ``deployments.apps``; "": the namespace itself.
            name: of the object.
            metric_selector: of the metric.

        Raises:
            CalculationError: nobody knows.
        """
        where = f"{resource}/{name}" if resource else "metrics"
        items = await self._custom(f"namespaces/{namespace}/{where}/{metric}", "", metric_selector)
        values = [_value(item) for item in items]
        if len(values) != 1 or values[0] is None:
            raise CalculationError(
                "unable to fetch metrics from custom metrics API: the custom metrics API server "
                f"returned {len(values)} results when we asked for exactly one"
            )
        return values[0]

    async def external(self, metric: str, namespace: str, selector: str) -> list[int]:
        """Return the values of an external metric, in thousandths.

        Raises:
            CalculationError: nobody knows.
        """
        path = f"{EXTERNAL}/namespaces/{namespace}/{metric}"
        what = f"get {metric}.external.metrics.k8s.io"
        items = await self._items(path, {"labelSelector": selector}, "external", what)
        return [value for item in items if (value := _value(item)) is not None]

    async def _custom(self, path: str, selector: str, metric_selector: str) -> list[Object]:
        parameters = {"labelSelector": selector, "metricLabelSelector": metric_selector}
        what = f"get {path.rpartition('/')[2]}.custom.metrics.k8s.io"
        version = await self._custom_version()
        return await self._listed(f"{CUSTOM}/{version}/{path}", parameters, "custom", what)

    async def _custom_version(self) -> str:
        if monotonic() > self._until:
            try:
                group = await self._client.get(CUSTOM, timeout=_SECONDS)
            except ApiError as error:
                raise _failed("custom", error, "get custom.metrics.k8s.io") from error
            served = [one.get("version") for one in group.get("versions") or ()]
            known = [one for one in _VERSIONS if one in served]
            if not known:
                raise CalculationError(
                    "unable to fetch metrics from custom metrics API: none of the versions "
                    f"{', '.join(_VERSIONS)} is served"
                )
            self._version, self._until = known[0], monotonic() + _KEEP
        return self._version

    async def _items(
        self, path: str, parameters: Mapping[str, str], api: str, what: str
    ) -> list[Object]:
        items = await self._listed(path, parameters, api, what)
        if not items:
            raise CalculationError(f"no metrics returned from {api} metrics API")
        return items

    async def _listed(
        self, path: str, parameters: Mapping[str, str], api: str, what: str
    ) -> list[Object]:
        given = {name: text for name, text in parameters.items() if text}
        try:
            answer = await self._client.get(path, params=given, timeout=_SECONDS)
        except ApiError as error:
            # It may be served in another version now.
            self._until = 0.0
            raise _failed(api, error, what) from error
        items = answer.get("items")
        return [one for one in items if isinstance(one, dict)] if isinstance(items, list) else []


def _failed(api: str, error: ApiError, what: str) -> CalculationError:
    text = error.message
    words = _WORDS.get(error.code)
    if words is not None and (not error.reason or text.startswith("the server ")):
        text = f"{words} ({what})"
    return CalculationError(f"unable to fetch metrics from {api} metrics API: {text}")


def used(item: Object, resource: str, container: str) -> int | None:
    """Return what a pod uses, in thousandths; None: that is not known of all that count (pure).

    Args:
        item: PodMetrics.
        resource: such as ``cpu``.
        container: only this one counts; "": all.
    """
    containers = item.get("containers")
    if not isinstance(containers, list) or not containers:
        return None
    if container:
        containers = [one for one in containers if one.get("name") == container][:1]
    values = [_amount((one.get("usage") or {}).get(resource)) for one in containers]
    if not values or None in values:
        return None
    return sum(value for value in values if value is not None)


def _name(item: Object) -> str:
    return str((item.get("metadata") or {}).get("name"))


def _value(item: Object) -> int | None:
    return _amount(item.get("value"))


def _amount(text: Any) -> int | None:
    try:
        return milli(text) if text is not None else None
    except QuantityError:
        return None


def _moment(text: Any) -> datetime | None:
    try:
        found = moment_of(text)
    except (ValueError, TypeError, AttributeError):
        return None
    return found if found.tzinfo is not None else None


def _duration(text: Any) -> float:
    try:
        return parse_duration(str(text))
    except ValueError:
        return 0.0
