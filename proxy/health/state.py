"""Whether rules keep up with what is wanted, and whether the node is to get traffic (pure)."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from ..model.objects import Node
from ..model.portal import Family

TO_BE_DELETED: Final = "ToBeDeletedByClusterAutoscaler"
"""Taint of a node that is about to go: load balancers are to drain it."""
FAMILY_NAMES: Final = {Family.V4: "IPv4", Family.V6: "IPv6"}
_NEVER: Final = "0001-01-01T00:00:00Z"


class Health:
    """Remembers when something was queued and when rules were up to date.

    Unhealthy is a family in which something waits for longer than ``late`` seconds; before the
    first sync nothing is.

    Args:
        late: seconds; twice ``syncPeriod`` in the peer.
        clock: seconds since the epoch.
    """

    def __init__(self, late: float, clock: Callable[[], float]) -> None:
        self._late = late
        self._clock = clock
        self._updated: dict[Family, float] = {}
        self._waiting: dict[Family, float] = {}

    def queued(self, family: Family) -> None:
        """Something is to be synced."""
        self._waiting.setdefault(family, self._clock())

    def updated(self, family: Family) -> None:
        """Rules are what they should be."""
        self._waiting.pop(family, None)
        self._updated[family] = self._clock()

    @property
    def healthy(self) -> bool:
        """Whether all families keep up."""
        return all(self._healthy(family) for family in self._updated)

    def _healthy(self, family: Family) -> bool:
        waiting = self._waiting.get(family)
        return waiting is None or self._clock() - waiting < self._late

    def report(self, eligible: bool | None = None) -> tuple[bool, dict[str, Any]]:
        """Return whether all is well, and the body of the answer.

        Args:
            eligible: whether the node is to get traffic; None: that is not asked (/livez).
        """
        well = self.healthy and eligible is not False
        now = self._clock()
        # As in releases of old, the time is new as long as all is well.
        latest = now if well else max(self._updated.values(), default=None)
        body: dict[str, Any] = {"lastUpdated": text_of(latest), "currentTime": text_of(now)}
        if eligible is not None:
            body["nodeEligible"] = eligible
        body["healthy"] = self.healthy
        if self._updated:
            body["status"] = {
                FAMILY_NAMES[family]: {
                    "lastUpdated": text_of(at), "healthy": self._healthy(family),
                }
                for family, at in sorted(self._updated.items())
            }  # fmt: skip
        return well, body


def eligible(node: Node | None) -> bool:
    """Return whether a node is to get traffic of load balancers."""
    if node is None or node.metadata.deletion_timestamp:
        return False
    return all(taint.key != TO_BE_DELETED for taint in node.spec.taints or ())


def text_of(seconds: float | None) -> str:
    """Return a time as Go writes it in JSON; None is its zero."""
    if seconds is None:
        return _NEVER
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
