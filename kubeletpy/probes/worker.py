"""The probes of one pod: a task per probe of each running container.

Rules of the Go kubelet's prober: a startup probe runs alone until it succeeds, then never again;
an outcome counts once it came ``successThreshold`` or ``failureThreshold`` times in a row; a run
that could not be made (the runtime is away) is tried three times and then does not count; a failed
liveness or startup probe is not asked again, since the container is about to be ended.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Protocol, TypeAlias

from kubeletpy.api.container import Container, Probe
from kubeletpy.api.pod import Pod
from kubeletpy.events import Recorder
from kubeletpy.pods.state import ContainerRecord, Outcome, ProbeResults
from kubeletpy_common import logs

from .checks import Result

_log = logging.getLogger(__name__)
MOST_TRIES = 3
"""Runs in a row of a probe that cannot be made."""


class Kind(StrEnum):
    """Which probe of a container."""

    STARTUP = "Startup"
    LIVENESS = "Liveness"
    READINESS = "Readiness"


Counted: TypeAlias = Callable[[Pod, Container, Kind, Result, float], None]
"""Counts a run of a probe, for metrics; see `PodProbes`."""


class Check(Protocol):
    """Runs a probe once; `checks.Checker` does."""

    async def check(
        self, probe: Probe, container: Container, container_id: str, address: str
    ) -> Result:
        """Run ``probe`` once."""


@dataclass(slots=True)
class Threshold:
    """Turns single outcomes into the outcome that counts; pure but for its own counter."""

    success: int
    failure: int
    last: Outcome = Outcome.UNKNOWN
    run: int = 0

    def feed(self, outcome: Outcome) -> Outcome | None:
        """Return the outcome if it came often enough in a row, else None."""
        if outcome is Outcome.UNKNOWN:
            return None
        self.run = self.run + 1 if outcome is self.last else 1
        self.last = outcome
        needed = self.success if outcome is Outcome.SUCCESS else self.failure
        return outcome if self.run >= max(needed, 1) else None


def probe_of(container: Container, kind: Kind) -> Probe | None:
    """Return the probe of that kind, if the container has one."""
    return {
        Kind.STARTUP: container.startup_probe,
        Kind.LIVENESS: container.liveness_probe,
        Kind.READINESS: container.readiness_probe,
    }[kind]


def due(container: Container, results: ProbeResults, ending: bool) -> set[Kind]:
    """Return which probes of a running container are to be asked now.

    Args:
        container: whose probes.
        results: what they said last.
        ending: whether the pod is being terminated; then only readiness still matters.
    """
    kinds = {kind for kind in Kind if probe_of(container, kind) is not None}
    if Kind.STARTUP in kinds and results.startup is not Outcome.SUCCESS:
        if ending or results.startup is Outcome.FAILURE:
            return set()
        return {Kind.STARTUP}
    kinds.discard(Kind.STARTUP)
    if ending or results.liveness is Outcome.FAILURE:
        kinds.discard(Kind.LIVENESS)
    return kinds


class PodProbes:
    """Keeps the tasks that ask the probes of one pod, and their results.

    Args:
        pod: whose containers.
        check: runs a probe.
        recorder: where failed runs are told (event Unhealthy).
        changed: called after a result changed.
        counted: called with each run and the seconds that it took.
    """

    def __init__(
        self,
        pod: Pod,
        check: Check,
        recorder: Recorder,
        changed: Callable[[], None],
        counted: Counted = lambda *_: None,
    ) -> None:
        self._counted = counted
        self._check = check
        self._recorder = recorder
        self._changed = changed
        self._results: dict[str, ProbeResults] = {}
        self._seeded: set[str] = set()
        self._tasks: dict[tuple[str, Kind], asyncio.Task[None]] = {}
        self.update(pod)

    def update(self, pod: Pod) -> None:
        """Take over a changed specification of the pod; probes themselves never change."""
        self._pod = pod
        spec = pod.spec
        self._containers = {one.name: one for one in (*spec.init_containers, *spec.containers)}

    @property
    def results(self) -> dict[str, ProbeResults]:
        """Results by container id."""
        return self._results

    def seed(self, container_id: str, results: ProbeResults) -> None:
        """Take over what an earlier kubelet knew of a container that still runs."""
        self._results[container_id] = results
        self._seeded.add(container_id)

    def sync(
        self, running: Iterable[ContainerRecord], address: str, *, ending: bool = False
    ) -> None:
        """Start and stop tasks so that exactly the due probes of ``running`` are asked."""
        wanted: set[tuple[str, Kind]] = set()
        alive: set[str] = set()
        for record in running:
            container = self._containers.get(record.name)
            if container is None:
                continue
            alive.add(record.id)
            results = self._results.setdefault(record.id, ProbeResults())
            for kind in due(container, results, ending):
                key = (record.id, kind)
                wanted.add(key)
                probe = probe_of(container, kind)
                if probe is not None and key not in self._tasks:
                    self._tasks[key] = asyncio.create_task(
                        self._run(kind, probe, container, record, address),
                        name=f"probe {kind.value} {record.name} {record.id[:12]}",
                    )
        for key in [key for key in self._tasks if key not in wanted]:
            self._tasks.pop(key).cancel()
        for container_id in [one for one in self._results if one not in alive]:
            del self._results[container_id]
            self._seeded.discard(container_id)

    async def close(self) -> None:
        """End all tasks."""
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _run(
        self, kind: Kind, probe: Probe, container: Container, record: ContainerRecord, address: str
    ) -> None:
        period = max(probe.period_seconds, 1)
        await asyncio.sleep(self._first_delay(probe, record, period))
        threshold = Threshold(max(probe.success_threshold, 1), max(probe.failure_threshold, 1))
        loop = asyncio.get_running_loop()
        tick = loop.time()
        while True:
            begun = loop.time()
            for _ in range(MOST_TRIES):
                result = await self._once(probe, container, record, address)
                if result.outcome is not Outcome.UNKNOWN:
                    break
            self._counted(self._pod, container, kind, result, loop.time() - begun)
            self._tell(kind, container, result)
            outcome = threshold.feed(result.outcome)
            if outcome is not None:
                self._store(record.id, kind, outcome)
            # After a slow run the missed ticks are skipped, not made up for.
            tick = max(tick + period, loop.time())
            await asyncio.sleep(tick - loop.time())

    async def _once(
        self, probe: Probe, container: Container, record: ContainerRecord, address: str
    ) -> Result:
        try:
            return await self._check.check(probe, container, record.id, address)
        except Exception as error:  # a defect in a probe must not end its probing silently
            logs.event(_log, logging.ERROR, "probe broke", container=record.name, error=repr(error))
            return Result(Outcome.UNKNOWN, repr(error))

    def _first_delay(self, probe: Probe, record: ContainerRecord, period: int) -> float:
        if record.id in self._seeded:
            # After a restart of the kubelet all probes would run in the same instant for ever.
            return random.random() * period
        age = max(time.time() - record.started_at, 0.0) if record.started_at else 0.0
        return max(probe.initial_delay_seconds - age, 0.0)

    def _tell(self, kind: Kind, container: Container, result: Result) -> None:
        if result.warning:
            text = f"{kind.value} probe warning: {result.output}"
            self._recorder.warning(self._pod, "ProbeWarning", text, container.name)
        if result.outcome is Outcome.SUCCESS:
            return
        errored = result.outcome is Outcome.UNKNOWN
        what = "errored and resulted in unknown state" if errored else "failed"
        message = f"{kind.value} probe {what}: {result.output}"
        self._recorder.warning(self._pod, "Unhealthy", message, container.name)

    def _store(self, container_id: str, kind: Kind, outcome: Outcome) -> None:
        results = self._results.get(container_id)
        if results is None:
            return
        if kind is Kind.STARTUP:
            changed = replace(results, startup=outcome)
        elif kind is Kind.LIVENESS:
            changed = replace(results, liveness=outcome)
        else:
            changed = replace(results, readiness=outcome)
        if changed != results:
            self._results[container_id] = changed
            self._changed()
