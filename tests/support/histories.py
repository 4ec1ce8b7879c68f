"""What histories of edits, deletions, crashes and lost answers need; see the tests of controllers.

Each history is a list of words, which Hypothesis makes up and makes shorter when one fails.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any, Final

from hypothesis import HealthCheck, settings

from controlplane.engine.host import Host
from kubeletpy_common.apiclient.client import ApiClient
from kubeletpy_common.apiclient.errors import ApiError
from tests.support.cluster import Cluster

EXAMPLES: Final = int(os.environ.get("KUBELETPY_HISTORIES", "3"))
"""Histories of each test; more with the environment variable."""

histories = settings(
    max_examples=EXAMPLES, deadline=None, derandomize=EXAMPLES < 20, database=None,
    suppress_health_check=list(HealthCheck), report_multiple_bugs=False,
)  # fmt: skip
"""Of tests with histories; the same ones each time, unless there are many."""


class Lossy:
    """A client of which answers to writes get lost: the server does what was asked, and is silent.

    Attributes:
        lose: how many of the next answers.
    """

    def __init__(self, client: ApiClient) -> None:
        self._client = client
        self.lose = 0

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._client, name)
        if name not in ("create", "update", "patch", "delete"):
            return real

        async def call(*args: Any, **more: Any) -> Any:
            answer = await real(*args, **more)
            if self.lose:
                self.lose -= 1
                raise ApiError(0, "Timeout", f"{name}: no answer")
            return answer

        return call


class Process:
    """Controllers that are killed and started again.

    Args:
        cluster: that they work on.
        names: of controllers.
    """

    def __init__(self, cluster: Cluster, *names: str) -> None:
        self._cluster = cluster
        self._names = names
        self._host: Host | None = None
        self._lossy = Lossy(cluster.client)

    async def start(self) -> None:
        """Start them."""
        self._host = await self._cluster.start(*self._names)
        self._lossy.lose = 0
        self._host.context.writer._client = self._lossy  # type: ignore[assignment]

    async def crash(self) -> None:
        """Kill them wherever they are, and start them again."""
        assert self._host is not None
        await self._cluster.stop(self._host)
        await self.start()

    def lose(self, count: int) -> None:
        """Have answers to the next writes lost."""
        self._lossy.lose = count


async def forgiving(call: Callable[[], Awaitable[object]]) -> None:
    """Do what may be too late: what it is about is gone, or changed meanwhile."""
    try:
        await call()
    except ApiError as error:
        if not (error.not_found or error.conflict or error.reason == "Invalid"):
            raise
