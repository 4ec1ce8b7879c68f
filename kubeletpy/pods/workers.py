"""The pod workers of the node, by slot and by uid of their pods."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass

from kubeletpy.api.pod import Pod
from kubeletpy.api.status import PodCondition
from kubeletpy.sources.updates import from_api
from kubeletpy.why.story import Known

from .state import Terminal
from .worker import PodWorker


@dataclass
class _Entry:
    worker: PodWorker
    task: asyncio.Task[None]


class Workers:
    """Who runs, and a word to one of them; what is said to a pod that has none is lost."""

    def __init__(self) -> None:
        self._slots: dict[str, dict[str, _Entry]] = {}
        self._by_uid: dict[str, PodWorker] = {}
        self._ended: dict[str, float] = {}

    def __contains__(self, uid: str) -> bool:
        return uid in self._by_uid

    def __iter__(self) -> Iterator[PodWorker]:
        return iter(list(self._by_uid.values()))

    def uids(self) -> set[str]:
        """Return the uids of all pods that have a worker."""
        return set(self._by_uid)

    def slots(self) -> list[str]:
        """Return the slots in which an instance lives, see `wanted.slot_of`."""
        return list(self._slots)

    def tasks(self) -> list[asyncio.Task[None]]:
        """Return the tasks of all workers."""
        return [entry.task for entries in self._slots.values() for entry in entries.values()]

    def add(self, slot: str, worker: PodWorker, task: asyncio.Task[None]) -> None:
        """Take up a worker that ``task`` runs."""
        uid = worker.pod.metadata.uid
        self._slots.setdefault(slot, {})[uid] = _Entry(worker, task)
        self._by_uid[uid] = worker

    def replace(self, slot: str, worker: PodWorker) -> None:
        """Take up a worker in place of its pod's last one, in the same task."""
        uid = worker.pod.metadata.uid
        self._slots[slot][uid].worker = worker
        self._by_uid[uid] = worker

    def remove(self, slot: str, uid: str) -> PodWorker | None:
        """Strike off a worker, and return it; None if there was none."""
        entries = self._slots.get(slot, {})
        entry = entries.pop(uid, None)
        if not entries:
            self._slots.pop(slot, None)
        if entry is None:
            return None
        if self._by_uid.get(uid) is entry.worker:
            del self._by_uid[uid]
            self._ended[uid] = time.monotonic()
        return entry.worker

    @property
    def ended(self) -> set[str]:
        """The pods whose worker ended, as far as that is not forgotten."""
        return set(self._ended)

    def forget_ended(self, before: float) -> None:
        """Forget whose worker ended ``before`` a moment of the monotonic clock."""
        self._ended = {uid: at for uid, at in self._ended.items() if at >= before}

    def get(self, uid: str) -> PodWorker | None:
        """Return the worker of a pod."""
        return self._by_uid.get(uid)

    def of(self, slot: str) -> dict[str, PodWorker]:
        """Return the workers of a slot by uid: an old instance ends before the new one starts."""
        return {uid: entry.worker for uid, entry in self._slots.get(slot, {}).items()}

    def known(self, name: str, namespace: str, fault: str) -> list[Known]:
        """Return what is known of the pods of a name, in one or in all namespaces.

        Of a static pod the name of the node may be left out.

        Args:
            name: of the pods.
            namespace: "" for all.
            fault: why the runtime does not answer; "" if it does.
        """
        near = [each for each in self if namespace in ("", each.pod.metadata.namespace)]
        found = [each for each in near if each.pod.metadata.name == name]
        if not found:
            found = [
                each
                for each in near
                if not from_api(each.pod) and each.pod.metadata.name.startswith(f"{name}-")
            ]
        return [each.known(fault) for each in found]

    def active(self) -> list[Pod]:
        """Return the pods that hold resources of the node: all that have not come to their end."""
        return [worker.pod for worker in self if not worker.over.is_set()]

    def running_logs(self) -> list[tuple[str, str]]:
        """Return id and log file of each running container."""
        return [pair for worker in self for pair in worker.running_logs()]

    def longest_grace(self) -> int:
        """Return the longest grace of any pod in seconds."""
        return max((worker.longest_grace for worker in self), default=0)

    def retry(self, uid: str) -> None:
        """Let a pod's worker try again at once what an object of the API server was missing for."""
        worker = self.get(uid)
        if worker is not None:
            worker.retry()

    def wake(self, uid: str) -> None:
        """Let a pod's worker decide again: something that it depends on changed."""
        worker = self.get(uid)
        if worker is not None:
            worker.wake()

    def refresh(self, uid: str) -> bool:
        """Have a worker read the state of its pod again; return whether there is one."""
        worker = self.get(uid)
        if worker is not None:
            worker.refresh()
        return worker is not None

    def conclude(
        self,
        uid: str,
        terminal: Terminal,
        *,
        grace: int | None = None,
        disruption: PodCondition | None = None,
    ) -> None:
        """End all containers of a pod for good; see `PodWorker.conclude`."""
        worker = self.get(uid)
        if worker is not None:
            worker.conclude(terminal, grace=grace, disruption=disruption)

    async def end(self, pod: Pod, terminal: Terminal, disruption: PodCondition) -> None:
        """End a pod for good, and return once nothing of it runs any more."""
        worker = self.get(pod.metadata.uid)
        if worker is not None:
            worker.conclude(terminal, disruption=disruption)
            await worker.over.wait()
