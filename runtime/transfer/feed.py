"""Progress on its way to a client: the latest state of each layer, a few times a second."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable
from typing import Final, Generic, TypeVar

from kubeletpy_proto import images_pb2 as pb
from runtime.images.progress import PullProgress, Stage

_INTERVAL: Final = 0.1
_STAGES: Final[dict[Stage, pb.Progress.Stage.ValueType]] = {
    "resolving": pb.Progress.RESOLVING,
    "downloading": pb.Progress.DOWNLOADING,
    "unpacking": pb.Progress.UNPACKING,
    "ready": pb.Progress.READY,
}
_T = TypeVar("_T")


class Feed(Generic[_T]):
    """Runs work and yields what it reports meanwhile.

    Args:
        receiving: bytes come from the client, not from a registry.
    """

    def __init__(self, *, receiving: bool = False) -> None:
        self._latest: dict[str, pb.Progress] = {}
        self._changed = asyncio.Event()
        self._receiving = receiving

    def report(self, progress: PullProgress) -> None:
        """Take a report; one that is not sent yet is replaced by a later one of the same layer."""
        stage = _STAGES[progress.stage]
        if self._receiving and progress.stage == "downloading":
            stage = pb.Progress.RECEIVING
        self._latest[progress.digest] = pb.Progress(
            stage=stage, subject=progress.digest, done=progress.done, total=progress.total
        )
        self._changed.set()

    async def run(
        self, work: Awaitable[_T], result: list[_T]
    ) -> AsyncGenerator[list[pb.Progress], None]:
        """Yield reports until the work is done; its result is put into ``result``.

        The work is cancelled with the iteration, and awaited.

        Raises:
            Exception: whatever the work raises.
        """
        task = asyncio.ensure_future(work)
        try:
            while not task.done():
                change = asyncio.ensure_future(self._changed.wait())
                try:
                    await asyncio.wait({task, change}, return_when=asyncio.FIRST_COMPLETED)
                finally:
                    change.cancel()
                if self._latest:
                    yield self._taken()
                if not task.done():
                    await asyncio.wait({task}, timeout=_INTERVAL)
            result.append(await task)
            if self._latest:
                yield self._taken()
        finally:
            if not task.done():
                task.cancel()
                await asyncio.wait({task})

    def _taken(self) -> list[pb.Progress]:
        taken, self._latest = list(self._latest.values()), {}
        self._changed.clear()
        return taken
