"""Rates from counters, and the sizes of writable layers: what one reading alone cannot tell."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from runtime.images.errors import ImageError

SHORTEST_WINDOW_NS: Final = 500_000_000
"""Over less than this the rate of a counter says more about the scheduler than the container."""

LAYER_FRESH_SECONDS: Final = 10.0
"""How long the size of a writable layer is taken as it is; the kubelet asks every 10 s."""

_LAYER_WAIT_SECONDS: Final = 0.5
_SHARE_OF_TIME: Final = 10


@dataclass
class _Counter:
    time_ns: int
    usage_ns: int
    rate: int | None = None


class CpuRates:
    """CPU use in billionths of a core, averaged from one reading to the next.

    Readings that follow too closely (several clients) share a window, so that none of them gets
    noise: the rate is then the last one.
    """

    def __init__(self) -> None:
        self._counters: dict[str, _Counter] = {}

    def rate(self, key: str, time_ns: int, usage_ns: int) -> int | None:
        """Take a reading; return the rate, None at the first one.

        Args:
            key: of the container or pod.
            time_ns: when it was read, nanoseconds since 1970.
            usage_ns: CPU time since its start.
        """
        counter = self._counters.get(key)
        if counter is None or usage_ns < counter.usage_ns or time_ns < counter.time_ns:
            # New, or a counter that began again with another cgroup.
            self._counters[key] = _Counter(time_ns, usage_ns)
            return None
        window = time_ns - counter.time_ns
        if window >= SHORTEST_WINDOW_NS:
            rate = (usage_ns - counter.usage_ns) * 1_000_000_000 // window
            self._counters[key] = counter = _Counter(time_ns, usage_ns, rate)
        return counter.rate

    def keep(self, keys: Iterable[str]) -> None:
        """Forget all but these."""
        kept = set(keys)
        for key in self._counters.keys() - kept:
            del self._counters[key]


@dataclass(frozen=True)
class LayerSize:
    """What a writable layer took on the disk at ``time_ns`` (nanoseconds since 1970)."""

    time_ns: int
    bytes: int
    inodes: int


@dataclass
class _Layer:
    size: LayerSize | None = None
    measured_at: float = 0.0
    took: float = 0.0
    task: asyncio.Task[None] | None = None


@dataclass
class LayerSizes:
    """Sizes of writable layers, each measured by a walk in a thread, one at a time.

    A walk is repeated when its result is asked for and has become old; one that took long is
    repeated the less often, so that all walks together stay a small part of a core.

    Attributes:
        measure: returns bytes and inodes of a container's layer, None if it has none; blocks.
    """

    measure: Callable[[str], tuple[int, int] | None]
    _layers: dict[str, _Layer] = field(default_factory=dict)
    _turn: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(1))

    async def sizes(self, container_ids: Iterable[str]) -> dict[str, LayerSize]:
        """Return the sizes that are known; a walk that is due gets a moment to end first."""
        wanted = {key: self._layers.setdefault(key, _Layer()) for key in container_ids}
        for key, layer in wanted.items():
            if layer.task is None and self._due(layer):
                layer.task = asyncio.create_task(self._walk(key, layer))
        tasks = [layer.task for layer in wanted.values() if layer.task is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=_LAYER_WAIT_SECONDS)
        return {key: layer.size for key, layer in wanted.items() if layer.size is not None}

    def keep(self, container_ids: Iterable[str]) -> None:
        """Forget all but these."""
        kept = set(container_ids)
        for key in self._layers.keys() - kept:
            del self._layers[key]

    @staticmethod
    def _due(layer: _Layer) -> bool:
        age = time.monotonic() - layer.measured_at
        return layer.size is None or age > max(LAYER_FRESH_SECONDS, layer.took * _SHARE_OF_TIME)

    async def _walk(self, key: str, layer: _Layer) -> None:
        try:
            async with self._turn:
                started = time.monotonic()
                found = await asyncio.to_thread(self.measure, key)
            layer.measured_at = time.monotonic()
            layer.took = layer.measured_at - started
            if found is not None:
                layer.size = LayerSize(time.time_ns(), *found)
        except (OSError, ImageError):
            # Removed during the walk, or a disk that fails: the last size stays, with its time.
            layer.measured_at = time.monotonic()
        finally:
            layer.task = None
