"""Making and deleting pods for their owners, told of by events."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from controlplane.engine.controller import Context
from controlplane.engine.ownership import is_controlled_by
from controlplane.engine.resources import PODS, Object
from kubeletpy_common.apiclient.errors import ApiError

AT_ONCE: Final = 24
"""Requests of one batch that are under way at the same time; more do not make a server faster."""
Call = Callable[[int], Awaitable[object]]
"""Does one of many things, by its number."""


def is_namespace_ending(error: ApiError) -> bool:
    """Whether nothing can be made because the namespace is being deleted (pure)."""
    causes = error.details.get("causes") or ()
    return any(one.get("reason") == "NamespaceTerminating" for one in causes)


class PodControl:
    """Makes and deletes pods for owners.

    Args:
        context: of the process.
        component: that tells the events, as ``replicaset-controller``.
    """

    def __init__(self, context: Context, component: str) -> None:
        context.informers.of(PODS)
        self._writer = context.writer
        self._recorder = context.recorder.of(component)

    async def create(self, owner: Object, pod: Object, *, once: bool = False) -> Object:
        """Create a pod, see `podtemplates.pod_from`; an event about ``owner`` says so, or why not.

        Args:
            owner: that makes it.
            pod: to be made.
            once: whether its name tells it from all others: if one of this name is there that
                ``owner`` controls, it was made before, and the answer was lost.

        Raises:
            UncertainError: no answer came; it may be there.
            ApiError: it was refused. No event is told if the namespace ends.
        """
        try:
            made = await self._writer.create(PODS, pod)
        except ApiError as error:
            if once and error.reason == "AlreadyExists":
                there = await self._writer.read(PODS, pod)
                if is_controlled_by(there, owner):
                    return there
            if not is_namespace_ending(error):
                self._recorder.warning(owner, "FailedCreate", f"Error creating: {error}")
            raise
        self._recorder.normal(owner, "SuccessfulCreate", f"Created pod: {made['metadata']['name']}")
        return made

    async def delete(self, owner: Object, pod: Object) -> None:
        """Delete a pod; an event about ``owner`` says so, or why not. One that is gone is no fault.

        Raises:
            ApiError: it was refused.
        """
        name = pod["metadata"]["name"]
        try:
            was_there = await self._writer.delete(PODS, pod)
        except ApiError as error:
            self._recorder.warning(owner, "FailedDelete", f"Error deleting: {error}")
            raise
        if was_there:
            self._recorder.normal(owner, "SuccessfulDelete", f"Deleted pod: {name}")


async def slow_start(count: int, call: Call, first: int = 1) -> tuple[int, ApiError | None]:
    """Do something many times, in batches that double as long as nothing fails.

    What fails for one reason a thousand times is not tried a thousand times.

    Args:
        count: how often.
        call: does it.
        first: size of the first batch.

    Returns:
        How often it was done, and the first failure: nothing was begun after it but the rest of
        its batch.
    """
    done, batch = 0, min(count, first)
    while batch > 0:
        errors = await all_of([done + number for number in range(batch)], call)
        done += batch - len(errors)
        if errors:
            return done, errors[0]
        batch = min(2 * batch, count - done)
    return done, None


async def all_of(numbers: list[int], call: Call) -> list[ApiError]:
    """Do something for each number, some at once; return what failed."""
    errors: list[ApiError] = []
    waiting = iter(numbers)

    async def work() -> None:
        for number in waiting:
            try:
                await call(number)
            except ApiError as error:
                errors.append(error)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(min(AT_ONCE, len(numbers))):
            tasks.create_task(work())
    return errors
