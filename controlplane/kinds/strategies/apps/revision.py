"""apps/v1 ControllerRevision."""

from __future__ import annotations

from typing import Any

from controlplane.api.errors import Cause
from controlplane.api.metadata import required
from controlplane.api.resource import Column, Object
from controlplane.kinds import cells
from controlplane.kinds.checks import check_immutable, check_not_negative
from controlplane.kinds.strategies.base import Plain


class ControllerRevision(Plain):
    """ControllerRevisions: their data never changes."""

    columns = (
        Column("Controller", description="What it is a revision of."),
        Column("Revision", description="Its number."),
    )

    def default(self, value: Object) -> None:
        """Put in the revision."""
        value.setdefault("revision", 0)

    def validate(self, value: Object, old: Object | None) -> list[Cause]:
        """Return what is wrong with data and revision."""
        causes: list[Cause] = []
        if (revision := value["revision"]) < 0:
            causes += check_not_negative({"revision": revision}, "", "revision")
            causes = [Cause(one.reason, one.message, "revision") for one in causes]
        data = value.get("data")
        if old is not None:
            causes += check_immutable(data, old.get("data"), "data")
        elif not isinstance(data, dict):
            causes.append(required("data", "data must be an object"))
        return causes

    def row(self, value: Object) -> list[Any]:
        """Return the cells."""
        return [_controller(value), value["revision"]]


def _controller(value: Object) -> str:
    for owner in value["metadata"].get("ownerReferences", ()):
        if owner.get("controller"):
            group = owner["apiVersion"].rpartition("/")[0]
            kind = owner["kind"].lower() + (f".{group}" if group else "")
            return f"{kind}/{owner['name']}"
    return cells.NONE
