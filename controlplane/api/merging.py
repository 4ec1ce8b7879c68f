"""Merge patches: RFC 7386, and the strategic one that knows the keys of lists (pure).

Source: Kubernetes documentation, "Update API Objects in Place Using kubectl patch"; the directives
are ``$patch: delete|replace|merge``, ``$deleteFromPrimitiveList/<field>``,
``$setElementOrder/<field>`` and ``$retainKeys``.
"""

from __future__ import annotations

from typing import Any, Final

from controlplane.api.errors import ApiError, bad_request
from controlplane.kinds.types import Field, Types

_DIRECTIVE: Final = "$patch"
_RETAIN: Final = "$retainKeys"
_DELETE_FROM: Final = "$deleteFromPrimitiveList/"
_SET_ORDER: Final = "$setElementOrder/"
_UNTYPED: Final = Field("any")


def merge(original: Any, patch: Any) -> Any:
    """Apply a JSON merge patch (RFC 7386); neither argument is changed."""
    if not isinstance(patch, dict):
        return patch
    result = dict(original) if isinstance(original, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merge(result.get(key), value)
    return result


def strategic_merge(types: Types, name: str, original: dict[str, Any], patch: Any) -> Any:
    """Apply a strategic merge patch to an object; neither argument is changed.

    Args:
        types: where the keys of lists are known from.
        name: of the object's type.
        original: the object.
        patch: what to change of it.

    Raises:
        ApiError: a directive is unknown or does not fit, or a list's item lacks its key.
    """
    if not isinstance(patch, dict):
        raise bad_request("a strategic merge patch is an object")
    return _Strategic(types).object(Field("#" + name), original, patch, "")


class _Strategic:
    def __init__(self, types: Types) -> None:
        self._types = types

    def object(self, field: Field, original: Any, patch: dict[str, Any], path: str) -> Any:
        directive = patch.get(_DIRECTIVE)
        if directive == "replace":
            return {key: value for key, value in patch.items() if key != _DIRECTIVE}
        if directive == "delete":
            return {}
        if directive not in (None, "merge"):
            raise _wrong(path, f"{_DIRECTIVE}: {directive!r} is not delete, replace or merge")
        result = dict(original) if isinstance(original, dict) else {}
        if _RETAIN in patch:
            self._retain(result, patch, path)
        for key, value in patch.items():
            if key in (_DIRECTIVE, _RETAIN) or key.startswith((_DELETE_FROM, _SET_ORDER)):
                continue
            below = f"{path}.{key}" if path else key
            if value is None:
                result.pop(key, None)
                continue
            result[key] = self._value(self._below(field, key), result.get(key), value, below)
        self._lists(field, original, result, patch, path)
        return result

    def _below(self, field: Field, key: str) -> Field:
        if field.object:
            return self._types.fields(field.object).get(key, _UNTYPED)
        return field.of if field.type == "map" and field.of is not None else _UNTYPED

    def _value(self, field: Field, original: Any, patch: Any, path: str) -> Any:
        if isinstance(patch, dict):
            return self.object(field, original, patch, path)
        if isinstance(patch, list) and field.merge is not None:
            return self._list(field, original if isinstance(original, list) else [], patch, path)
        return patch

    def _list(self, field: Field, original: list[Any], patch: list[Any], path: str) -> list[Any]:
        assert field.of is not None
        if not field.merge:
            both = [*original, *(item for item in patch if item not in original)]
            return _arranged(both, patch, original, "")
        for item in patch:
            if not isinstance(item, dict):
                raise _wrong(path, "the items of this list are objects")
        if any(item == {_DIRECTIVE: "replace"} for item in patch):
            return [item for item in patch if _DIRECTIVE not in item]
        result = list(original)
        for item in patch:
            key = item.get(field.merge)
            if key is None:
                raise _wrong(path, f"an item lacks its key {field.merge!r}")
            at = [n for n, old in enumerate(result) if _key(old, field.merge) == key]
            if item.get(_DIRECTIVE) == "delete":
                result = [old for n, old in enumerate(result) if n not in at]
            elif at:
                result[at[0]] = self.object(field.of, result[at[0]], item, f"{path}[{key}]")
            else:
                result.append(self.object(field.of, {}, item, f"{path}[{key}]"))
        return _arranged(result, patch, original, field.merge)

    def _lists(
        self, field: Field, original: Any, result: dict[str, Any], patch: Any, path: str
    ) -> None:
        """Carry out the directives on lists that stand beside them."""
        for key, value in patch.items():
            if key.startswith(_DELETE_FROM):
                name = key.removeprefix(_DELETE_FROM)
                gone = _as_list(value, path, key)
                result[name] = [item for item in result.get(name, []) if item not in gone]
            elif key.startswith(_SET_ORDER):
                name = key.removeprefix(_SET_ORDER)
                if name in result:
                    merge_key = self._below(field, name).merge
                    order = _as_list(value, path, key)
                    known = original.get(name) if isinstance(original, dict) else None
                    known = known if isinstance(known, list) else []
                    result[name] = _arranged(result[name], order, known, merge_key or "")

    def _retain(self, result: dict[str, Any], patch: dict[str, Any], path: str) -> None:
        kept = _as_list(patch[_RETAIN], path, _RETAIN)
        for key in patch:
            if not key.startswith("$") and key not in kept:
                raise _wrong(path, f"{_RETAIN} must name {key!r}, which the patch sets")
        for key in [key for key in result if key not in kept]:
            del result[key]


def _arranged(items: list[Any], patch: list[Any], original: list[Any], name: str) -> list[Any]:
    """Put merged items into the order that Kubernetes gives them.

    Those of the patch are in its order. The others come before them only where they did so in the
    original.

    Args:
        items: of both.
        patch: items or, by the directive, keys in the order that is wanted.
        original: the list before.
        name: of the key of items; "" for plain values.
    """

    def key(item: Any) -> Any:
        return _key(item, name) if name else item

    wanted, known = [key(item) for item in patch], [key(item) for item in original]
    named = [item for item in items if key(item) in wanted]
    named.sort(key=lambda item: wanted.index(key(item)))
    others = [item for item in items if key(item) not in wanted]
    result: list[Any] = []
    while named and others:
        one, other = key(named[0]), key(others[0])
        both = one in known and other in known
        first = others if both and known.index(other) < known.index(one) else named
        result.append(first.pop(0))
    return [*result, *named, *others]


def _key(item: Any, name: str) -> Any:
    return item.get(name) if isinstance(item, dict) else None


def _as_list(value: Any, path: str, directive: str) -> list[Any]:
    if not isinstance(value, list):
        raise _wrong(path, f"{directive} must be a list")
    return value


def _wrong(path: str, text: str) -> ApiError:
    return bad_request(f"strategic merge patch: {path or 'the object'}: {text}")
