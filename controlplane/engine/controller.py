"""A controller: what follows resources, and makes the world as they say, key by key."""

from __future__ import annotations

import abc
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar

from kubeletpy_common.apiclient.client import ApiClient

from .informer import View
from .measures import Measure
from .queue import WorkQueue
from .recorder import Recorder
from .resources import Object, key_of
from .writes import Writer

if TYPE_CHECKING:
    from prometheus_client.core import Metric


class OptionError(ValueError):
    """A flag of the process cannot be meant so."""


def now() -> datetime:
    """Return the time of this machine, in UTC."""
    return datetime.now(UTC)


@dataclass(slots=True)
class Context:
    """What a controller is given.

    Attributes:
        client: of the API server.
        informers: of this controller; each is shared by all of the process that use it.
        recorder: of events.
        writer: creates, changes and deletes objects; informers learn of it.
        options: flags of the process, by name with underscores; see ``engine.host``.
        clock: says what time it is; another one in tests.
    """

    client: ApiClient
    informers: View
    recorder: Recorder
    writer: Writer
    options: Mapping[str, Any] = field(default_factory=dict)
    clock: Callable[[], datetime] = now


class Controller(abc.ABC):
    """Looks at one key after the other, each as often as something about it changed.

    It is level-driven: `sync` compares what is with what shall be, whatever happened between, and
    may be cancelled or killed at any point. Its constructor asks ``context.informers`` for what it
    follows and hands listeners to them, which put keys into ``queue``.

    Attributes:
        name: as kube-controller-manager's ``--controllers`` knows it.
        workers: keys that are looked at, at once.
        queue: of keys.
        measures: what it counts besides.
    """

    name: ClassVar[str]
    workers: ClassVar[int] = 5

    def __init__(self, context: Context) -> None:
        self.context = context
        self.measures: list[Measure] = []
        self.queue = WorkQueue(self.name, self._look, self.workers)

    @abc.abstractmethod
    async def sync(self, key: str) -> float | None:
        """Bring the object of ``key`` and what belongs to it to what is declared.

        Returns:
            Seconds after which to look again even if nothing changed; None: not before.

        Raises:
            ApiError: the server refused something, or did not answer; the key comes back later.
        """

    async def _look(self, key: str) -> float | None:
        await self.context.informers.certain()
        return await self.sync(key)

    async def run(self) -> None:
        """Work, until cancelled; not before its informers are filled."""
        await self.context.informers.synced()
        await self.queue.run()

    def metrics(self) -> Iterator[Metric]:
        """Yield what it counted."""
        for each in self.measures:
            yield each.metric()

    def enqueue(self, before: Object | None, value: Object | None) -> None:
        """Have an object looked at that changed: a listener of the informer of its resource."""
        found = value or before
        assert found is not None
        self.queue.add(key_of(found))


def timestamp(moment: datetime) -> str:
    """Return a moment as ``metav1.Time`` is written: whole seconds, in UTC."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def micro_timestamp(moment: datetime) -> str:
    """Return a moment as ``metav1.MicroTime`` is written."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def moment_of(text: str) -> datetime:
    """Return the moment that a time stamp of the API says.

    Raises:
        ValueError: it is none.
    """
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def monotonic() -> float:
    """Return seconds that grow whatever the clock of the machine does."""
    return time.monotonic()
