"""The status of an autoscaler while it is looked at (pure)."""

from __future__ import annotations

import copy
from dataclasses import dataclass

from controlplane.engine.resources import Object

ABLE = "AbleToScale"
ACTIVE = "ScalingActive"
LIMITED = "ScalingLimited"
TO_ZERO = "ScaledToZero"


@dataclass(slots=True)
class Status:
    """The status, as it will be written.

    Attributes:
        value: the object's status; changed.
        now: RFC 3339.
    """

    value: Object
    now: str

    @classmethod
    def of(cls, autoscaler: Object, now: str) -> Status:
        """Return the status of an autoscaler, to be changed."""
        return cls(copy.deepcopy(autoscaler.get("status") or {}), now)

    def set(self, kind: str, reason: str, message: str, *, true: bool) -> None:
        """Set a condition; its time changes with its status only."""
        status = "True" if true else "False"
        listed: list[Object] = self.value.get("conditions") or []
        self.value["conditions"] = listed
        found = next((one for one in listed if one["type"] == kind), None)
        if found is None:
            found = {"type": kind, "status": ""}
            listed.append(found)
        if found["status"] != status:
            found["lastTransitionTime"] = self.now
        found |= {"status": status, "reason": reason, "message": message}

    def drop(self, kind: str) -> None:
        """Remove a condition."""
        listed = self.value.get("conditions") or []
        self.value["conditions"] = [one for one in listed if one["type"] != kind]

    def is_true(self, kind: str) -> bool:
        """Whether a condition is there and true."""
        listed = self.value.get("conditions") or []
        return any(one["type"] == kind and one["status"] == "True" for one in listed)

    def measured(self, metrics: list[Object], current: int, desired: int | None = None) -> None:
        """Set what was measured, and the numbers of replicas.

        Args:
            metrics: status of each; {} of those that failed.
            current: replicas that there shall be now.
            desired: that there shall be from now on; None: as before.
        """
        self.value["currentReplicas"] = current
        self.value["desiredReplicas"] = (
            self.value.get("desiredReplicas", 0) if desired is None else desired
        )
        self.value.pop("currentMetrics", None)
        if metrics:
            self.value["currentMetrics"] = [one or {"type": ""} for one in metrics]

    def scaled(self) -> None:
        """Take note that it was scaled now."""
        self.value["lastScaleTime"] = self.now
