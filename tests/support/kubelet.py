"""What an API server needs of a kubelet: its server on port 10250, with TLS, and nothing else.

Streams are served by the runtime's own streaming server, so SPDY and WebSocket are the real ones.
"""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aiohttp import web

from runtime.config import StreamingSettings
from runtime.streaming.commands import CommandRequest, Process
from runtime.streaming.descriptors import Readable, Writable
from runtime.streaming.port_forward import ForwardRequest
from runtime.streaming.server import StreamingServer
from runtime.streaming.status import Outcome
from tests.support.certificates import write_certificates
from tests.support.circumstances import patient

LINES = ["one", "two", "three"]


@dataclass
class Kubelet:
    """One that serves.

    Attributes:
        port: of its server, on 127.0.0.1.
        asked: method, path with query, and headers of each request, as they came.
        clients: common names of the certificates that were shown.
        more: a line of the followed log, once somebody sets it.
        open: sessions that run.
        idle: set while there are none.
    """

    port: int
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    clients: list[str] = field(default_factory=list)
    more: asyncio.Event = field(default_factory=asyncio.Event)
    open: int = 0
    idle: asyncio.Event = field(default_factory=asyncio.Event)
    streams: StreamingServer = field(default_factory=lambda: StreamingServer(StreamingSettings()))

    async def log(self, request: web.Request) -> web.StreamResponse:
        """``/containerLogs``: three lines; those of a container named ``waiting`` are refused."""
        self._note(request)
        if request.match_info["container"] == "waiting":
            return web.Response(status=400, text="container is waiting to start")
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        await response.prepare(request)
        tail = int(request.query.get("tailLines", len(LINES)))
        await response.write("".join(f"{line}\n" for line in LINES[len(LINES) - tail :]).encode())
        if "follow" in request.query:
            with self._session():
                await self.more.wait()
                await response.write(b"more\n")
        await response.write_eof()
        return response

    async def command(self, request: web.Request) -> web.StreamResponse:
        """``/exec`` and ``/attach``: a process of the machine."""
        self._note(request)
        query = request.query
        names = {"input": "stdin", "output": "stdout", "error": "stderr"}
        streams = frozenset(name for key, name in names.items() if query.get(key) == "1")
        words = query.getall("command", ["cat"])
        asked = CommandRequest("exec", "container", streams, False, lambda: self._run(words))
        return await self.streams._serve(asked, request)

    async def forward(self, request: web.Request) -> web.StreamResponse:
        """``/portForward``: to the ports of this machine."""
        self._note(request)

        async def connect(port: int) -> socket.socket:
            made = socket.socket()
            made.setblocking(False)
            await asyncio.get_running_loop().sock_connect(made, ("127.0.0.1", port))
            return made

        return await self.streams._serve(ForwardRequest("pod", connect), request)

    async def other(self, request: web.Request) -> web.StreamResponse:
        """Anything else: what was asked, as JSON; below ``/away`` a redirect."""
        self._note(request)
        if request.path == "/away":
            return web.Response(status=302, headers={"Location": "/here?a=b"})
        body = (await request.read()).decode()
        answer = {"method": request.method, "path": request.raw_path, "body": body}
        return web.json_response(answer, headers={"X-Of-Backend": "yes"})

    @asynccontextmanager
    async def _run(self, words: list[str]) -> AsyncIterator[Process]:
        reading, writing = os.pipe()
        input_reading, input_writing = os.pipe()
        errors_reading, errors_writing = os.pipe()
        child = await asyncio.create_subprocess_exec(
            *words, stdin=input_reading, stdout=writing, stderr=errors_writing
        )
        for descriptor in (input_reading, writing, errors_writing):
            os.close(descriptor)
        loop = asyncio.get_running_loop()
        end: asyncio.Future[Outcome] = loop.create_future()

        async def reap() -> None:
            code = await child.wait()
            if not end.done():
                end.set_result(Outcome(code))

        reaper = asyncio.create_task(reap())
        outputs = {"stdout": Readable(reading), "stderr": Readable(errors_reading)}
        process = Process(end, outputs, stdin=Writable(input_writing))
        try:
            with self._session():
                yield process
        finally:
            process.close()
            if child.returncode is None:
                child.kill()
            await reaper

    @contextmanager
    def _session(self) -> Iterator[None]:
        self.open += 1
        self.idle.clear()
        try:
            yield
        finally:
            self.open -= 1
            if not self.open:
                self.idle.set()

    def _note(self, request: web.Request) -> None:
        self.asked.append((request.method, request.raw_path, dict(request.headers)))
        assert request.transport is not None
        shown: dict[str, Any] | None = request.transport.get_extra_info("peercert")
        subject = dict(pair for entry in (shown or {}).get("subject", ()) for pair in entry)
        self.clients.append(subject.get("commonName", ""))


@asynccontextmanager
async def kubelet(directory: Path, authority: Path | None = None) -> AsyncIterator[Kubelet]:
    """Run one on 127.0.0.1.

    Args:
        directory: for its certificate.
        authority: by which clients are checked; None: that of the tests' certificates.
    """
    certificates = write_certificates(directory)
    context = certificates.server_context(mutual=authority is None)
    if authority is not None:
        context.load_verify_locations(authority)
        context.verify_mode = ssl.CERT_REQUIRED
    made = Kubelet(0)
    app = web.Application()
    app.router.add_get("/containerLogs/{namespace}/{pod}/{container}", made.log)
    for name in ("exec", "attach"):
        app.router.add_route("*", f"/{name}/{{namespace}}/{{pod}}/{{container}}", made.command)
    app.router.add_route("*", "/portForward/{namespace}/{pod}", made.forward)
    app.router.add_route("*", "/{rest:.*}", made.other)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1, handler_cancellation=True)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
    made.port = runner.addresses[0][1]
    try:
        yield made
    finally:
        await runner.cleanup()


@contextmanager
def kubelet_beside(directory: Path, authority: Path | None = None) -> Iterator[Kubelet]:
    """Run one in a thread, for tests that wait for programs."""
    ready: threading.Event = threading.Event()
    found: list[Kubelet] = []
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        async with kubelet(directory, authority) as made:
            found.append(made)
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    try:
        assert ready.wait(patient(10)), "the kubelet of the tests did not start"
        yield found[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(patient(10))
        loop.close()


def node_status(port: int) -> dict[str, Any]:
    """Return the status of a node whose kubelet is at ``port`` of 127.0.0.1."""
    return {
        "addresses": [
            {"type": "InternalIP", "address": "127.0.0.1"},
            {"type": "Hostname", "address": "no-such-host.invalid"},
        ],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": port}},
    }
