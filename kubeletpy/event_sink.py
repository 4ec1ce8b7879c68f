"""Sends the events of the kubelet to the API server, if there is one."""

from __future__ import annotations

from kubeletpy.api.codec import to_builtins
from kubeletpy.core import Core
from kubeletpy_common.events.sink import EventSink


def install(core: Core) -> None:
    """Hook in; what happened before is sent, too."""
    if core.api is None:
        return
    configuration = core.settings.configuration
    sink = EventSink(
        core.api, float(configuration.event_record_qps), configuration.event_burst
    )  # fmt: skip
    for event in core.recorder.events():
        sink.take(to_builtins(event))
    core.recorder.listeners.append(lambda event: sink.take(to_builtins(event)))
    core.background.append(("events", sink.run))
