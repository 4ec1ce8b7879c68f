"""In which order the containers of a pod that ends get their stop signal (KEP-753)."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from kubeletpy.api.pod import Pod

from .restarts import is_sidecar


class Turns:
    """Sidecars wait for all regular containers, and for the sidecars that stand after them.

    The preStop hooks of all run at once; only then each waits for its turn, and not longer than
    its grace lasts, as in the Go kubelet.

    Args:
        pod: whose containers.
        alive: names of those that run.
    """

    def __init__(self, pod: Pod, alive: Collection[str]) -> None:
        self._ended: dict[str, asyncio.Event] = {}
        self._before: dict[str, list[asyncio.Event]] = {}
        earlier: list[asyncio.Event] = []
        for container in pod.spec.containers:
            earlier.append(self._watch(container.name, alive))
        for container in reversed(pod.spec.init_containers):
            if is_sidecar(container):
                self._before[container.name] = list(earlier)
                earlier.append(self._watch(container.name, alive))

    def _watch(self, name: str, alive: Collection[str]) -> asyncio.Event:
        event = self._ended[name] = asyncio.Event()
        if name not in alive:
            event.set()
        return event

    async def wait(self, name: str, timeout: float) -> None:
        """Wait until a container may be told to end, for ``timeout`` seconds at most."""
        before = self._before.get(name, [])
        if timeout <= 0 or not before:
            return
        try:
            async with asyncio.timeout(timeout):
                for event in before:
                    await event.wait()
        except TimeoutError:
            pass

    def ended(self, name: str) -> None:
        """A container has ended; whoever waits for it may go on."""
        event = self._ended.get(name)
        if event is not None:
            event.set()
