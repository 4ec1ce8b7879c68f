"""Which containers have ended (pure, but for what it remembers)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from kubeletpy.api.pod import Pod
from kubeletpy.api.status import PodStatus

_CAPACITY: Final = 10_000


@dataclass
class Ends:
    """Watches containers end."""

    _known: dict[str, frozenset[tuple[str, str]]] = field(default_factory=dict)

    def status(self, pod: Pod, status: PodStatus) -> list[tuple[str, str, str]]:
        """Take a new status; return kind, exit code and reason of each container that has ended.

        As in the Go kubelet, a run that ended between two statuses and was followed by another is
        not counted, and what had ended before the first status is.
        """
        uid = pod.metadata.uid
        before, now, ended = self._known.get(uid, frozenset()), set(), []
        for kind, statuses in (
            ("init_container", status.init_container_statuses),
            ("container", status.container_statuses),
            ("ephemeral_container", status.ephemeral_container_statuses),
        ):
            for one in statuses:
                end = one.state.terminated
                if end is None:
                    continue
                now.add((kind, one.name))
                if (kind, one.name) not in before:
                    ended.append((kind, str(end.exit_code), end.reason))
        self._known[uid] = frozenset(now)
        while len(self._known) > _CAPACITY:
            self._known.pop(next(iter(self._known)))
        return ended

    def gone(self, pod: Pod) -> None:
        """Forget a pod."""
        self._known.pop(pod.metadata.uid, None)
