"""What the scheduler knows of a pod, parsed once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from controlplane.engine.resources import Object, is_deleting, key_of

from . import terms
from .requests import Requests, requests_held, requests_of

ANYWHERE: Final = "0.0.0.0"
DEFAULT_SCHEDULER: Final = "default-scheduler"
Port = tuple[str, str, int]
"""Address, protocol and number of a port on the node."""


class PodInfo:
    """A pod; what is not needed of every pod is parsed when it is asked for.

    Attributes:
        pod: the object; it belongs to all and is not changed.
        node: its node, or the one it is assumed on; "": none.
        requests: what it asks for, or holds on its node.
    """

    __slots__ = (
        "_affinity", "_match", "_parsed", "deleting", "key", "labels", "namespace", "node", "pod",
        "ports", "priority", "requests", "tolerations", "uid",
    )  # fmt: skip

    def __init__(self, pod: Object, node: str = "") -> None:
        meta, spec = pod["metadata"], pod["spec"]
        self.pod = pod
        self.key = key_of(pod)
        self.uid: str = meta.get("uid", "")
        self.namespace: str = meta.get("namespace", "")
        self.labels: Mapping[str, str] = meta.get("labels") or {}
        self.node: str = node or spec.get("nodeName") or ""
        self.priority: int = spec.get("priority") or 0
        self.deleting = is_deleting(pod)
        self.requests: Requests = requests_held(pod) if self.node else requests_of(pod)
        self.ports: tuple[Port, ...] = tuple(ports_of(spec))
        self.tolerations: list[dict[str, Any]] = spec.get("tolerations") or []
        self._affinity: Mapping[str, Any] = spec.get("affinity") or {}
        self._parsed: PodTerms | None = None
        self._match: terms.Match | bool | None = None

    @property
    def spec(self) -> dict[str, Any]:
        """Of the pod."""
        spec: dict[str, Any] = self.pod["spec"]
        return spec

    @property
    def nominated(self) -> str:
        """The node that was promised to it; "": none."""
        return (self.pod.get("status") or {}).get("nominatedNodeName") or ""

    @property
    def scheduler(self) -> str:
        """Name of the scheduler that places it."""
        return self.spec.get("schedulerName") or DEFAULT_SCHEDULER

    @property
    def node_affinity(self) -> Mapping[str, Any]:
        """Its node affinity; empty: none."""
        return self._affinity.get("nodeAffinity") or {}

    @property
    def match(self) -> terms.Match | None:
        """What its selector and required affinity ask of a node; None: nothing."""
        if self._match is None:
            required = self.node_affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
            self._match = terms.node_match(self.spec.get("nodeSelector"), required) or False
        return self._match or None  # type: ignore[return-value]

    @property
    def terms(self) -> PodTerms:
        """Its conditions on other pods."""
        if self._parsed is None:
            self._parsed = PodTerms(self._affinity, self.namespace) if self._affinity else NO_TERMS
        return self._parsed


class PodTerms:
    """Conditions of a pod on other pods.

    Attributes:
        affinity, anti: required.
        preferred, avoided: preferred affinity and anti-affinity.
    """

    __slots__ = ("affinity", "anti", "avoided", "preferred")

    def __init__(self, affinity: Mapping[str, Any], namespace: str) -> None:
        near, far = affinity.get("podAffinity") or {}, affinity.get("podAntiAffinity") or {}
        required = "requiredDuringSchedulingIgnoredDuringExecution"
        preferred = "preferredDuringSchedulingIgnoredDuringExecution"
        self.affinity = terms.required(near.get(required), namespace)
        self.anti = terms.required(far.get(required), namespace)
        self.preferred = terms.preferred(near.get(preferred), namespace)
        self.avoided = terms.preferred(far.get(preferred), namespace)


NO_TERMS: Final = PodTerms({}, "")


def ports_of(spec: Mapping[str, Any]) -> Iterator[Port]:
    """Yield the ports of the node that a pod takes."""
    sidecars: Iterable[Any] = (
        one for one in spec.get("initContainers") or () if one.get("restartPolicy") == "Always"
    )
    for container in (*(spec.get("containers") or ()), *sidecars):
        for port in container.get("ports") or ():
            if port.get("hostPort", 0) > 0:
                yield (port.get("hostIP") or ANYWHERE, port.get("protocol") or "TCP",
                       port["hostPort"])  # fmt: skip


def is_over(pod: Object) -> bool:
    """Whether a pod has ended and takes nothing of its node any more."""
    return (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed")


def is_bound(pod: Object) -> bool:
    """Whether a pod has a node."""
    return bool(pod["spec"].get("nodeName"))


def claims_of(pod: Object) -> Iterator[tuple[str, bool]]:
    """Yield the names of the claims that a pod's volumes are of, and whether each is ephemeral."""
    for volume in pod["spec"].get("volumes") or ():
        if "persistentVolumeClaim" in volume:
            yield volume["persistentVolumeClaim"].get("claimName", ""), False
        elif "ephemeral" in volume:
            yield f"{pod['metadata']['name']}-{volume['name']}", True
