"""Which pods a Service selects, and which Services select a pod; neither looks at all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from controlplane.engine.informer import Informer
from controlplane.engine.resources import Object, key_of

from .pods import projection

_BY_LABEL = "labels"
_BY_SELECTOR = "selector"


def _label(namespace: str, name: str, value: str) -> str:
    return f"{namespace}/{name}={value}"


def of_labels(value: Object) -> list[str]:
    """Return a value for each label of an object, for `Informer.index` (pure)."""
    meta = value["metadata"]
    namespace = meta.get("namespace", "")
    return [_label(namespace, *item) for item in (meta.get("labels") or {}).items()]


def of_selector(service: Object) -> list[str]:
    """Return the label of a Service's selector under which it is found (pure)."""
    selector = selector_of(service)
    if not selector:
        return []
    return [_label(service["metadata"]["namespace"], *min(selector.items()))]


def selector_of(service: Object) -> dict[str, str]:
    """Return what a Service selects pods by; {}: it selects none, others say its endpoints.

    One of type ExternalName selects none, whatever it says.
    """
    spec = service["spec"]
    if spec.get("type") == "ExternalName":
        return {}
    return spec.get("selector") or {}


class Matching:
    """Pods and the Services that select them.

    Args:
        services, pods: their informers.
    """

    def __init__(self, services: Informer, pods: Informer) -> None:
        self._services = services
        self._pods = pods
        services.index(_BY_SELECTOR, of_selector)
        pods.index(_BY_LABEL, of_labels)

    def listen(self, changed: Callable[[str], None]) -> None:
        """Call ``changed`` with the key of each Service whose endpoints may have changed."""

        def of_pod(before: Object | None, pod: Object | None) -> None:
            both = before is not None and pod is not None
            if both and projection(before or {}) == projection(pod or {}):
                return
            found: set[str] = set()
            for one in (before, pod):
                if one is not None:
                    found.update(self.services_of(one))
            for key in found:
                changed(key)

        self._pods.listen(of_pod)

    def services_of(self, pod: Object) -> Iterable[str]:
        """Return the keys of the Services that select a pod."""
        labels = pod["metadata"].get("labels") or {}
        for label in of_labels(pod):
            for service in self._services.indexed(_BY_SELECTOR, label):
                if selector_of(service).items() <= labels.items():
                    yield key_of(service)

    def pods_of(self, service: Object) -> list[Object]:
        """Return the pods that a Service selects."""
        selector = selector_of(service)
        if not selector:
            return []
        namespace = service["metadata"]["namespace"]
        fewest = min(
            (self._pods.indexed(_BY_LABEL, _label(namespace, *item)) for item in selector.items()),
            key=len,
        )
        wanted = selector.items()
        return [pod for pod in fewest if wanted <= (pod["metadata"].get("labels") or {}).items()]
