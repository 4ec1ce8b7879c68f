"""Who owns which fields: server-side apply, and what plain writes mean for it (pure).

Source: Kubernetes documentation, "Server-Side Apply": an applier owns what it sets, loses nothing
to others unless they force it, and takes away what it no longer sets and nobody else owns. A plain
write takes over every field that it changes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from controlplane.api.errors import ApiError, Cause
from controlplane.api.fieldsets import FieldSets, Path, Paths, decode, dotted, encode

APPLY: Final = "Apply"
UPDATE: Final = "Update"
# Nobody owns what names the object or what the server itself keeps.
_UNOWNED: Final[Paths] = frozenset(
    {("f:apiVersion",), ("f:kind",), ("f:metadata",)}
    | {
        ("f:metadata", f"f:{name}")
        for name in ("name", "namespace", "creationTimestamp", "selfLink", "uid", "clusterName",
                     "generation", "managedFields", "resourceVersion")
    }
)  # fmt: skip
_FIRST: Final = "before-first-apply"
_ANCIENT: Final = "ancient-changes"
_MAX_UPDATERS: Final = 10
_NOTHING: Final[Paths] = frozenset()


@dataclass(frozen=True, slots=True)
class Manager:
    """One entry of ``metadata.managedFields``.

    Attributes:
        name: of the manager.
        operation: :data:`APPLY` or :data:`UPDATE`.
        api_version: that it wrote in.
        subresource: that it wrote to; "" for the object itself.
        paths: that it owns.
        time: of its last change, RFC 3339.
    """

    name: str
    operation: str
    api_version: str
    subresource: str = ""
    paths: Paths = _NOTHING
    time: str = ""

    def is_same(self, other: Manager) -> bool:
        """Say whether both are the same manager doing the same."""
        same = (self.name, self.operation, self.subresource) == (
            other.name, other.operation, other.subresource,
        )  # fmt: skip
        # An applier stays the same whatever version it writes in.
        return same and (self.operation == APPLY or self.api_version == other.api_version)


class Ownership:
    """Carries out applies, and keeps the owners of objects of one type.

    Args:
        fields: reads the objects.
        type_name: of the objects.
    """

    def __init__(self, fields: FieldSets, type_name: str) -> None:
        self._fields = fields
        self._type = type_name

    def after_update(
        self, live: dict[str, Any], new: dict[str, Any], manager: Manager
    ) -> list[Manager]:
        """Return who owns what after a plain write of ``new`` over ``live``.

        Args:
            live: what was there; an empty object at a creation.
            new: what is written.
            manager: who writes; its paths do not matter.
        """
        found = self._fields.difference(self._type, live, new)
        changed = found.changed - _UNOWNED
        gone = changed | found.removed
        owners = read_managers(live)
        mine = next((one for one in owners if one.is_same(manager)), manager)
        others = [_less(one, gone) for one in owners if not one.is_same(manager)]
        paths = (mine.paths - found.removed) | changed
        time = manager.time if paths != mine.paths or changed else mine.time
        updated = replace(manager, paths=paths, time=time)
        return _capped([*others, updated])

    def apply(
        self, live: dict[str, Any] | None, config: dict[str, Any], manager: Manager, *, force: bool
    ) -> dict[str, Any]:
        """Return the object that comes of applying ``config``.

        Args:
            live: what is there; None: nothing.
            config: what the manager sets, cleaned.
            manager: who applies; its paths do not matter.
            force: take over fields that others own.

        Raises:
            ApiError: others own fields that would change (``Conflict``).
        """
        current = live if live is not None else {}
        owners = self._owners(current, manager)
        wanted = self._fields.of(self._type, config) - _UNOWNED
        before = next((one for one in owners if one.is_same(manager)), manager)
        others = [one for one in owners if not one.is_same(manager)]
        merged = self._fields.merged(self._type, current, config)
        changed = self._fields.difference(self._type, current, merged).changed
        contested = [(one, one.paths & changed & wanted) for one in others]
        if not force and any(paths for _, paths in contested):
            raise _conflict([(one, paths) for one, paths in contested if paths])
        others = [replace(one, paths=one.paths - paths) for one, paths in contested]
        kept = _with_parents(frozenset().union(wanted, *(one.paths for one in others)))
        result = self._fields.without(self._type, merged, before.paths - kept, kept)
        time = manager.time if wanted != before.paths or changed else before.time
        mine = replace(manager, paths=wanted, time=time or manager.time)
        result["metadata"] = {
            **result.get("metadata", {}),
            "managedFields": write_managers([*others, mine]),
        }
        return result

    def _owners(self, live: dict[str, Any], manager: Manager) -> list[Manager]:
        owners = read_managers(live)
        if owners or not live:
            return owners
        # Nobody kept books before: what is there belongs to whoever wrote it.
        paths = self._fields.of(self._type, live) - _UNOWNED
        return [Manager(_FIRST, UPDATE, manager.api_version, "", paths, manager.time)]


def read_managers(value: dict[str, Any]) -> list[Manager]:
    """Return the owners that an object tells."""
    entries = value.get("metadata", {}).get("managedFields") or []
    return [
        Manager(
            name=entry.get("manager", ""),
            operation=entry.get("operation", ""),
            api_version=entry.get("apiVersion", ""),
            subresource=entry.get("subresource", ""),
            paths=decode(entry.get("fieldsV1")),
            time=entry.get("time", ""),
        )
        for entry in entries
    ]


def write_managers(managers: list[Manager]) -> list[dict[str, Any]]:
    """Return ``metadata.managedFields``; who owns nothing is left out."""
    return [
        {
            "manager": one.name,
            "operation": one.operation,
            "apiVersion": one.api_version,
            "time": one.time,
            "fieldsType": "FieldsV1",
            "fieldsV1": encode(one.paths),
            **({"subresource": one.subresource} if one.subresource else {}),
        }
        for one in sorted(managers, key=lambda m: (m.operation != APPLY, m.time, m.name))
        if one.paths
    ]


def _less(manager: Manager, paths: Paths) -> Manager:
    return replace(manager, paths=manager.paths - paths)


def _capped(managers: list[Manager]) -> list[Manager]:
    """Put the oldest of too many updaters together, so that the list does not grow for ever."""
    updaters = sorted(
        (one for one in managers if one.operation == UPDATE and one.paths), key=lambda m: m.time
    )
    if len(updaters) <= _MAX_UPDATERS:
        return managers
    old = updaters[: len(updaters) - _MAX_UPDATERS + 1]
    paths = frozenset().union(*(one.paths for one in old))
    ancient = Manager(_ANCIENT, UPDATE, old[-1].api_version, "", paths, old[-1].time)
    return [*(one for one in managers if one not in old), ancient]


def _with_parents(paths: Paths) -> Paths:
    found: set[Path] = set()
    for path in paths:
        found.update(path[:length] for length in range(1, len(path) + 1))
    return frozenset(found)


def _conflict(contested: list[tuple[Manager, Paths]]) -> ApiError:
    causes: list[Cause] = []
    texts: list[str] = []
    for manager, paths in contested:
        told = f'conflict with "{manager.name}"'
        told += f' with subresource "{manager.subresource}"' if manager.subresource else ""
        if manager.operation == UPDATE:
            told += f" using {manager.api_version}" + (
                f" at {manager.time}" if manager.time else ""
            )
        fields = sorted(dotted(path) for path in paths)
        causes += [Cause("FieldManagerConflict", told, field) for field in fields]
        texts.append(
            f"{told}: {fields[0]}"
            if sum(len(each) for _, each in contested) == 1
            else told.replace("conflict", "conflicts", 1) + ":\n- " + "\n- ".join(fields)
        )
    number = len(causes)
    message = f"Apply failed with {number} conflict{'s' if number > 1 else ''}: "
    return ApiError("Conflict", message + "\n".join(texts), causes=tuple(causes))
