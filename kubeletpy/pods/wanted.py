"""Which pods shall be, each in its slot; of two sources that name one pod the first has it."""

from __future__ import annotations

from kubeletpy.api.pod import Pod
from kubeletpy.sources.updates import API_SOURCE, FILE_SOURCE, from_api, pod_key, source_of


def slot_of(pod: Pod) -> str:
    """Return the place in which one instance at a time may live.

    For static pods that is a name. Of pods of the API server the UID is the identity: who deletes
    one by force and makes a namesake does not want that to wait, as with the Go kubelet.
    """
    if from_api(pod):
        return f"{API_SOURCE}:{pod_key(pod)}:{pod.metadata.uid}"
    return f"{FILE_SOURCE}:{pod_key(pod)}"


class Wanted(dict[str, Pod]):
    """By slot, the pod that shall be there."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: dict[str, Pod] = {}
        """Pods whose slot is held by one of another source."""

    def put(self, pod: Pod) -> Pod | None:
        """Take over a pod, or a new version of it.

        Returns:
            the pod of another source that has this one's name, and keeps it; this one waits.
        """
        slot = slot_of(pod)
        holder = self.get(slot)
        if holder is not None and source_of(holder) != source_of(pod):
            self._waiting[slot] = pod
            return holder
        self[slot] = pod
        return None

    def drop(self, pod: Pod) -> None:
        """Let go of a pod, if it is still this one that shall be; one that waited follows it."""
        slot = slot_of(pod)
        for place in (self, self._waiting):
            known = place.get(slot)
            if known is not None and _identity(known) == _identity(pod):
                del place[slot]
        if slot not in self and slot in self._waiting:
            self[slot] = self._waiting.pop(slot)

    def clear(self) -> None:
        """Nothing shall be any more."""
        super().clear()
        self._waiting.clear()


def _identity(pod: Pod) -> tuple[str, str]:
    return source_of(pod), pod.metadata.uid
