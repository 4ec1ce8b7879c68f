"""``kubeletpy cri logs``: what a container wrote, from the file that the runtime writes."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import click
from asyncinotify import Inotify, Mask

from kubeletpy.container_logs.format import Entry, parse, tail_offset
from kubeletpy.cri.client import CriClient, CriError
from kubeletpy.cri.events import ContainerEvents, EventsUnsupported, Resync
from kubeletpy.cri_cli import find, lists, text
from kubeletpy.cri_cli.connection import Connection, runtime_options
from kubeletpy_proto import cri_pb2 as cri


@dataclass(frozen=True)
class Shown:
    """What to show of a log."""

    since: datetime | None = None
    timestamps: bool = False


class Printer:
    """Writes what a program wrote to our stdout and stderr, byte by byte as it was."""

    def __init__(self, shown: Shown, stdout: BinaryIO, stderr: BinaryIO) -> None:
        self._shown = shown
        self._streams = {"stdout": stdout, "stderr": stderr}
        self._inside: set[str] = set()

    def show(self, entries: Iterable[Entry]) -> None:
        """Write entries, and flush."""
        for entry in entries:
            if self._shown.since is not None:
                at = entry.at()
                if at is not None and at < self._shown.since:
                    continue
            head = b""
            if self._shown.timestamps and entry.stream not in self._inside:
                head = entry.time + b" "
            if entry.whole:
                self._inside.discard(entry.stream)
            else:
                self._inside.add(entry.stream)
            end = b"\n" if entry.whole else b""
            self._streams[entry.stream].write(head + entry.content + end)
        for stream in self._streams.values():
            stream.flush()


class LogReader:
    """Reads a log file from where it stopped, over rotations: a new file is read from its start."""

    def __init__(self, path: Path, tail: int | None) -> None:
        self.path = path
        self._file: BinaryIO = open(path, "rb")  # noqa: SIM115 - closed by close()
        self._file.seek(0 if tail is None else tail_offset(self._file, tail))
        self._rest = b""

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def entries(self) -> Iterable[Entry]:
        """Yield what is new; a line that is not ended yet waits for its end."""
        while True:
            yield from self._new()
            if not self._reopened():
                return

    def _new(self) -> Iterable[Entry]:
        while data := self._file.read(1 << 16):
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                entry = parse(line)
                if entry is not None:
                    yield entry

    def _reopened(self) -> bool:
        """Go on with the file that took the place of ours, if there is one."""
        try:
            there = os.stat(self.path)
        except FileNotFoundError:
            # Between the rename of the old file and the making of the new one.
            return False
        here = os.fstat(self._file.fileno())
        if os.path.samestat(there, here):
            if here.st_size < self._file.tell():
                # Truncated in place.
                self._file.seek(0)
                self._rest = b""
                return True
            return False
        self._file.close()
        self._file = open(self.path, "rb")  # noqa: SIM115 - closed by close()
        self._rest = b""
        return True


@click.command("logs")
@click.argument("container")
@click.option("-f", "--follow", is_flag=True, help="Go on until the container ends, or Ctrl-C.")
@click.option("--tail", type=click.IntRange(0), metavar="LINES", help="Only the last lines.")
@click.option("--since", metavar="WHEN", help="Only from then on: 90s, 5m, 1h30m (ago), or a time "
              "like 2026-05-01T12:00:00Z.")  # fmt: skip
@click.option("-t", "--timestamps", is_flag=True, help="Before each line, when it was written.")
@runtime_options
def logs(
    connection: Connection,
    container: str,
    follow: bool,
    tail: int | None,
    since: str | None,
    timestamps: bool,
) -> None:
    """Print what CONTAINER wrote, its stdout to stdout and its stderr to stderr.

    \b
    kubeletpy cri logs --tail 20 -f web
    kubeletpy cri logs --since 10m -t default/web/nginx
    """
    try:
        begin = text.moment(since, datetime.now(UTC)) if since else None
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--since") from error
    found = find.one_container(lists.list_containers(connection), container)
    request = cri.ContainerStatusRequest(container_id=found.id)
    status = connection.call("find the log", connection.runtime.ContainerStatus, request).status
    if not status.log_path:
        raise click.ClickException(f"container {container!r} was made without a log")
    printer = Printer(Shown(begin, timestamps), sys.stdout.buffer, sys.stderr.buffer)
    try:
        reader = LogReader(Path(status.log_path), tail)
    except OSError as error:
        raise click.ClickException(
            f"read the log of {container!r}: {error}; the log is read from this machine's disk, "
            "as root"
        ) from error
    try:
        printer.show(reader.entries())
        if follow and status.state in (cri.CONTAINER_RUNNING, cri.CONTAINER_CREATED):
            asyncio.run(_follow(connection, found.id, reader, printer))
    except KeyboardInterrupt:
        raise click.exceptions.Exit(130) from None
    finally:
        reader.close()


async def _follow(
    connection: Connection, container_id: str, reader: LogReader, printer: Printer
) -> None:
    """Print what comes until the container has ended, and then the rest."""
    async with CriClient(connection.endpoint, timeout=connection.timeout) as client:
        ended = asyncio.create_task(_ended(client, container_id))
        shown = asyncio.create_task(_show_changes(reader, printer))
        try:
            await asyncio.wait([ended, shown], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (ended, shown):
                task.cancel()
            results = await asyncio.gather(ended, shown, return_exceptions=True)
    printer.show(reader.entries())
    for result in results:
        if isinstance(result, Exception):
            raise click.ClickException(f"follow the log: {result}")


async def _show_changes(reader: LogReader, printer: Printer) -> None:
    with Inotify() as inotify:
        # The directory tells of a new file of that name as well as of writes to this one.
        inotify.add_watch(
            reader.path.parent, Mask.MODIFY | Mask.CREATE | Mask.MOVED_TO | Mask.ONLYDIR
        )
        printer.show(reader.entries())
        async for change in inotify:
            if change.name is None or change.name.name == reader.path.name:
                printer.show(reader.entries())


async def _ended(client: CriClient, container_id: str) -> None:
    """Return once the container has ended or was removed."""
    try:
        async for event in ContainerEvents(client):
            if not isinstance(event, Resync) and event.container_id != container_id:
                continue
            if not await _alive(client, container_id):
                return
    except EventsUnsupported:
        # Runtimes without events: Ctrl-C ends it.
        await asyncio.Event().wait()


async def _alive(client: CriClient, container_id: str) -> bool:
    try:
        state = (await client.container_status(container_id)).status.state
    except CriError as error:
        if error.not_found:
            return False
        raise
    return state in (cri.CONTAINER_RUNNING, cri.CONTAINER_CREATED)
