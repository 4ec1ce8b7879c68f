"""One proxy in one laboratory with one cluster, and what is measured of it."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import select
import socket
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import psutil

from benchmarks.proxy.clusters import Cluster, answers
from tests.support.proxylab.clients import Answer, ask, make_socket
from tests.support.proxylab.lab import Lab
from tests.support.proxylab.proxies import Proxy, Settings

_FIRST_SYNC_SECONDS: Final = 900.0
_CHANGE_SECONDS: Final = 120.0
_PEEK_SECONDS: Final = 0.1
_REST_SECONDS: Final = 1.2
"""Between changes: as in life they are apart, so the least time between syncs delays none."""
_ATTEMPT_SECONDS, _LATER_ATTEMPT_SECONDS = 0.03, 0.3
"""In which a connection has to get through; later, on a machine that is slow, longer."""
_AT_ONCE: Final = 50
"""Connections of a burst of which the rate is taken; no queue on their way holds fewer."""
_BURST: Final = 8
"""Connections tried at once, so that one of five endpoints is met soon."""


@dataclass(frozen=True)
class Effort:
    """How much is done.

    Attributes:
        rounds: changes of each kind.
        latencies: connections, one after the other, for the latency.
        connections: at once, for the rate.
        rest: seconds between changes.
    """

    rounds: int = 10
    latencies: int = 300
    connections: int = 1000
    rest: float = _REST_SECONDS


QUICK: Final = Effort(1, 20, 50, 0.1)


@dataclass
class Figures:
    """What was measured: figure -> values; ``title`` tells of whom."""

    title: str
    values: dict[str, list[float]] = field(default_factory=dict)

    def add(self, figure: str, value: float) -> None:
        """Note one value, and tell who waits for the table."""
        self.values.setdefault(figure, []).append(value)
        print(f"{self.title}: {figure} {value:.3f}", file=sys.stderr, flush=True)


class Memory:
    """Watches the proportional set size of a process and its children; keeps the highest sum."""

    def __init__(self, pid: int) -> None:
        self._process = psutil.Process(pid)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self.peak = 0.0

    def now(self) -> float:
        """Return MiB."""
        total = 0
        with contextlib.suppress(psutil.NoSuchProcess):
            for each in (self._process, *self._process.children(recursive=True)):
                with contextlib.suppress(psutil.NoSuchProcess, OSError):
                    rollup = Path(f"/proc/{each.pid}/smaps_rollup").read_text()
                    line = next(line for line in rollup.splitlines() if line.startswith("Pss:"))
                    total += int(line.split()[1])
        return total / 1024

    def _watch(self) -> None:
        while not self._ended.wait(_PEEK_SECONDS):
            self.peak = max(self.peak, self.now())

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()


def measure(
    title: str, directory: Path, settings: Settings, cluster: Cluster, effort: Effort
) -> Figures:
    """Measure a proxy from its first sync to its restart."""
    # As people run it: the least time between syncs is each proxy's own.
    defaults = {"iptables": {"minSyncPeriod": "1s"}, "nftables": {"minSyncPeriod": "1s"}}
    settings = dataclasses.replace(settings, config={**defaults, **settings.config})
    with Lab.built(directory) as lab:
        lab.reset(*cluster.objects())
        subject = _Subject(lab, cluster, effort, Figures(title))
        subject.first_sync(settings)
        subject.changes()
        subject.packets()
        subject.restart(settings)
        return subject.figures


@dataclass
class _Subject:
    lab: Lab
    cluster: Cluster
    effort: Effort
    figures: Figures
    proxy: Proxy | None = None

    def first_sync(self, settings: Settings) -> None:
        with self._started(settings) as proxy, Memory(proxy.process.pid) as memory:
            begun = time.monotonic()
            self._all_answer(_FIRST_SYNC_SECONDS)
            self.figures.add("first_sync", time.monotonic() - begun)
            self.figures.add("first_sync_cpu", cpu_seconds(proxy))
            time.sleep(self.effort.rest)
            memory.peak = max(memory.peak, memory.now())
        self.figures.add("peak_memory", memory.peak)
        self.figures.add("memory", memory.now())

    @contextlib.contextmanager
    def _started(self, settings: Settings) -> Iterator[Proxy]:
        self.proxy = self.lab.start(settings)
        try:
            yield self.proxy
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.proxy.tail()}") from None

    def changes(self) -> None:
        """Change one endpoint, add a Service and remove it, some times each."""
        assert self.proxy is not None
        samples, api = self.cluster.samples, self.lab.api
        for turn in range(self.effort.rounds):
            number = samples[turn % len(samples)]
            old, new = self.cluster.backends(number), self.cluster.backends(number, 1)
            fresh = answers(new) - answers(old)
            with self._timed("endpoint", cpu="endpoint_cpu"):
                api.put(*self.cluster.slices(number, new))
                self._until(number, lambda said, fresh=fresh: said.who in fresh)  # type: ignore[misc]
            api.put(*self.cluster.slices(number, old))
            time.sleep(self.effort.rest)
            extra = self.cluster.size + turn
            made = [
                self.cluster.service(extra),
                *self.cluster.slices(extra, self.cluster.backends(extra)),
            ]
            with self._timed("added"):
                api.put(*made)
                self._until(extra, lambda said: bool(said.source))
            with self._timed("removed"):
                api.delete(*made)
                self._until(extra, lambda said: not said.source)

    @contextlib.contextmanager
    def _timed(self, figure: str, cpu: str = "") -> Iterator[None]:
        assert self.proxy is not None
        spent, begun = cpu_seconds(self.proxy), time.monotonic()
        yield
        self.figures.add(figure, (time.monotonic() - begun) * 1000)
        time.sleep(self.effort.rest)
        if cpu:
            self.figures.add(cpu, (cpu_seconds(self.proxy) - spent) * 1000)

    def packets(self) -> None:
        """Measure what a connection pays through the first and the last Service."""
        for name, number in (("first", 0), ("last", self.cluster.size - 1)):
            address = self.cluster.address(number)
            latencies = [self._latency(address) for _ in range(self.effort.latencies)]
            self.figures.add(f"latency_{name}", statistics.median(latencies) * 1e6)
            bursts = max(1, self.effort.connections // _AT_ONCE)
            rates = [self._rate(address, _AT_ONCE) for _ in range(bursts)]
            self.figures.add(f"rate_{name}", statistics.median(rates))

    def _latency(self, address: str) -> float:
        """Return the seconds until a connection stands: its first packet and the answer to it."""
        with make_socket(self.lab.hosts["pod"], 4, socket.SOCK_STREAM) as made:
            made.settimeout(5)
            begun = time.perf_counter()
            made.connect((address, 80))
            return time.perf_counter() - begun

    def _rate(self, address: str, count: int) -> float:
        """Return new connections a second, all asked for at once."""
        pod, poll = self.lab.hosts["pod"], select.epoll()
        sockets = (make_socket(pod, 4, socket.SOCK_STREAM) for _ in range(count))
        made = {each.fileno(): each for each in sockets}
        try:
            begun = time.perf_counter()
            for each in made.values():
                each.connect_ex((address, 80))
                poll.register(each, select.EPOLLOUT | select.EPOLLONESHOT)
            left = count
            while left:
                ready = poll.poll(10)
                assert ready, f"{left} of {count} connections to {address} do not come about"
                left -= len(ready)
            return count / (time.perf_counter() - begun)
        finally:
            poll.close()
            for each in made.values():
                each.close()

    def restart(self, settings: Settings) -> None:
        """Stop the proxy, change an endpoint, start it; then end it."""
        assert self.proxy is not None
        self.proxy.stop()
        self.lab.forget(self.proxy)
        number = self.cluster.samples[-1]
        old, new = self.cluster.backends(number), self.cluster.backends(number, 1)
        self.lab.api.put(*self.cluster.slices(number, new))
        fresh = answers(new) - answers(old)
        begun = time.monotonic()
        with self._started(settings) as proxy:
            self._until(number, lambda said: said.who in fresh, _FIRST_SYNC_SECONDS)
            self.figures.add("restart", time.monotonic() - begun)
            self.figures.add("restart_cpu", cpu_seconds(proxy))
        self.lab.wipe()

    def _all_answer(self, seconds: float) -> None:
        for number in reversed(self.cluster.samples):
            self._until(number, lambda said: bool(said.source), seconds)

    def _until(
        self, number: int, right: Callable[[Answer], bool], seconds: float = _CHANGE_SECONDS
    ) -> None:
        """Connect to a Service until an answer is right."""
        address, pod = self.cluster.address(number), self.lab.hosts["pod"]

        async def reached() -> None:
            begun, patience = time.monotonic(), _ATTEMPT_SECONDS
            while True:
                attempts = [ask(pod, address, 80, patience=patience) for _ in range(_BURST)]
                if any(right(answer) for answer in await asyncio.gather(*attempts)):
                    return
                assert self.proxy is not None
                code = self.proxy.process.poll()
                assert code is None, f"the proxy ended with {code}"
                waited = time.monotonic() - begun
                patience = _ATTEMPT_SECONDS if waited < 1 else _LATER_ATTEMPT_SECONDS
                assert waited < seconds, f"service {number} is not as it should be"
                # The processors are the proxy's: what takes long is looked at less often.
                await asyncio.sleep(max(0.004, min(0.25, waited / 25)))

        asyncio.run(reached())


def cpu_seconds(proxy: Proxy) -> float:
    """Return the CPU time of a proxy so far, with that of the programs that it ran."""
    times = psutil.Process(proxy.process.pid).cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)
