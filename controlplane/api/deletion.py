"""What a deletion makes of an object: gone at once, or waiting for someone (pure).

Source: Kubernetes documentation, "Finalizers", "Garbage Collection"; API conventions, "Metadata".
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from controlplane.api.errors import conflict
from controlplane.api.resource import Context, Object, Resource

FOREGROUND = "foregroundDeletion"
ORPHAN = "orphan"


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    """How to delete.

    Attributes:
        grace: seconds asked for; None: the kind's default.
        uid: that the object must have; "": any.
        revision: resourceVersion that it must have; "": any.
        propagation: ``Background``, ``Foreground`` or ``Orphan``; "": the kind's default.
    """

    grace: int | None = None
    uid: str = ""
    revision: str = ""
    propagation: str = ""


def check_preconditions(resource: Resource, old: Object, options: DeleteOptions) -> None:
    """Refuse a deletion that is meant for another object, or another version of it.

    Raises:
        ApiError: it is.
    """
    meta = old["metadata"]
    for what, wanted, found, happened in (
        ("UID", options.uid, meta["uid"], "deleted and then recreated"),
        ("ResourceVersion", options.revision, meta["resourceVersion"], "modified"),
    ):
        if wanted and wanted != found:
            why = (
                f"the {what} in the precondition ({wanted}) does not match the {what} in "
                f"record ({found}). The object might have been {happened}"
            )
            raise conflict(resource.kind, resource.group, meta["name"], why)


def marked(
    resource: Resource, old: Object, options: DeleteOptions, context: Context
) -> Object | None:
    """Return an object that waits for its deletion; None: nothing keeps it."""
    meta = dict(old["metadata"])
    finalizers = _propagating(resource, meta.get("finalizers", []), options.propagation)
    before = meta.get("deletionGracePeriodSeconds", 0) if "deletionTimestamp" in meta else None
    own = resource.strategy.deletion_finalizer
    if own and before is None and own not in finalizers:
        finalizers = [*finalizers, own]
    if before is None:
        grace = resource.strategy.deletion_grace(old, options.grace)
    else:
        # A second request can only make it go sooner.
        grace = before if options.grace is None else max(min(options.grace, before), 0)
    waits = bool(finalizers) or grace > 0 or bool(old.get("spec", {}).get("finalizers"))
    if not waits:
        return None
    if before != grace:
        start = meta["deletionTimestamp"] if before is not None else context.now
        moment = datetime.fromisoformat(start.replace("Z", "+00:00"))
        moment = (moment + timedelta(seconds=grace - (before or 0))).astimezone(UTC)
        meta["deletionTimestamp"] = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
        meta["deletionGracePeriodSeconds"] = grace
        if meta.get("generation") and before is None:
            meta["generation"] += 1
    if finalizers:
        meta["finalizers"] = finalizers
    else:
        meta.pop("finalizers", None)
    value = {**old, "metadata": meta}
    resource.strategy.prepare_delete(value, context)
    return value


def ended(resource: Resource, gone: Object, context: Context) -> Object:
    """Return an object of a kind whose deletions can wait, as one that waited no longer."""
    if resource.strategy.grace is None:
        return gone
    meta = {**gone["metadata"], "deletionGracePeriodSeconds": 0}
    if "deletionTimestamp" not in meta:
        meta["deletionTimestamp"] = context.now
        if meta.get("generation"):
            meta["generation"] += 1
    return {**gone, "metadata": meta}


def _propagating(resource: Resource, present: list[str], propagation: str) -> list[str]:
    """Return the finalizers that make the garbage collector treat dependents as asked for."""
    kept = [f for f in present if f not in (FOREGROUND, ORPHAN)]
    if not propagation:
        # What an earlier request has asked for stands before the default of the kind.
        propagation = "" if len(kept) < len(present) else resource.strategy.propagation
        kept = present if not propagation else kept
    finalizer = {"Foreground": FOREGROUND, "Orphan": ORPHAN}.get(propagation)
    return [*kept, finalizer] if finalizer else list(kept)
