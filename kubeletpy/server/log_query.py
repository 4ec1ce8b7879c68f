"""``/logs/?query=SERVICE``: logs of services of the node (KEP-2258), for ``enableSystemLogQuery``.

A service whose unit is in the journal is asked of journalctl; another one is looked for in
/var/log, as ``NAME``, ``NAME.log`` and ``NAME/NAME.log``. A query with a slash names a file.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import stat
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Protocol

from aiohttp import web

from kubeletpy_common.linux.paths import open_beneath

MOST_LINES: Final = 100_000
MOST_SERVICES: Final = 4
LONGEST_NAME: Final = 256
TIMEOUT: Final = 30.0
"""Seconds for one query, as in the Go kubelet."""
AT_ONCE: Final = 4
"""Queries that are answered at the same time; others wait."""
_BLOCK: Final = 64 << 10
_NAME: Final = re.compile(r"[a-zA-Z\-_.:0-9@]+")
_OPTIONS: Final = ("sinceTime", "untilTime", "tailLines", "boot", "pattern")


class Query(Protocol):
    """The parameters of a request."""

    def getall(self, key: str, default: list[str]) -> list[str]:
        """Return all values of a parameter."""

    def get(self, key: str, default: str) -> str:
        """Return the first value of a parameter."""


class QueryError(ValueError):
    """A query that is not answered.

    Attributes:
        status: of the HTTP answer: 400 for what is malformed, 406 for what does not fit.
    """

    def __init__(self, status: int, field: str, value: object, reason: str) -> None:
        super().__init__(f"{field}: Invalid value: {value!r}: {reason}")
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class LogQuery:
    """What is asked for.

    Attributes:
        services: whose logs.
        file: below /var/log; "": none.
        since, until: limits in time.
        lines: how many at the end; None: all.
        boot: 0 for this one, -1 for the one before; None: any.
        pattern: regular expression (PCRE2) that lines must match.
    """

    services: tuple[str, ...] = ()
    file: str = ""
    since: datetime | None = None
    until: datetime | None = None
    lines: int | None = None
    boot: int | None = None
    pattern: str = ""

    @property
    def optional(self) -> bool:
        """Whether something is asked that only the journal can answer."""
        limits = (self.since, self.until, self.lines, self.boot)
        return bool(self.pattern) or any(one is not None for one in limits)


def parse(query: Query) -> LogQuery | None:
    """Return what a request asks for, None if it asks for nothing (pure).

    Raises:
        QueryError: it cannot be.
    """
    asked = query.getall("query", [])
    if not asked and not any(query.get(name, "") for name in _OPTIONS):
        return None
    files = [one for one in asked if "/" in one or "\\" in one]
    services = tuple(one for one in asked if one not in files and one.strip())
    if not files and not services:
        raise QueryError(400, "query", asked, "query cannot be empty")
    made = LogQuery(
        services=services,
        file=files[0].replace("\\", "/") if files else "",
        since=_time(query, "sinceTime"),
        until=_time(query, "untilTime"),
        lines=_number(query, "tailLines"),
        boot=_number(query, "boot"),
        pattern=query.get("pattern", ""),
    )
    _check(made, files)
    return made


def _check(made: LogQuery, files: Sequence[str]) -> None:
    for name in made.services:
        if len(name) > LONGEST_NAME:
            raise QueryError(406, "query", name, f"length must be less than {LONGEST_NAME}")
        if not _NAME.fullmatch(name):
            raise QueryError(406, "query", name, "input contains unsupported characters")
    if len(made.services) > MOST_SERVICES:
        raise QueryError(406, "query", len(made.services), f"at most {MOST_SERVICES} services")
    if files and made.services:
        raise QueryError(406, "query", files, "cannot specify a file and service")
    if len(files) > 1:
        raise QueryError(406, "query", files, "cannot specify more than one file")
    if files and made.optional:
        raise QueryError(406, "query", files, "cannot specify file with options")
    if made.since is not None and made.until is not None and made.since > made.until:
        raise QueryError(406, "untilTime", made.until.isoformat(), "must be after `sinceTime`")
    if made.boot is not None and made.boot > 0:
        raise QueryError(406, "boot", made.boot, "must be less than 1")
    if made.lines is not None and not 0 <= made.lines <= MOST_LINES:
        reason = f"must be between 0 and {MOST_LINES}, inclusive"
        raise QueryError(406, "tailLines", made.lines, reason)
    if "\0" in made.pattern:
        raise QueryError(406, "pattern", made.pattern, "a NUL byte is in it")


def _time(query: Query, name: str) -> datetime | None:
    text = query.get(name, "")
    if not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        raise QueryError(400, name, text, "invalid time format") from None
    if found.tzinfo is None:
        raise QueryError(400, name, text, "invalid time format")
    return found.astimezone(UTC)


def _number(query: Query, name: str) -> int | None:
    text = query.get(name, "")
    if not text:
        return None
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", text, re.ASCII):
        raise QueryError(400, name, text, "it is no number")
    return int(text)


def arguments(query: LogQuery) -> list[str]:
    """Return the arguments of journalctl (pure)."""
    found = ["--utc", "--no-pager", "--output=short-precise"]
    for name, limit in (("since", query.since), ("until", query.until)):
        if limit is not None:
            found.append(f"--{name}={limit:%Y-%m-%d %H:%M:%S}")
    if query.lines is not None:
        found += ["--pager-end", f"--lines={query.lines}"]
    found += [f"--unit={name}" for name in query.services]
    if query.pattern:
        found += [f"--grep={query.pattern}", "--case-sensitive=false"]
    if query.boot is not None:
        found.append(f"--boot={query.boot}")
    return found


class LogQueries:
    """Answers queries.

    Args:
        root: directory of logs that are files.
        program: journalctl.
    """

    def __init__(self, root: Path, program: str = "journalctl") -> None:
        self._root = root
        self._program = program
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def serve(self, request: web.Request, query: LogQuery) -> web.StreamResponse:
        """Answer a query for services."""
        headers = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}
        answer = web.StreamResponse(headers=headers)
        async with self._slots:
            await answer.prepare(request)
            try:
                async with asyncio.timeout(TIMEOUT):
                    await self._tell(answer, query)
            except TimeoutError:
                await answer.write(f"\nnot done within {TIMEOUT:g} s\n".encode())
        await answer.write_eof()
        return answer

    async def _tell(self, answer: web.StreamResponse, query: LogQuery) -> None:
        units = await self._units()
        files = [name for name in query.services if f"{name}.service" not in units]
        if files and query.optional:
            text = f"\noptions present and query resolved to log files for {files}\n"
            await answer.write(f"{text}try without specifying options\n".encode())
            return
        if not files:
            await self._run(answer, arguments(query))
            return
        for name in files:
            await self._copy(answer, name)

    async def _units(self) -> frozenset[str]:
        """Return the units that the journal knows."""
        found = bytearray()
        with contextlib.suppress(OSError):
            async with contextlib.aclosing(self._output(["--field", "_SYSTEMD_UNIT"])) as output:
                async for chunk in output:
                    found += chunk
        return frozenset(found.decode("utf-8", "replace").split())

    async def _run(self, answer: web.StreamResponse, given: Sequence[str]) -> None:
        try:
            async with contextlib.aclosing(self._output(given)) as output:
                async for chunk in output:
                    await answer.write(chunk)
        except OSError:
            await answer.write(b"\nerror: journal output not available\n")

    async def _output(self, given: Sequence[str]) -> AsyncGenerator[bytes, None]:
        """Yield what journalctl says; it ends with whoever listens.

        Raises:
            OSError: it cannot be run.
        """
        process = await asyncio.create_subprocess_exec(
            self._program, *given,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        assert process.stdout is not None
        try:
            while chunk := await process.stdout.read(_BLOCK):
                yield chunk
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    async def _copy(self, answer: web.StreamResponse, service: str) -> None:
        for name in (service, f"{service}.log", f"{service}/{service}.log"):
            try:
                descriptor = await asyncio.to_thread(open_log, self._root, name)
            except FileNotFoundError:
                continue
            except OSError as error:
                text = f"\nerror getting log for {service}: {error.strerror}\n"
                await answer.write(text.encode())
                return
            try:
                while data := await asyncio.to_thread(os.read, descriptor, _BLOCK):
                    await answer.write(data)
            finally:
                os.close(descriptor)
            return
        await answer.write(f"\nlog not found for {service}\n".encode())


def open_log(root: Path, name: str) -> int:
    """Open a file below ``root``, by no link that leads out of it.

    Raises:
        FileNotFoundError: there is none, or it is no file.
        OSError: it cannot be read.
    """
    directory = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        descriptor = open_beneath(directory, name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY)
    except NotADirectoryError as error:
        raise FileNotFoundError(error.errno, error.strerror) from None
    finally:
        os.close(directory)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise FileNotFoundError(f"{name} is no file")
    return descriptor
