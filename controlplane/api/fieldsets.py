"""Sets of fields, by which managers own parts of an object (pure).

Sources: Kubernetes documentation, "Server-Side Apply"; meta/v1 FieldsV1 for the form on the wire;
the documentation of structured-merge-diff for what counts as a field. A path is a tuple of steps:
``f:<name>`` into a field or a map's key, ``k:<json>`` to a list's item by its keys, ``v:<json>`` to
an item of a set.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from controlplane.kinds.types import REST, Field, Types

Path = tuple[str, ...]
Paths = frozenset[Path]

_UNTYPED = Field("any")


@dataclass(frozen=True, slots=True)
class Difference:
    """How one object differs from another.

    Attributes:
        changed: what is new, or has another value.
        removed: what is gone.
    """

    changed: Paths
    removed: Paths


class FieldSets:
    """Reads objects as sets of fields.

    Args:
        types: which lists have keys, and what is owned as a whole.
        deduced: values without a type are maps of fields, as in a custom resource without a
            schema; otherwise they are owned as a whole.
    """

    def __init__(self, types: Types, *, deduced: bool = False) -> None:
        self._types = types
        self._deduced = deduced

    def of(self, name: str, value: dict[str, Any]) -> Paths:
        """Return the fields that an applied object of the type ``name`` sets."""
        return frozenset(self._walk(Field("#" + name), value, ()))

    def difference(self, name: str, old: dict[str, Any], new: dict[str, Any]) -> Difference:
        """Compare two objects of the type ``name``."""
        changed: set[Path] = set()
        removed: set[Path] = set()
        self._compare(Field("#" + name), old, new, (), changed, removed)
        return Difference(frozenset(changed), frozenset(removed))

    def merged(self, name: str, live: dict[str, Any], applied: dict[str, Any]) -> dict[str, Any]:
        """Return ``live`` with all that ``applied`` sets; neither is changed."""
        result: dict[str, Any] = self._merge(Field("#" + name), live, applied)
        return result

    def without(self, name: str, value: dict[str, Any], gone: Paths, kept: Paths) -> dict[str, Any]:
        """Return ``value`` without the fields ``gone``, and without what is empty then.

        Args:
            name: of the type.
            value: the object.
            gone: what to take out.
            kept: what stays, even when it is left empty.
        """
        result: dict[str, Any] = self._remove(Field("#" + name), value, encode(gone), (), kept)
        return result

    def below(self, field: Field, key: str) -> Field:
        """Return what is known of the field or map value ``key``."""
        if field.object:
            fields = self._types.fields(field.object)
            return fields.get(key) or fields.get(REST, _UNTYPED)
        if field.type == "deduced":
            return field
        return field.of if field.type == "map" and field.of is not None else _UNTYPED

    def _is_map(self, field: Field, value: Any) -> bool:
        if not isinstance(value, dict) or field.atomic:
            return False
        return bool(field.object) or field.type in ("map", "deduced") or self._deduced

    def _steps(self, field: Field, value: list[Any]) -> list[tuple[str, Any]] | None:
        """Return the items of a list with their steps; None if it is owned as a whole."""
        if field.list == "set":
            return [("v:" + _json(item), item) for item in value]
        if field.list != "map":
            return None
        steps: list[tuple[str, Any]] = []
        for item in value:
            if not isinstance(item, dict):
                return None
            known = self._types.fields(field.of.object) if field.of and field.of.object else {}
            keys = {
                key: item.get(key, known[key].default if key in known else None)
                for key in field.keys
            }
            steps.append(("k:" + _json({k: v for k, v in keys.items() if v is not None}), item))
        if len({step for step, _ in steps}) != len(steps):
            # Items that cannot be told apart: nobody owns one of them alone.
            return None
        return steps

    def _walk(self, field: Field, value: Any, path: Path) -> Iterator[Path]:
        if self._is_map(field, value):
            if not value and path:
                yield path
            for key, item in value.items():
                yield from self._walk(self.below(field, key), item, (*path, f"f:{key}"))
            return
        steps = self._steps(field, value) if isinstance(value, list) else None
        if steps is None:
            yield path
            return
        if not steps:
            yield path
        for step, item in steps:
            yield (*path, step)
            if isinstance(item, dict):
                assert field.of is not None
                yield from self._walk(field.of, item, (*path, step))

    def _everything(self, field: Field, value: Any, path: Path) -> Iterator[Path]:
        """Yield the fields of a value that is new or gone: also the maps that hold others."""
        if path:
            yield path
        if self._is_map(field, value):
            for key, item in value.items():
                yield from self._everything(self.below(field, key), item, (*path, f"f:{key}"))
        elif isinstance(value, list) and (steps := self._steps(field, value)) is not None:
            assert field.of is not None
            for step, item in steps:
                yield from self._everything(field.of, item, (*path, step))

    def _compare(
        self, field: Field, old: Any, new: Any, path: Path, changed: set[Path], removed: set[Path]
    ) -> None:
        if self._is_map(field, old) and self._is_map(field, new):
            before = {f"f:{key}": (self.below(field, key), item) for key, item in old.items()}
            after = {f"f:{key}": (self.below(field, key), item) for key, item in new.items()}
        elif isinstance(old, list) and isinstance(new, list):
            old_steps, new_steps = self._steps(field, old), self._steps(field, new)
            if old_steps is None or new_steps is None or field.of is None:
                if old != new:
                    changed.add(path)
                return
            before = {step: (field.of, item) for step, item in old_steps}
            after = {step: (field.of, item) for step, item in new_steps}
        else:
            if old != new:
                changed.add(path)
            return
        for step, (below, item) in after.items():
            if step in before:
                self._compare(below, before[step][1], item, (*path, step), changed, removed)
            else:
                changed.update(self._everything(below, item, (*path, step)))
        for step, (below, item) in before.items():
            if step not in after:
                removed.update(self._everything(below, item, (*path, step)))

    def _merge(self, field: Field, live: Any, applied: Any) -> Any:
        if self._is_map(field, applied):
            result = dict(live) if isinstance(live, dict) else {}
            for key, item in applied.items():
                result[key] = self._merge(self.below(field, key), result.get(key), item)
            return result
        if not isinstance(applied, list) or not isinstance(live, list) or field.of is None:
            return applied
        old, new = self._steps(field, live), self._steps(field, applied)
        if old is None or new is None:
            return applied
        wanted = dict(new)
        known = {step for step, _ in old}
        kept = [
            self._merge(field.of, item, wanted[step]) if step in wanted else item
            for step, item in old
        ]
        return [*kept, *(item for step, item in new if step not in known)]

    def _remove(
        self, field: Field, value: Any, tree: dict[str, Any], path: Path, kept: Paths
    ) -> Any:
        if self._is_map(field, value):
            result = {}
            for key, item in value.items():
                step = f"f:{key}"
                below = tree.get(step)
                if below is None:
                    result[key] = item
                elif below:
                    there = (*path, step)
                    rest = self._remove(self.below(field, key), item, below, there, kept)
                    if rest or there in kept:
                        result[key] = rest
            return result
        steps = self._steps(field, value) if isinstance(value, list) else None
        if steps is None or field.of is None:
            return value
        return [
            self._remove(field.of, item, tree[step], (*path, step), kept) if step in tree else item
            for step, item in steps
            if "." not in tree.get(step, ()) and tree.get(step) != {}
        ]


def encode(paths: Paths) -> dict[str, Any]:
    """Return a set of paths in the form of FieldsV1."""
    tree: dict[str, Any] = {}
    for path in sorted(paths):
        node = tree
        for step in path:
            node = node.setdefault(step, {})
        node["."] = {}
    _trim(tree)
    return tree


def decode(fields: Any) -> Paths:
    """Return the paths of a FieldsV1; what is no such thing holds none."""
    found: set[Path] = set()

    def walk(node: Any, path: Path) -> None:
        if not isinstance(node, dict):
            return
        if (not node or "." in node) and path:
            found.add(path)
        for step, below in node.items():
            if step != ".":
                walk(below, (*path, step))

    walk(fields, ())
    return frozenset(found)


def dotted(path: Path) -> str:
    """Return a path as people read it, such as ``.spec.containers[name="a"].image``."""
    text = ""
    for step in path:
        kind, _, rest = step.partition(":")
        if kind == "f":
            text += f".{rest}"
        elif kind == "k":
            keys = ",".join(f"{key}={_json(value)}" for key, value in json.loads(rest).items())
            text += f"[{keys}]"
        else:
            text += f"[={rest}]"
    return text


def _trim(node: dict[str, Any]) -> None:
    # A leaf is an empty object; only what has others below says so by a dot.
    for key, below in node.items():
        if key != ".":
            if set(below) == {"."}:
                below.clear()
            else:
                _trim(below)


def _json(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"), sort_keys=True)
