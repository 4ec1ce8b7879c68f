"""All authorizers, one after the other."""

from __future__ import annotations

from controlplane.api.identity import MASTERS
from controlplane.auth.authorization.attributes import Attributes, Authorizer


class Union:
    """Allows what any of its parts allows; the group ``system:masters`` may do everything.

    Args:
        parts: in the order in which they are asked.
    """

    def __init__(self, *parts: Authorizer) -> None:
        self._parts = parts

    def authorize(self, wanted: Attributes) -> tuple[bool, str]:
        """Decide; the reason is that of all parts that have one."""
        if MASTERS in wanted.user.groups:
            return True, ""
        reasons = []
        for part in self._parts:
            allowed, reason = part.authorize(wanted)
            if allowed:
                return True, ""
            if reason:
                reasons.append(reason)
        return False, ", ".join(reasons)
