"""What ``kubectl get pods`` shows (pure).

Source: Kubernetes documentation, "Debug Init Containers" (what the words of STATUS mean); the order
of its decisions is that of Kubernetes' printer.
"""

from __future__ import annotations

from typing import Any, Final

from controlplane.api.resource import Column, Object
from controlplane.kinds.totals import is_sidecar
from controlplane.server.tables import age_of

COLUMNS: Final = (
    Column("Ready", description="How many of the containers are ready for traffic."),
    Column("Status", description="What the containers of the pod are about, in a word."),
    Column("Restarts", description="How often containers started again, and when last."),
    Column("IP", priority=1, description="Address of the pod."),
    Column("Node", priority=1, description="Node that the pod is on."),
    Column("Nominated Node", priority=1, description="Node on which room is made for the pod."),
    Column("Readiness Gates", priority=1, description="How many further conditions are met."),
)
"""Those of the table, without name and age."""

_NONE: Final = "<none>"


def pod_row(pod: Object) -> list[Any]:
    """Return the cells of :data:`COLUMNS`."""
    spec, status = pod.get("spec", {}), pod.get("status", {})
    summary = _Summary(pod)
    addresses = status.get("podIPs", [])
    return [
        f"{summary.ready}/{summary.total}",
        summary.reason,
        summary.restarts_text(),
        (addresses[0].get("ip") if addresses else "") or _NONE,
        spec.get("nodeName") or _NONE,
        status.get("nominatedNodeName") or _NONE,
        _gates(spec.get("readinessGates", []), status.get("conditions", [])),
    ]


class _Summary:
    """The one word for a pod's state, and its counts.

    Args:
        pod: that is summed up.
    """

    def __init__(self, pod: Object) -> None:
        spec, status = pod.get("spec", {}), pod.get("status", {})
        self._init = {c.get("name"): c for c in spec.get("initContainers", ())}
        self._conditions = {c.get("type"): c for c in status.get("conditions", ())}
        sidecars = sum(is_sidecar(container) for container in self._init.values())
        self.total = len(spec.get("containers", ())) + sidecars
        self.ready = 0
        self.restarts = 0
        self.last = ""
        phase = status.get("phase", "")
        self.reason = status.get("reason") or phase
        if self._conditions.get("PodScheduled", {}).get("reason") == "SchedulingGated":
            self.reason = "SchedulingGated"
        initializing = self._read_init(status.get("initContainerStatuses", []))
        initialized = self._conditions.get("Initialized", {}).get("status") == "True"
        if not initializing or initialized:
            self._read_containers(status)
        if pod["metadata"].get("deletionTimestamp"):
            if status.get("reason") == "NodeLost":
                self.reason = "Unknown"
            elif phase not in ("Succeeded", "Failed"):
                self.reason = "Terminating"

    def restarts_text(self) -> str:
        """Return the count, and how long ago the last one was."""
        if self.restarts and self.last:
            return f"{self.restarts} ({age_of(self.last)} ago)"
        return str(self.restarts)

    def _read_init(self, statuses: list[Object]) -> bool:
        """Say whether the pod is still starting; tell the first that keeps it."""
        for index, one in enumerate(statuses):
            self._count(one)
            container = self._init.get(one.get("name"), {})
            state = one.get("state", {})
            terminated, waiting = state.get("terminated"), state.get("waiting", {})
            if terminated is not None and not terminated.get("exitCode"):
                continue
            if is_sidecar(container) and one.get("started"):
                self.ready += bool(one.get("ready"))
                continue
            if terminated is not None:
                self.reason = f"Init:{_ending(terminated)}"
            elif waiting.get("reason", "PodInitializing") not in ("", "PodInitializing"):
                self.reason = f"Init:{waiting['reason']}"
            else:
                self.reason = f"Init:{index}/{len(self._init)}"
            return True
        return False

    def _read_containers(self, status: Object) -> None:
        # Once it has started, init containers that ended count no longer, sidecars do.
        self.restarts, self.last = 0, ""
        for one in status.get("initContainerStatuses", ()):
            if is_sidecar(self._init.get(one.get("name"), {})):
                self._count(one)
        running, failure = False, ""
        for one in reversed(status.get("containerStatuses", [])):
            self._count(one)
            state = one.get("state", {})
            terminated = state.get("terminated")
            if state.get("waiting", {}).get("reason"):
                self.reason = state["waiting"]["reason"]
            elif terminated is not None:
                self.reason = _ending(terminated)
                failure = self.reason if terminated.get("exitCode") else failure
            elif one.get("ready") and "running" in state:
                running = True
                self.ready += 1
        if self.reason == "Completed":
            if running and self._conditions.get("Ready", {}).get("status") == "True":
                self.reason = "Running"
            elif failure:
                self.reason = failure
            elif running:
                self.reason = "NotReady"

    def _count(self, status: Object) -> None:
        self.restarts += status.get("restartCount", 0)
        last = status.get("lastState", {}).get("terminated", {}).get("finishedAt", "")
        # Times of one form sort as their texts do.
        self.last = max(self.last, last or "")


def _ending(terminated: Object) -> str:
    if terminated.get("reason"):
        return str(terminated["reason"])
    if terminated.get("signal"):
        return f"Signal:{terminated['signal']}"
    return f"ExitCode:{terminated.get('exitCode', 0)}"


def _gates(gates: list[Object], conditions: list[Object]) -> str:
    if not gates:
        return _NONE
    states = {c.get("type"): c.get("status") for c in reversed(conditions)}
    met = sum(states.get(gate.get("conditionType")) == "True" for gate in gates)
    return f"{met}/{len(gates)}"
