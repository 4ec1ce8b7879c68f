"""Who wants to know how long something took."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from kubeletpy.api.container import Container
from kubeletpy.api.pod import Pod
from kubeletpy.probes.checks import Result
from kubeletpy.probes.worker import Kind


@dataclass
class Measures:
    """Listeners.

    Attributes:
        on_probe: called with each run of a probe and the seconds it took.
        on_sandbox: called with the pod of each sandbox that was tried, and whether it was made.
        on_round: called with the seconds of each round of a pod's worker, and whether the pod was
            to be ``create``d, ``update``d, ``sync``ed or was ``terminating``.
        on_relist: called with the seconds that a full list of the runtime took, and those since
            the one before (None: it was the first).
        on_eviction: called with the signal of an eviction, and the age in seconds of what it was
            decided by.
        on_plugin: called with the resource of a device plug-in that registered.
        on_allocation: called with a resource and the seconds that its plug-in took to allocate.
        on_certificate: called with ``client`` or ``server`` when a certificate was renewed, and the
            seconds that the one before lived; None: it could not be renewed.
    """

    on_probe: list[Callable[[Pod, Container, Kind, Result, float], None]] = field(
        default_factory=list
    )
    on_sandbox: list[Callable[[Pod, bool], None]] = field(default_factory=list)
    on_round: list[Callable[[str, float], None]] = field(default_factory=list)

    on_relist: list[Callable[[float, float | None], None]] = field(default_factory=list)
    on_eviction: list[Callable[[str, float], None]] = field(default_factory=list)
    on_plugin: list[Callable[[str], None]] = field(default_factory=list)
    on_allocation: list[Callable[[str, float], None]] = field(default_factory=list)
    on_certificate: list[Callable[[str, float | None], None]] = field(default_factory=list)

    def relisted(self, seconds: float, interval: float | None) -> None:
        """Tell of a full list of the runtime."""
        for each in self.on_relist:
            each(seconds, interval)

    def evicted(self, signal: str, age: float) -> None:
        """Tell of an eviction."""
        for each in self.on_eviction:
            each(signal, age)

    def plugin(self, resource: str) -> None:
        """Tell of a device plug-in that registered."""
        for each in self.on_plugin:
            each(resource)

    def allocated(self, resource: str, seconds: float) -> None:
        """Tell of devices that a plug-in allocated."""
        for each in self.on_allocation:
            each(resource, seconds)

    def certificate(self, kind: str, lived: float | None) -> None:
        """Tell of a certificate that was renewed, or was not."""
        for each in self.on_certificate:
            each(kind, lived)

    def probe(
        self, pod: Pod, container: Container, kind: Kind, result: Result, seconds: float
    ) -> None:
        """Tell of a run of a probe."""
        for each in self.on_probe:
            each(pod, container, kind, result, seconds)

    def sandbox(self, pod: Pod, made: bool) -> None:
        """Tell of a sandbox that was tried."""
        for each in self.on_sandbox:
            each(pod, made)

    def round(self, operation: str, seconds: float) -> None:
        """Tell of a round of a worker."""
        for each in self.on_round:
            each(operation, seconds)
