"""The process in which controllers run: its client, informers and election."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import signal
import socket
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

from kubeletpy_common import logs, watchdog
from kubeletpy_common.apiclient.access import access_of
from kubeletpy_common.apiclient.client import ApiClient
from kubeletpy_common.events.sink import EventSink
from kubeletpy_common.linux.clocks import ClockChanges
from kubeletpy_common.readiness import tell_ready, tell_stopping

from .controller import Context
from .election import Election, Times
from .informer import Informers
from .queue import WorkQueue
from .recorder import Recorder
from .writes import Writer

_log = logging.getLogger(__name__)
FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 60.0
FIRST_LISTS: Final = 10.0
"""Seconds after which the process counts as started even if a resource cannot be listed."""


class Part(Protocol):
    """What runs in the process: a `Controller`, or anything of its shape."""

    @property
    def name(self) -> str:
        """As ``--controllers`` knows it."""

    async def run(self) -> None:
        """Work, until cancelled."""


Make = Callable[[Context], Part]


@dataclass(frozen=True, slots=True)
class Settings:
    """How the process runs.

    Attributes:
        component: its name, as ``kube-controller-manager``: of its lease and in its user agent.
        kubeconfig, master: where the API server is; both empty: as a pod knows it.
        rate, burst: requests a second, and at once; rate 0: no limit.
        elect: whether only one of several processes works.
        times: of the election.
        lease_namespace, lease_name: of the election; name "": the component's.
        address, port: where health and metrics are served by HTTP; port -1: nowhere.
        namespace: only objects of this one are followed; "": all.
        options: for controllers, see `Context`.
    """

    component: str
    kubeconfig: str = ""
    master: str = ""
    rate: float = 0.0
    burst: int = 100
    elect: bool = True
    times: Times = field(default_factory=Times)
    lease_namespace: str = "kube-system"
    lease_name: str = ""
    address: str = "127.0.0.1"
    port: int = -1
    namespace: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)


class Host:
    """Runs parts against one API server.

    Args:
        client: of it; the caller closes it.
        settings: of the process.
        makes: make the parts; called once this process leads.

    Attributes:
        context: that parts are given, each with its own view of the informers.
        informers: of all parts.
        parts: that run; empty until this process leads.
    """

    def __init__(self, client: ApiClient, settings: Settings, makes: Sequence[Make]) -> None:
        self._settings = settings
        self._makes = makes
        self._sink = EventSink(client)
        self.informers = Informers(client, settings.namespace)
        self.context = Context(
            client,
            self.informers.view(),
            Recorder(settings.component, self._sink),
            Writer(client, self.informers),
            settings.options,
        )
        self.parts: list[Part] = []
        self.started = asyncio.Event()
        self.election: Election | None = None

    async def run(self) -> None:
        """Work, until cancelled.

        Raises:
            LeadershipLostError: another process may lead now.
        """
        one = self._settings
        if not one.elect:
            return await self._work()
        identity = f"{socket.gethostname()}_{secrets.token_hex(8)}"
        self.election = Election(
            self.context.client, one.lease_namespace, one.lease_name or one.component, identity,
            one.times,
        )  # fmt: skip
        await self.election.run(self._work)
        return None

    def queues(self) -> Iterable[WorkQueue]:
        """Return the queues of the parts."""
        for part in self.parts:
            queue = getattr(part, "queue", None)
            if isinstance(queue, WorkQueue):
                yield queue

    def clock_changed(self) -> None:
        """Have everything looked at that waits for a time: the clock of the machine was set."""
        for queue in self.queues():
            queue.wake()

    async def _follow_clock(self) -> None:
        loop, bell = asyncio.get_running_loop(), asyncio.Event()
        with contextlib.closing(ClockChanges()) as changes:
            loop.add_reader(changes.fileno(), bell.set)
            try:
                while True:
                    await bell.wait()
                    bell.clear()
                    if changes.took_place():
                        logs.event(_log, logging.INFO, "the clock of the machine was set")
                        self.clock_changed()
            finally:
                loop.remove_reader(changes.fileno())

    async def _work(self) -> None:
        self.parts = [
            make(replace(self.context, informers=self.informers.view())) for make in self._makes
        ]
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._sink.run(), name="events")
            tasks.create_task(self.informers.run(), name="informers")
            tasks.create_task(self._follow_clock(), name="clock")
            for part in self.parts:
                tasks.create_task(_keep(part), name=part.name)
            try:
                async with asyncio.timeout(FIRST_LISTS):
                    await self.informers.synced()
            except TimeoutError:
                logs.event(_log, logging.WARNING, "not all resources can be followed; controllers "
                           "that need them wait", errors=self.informers.errors())  # fmt: skip
            self.started.set()


async def _keep(part: Part) -> None:
    """Run a part; one that fails begins again, ever later, and the others go on."""
    pause = FIRST_PAUSE
    while True:
        try:
            await part.run()
            return
        except Exception as error:
            _log.exception("a controller ended")
            logs.event(
                _log, logging.ERROR, "a controller ended and begins again", controller=part.name,
                error=f"{type(error).__name__}: {error}", seconds=pause,
            )  # fmt: skip
            await asyncio.sleep(pause)
            pause = min(pause * 2, LONGEST_PAUSE)


async def serve(settings: Settings, makes: Sequence[Make], *others: Awaitable[None]) -> None:
    """Run parts until SIGTERM or SIGINT.

    Args:
        settings: of the process.
        makes: make the parts.
        others: run beside them, whether this process leads or not.

    Raises:
        KubeconfigError: the API server cannot be reached so.
        LeadershipLostError: another process may lead now.
        OSError: the address of health and metrics is taken.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    access = access_of(settings.kubeconfig, settings.master, os.environ)
    agent = f"kubeletpy-{settings.component}/1.36"
    client = ApiClient(access, rate=settings.rate, burst=settings.burst, agent=agent)
    async with client, contextlib.AsyncExitStack() as stack:
        host = Host(client, settings, makes)
        if settings.port >= 0:
            from .serving import serving

            await stack.enter_async_context(serving(host, settings.address, settings.port))
        running = [
            asyncio.ensure_future(each)
            for each in (
                host.run(),
                _ready(host, elect=settings.elect),
                watchdog.run(),
                *others,
            )
        ]
        stopped = asyncio.create_task(stop.wait())
        try:
            while not stopped.done():
                done, _ = await asyncio.wait(
                    {stopped, *(task for task in running if not task.done())},
                    return_when=asyncio.FIRST_COMPLETED,
                )
                for task in done - {stopped}:
                    task.result()
            tell_stopping()
        finally:
            for task in (*running, stopped):
                task.cancel()
            await asyncio.gather(*running, stopped, return_exceptions=True)


async def _ready(host: Host, *, elect: bool) -> None:
    """Say that this process serves: it works, or stands by."""
    if not elect:
        await host.started.wait()
    tell_ready("stands by" if elect else "works")
