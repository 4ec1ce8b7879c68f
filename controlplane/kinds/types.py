"""The types of the kinds' fields: checking and cleaning what a client sends (pure).

A value of a wrong type is an error that names its path. A field that the type does not have is
taken out and told about: what happens then is for the client to choose (Kubernetes, "Field
validation"). Null stands for an absent field, as for every Go server.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final

from controlplane.kinds.quantity import QuantityError, canonical

MAX_DEPTH: Final = 200
"""Of nested objects and lists in one object; deeper ones are an attack and no configuration."""

_INTEGERS: Final = {"int32": 1 << 31, "int64": 1 << 63}
_TIME: Final = re.compile(
    r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII
)


REST: Final = "*"
"""Stands in a table for all fields that it does not name."""


class WrongTypeError(ValueError):
    """A value is not of its field's type; the text names the path."""


@dataclass(frozen=True, slots=True)
class Field:
    """What is known of a field, of a list's items, or of a map's values.

    Attributes:
        type: ``string``, ``boolean``, ``int32``, ``int64``, ``double``, ``quantity``, ``time``,
            ``micro-time``, ``int-or-string``, ``byte``, ``any``, ``list``, ``map``, ``deduced``
            (objects in it are maps of fields, in custom resources), or ``#`` and the name of an
            object type.
        of: type of a list's items or a map's values.
        required: it must be there.
        default: what stands for an absent one; None: nothing.
        list: ``map`` or ``set`` where items are merged by server-side apply; "": replaced whole.
        keys: fields that tell the items of a list of type ``map`` apart.
        merge: field that tells items apart in a strategic merge patch; "" for plain values; None:
            the list is replaced whole.
        atomic: the object or map is owned and replaced as a whole.
        retain: a strategic merge patch drops the fields that its ``$retainKeys`` does not name.
    """

    type: str
    of: Field | None = None
    required: bool = False
    default: Any = None
    list: str = ""
    keys: tuple[str, ...] = ()
    merge: str | None = None
    atomic: bool = False
    retain: bool = False

    object: str = field(init=False, repr=False, compare=False, default="")
    """Name of the object type, "" if it is none."""

    def __post_init__(self) -> None:
        if self.type.startswith("#"):
            object.__setattr__(self, "object", self.type[1:])


class Types:
    """The table of object types.

    Args:
        table: field by name, by name of the type.
        kinds: name of the type, by ``group/version/Kind`` (``v1/Pod``, ``apps/v1/Deployment``).
    """

    def __init__(self, table: dict[str, dict[str, Field]], kinds: dict[str, str]) -> None:
        self._table = table
        self._kinds = kinds
        self._defaulting: dict[str, list[tuple[str, Field]]] | None = None

    def of_kind(self, group_version: str, kind: str) -> str:
        """Return the name of a kind's type.

        Raises:
            KeyError: there is no such kind.
        """
        return self._kinds[f"{group_version}/{kind}"]

    @property
    def kinds(self) -> dict[str, str]:
        """Names of types by ``group/version/Kind``."""
        return self._kinds

    def fields(self, name: str) -> dict[str, Field]:
        """Return the fields of an object type."""
        return self._table[name]

    def add(self, table: Mapping[str, dict[str, Field]], kinds: Mapping[str, str]) -> None:
        """Take in more types and kinds, or others under their names."""
        self._defaulting = None
        self._table.update(table)
        self._kinds.update(kinds)

    def remove(self, names: Iterable[str], kinds: Iterable[str]) -> None:
        """Forget types and kinds."""
        self._defaulting = None
        for name in names:
            self._table.pop(name, None)
        for kind in kinds:
            self._kinds.pop(kind, None)

    def copy(self) -> Types:
        """Return a table of the same types, to and from which others can be added and removed."""
        made = Types(dict(self._table), dict(self._kinds))
        if self._defaulting is None:
            self._defaulting = _with_defaults(self._table)
        made._defaulting = self._defaulting
        return made

    def names(self) -> list[str]:
        """Return the names of all object types."""
        return list(self._table)

    def clean(self, name: str, value: Any) -> tuple[dict[str, Any], list[str]]:
        """Return an object as the server keeps it, and the paths of fields that it does not have.

        Args:
            name: of the type.
            value: decoded JSON.

        Raises:
            WrongTypeError: a value is of another type.
        """
        unknown: list[str] = []
        cleaned = self._object(name, value, "", unknown, 0)
        return cleaned, unknown

    def add_defaults(self, name: str, value: dict[str, Any]) -> None:
        """Put in what the types themselves say of absent fields, at any depth."""
        if self._defaulting is None:
            self._defaulting = _with_defaults(self._table)
        for key, facts in self._defaulting.get(name, ()):
            if key not in value:
                if facts.default is not None:
                    value[key] = facts.default
            else:
                self._default_below(facts, value[key])

    def _default_below(self, field: Field, value: Any) -> None:
        if field.object:
            self.add_defaults(field.object, value)
        elif field.of is not None and (field.of.object or field.of.of is not None):
            for item in value.values() if isinstance(value, dict) else value:
                self._default_below(field.of, item)

    def _object(
        self, name: str, value: Any, path: str, unknown: list[str], depth: int
    ) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _wrong(path, "an object", value)
        if depth > MAX_DEPTH:
            raise WrongTypeError(f"{path}: nested deeper than {MAX_DEPTH} levels")
        fields = self._table[name]
        cleaned: dict[str, Any] = {}
        for key, item in value.items():
            field = fields.get(key)
            below = f"{path}.{key}" if path else key
            if field is None:
                unknown.append(below)
            elif item is not None:
                found = self._value(field, item, below, unknown, depth + 1)
                # An empty list or map is as good as none, and is not kept (API conventions,
                # "Optional vs. Required"), except where there must be one.
                if found or field.required or field.type not in ("list", "map"):
                    cleaned[key] = found
        return cleaned

    def _value(self, field: Field, value: Any, path: str, unknown: list[str], depth: int) -> Any:
        if field.object:
            return self._object(field.object, value, path, unknown, depth)
        if field.type == "list":
            if not isinstance(value, list):
                raise _wrong(path, "a list", value)
            assert field.of is not None
            return [
                self._value(field.of, item, f"{path}[{index}]", unknown, depth + 1)
                for index, item in enumerate(value)
            ]
        if field.type == "map":
            if not isinstance(value, dict):
                raise _wrong(path, "a map", value)
            assert field.of is not None
            return {
                key: self._value(field.of, item, f"{path}[{key}]", unknown, depth + 1)
                for key, item in value.items()
                if item is not None
            }
        return _scalar(field.type, value, path, depth)


