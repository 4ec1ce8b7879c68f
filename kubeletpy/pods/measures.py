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
    """

    on_probe: list[Callable[[Pod, Container, Kind, Result, float], None]] = field(
        default_factory=list
    )
    on_sandbox: list[Callable[[Pod, bool], None]] = field(default_factory=list)
    on_round: list[Callable[[str, float], None]] = field(default_factory=list)

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
