"""What others are told: the runtime of the MTU, the cluster of this node, people of problems."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from kubeletpy_common import logs
from kubeletpy_common.apiclient.client import ApiClient, object_path
from kubeletpy_common.apiclient.errors import ApiError
from kubeletpy_common.atomic import write_atomic
from kubeletpy_common.events.sink import EventSink

from .objects import ANNOTATION, Member, annotation_of
from .plan import Plan, Problem
from .settings import Settings

_log = logging.getLogger(__name__)
COMPONENT: Final = "kubeletpy-network"
CONDITION: Final = "NetworkUnavailable"
REASON: Final = "RouteCreated"
"""As the route controller of the controller manager says it."""
MESSAGE: Final = "kubeletpy routes between the pods of the nodes"
_LONGEST: Final = 1024
_MOST: Final = 100
FIRST_RETRY, LONGEST_RETRY = 1.0, 60.0


def event_of(problem: Problem, uid: str, now: datetime) -> dict[str, Any]:
    """Return the event of core/v1 about a problem with a node (pure but for its name)."""
    stamp = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{problem.node}.{time.time_ns():x}", "namespace": "default"},
        "involvedObject": {
            "apiVersion": "v1", "kind": "Node", "name": problem.node, "uid": uid or problem.node,
        },
        "reason": problem.reason,
        "message": problem.text[:_LONGEST],
        "type": "Warning",
        "source": {"component": COMPONENT},
        "reportingComponent": COMPONENT,
        "reportingInstance": COMPONENT,
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
        "count": 1,
    }  # fmt: skip


class Complaints:
    """Tells of problems once each, and of their end."""

    def __init__(self, sink: EventSink) -> None:
        self._sink = sink
        self._told: set[Problem] = set()

    def tell(self, problems: Iterable[Problem], uids: dict[str, str]) -> None:
        """Tell of those that are new, and of those that are gone."""
        now = set(problems)
        for each in sorted(now - self._told)[:_MOST]:
            logs.event(
                _log, logging.WARNING, "pods of a node are not reached", node=each.node,
                reason=each.reason, problem=each.text,
            )  # fmt: skip
            self._sink.take(event_of(each, uids.get(each.node, ""), datetime.now(UTC)))
        for each in sorted(self._told - now)[:_MOST]:
            logs.event(
                _log, logging.INFO, "a problem of the pod network is gone", node=each.node,
                problem=each.text,
            )  # fmt: skip
        self._told = now


def write_node_file(settings: Settings, made: Plan) -> None:
    """Tell the runtime the MTU of pods; what cannot be written is logged."""
    path = settings.node_file
    if path is None:
        return
    text = json.dumps({"mtu": made.mtu, "mode": settings.mode.value}, sort_keys=True) + "\n"
    try:
        if not _says(path, text):
            path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            write_atomic(path, text, mode=0o644)
    except OSError as error:
        logs.event(
            _log, logging.WARNING, "the MTU of pods cannot be told to the runtime",
            path=str(path), reason=error.strerror,
        )  # fmt: skip


def _says(path: Path, text: str) -> bool:
    try:
        return path.read_text() == text
    except (OSError, ValueError):
        return False


class OwnNode:
    """Keeps this node's annotation and condition as they are to be; made in the event loop.

    Args:
        client: of the API server.
        settings: which the annotation says.
        name: this node's.
    """

    def __init__(self, client: ApiClient, settings: Settings, name: str) -> None:
        self._client, self._name = client, name
        self._annotation = annotation_of(settings)
        self._own: Member | None = None
        self._works = False
        self._wake = asyncio.Event()

    def look(self, own: Member, *, works: bool) -> None:
        """Take what the Node says, and whether its routes are in the kernel."""
        self._own, self._works = own, self._works or works
        if self._lacks_annotation() or self._lacks_condition():
            self._wake.set()

    def _lacks_annotation(self) -> bool:
        return self._own is not None and self._own.annotation != self._annotation

    def _lacks_condition(self) -> bool:
        # Whoever else says that the network is there is right, too.
        said = self._own.unavailable if self._own else None
        return self._works and (said is None or said[0] != "False")

    async def run(self) -> None:
        """Write whenever something is to be written; ends only by being cancelled."""
        pause = FIRST_RETRY
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._write()
                pause = FIRST_RETRY
            except ApiError as error:
                refused = error.code in (401, 403)
                logs.event(
                    _log, logging.WARNING, "this node could not be told of its network",
                    node=self._name, reason=str(error), retry_seconds=pause,
                    remedy="credentials of the node (kubelet.kubeconfig) may do that" if refused
                    else "",
                )  # fmt: skip
                self._wake.set()
                await asyncio.sleep(LONGEST_RETRY if refused else pause)
                pause = min(2 * pause, LONGEST_RETRY)

    async def _write(self) -> None:
        path = object_path("v1", "nodes", name=self._name)
        if self._lacks_annotation():
            await self._client.patch(
                path, {"metadata": {"annotations": {ANNOTATION: self._annotation}}}
            )
        if self._lacks_condition():
            stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            condition = {
                "type": CONDITION, "status": "False", "reason": REASON, "message": MESSAGE,
                "lastHeartbeatTime": stamp, "lastTransitionTime": stamp,
            }  # fmt: skip
            await self._client.patch(f"{path}/status", {"status": {"conditions": [condition]}})
