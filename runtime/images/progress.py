"""How far a pull is: for callers, and as a line in the log now and then."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from kubeletpy_common.logs import event

log = logging.getLogger(__name__)

Stage = Literal["resolving", "downloading", "unpacking", "ready"]


@dataclass(frozen=True)
class PullProgress:
    """What a pull is doing.

    Attributes:
        reference: the image.
        stage: of the layer, or ``resolving`` for the manifest.
        digest: the layer's blob; empty while resolving.
        done: bytes of the blob that have arrived.
        total: its bytes.
    """

    reference: str
    stage: Stage
    digest: str = ""
    done: int = 0
    total: int = 0


ProgressCallback = Callable[[PullProgress], None]


class ProgressLog:
    """Passes progress on, and writes a line to the log at most every so many seconds.

    Pulls that are quicker than that write none.
    """

    def __init__(
        self,
        passed_to: ProgressCallback,
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare.

        Args:
            passed_to: told of everything.
            seconds: between two lines.
            clock: the present, in seconds.
        """
        self._passed_to = passed_to
        self._seconds = seconds
        self._clock = clock
        self._next = clock() + seconds
        self._layers: dict[str, PullProgress] = {}

    def __call__(self, step: PullProgress) -> None:
        """Take note of ``step``."""
        self._passed_to(step)
        if step.digest:
            self._layers[step.digest] = step
        now = self._clock()
        if now >= self._next:
            self._next = now + self._seconds
            self._write(step.reference)

    def _write(self, reference: str) -> None:
        layers = self._layers.values()
        event(
            log, logging.INFO, "pulling image, progress", image=reference,
            bytes_done=sum(step.done for step in layers),
            bytes_total=sum(step.total for step in layers),
            layers_ready=sum(step.stage == "ready" for step in layers),
            layers_unpacking=sum(step.stage == "unpacking" for step in layers),
            layers=len(layers),
        )  # fmt: skip
