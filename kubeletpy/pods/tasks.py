"""The tasks of a worker: one step at a time, and beside it pulls and ends of single containers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from kubeletpy.why.story import Doing
from kubeletpy_common import logs

from .steps import StepError

_log = logging.getLogger(__name__)
STEP_CANCEL_WAIT = 10.0
"""Seconds that a step under way gets to finish when the pod is to end."""
_WORDS = {"kill": "ending container", "pull": "getting the image of container"}


class PodTasks:
    """What is under way for one pod.

    Args:
        description: of the pod, for logs and names of tasks.
        clock: seconds of the epoch.
        broke: told of each task that ended by an error that nobody foresaw.
        ended: called when a task is over, unless another call was asked for.

    Attributes:
        step: the one under way.
        starting: names of the containers that it starts.
    """

    def __init__(
        self,
        description: str,
        clock: Callable[[], float],
        broke: Callable[[StepError], None],
        ended: Callable[[], None],
    ) -> None:
        self.step: asyncio.Task[None] | None = None
        self.starting: frozenset[str] = frozenset()
        self._description = description
        self._clock = clock
        self._broke = broke
        self._ended = ended
        self._beside: dict[str, asyncio.Task[None]] = {}
        self._doing: dict[str, Doing] = {}

    @property
    def doing(self) -> tuple[Doing, ...]:
        """What is under way, in words."""
        return tuple(self._doing.values())

    @property
    def being_killed(self) -> frozenset[str]:
        """The ids of containers that are being ended beside the step."""
        return frozenset(
            key.removeprefix("kill ") for key in self._beside if key.startswith("kill ")
        )

    def begin(
        self,
        step: Coroutine[Any, Any, None],
        what: str,
        starting: frozenset[str] = frozenset(),
    ) -> None:
        """Begin a step; ``what`` says it in words."""
        self._doing[""] = Doing(what, self._clock())
        self.starting = starting
        self.step = asyncio.create_task(step, name=f"step {self._description}")
        self.step.add_done_callback(self._step_done)

    def beside(
        self,
        key: str,
        work: Callable[[], Coroutine[Any, Any, None]],
        then: Callable[[], None] | None = None,
    ) -> None:
        """Begin what goes on beside the step, unless it is under way already.

        Args:
            key: ``kill ID`` or ``pull NAME``.
            work: what is to be done.
            then: called when it is over, in the place of ``ended``.
        """
        if key in self._beside:
            return
        task = asyncio.create_task(work(), name=f"{key} {self._description}")
        self._beside[key] = task
        verb, _, what = key.partition(" ")
        self._doing[key] = Doing(f"{_WORDS[verb]} {what}", self._clock())

        def done(task: asyncio.Task[None]) -> None:
            self._beside.pop(key, None)
            self._doing.pop(key, None)
            self._report(task)
            (then or self._ended)()

        task.add_done_callback(done)

    async def settle(self, earlier: asyncio.Task[None] | None) -> None:
        """Let what is under way come to an end, so that nothing new appears afterwards."""
        tasks = [task for key, task in self._beside.items() if key.startswith("pull ")]
        for task in tasks:
            task.cancel()
        if earlier is not None:
            await asyncio.wait((earlier,), timeout=STEP_CANCEL_WAIT)
            earlier.cancel()
            tasks.append(earlier)
        await asyncio.gather(*tasks, return_exceptions=True)

    async def close(self) -> None:
        """Cancel all that is under way."""
        tasks = [*self._beside.values()]
        if self.step is not None:
            tasks.append(self.step)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _step_done(self, task: asyncio.Task[None]) -> None:
        if self.step is task:
            self.step = None
            self._doing.pop("", None)
        self.starting = frozenset()
        self._report(task)
        self._ended()

    def _report(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or task.exception() is None:
            return
        error = task.exception()
        logs.event(
            _log, logging.ERROR, "step broke", pod=self._description,
            task=task.get_name(), reason=repr(error),
        )  # fmt: skip
        self._broke(StepError("InternalError", repr(error)))
