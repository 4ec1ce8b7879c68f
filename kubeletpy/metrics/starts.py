"""How long pods take to start (pure, but for what it remembers)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

from kubeletpy.api.events import Event
from kubeletpy.api.pod import Pod
from kubeletpy.api.status import PodStatus
from kubeletpy_common.settings.durations import ConfigurationError, duration

_PULLED: Final = re.compile(r"^Successfully pulled image .* in (\S+) \(")
_CAPACITY: Final = 10_000


@dataclass(slots=True)
class Start:
    """A pod that is starting.

    Attributes:
        seen: when it was first seen, seconds since 1970.
        pulls: seconds of the longest pull of an image.
        done: whether it has started.
    """

    seen: float
    pulls: float = 0.0
    done: bool = False


@dataclass(frozen=True, slots=True)
class Started:
    """Seconds that a start took.

    Attributes:
        since_seen: since the kubelet first knew of the pod.
        since_made: since the pod was made; None for pods of files, which have no such time.
        pulls: of them, of images.
    """

    since_seen: float
    since_made: float | None
    pulls: float


@dataclass
class Starts:
    """Watches pods start.

    Attributes:
        clock: seconds since 1970.
    """

    clock: Callable[[], float]
    _known: dict[str, Start] = field(default_factory=dict)

    def status(self, pod: Pod, status: PodStatus) -> Started | None:
        """Take a new status; return how long the start took once all containers have started."""
        uid, now = pod.metadata.uid, self.clock()
        started = has_started(pod, status)
        start = self._known.get(uid)
        if start is None:
            # One that runs already was started by an earlier kubelet.
            self._known[uid] = Start(now, done=started)
            while len(self._known) > _CAPACITY:
                self._known.pop(next(iter(self._known)))
            return None
        if start.done or not started:
            return None
        start.done = True
        made = pod.metadata.creation_timestamp
        since_made = max(0.0, now - made.timestamp()) if made is not None else None
        return Started(now - start.seen, since_made, start.pulls)

    def event(self, event: Event) -> None:
        """Take an event: it may be of a pull that has ended."""
        start = self._known.get(event.involved_object.uid)
        if event.reason == "Pulled" and start is not None:
            start.pulls = max(start.pulls, pull_seconds(event.message))

    def gone(self, pod: Pod) -> None:
        """Forget a pod."""
        self._known.pop(pod.metadata.uid, None)


def has_started(pod: Pod, status: PodStatus) -> bool:
    """Say whether all containers have started once (pure)."""
    known = {one.name: one for one in status.container_statuses}
    return all(_has_run(known.get(one.name)) for one in pod.spec.containers)


def _has_run(one: object) -> bool:
    state, last = getattr(one, "state", None), getattr(one, "last_state", None)
    parts: Iterable[object] = (
        getattr(state, "running", None),
        getattr(state, "terminated", None),
        getattr(last, "terminated", None),
    )
    return any(part is not None for part in parts)


def pull_seconds(message: str) -> float:
    """Return the seconds of a pull that the message of its event tells; 0 if it tells none."""
    found = _PULLED.match(message)
    try:
        return float(duration(found[1])) if found else 0.0
    except ConfigurationError:
        return 0.0
