"""Telling by events which policies cannot be read, so that ``kubectl describe`` says why."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any, Final

from kubeletpy_common.events.sink import EventSink

from .policies import Policy

COMPONENT: Final = "kubeletpy-policy"
REASON: Final = "InvalidPolicy"
_LONGEST: Final = 1024


class Teller:
    """Tells of policies with problems; see `enforcer.Listener`.

    Args:
        sink: sends events.
        node: this node's name.
    """

    def __init__(self, sink: EventSink, node: str) -> None:
        self._sink = sink
        self._node = node

    def __call__(self, policy: Policy) -> None:
        """Tell of one."""
        self._sink.take(event_of(policy, self._node, datetime.now(UTC)))


def event_of(policy: Policy, node: str, now: datetime) -> dict[str, Any]:
    """Return the event of core/v1 about a policy with problems (pure but for its name)."""
    stamp = now.strftime("%Y-%m-%dT%H:%M:%SZ")
    what = (
        "It counts for no pod" if policy.selector is None else "What cannot be read allows nobody"
    )
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": f"{policy.name}.{time.time_ns():x}", "namespace": policy.namespace,
        },
        "involvedObject": {
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "name": policy.name,
            "namespace": policy.namespace, "uid": policy.uid,
        },
        "reason": REASON,
        "message": f"{what}: {'; '.join(policy.problems)}"[:_LONGEST],
        "type": "Warning",
        "source": {"component": COMPONENT, "host": node},
        "reportingComponent": COMPONENT,
        "reportingInstance": node,
        "firstTimestamp": stamp,
        "lastTimestamp": stamp,
        "count": 1,
    }  # fmt: skip
