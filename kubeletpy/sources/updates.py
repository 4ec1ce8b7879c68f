"""What a look at a source of pods found, and the difference between two looks (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kubeletpy.api.fields import FieldError
from kubeletpy.api.pod import Pod

CONFIG_HASH = "kubernetes.io/config.hash"
CONFIG_SOURCE = "kubernetes.io/config.source"
CONFIG_SEEN = "kubernetes.io/config.seen"
CONFIG_MIRROR = "kubernetes.io/config.mirror"

FILE_SOURCE, HTTP_SOURCE, API_SOURCE = "file", "http", "api"
"""Where pods come from; the Go kubelet's names."""


@dataclass(frozen=True, slots=True)
class PodChange:
    """A pod (one namespace and name) whose content changed.

    A static pod that changes gets another uid, unless its file names one: then ``new`` has to
    wait until ``old`` has ended.
    """

    old: Pod
    new: Pod


@dataclass(frozen=True, slots=True)
class SourceError:
    """Something in a source that is no pod.

    Attributes:
        source: the file, or the URL.
        reason: why, in words; names the field paths.
        fields: each bad field; empty if it is no field's fault.
        kept: names (namespace/name, separated by ", ") of the pods that go on as their last good
            version says.
        event: the reason of the event that tells it.
    """

    source: str
    reason: str
    fields: tuple[FieldError, ...] = ()
    kept: str = ""
    event: str = "InvalidManifest"

    def __str__(self) -> str:
        text = f"{self.source}: {self.reason}"
        return f"{text} (the last good version of pod {self.kept} is kept)" if self.kept else text


@dataclass(frozen=True, slots=True)
class PodUpdates:
    """What changed since the last update.

    Attributes:
        added, removed: pods that appeared, and disappeared.
        changed: pods with another content.
        errors: new errors; one that persists unchanged is told once.
        hints: by namespace/name of an added or changed pod, fields that have no effect here.
        heard: whether the source has said which pods there are; False: so far it only failed.
    """

    added: tuple[Pod, ...] = ()
    changed: tuple[PodChange, ...] = ()
    removed: tuple[Pod, ...] = ()
    errors: tuple[SourceError, ...] = ()
    hints: tuple[tuple[str, tuple[str, ...]], ...] = ()
    heard: bool = True

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed or self.errors)


def pod_key(pod: Pod) -> str:
    """Return ``namespace/name``."""
    return f"{pod.metadata.namespace}/{pod.metadata.name}"


def from_api(pod: Pod) -> bool:
    """Whether a pod is of the API server; all others are static pods."""
    return pod.metadata.annotations.get(CONFIG_SOURCE) == API_SOURCE


def source_of(pod: Pod) -> str:
    """Return the name of the source that a pod comes from."""
    return pod.metadata.annotations.get(CONFIG_SOURCE, FILE_SOURCE)


def version_of(pod: Pod) -> tuple[str, str]:
    """Return what tells two versions of a pod apart that cannot be one instance.

    A pod of the API server is one instance as long as its UID is the same, whatever of it is
    changed; a static pod with other content is another one.
    """
    content = "" if from_api(pod) else pod.metadata.annotations.get(CONFIG_HASH, "")
    return pod.metadata.uid, content


def diff(before: Mapping[str, Pod], after: Mapping[str, Pod]) -> PodUpdates:
    """Return the difference between two sets of pods by namespace/name, in the order of names.

    Two versions of a pod are equal if uid and content hash are: when it was first seen and what
    its status says do not count.
    """
    added = tuple(after[key] for key in sorted(after.keys() - before.keys()))
    removed = tuple(before[key] for key in sorted(before.keys() - after.keys()))
    changed = tuple(
        PodChange(before[key], after[key])
        for key in sorted(before.keys() & after.keys())
        if version_of(before[key]) != version_of(after[key])
    )
    return PodUpdates(added, changed, removed)
