"""Progress of transfers: bars on a terminal, nothing elsewhere; always on stderr."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from kubeletpy.cri_cli import text
from kubeletpy.cri_cli.output import printable
from kubeletpy_proto import images_pb2 as pb

_WORDS: Final = {
    pb.Progress.RESOLVING: "resolving",
    pb.Progress.DOWNLOADING: "downloading",
    pb.Progress.UNPACKING: "unpacking",
    pb.Progress.READY: "ready",
    pb.Progress.RECEIVING: "received",
}


class Bars:
    """A bar for the whole, and one for each layer; use it as a context.

    Args:
        title: what is being done.
        total: bytes of the whole; None if there is no bar for it.
        console: where to; stderr unless given.
    """

    def __init__(self, title: str, total: int | None, console: Console | None = None) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console or Console(stderr=True),
            transient=True,
            disable=not (console or Console(stderr=True)).is_terminal,
        )
        self._layers: dict[str, TaskID] = {}
        self._whole = self._progress.add_task(escape(printable(title)), total=total)

    def __enter__(self) -> Bars:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def resize(self, total: int) -> None:
        """Tell how many bytes the whole has, once that is known."""
        self._progress.update(self._whole, total=total)

    def advance(self, count: int) -> None:
        """Count bytes of the whole."""
        self._progress.advance(self._whole, count)

    def show(self, reports: Iterable[pb.Progress]) -> None:
        """Take what the runtime tells of layers."""
        for report in reports:
            # A file of an archive on its way in is part of the whole.
            if report.subject and report.stage != pb.Progress.RECEIVING:
                self._layer(report)

    def _layer(self, report: pb.Progress) -> None:
        word = _WORDS.get(report.stage, "")
        title = escape(f"{text.short(printable(report.subject))} {word}")
        task = self._layers.get(report.subject)
        if task is None:
            task = self._progress.add_task(title, total=report.total or None)
            self._layers[report.subject] = task
        self._progress.update(
            task, description=title, total=report.total or None, completed=report.done
        )
