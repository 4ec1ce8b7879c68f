"""Removes links in the background, many at once.

For each removal of a link the kernel waits until no processor can still be using it: tens of
milliseconds, during which it does nothing. A pod's end need not wait for that, and the links that
come together meanwhile are removed by one request, for the price of one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Final

from kubeletpy_common import logs

_LOGGER: Final = logging.getLogger(__name__)

RemoveLinks = Callable[[list[str]], Awaitable[None]]


class Reaper:
    """Removes links by ``remove``, one batch after the other.

    A link whose removal failed is left to :meth:`BridgeNetwork.reconcile`, and the failure is
    logged.
    """

    def __init__(self, remove: RemoveLinks) -> None:
        self._remove = remove
        self._doomed: dict[str, Callable[[], None]] = {}
        self._task: asyncio.Task[None] | None = None

    def submit(self, name: str, then: Callable[[], None]) -> None:
        """Have the link ``name`` removed, and ``then`` called once it is gone.

        Submitting the same link again replaces the earlier ``then``.
        """
        self._doomed[name] = then
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="network-reaper")

    async def wait(self, name: str | None = None) -> None:
        """Return when the link ``name``, or every link, is gone or given up."""
        while self._task is not None and not self._task.done():
            if name is not None and name not in self._doomed:
                return
            await asyncio.shield(self._task)

    async def _run(self) -> None:
        while self._doomed:
            batch = dict(self._doomed)
            try:
                await self._remove(list(batch))
                for name, then in batch.items():
                    if self._doomed.get(name) is then:
                        then()
            except Exception as error:
                logs.event(
                    _LOGGER, logging.WARNING, "cannot remove links of pods that ended; they and "
                    "their addresses stay until the runtime starts again",
                    links=sorted(batch), error=str(error),
                )  # fmt: skip
            finally:
                for name, then in batch.items():
                    if self._doomed.get(name) is then:
                        del self._doomed[name]
