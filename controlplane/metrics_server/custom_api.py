"""custom.metrics.k8s.io and external.metrics.k8s.io, as plain data.

A custom metric of an object is the sum of the series with its name of the pods that are, or belong
to, the object: a pod, the pods of a Service, all pods of a namespace. An external metric is every
single series, of whichever pod, with labels that fit; ``namespace`` and ``pod`` are among them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from controlplane.engine.resources import Object

from .documents import Missing, listed, number, resource_list, stamp
from .series import SeriesStore, Value

CUSTOM: Final = "custom.metrics.k8s.io"
EXTERNAL: Final = "external.metrics.k8s.io/v1beta1"
CUSTOM_VERSIONS: Final = ("v1beta2", "v1beta1")
MOST_NAMES: Final = 2000
_OBJECTS: Final = ("namespaces", "pods", "services")

Fits = Callable[[Mapping[str, str]], bool]


@dataclass(frozen=True, slots=True)
class Described:
    """An object that a metric is of.

    Attributes:
        kind: ``Pod``, ``Service`` or ``Namespace``.
        namespace: of it; "" for a namespace.
        name: of it.
        pods: that are, or belong to, it.
    """

    kind: str
    namespace: str
    name: str
    pods: tuple[Object, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """A metric that is asked for.

    Attributes:
        name: of it.
        version: in which the answer is wanted, ``v1beta2`` or ``v1beta1``.
        fits: whether labels of a series are wanted.
        selector: that says so, as it is told back; None: all are.
    """

    name: str
    version: str
    fits: Fits
    selector: Object | None = None


def values(store: SeriesStore, objects: Iterable[Described], asked: Asked, resource: str) -> Object:
    """Return a metric of several objects.

    Raises:
        Missing: it is known of none of them.
    """
    items = []
    for one in objects:
        found = [
            value for pod in one.pods
            for value in store.values(pod["metadata"]["uid"], asked.name, asked.fits)
        ]  # fmt: skip
        if found:
            items.append(_item(one, asked, found))
    if not items:
        raise Missing(f"the server could not find the metric {asked.name} for {resource}")
    return listed("MetricValueList", f"{CUSTOM}/{asked.version}", items)


def _item(about: Described, asked: Asked, found: list[Value]) -> Object:
    reference: Object = {"kind": about.kind, "name": about.name, "apiVersion": "v1"}
    if about.namespace:
        reference["namespace"] = about.namespace
    item: Object = {
        "describedObject": reference,
        "timestamp": stamp(min(one.at for one in found)),
        "value": number(sum(one.value for one in found)),
    }
    window = round(max(one.window for one in found))
    metric: Object = {"name": asked.name}
    if asked.selector is not None:
        metric["selector"] = asked.selector
    if asked.version == "v1beta1":
        item |= {"metricName": asked.name}
        if window:
            item["window"] = window
        if asked.selector is not None:
            item["selector"] = asked.selector
        return item
    item["metric"] = metric
    if window:
        item["windowSeconds"] = window
    return item


def custom_resources(store: SeriesStore, version: str) -> Object:
    """Return what discovery tells: each metric for each kind of object."""
    names = sorted(store.names())[:MOST_NAMES]
    resources: list[dict[str, Any]] = [
        {"name": f"{plural}/{name}", "singularName": "", "namespaced": plural != "namespaces",
         "kind": "MetricValueList", "verbs": ["get"]}
        for name in names for plural in _OBJECTS
    ]  # fmt: skip
    return resource_list(f"{CUSTOM}/{version}", resources)


def external_values(store: SeriesStore, pods: Iterable[Object], name: str, fits: Fits) -> Object:
    """Return the series of an external metric.

    Raises:
        Missing: there is none.
    """
    items = []
    for pod in pods:
        meta = pod["metadata"]
        own = {"namespace": meta["namespace"], "pod": meta["name"]}

        def fit(labels: Mapping[str, str], own: Mapping[str, str] = own) -> bool:
            return fits({**own, **labels})

        for value in store.values(meta["uid"], name, fit):
            item: Object = {
                "metricName": name, "metricLabels": {**own, **dict(value.labels)},
                "timestamp": stamp(value.at), "value": number(value.value),
            }  # fmt: skip
            if value.window:
                item["window"] = round(value.window)
            items.append(item)
    if not items:
        raise Missing(f"the server could not find the metric {name} for external metrics")
    return listed("ExternalMetricValueList", EXTERNAL, items)


def external_resources(store: SeriesStore) -> Object:
    """Return what discovery tells."""
    return resource_list(EXTERNAL, [
        {"name": name, "singularName": "", "namespaced": True, "kind": "ExternalMetricValueList",
         "verbs": ["get"]}
        for name in sorted(store.names())[:MOST_NAMES]
    ])  # fmt: skip
