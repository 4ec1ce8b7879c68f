"""A runtime and an API server a module, a kubelet a test, and a loop in which plug-ins serve."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from concurrent.futures import Future
from typing import Any, TypeVar

import pytest

from tests.root.kubeletpy.apiserver.conftest import api, joined
from tests.root.kubeletpy.engine.conftest import machine_scope, node, place, run, stopped_kubelet
from tests.support.circumstances import patient

__all__ = ["api", "joined", "machine_scope", "node", "place", "run", "stopped_kubelet"]
_T = TypeVar("_T")


class Loop:
    """An event loop in a thread: plug-ins serve in it while the test waits."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="plug-ins")
        self._thread.start()

    def do(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Run ``work`` there and return its result."""
        future: Future[_T] = asyncio.run_coroutine_threadsafe(work, self._loop)
        return future.result(patient(30))

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(patient(10))
        self._loop.close()


@pytest.fixture
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()
