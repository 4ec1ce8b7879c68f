"""The difference between two statuses of a pod as a strategic merge patch; pure.

https://kubernetes.io/docs/tasks/manage-kubernetes-objects/update-api-object-kubectl-patch/ :
``conditions`` are merged by type, ``podIPs`` and ``hostIPs`` by ip, statuses of containers are
replaced as lists. The patch carries the pod's UID, so it cannot hit a namesake, and names only
what the kubelet owns (`ownership`), so it cannot undo what others wrote meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .ownership import OWN_CONDITIONS, OWN_FIELDS, SHARED_CONDITIONS

TERMINAL = frozenset({"Succeeded", "Failed"})
_MERGE_KEYS = {"conditions": "type", "podIPs": "ip", "hostIPs": "ip"}


def status_patch(
    shown: Mapping[str, Any], wanted: Mapping[str, Any], uid: str
) -> dict[str, Any] | None:
    """Return the patch that makes ``shown`` say what ``wanted`` says; None if it does.

    Args:
        shown: the status as the API server has it, as plain JSON.
        wanted: the status as the kubelet sees it.
        uid: of the pod, in the API server.
    """
    changes = difference(shown, wanted)
    return patch_of(changes, uid) if changes else None


def patch_of(changes: Mapping[str, Any], uid: str) -> dict[str, Any]:
    """Return the patch that makes ``changes`` to the status of the pod with ``uid``."""
    return {"metadata": {"uid": uid}, "status": changes}


def difference(shown: Mapping[str, Any], wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return what has to be changed in ``shown``, as the status of a strategic merge patch.

    A pod that the API server shows at its end stays there: its phase is not taken back, whoever
    wrote it.
    """
    changes: dict[str, Any] = {}
    for name in sorted(OWN_FIELDS):
        before, after = shown.get(name), wanted.get(name)
        key = _MERGE_KEYS.get(name)
        if key is not None:
            changes |= _merged(name, key, before or [], after or [])
        elif _empty(before) and _empty(after):
            continue
        elif before != after:
            changes[name] = None if _empty(after) else after
    ended = shown.get("phase") in TERMINAL
    if ended and changes.get("phase", shown["phase"]) not in TERMINAL:
        for name in ("phase", "reason", "message"):
            changes.pop(name, None)
    return changes


def _empty(value: object) -> bool:
    return value is None or value == "" or value == [] or value == {} or value == 0


def _merged(
    name: str,
    key: str,
    before: Sequence[Mapping[str, Any]],
    after: Sequence[Mapping[str, Any]],
) -> dict[str, Any]:
    """Return the patch of a list that the API server merges by ``key``; {} if nothing changed."""
    known = {one.get(key): one for one in before}
    fresh = {one.get(key): one for one in after if _ours(name, one)}
    entries = [
        _entry(known.get(value), one, key)
        for value, one in fresh.items()
        if not _same(known.get(value), one)
    ]
    gone = [
        {"$patch": "delete", key: value}
        for value, one in known.items()
        if value not in fresh and _removable(name, one)
    ]
    order = [value for value in known if value in fresh]
    moved = name != "conditions" and order != [value for value in fresh if value in known]
    if not (entries or gone or moved):
        return {}
    patch: dict[str, Any] = {f"$setElementOrder/{name}": [{key: value} for value in fresh]}
    if entries or gone:
        patch[name] = [*entries, *gone]
    return patch


def _ours(name: str, entry: Mapping[str, Any]) -> bool:
    kind = entry.get("type")
    return name != "conditions" or kind in OWN_CONDITIONS or kind in SHARED_CONDITIONS


def _removable(name: str, entry: Mapping[str, Any]) -> bool:
    return name != "conditions" or entry.get("type") in OWN_CONDITIONS


def _same(before: Mapping[str, Any] | None, after: Mapping[str, Any]) -> bool:
    if before is None:
        return False
    return all(
        before.get(name) == after.get(name) or (_empty(before.get(name)) and _empty(value))
        for name, value in (dict.fromkeys(before) | dict(after)).items()
    )


def _entry(before: Mapping[str, Any] | None, after: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return an element of the patch: the key, and what differs; nulls take fields away."""
    if before is None:
        return dict(after)
    changed = {
        name: value for name, value in after.items() if name == key or before.get(name) != value
    }
    dropped = {
        name: None for name, value in before.items() if name not in after and not _empty(value)
    }
    return changed | dropped
