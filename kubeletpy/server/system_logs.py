"""``/logs/``: files below /var/log, never a file elsewhere."""

from __future__ import annotations

import asyncio
import errno
import html
import os
import stat
from pathlib import Path
from typing import Final
from urllib.parse import quote

from aiohttp import web

from kubeletpy_common.linux.paths import open_beneath

from .log_query import LogQueries, QueryError, parse

_BLOCK: Final = 256 << 10
LOGS: Final = Path("/var/log")


class SystemLogs:
    """Answers ``/logs/``.

    Args:
        root: directory that is shown.
        queries: answers queries for logs of services; None: there are none to be made.
    """

    def __init__(self, root: Path = LOGS, queries: LogQueries | None = None) -> None:
        self._root = root
        self._queries = queries

    async def serve(self, request: web.Request) -> web.StreamResponse:
        """``GET /logs/PATH``: a file, or the list of a directory."""
        path = request.match_info.get("path", "")
        if self._queries is not None:
            try:
                query = parse(request.query)
            except QueryError as error:
                return web.Response(status=error.status, text=f"{error}\n")
            if query is not None and query.services:
                return await self._queries.serve(request, query)
            path = query.file if query is not None else path
        try:
            descriptor = await asyncio.to_thread(_open, self._root, path)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR):
                return web.Response(status=404, text="404 page not found\n")
            # EXDEV: a link, or "..", leads out of the directory.
            return web.Response(status=403, text="403 Forbidden\n")
        try:
            mode = os.fstat(descriptor).st_mode
            if stat.S_ISDIR(mode):
                page = await asyncio.to_thread(_listing, descriptor)
                return web.Response(text=page, content_type="text/html", charset="utf-8")
            if not stat.S_ISREG(mode):
                return web.Response(status=403, text="403 Forbidden\n")
            return await _send(request, descriptor)
        finally:
            os.close(descriptor)


def _open(root: Path, path: str) -> int:
    directory = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY
        return open_beneath(directory, path.strip("/") or ".", flags)
    except ValueError as error:
        # A NUL in the path.
        raise OSError(errno.ENOENT, str(error)) from error
    finally:
        os.close(directory)


def _listing(directory: int) -> str:
    lines = []
    with os.scandir(directory) as entries:
        for entry in entries:
            name = entry.name + ("/" if entry.is_dir(follow_symlinks=False) else "")
            lines.append((name, f'<a href="{quote(name)}">{html.escape(name)}</a>'))
    body = "\n".join(line for _, line in sorted(lines))
    return f"<!doctype html>\n<pre>\n{body}\n</pre>\n"


async def _send(request: web.Request, descriptor: int) -> web.StreamResponse:
    size = os.fstat(descriptor).st_size
    # Nobody shall be led to take a log for a page.
    headers = {"Content-Type": "text/plain; charset=utf-8", "X-Content-Type-Options": "nosniff"}
    answer = web.StreamResponse(headers=headers)
    answer.content_length = size
    await answer.prepare(request)
    position = 0
    while position < size:
        length = min(_BLOCK, size - position)
        data = await asyncio.to_thread(os.pread, descriptor, length, position)
        if not data:
            # It was truncated meanwhile; the client sees that the answer broke off.
            raise ConnectionResetError("the file became shorter while it was sent")
        await answer.write(data)
        position += len(data)
    await answer.write_eof()
    return answer
