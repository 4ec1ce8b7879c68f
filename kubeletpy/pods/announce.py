"""Events about waiting: one for each back-off, however often it is decided to go on waiting."""

from __future__ import annotations

from kubeletpy.events import Recorder

from .plan import Actions, Desired
from .restarts import every_container
from .state import Observed


class Announcer:
    """Tells of the back-offs of one pod."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._told: dict[str, tuple[str, float]] = {}

    def tell(self, desired: Desired, observed: Observed, actions: Actions) -> None:
        """Record an event for each container whose back-off has not been told yet."""
        for name, waiting in actions.waiting.items():
            since = self._since(name, waiting.reason, observed)
            mark = (waiting.reason, since)
            if since and self._told.get(name) != mark:
                self._told[name] = mark
                self._record(desired, name, waiting.reason)

    def _since(self, name: str, reason: str, observed: Observed) -> float:
        if reason == "CrashLoopBackOff":
            latest = observed.latest(name)
            return latest.finished_at if latest else 0.0
        image = observed.images.get(name)
        return image.failed_at if image and reason == "ImagePullBackOff" else 0.0

    def _record(self, desired: Desired, name: str, reason: str) -> None:
        pod = desired.pod
        if reason == "CrashLoopBackOff":
            message = f"Back-off restarting failed container {name} in pod {desired.description}"
            self._recorder.warning(pod, "BackOff", message, name)
            return
        image = next((one.image for one in every_container(pod) if one.name == name), "")
        self._recorder.normal(pod, "BackOff", f'Back-off pulling image "{image}"', name)
        self._recorder.warning(pod, "Failed", "Error: ImagePullBackOff", name)