@cache
def builtin_types() -> Types:
    """Return the types of the built-in kinds; shared by all, so take a copy to change it."""
    document = json.loads((Path(__file__).parent / "types.json").read_bytes())
    table = {
        name: {key: _field(facts) for key, facts in fields.items()}
        for name, fields in document["types"].items()
    }
    return Types(table, document["kinds"])


def _with_defaults(table: dict[str, dict[str, Field]]) -> dict[str, list[tuple[str, Field]]]:
    """Return, of each type that has any, the fields that have defaults or hold what has some."""
    found: dict[str, list[tuple[str, Field]]] = {}
    count = -1
    # Types hold each other in circles: look again until nothing more is found.
    while count != sum(map(len, found.values())):
        count = sum(map(len, found.values()))
        for name, fields in table.items():
            some = [
                (key, facts)
                for key, facts in fields.items()
                if facts.default is not None or _innermost(facts).object in found
            ]
            if some:
                found[name] = some
    return found


def _innermost(field: Field) -> Field:
    while field.of is not None:
        field = field.of
    return field


def _field(facts: dict[str, Any]) -> Field:
    values = dict(facts)
    if "of" in values:
        values["of"] = _field(values["of"])
    if "keys" in values:
        values["keys"] = tuple(values["keys"])
    return Field(**values)


def _scalar(kind: str, value: Any, path: str, depth: int) -> Any:
    if kind in ("string", "byte"):
        if not isinstance(value, str):
            raise _wrong(path, "a string", value)
        if kind == "byte":
            _check_base64(value, path)
    elif kind == "boolean":
        if not isinstance(value, bool):
            raise _wrong(path, "true or false", value)
    elif kind in _INTEGERS:
        return _integer(kind, value, path)
    elif kind == "double":
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise _wrong(path, "a number", value)
    elif kind == "int-or-string":
        if not isinstance(value, str):
            return _integer("int32", value, path)
    elif kind == "quantity":
        return _quantity(value, path)
    elif kind in ("time", "micro-time"):
        return _time(kind, value, path)
    elif _depth(value) + depth > MAX_DEPTH:
        raise WrongTypeError(f"{path}: nested deeper than {MAX_DEPTH} levels")
    return value


def _check_base64(value: str, path: str) -> None:
    try:
        base64.b64decode(value.replace("\n", "").replace("\r", ""), validate=True)
    except ValueError as error:
        raise WrongTypeError(f"{path}: illegal base64 data: {error}") from error


def _integer(kind: str, value: Any, path: str) -> int:
    if isinstance(value, float) and value.is_integer():
        # JSON has one type of numbers: 1.0 is the integer one.
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise _wrong(path, "an integer", value)
    bound = _INTEGERS[kind]
    if not -bound <= value < bound:
        raise WrongTypeError(f"{path}: {value} does not fit into {kind}")
    return value


def _quantity(value: Any, path: str) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise _wrong(path, "a quantity such as 500m or 1Gi", value)
    try:
        return canonical(str(value))
    except QuantityError as error:
        raise WrongTypeError(f"{path}: {error}") from error


def _time(kind: str, value: Any, path: str) -> str:
    # RFC 3339; kept in UTC, to the second or to the microsecond (meta/v1 Time, MicroTime).
    found = _TIME.fullmatch(value) if isinstance(value, str) else None
    try:
        if found is None:
            raise ValueError("not RFC 3339")
        date, clock, fraction, zone = found.groups()
        moment = datetime.fromisoformat(f"{date}T{clock}{zone.replace('Z', '+00:00')}")
        moment = moment.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise _wrong(path, "a time such as 2006-01-02T15:04:05Z", value) from error
    # strftime(3) writes years before 1000 with fewer digits.
    text = moment.isoformat()[:19]
    return f"{text}Z" if kind == "time" else f"{text}.{(fraction or '.')[1:7]:0<6}Z"


def _depth(value: Any) -> int:
    """Return how deep ``value`` is nested, without recursion: it may be deeper than the stack."""
    depth, level = 0, [value]
    while level and depth <= MAX_DEPTH:
        level = [
            item
            for one in level
            if isinstance(one, dict | list)
            for item in (one.values() if isinstance(one, dict) else one)
        ]
        depth += bool(level)
    return depth


def _wrong(path: str, wanted: str, value: Any) -> WrongTypeError:
    shown = json.dumps(value, default=str)
    shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
    return WrongTypeError(f"{path or 'the object'}: must be {wanted}, not {shown}")
