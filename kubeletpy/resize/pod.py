"""The resize of one pod as its worker sees it."""

from __future__ import annotations

from collections.abc import Callable
from types import MappingProxyType

from kubeletpy.api.pod import Pod
from kubeletpy.events import Recorder
from kubeletpy.resources.limits import Limits

from .coordinator import ERROR, PodResize, Resizes
from .execute import Executor, ResizeError
from .messages import message
from .plan import Actual, Amounts, ContainerResize, Resize


class ResizeOfPod:
    """What a pod has of what it was allocated, and how it gets the rest.

    Without a coordinator (a kubelet under test) nothing is ever resized.

    Args:
        uid: of the pod.
        resizes: the coordinator.
        executor: carries it out.
        recorder: takes the events.
        save: writes down what containers have that were changed in place.
        saved: what was written before, by container id.
    """

    def __init__(
        self,
        uid: str,
        resizes: Resizes | None,
        executor: Executor | None,
        recorder: Recorder,
        save: Callable[[dict[str, str]], None],
        saved: dict[str, str],
    ) -> None:
        self._uid = uid
        self._resizes = resizes
        self._executor = executor
        self._recorder = recorder
        self._save = save
        parsed = {key: Amounts.parse(text) for key, text in saved.items()}
        self._amounts = {key: one for key, one in parsed.items() if one is not None}
        self._limits: Limits | None = None

    @property
    def _entry(self) -> PodResize | None:
        return self._resizes.get(self._uid) if self._resizes is not None else None

    def made(self, pod: Pod) -> None:
        """Note that the pod's cgroup has just been made with the limits of ``pod``."""
        if self._executor is not None:
            self._limits = self._executor.wanted(pod)

    def actual(self, pod: Pod, *, running: bool) -> Actual:
        """Return what the pod has now.

        Args:
            pod: with what it was allocated.
            running: whether it has a sandbox; without one there is nothing to resize.
        """
        entry = self._entry
        conditions = tuple(entry.conditions) if entry is not None else ()
        if self._executor is None or not running:
            return Actual(conditions=conditions)
        wanted = self._executor.wanted(pod)
        if self._limits is None:
            self._limits = self._executor.cgroups.read(pod, wanted)
        return Actual(MappingProxyType(self._amounts), self._limits, wanted, conditions)

    def conditions_of(self, pod: Pod, *, resizing: bool) -> bool:
        """Say in the conditions whether a resize is in progress; return whether that changed."""
        entry = self._entry
        if entry is None:
            return False
        if resizing:
            return entry.begin()
        generation = entry.complete()
        if generation is None:
            return False
        done = message("Pod resize completed", pod, generation)
        self._recorder.normal(pod, "ResizeCompleted", done)
        return True

    def failed(self, pod: Pod, text: str) -> None:
        """Say why a resize does not get on."""
        entry = self._entry
        if entry is not None and entry.begin(ERROR, text) and entry.in_progress is not None:
            generation = entry.in_progress.observed_generation
            told = message("Pod resize error", pod, generation, text)
            self._recorder.warning(pod, "ResizeError", told)

    async def run(self, pod: Pod, sandbox_id: str, resize: Resize) -> None:
        """Change limits.

        Raises:
            ResizeError: it could not be done, or only in part.
        """
        if self._executor is None or self._limits is None:
            return

        def done(one: ContainerResize, amounts: Amounts) -> None:
            self._amounts[one.id] = amounts
            self._save({key: each.text() for key, each in self._amounts.items()})

        limits, self._limits = self._limits, None
        # If it fails half-way, the kernel is asked what there is.
        self._limits = await self._executor.resize(pod, sandbox_id, resize, limits, done)

    def forget(self, known: set[str]) -> None:
        """Forget containers that are gone."""
        for key in self._amounts.keys() - known:
            del self._amounts[key]


__all__ = ["ResizeError", "ResizeOfPod"]
