"""Rules of schemas in CEL (``x-kubernetes-validations``).

Source: Kubernetes documentation, "Validation rules" and "Common Expression Language in Kubernetes".
The library is loaded when the first rule is met: it takes 20 MB and 0.2 s.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from controlplane.api.errors import Cause
from controlplane.customresources.shape import EMBEDDED, INT_OR_STRING, PRESERVE, Schema
from controlplane.customresources.values import Path, dotted, invalid_value, same_at

if TYPE_CHECKING:
    from controlplane.customresources.cel import Expression

RULES: Final = "x-kubernetes-validations"
MAX_STEPS: Final = 40_000
"""Steps that the rules of one write may take: about two seconds."""

_RESERVED: Final = frozenset(
    {"true", "false", "null", "in", "as", "break", "const", "continue", "else", "for", "function",
     "if", "import", "let", "loop", "package", "namespace", "return", "var", "void", "while"}
)  # fmt: skip
_IDENTIFIER: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_ESCAPES: Final = (("__", "__underscores__"), (".", "__dot__"), ("-", "__dash__"),
                   ("/", "__slash__"))  # fmt: skip


class Rules:
    """Evaluates the rules of objects of one version.

    Args:
        schema: structural, of the whole object.
    """

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._compiled: dict[str, Expression] = {}

    def check(self, value: dict[str, Any], old: dict[str, Any] | None) -> list[Cause]:
        """Return what rules say against an object whose values are right.

        Args:
            value: it.
            old: as it was; a rule about something that has not changed is let pass.
        """
        if not self.any:
            return []
        budget = [MAX_STEPS]
        return list(self._walk(self._schema, value, old, (), (value, old), budget))

    @cached_property
    def any(self) -> bool:
        """There are rules."""
        return has_rules(self._schema)

    def _walk(
        self, schema: Schema, value: Any, old: Any, path: Path, roots: tuple[Any, Any],
        budget: list[int],
    ) -> Iterator[Cause]:  # fmt: skip
        if value is None:
            return
        for number, rule in enumerate(schema.get(RULES, [])):
            yield from self._evaluate(rule, schema, value, old, path, roots, budget, number)
        if isinstance(value, dict):
            properties, rest = schema.get("properties", {}), schema.get("additionalProperties")
            before = old if isinstance(old, dict) else {}
            for key, item in value.items():
                below = properties.get(key, rest)
                if isinstance(below, dict):
                    there = (*path, key)
                    yield from self._walk(below, item, before.get(key), there, roots, budget)
        elif isinstance(value, list) and "items" in schema:
            for index, (item, was) in enumerate(_matched(schema, value, old)):
                there = (*path, index)
                yield from self._walk(schema["items"], item, was, there, roots, budget)

    def _evaluate(
        self, rule: dict[str, Any], schema: Schema, value: Any, old: Any, path: Path,
        roots: tuple[Any, Any], budget: list[int], number: int,
    ) -> Iterator[Cause]:  # fmt: skip
        transition = "oldSelf" in rule["rule"]
        if transition and old is None:
            return
        if not transition and roots[1] is not None and same_at(path, *roots):
            return
        field = dotted(path)
        known: dict[str, Any] = {}
        try:
            known["self"] = to_cel(schema, value, root=not path)
            if transition:
                known["oldSelf"] = to_cel(schema, old, root=not path)
            good = self._expression(rule["rule"]).evaluate(known, budget)
        except (ValueError, TypeError) as error:
            # Also of values that were kept when the schema let them pass.
            yield _cause(rule, field, value, f"rule evaluation error: {error}", "FieldValueInvalid")
            return
        if good is not True:
            text = self._message(rule, known, budget)
            where = field + _appended(rule.get("fieldPath", ""))
            yield _cause(rule, where.removeprefix("."), value, text, rule.get("reason", ""))

    def _expression(self, text: str) -> Expression:
        from controlplane.customresources.cel import compile_expression

        if text not in self._compiled:
            self._compiled[text] = compile_expression(text)
        return self._compiled[text]

    def _message(self, rule: dict[str, Any], known: dict[str, Any], budget: list[int]) -> str:
        expression = rule.get("messageExpression", "")
        if expression:
            try:
                told = self._expression(expression).evaluate(known, budget)
            except ValueError:
                told = ""
            if isinstance(told, str) and told.strip() and "\n" not in told:
                return told
        message: str = rule.get("message", "")
        return message or f"failed rule: {rule['rule'].strip()}"


def _cause(rule: dict[str, Any], field: str, value: Any, text: str, reason: str) -> Cause:
    if reason == "FieldValueRequired":
        return Cause(reason, f"Required value: {text}", field)
    if reason == "FieldValueForbidden":
        return Cause(reason, f"Forbidden: {text}", field)
    field = field or "<nil>"
    if isinstance(value, dict | list):
        # What was sent can be large, and tells less than where it was.
        cause = Cause("FieldValueInvalid", f"Invalid value: {text}", field)
    else:
        cause = invalid_value(field, value, text)
    if reason == "FieldValueDuplicate":
        return Cause(reason, cause.message.replace("Invalid", "Duplicate", 1), field)
    return cause


def _appended(path: str) -> str:
    return path if not path or path.startswith((".", "[")) else f".{path}"


def _matched(schema: Schema, value: list[Any], old: Any) -> Iterator[tuple[Any, Any]]:
    """Yield items with what they were; only keys tell which item was which."""
    keys = schema.get("x-kubernetes-list-map-keys", [])
    known: dict[tuple[str, ...], Any] = {}

    def key_of(item: Any) -> tuple[str, ...]:
        return tuple(repr(item.get(key)) for key in keys) if isinstance(item, dict) else ()

    if schema.get("x-kubernetes-list-type") == "map" and isinstance(old, list):
        known = {key_of(item): item for item in old}
    for item in value:
        yield item, known.get(key_of(item)) if known else None


def has_rules(schema: Schema) -> bool:
    """Say whether there is a rule in a schema, at any depth."""
    if schema.get(RULES):
        return True
    below = [*schema.get("properties", {}).values(), schema.get("items")]
    below.append(schema.get("additionalProperties"))
    return any(has_rules(one) for one in below if isinstance(one, dict))


def escape(name: str) -> str | None:
    """Return the name that a property has in rules; None: rules cannot name it."""
    if name in _RESERVED:
        return f"__{name}__"
    for plain, escaped in _ESCAPES:
        name = name.replace(plain, escaped)
    return name if _IDENTIFIER.fullmatch(name) else None


def to_cel(schema: Schema, value: Any, *, root: bool = False) -> Any:
    """Return a value in the types that CEL has for its schema."""
    from celpy import celtypes

    from controlplane.customresources.cel import plain

    if value is None:
        return None
    kind = schema.get("type")
    if schema.get(INT_OR_STRING) or kind is None:
        return plain(value)
    if kind == "number":
        return celtypes.DoubleType(value)
    if kind == "array" and isinstance(value, list):
        items = schema.get("items", {})
        return celtypes.ListType([to_cel(items, item) for item in value])
    if kind == "object" and isinstance(value, dict):
        return _object(schema, value, root=root or bool(schema.get(EMBEDDED)))
    if kind == "string" and schema.get("format") in ("date", "date-time", "datetime"):
        return celtypes.TimestampType(value if "T" in value else f"{value}T00:00:00Z")
    if kind == "string" and schema.get("format") == "duration":
        return celtypes.DurationType(value)
    return plain(value)


def _object(schema: Schema, value: dict[str, Any], *, root: bool) -> Any:
    from celpy import celtypes

    rest = schema.get("additionalProperties")
    if isinstance(rest, dict):
        return celtypes.MapType(
            {celtypes.StringType(key): to_cel(rest, item) for key, item in value.items()}
        )
    properties = schema.get("properties", {})
    if schema.get(PRESERVE) and not properties and not root:
        return celtypes.MapType({})
    found: dict[Any, Any] = {}
    for key, item in value.items():
        name = escape(key)
        if name is None or item is None:
            continue
        if root and key in ("apiVersion", "kind"):
            found[celtypes.StringType(name)] = celtypes.StringType(item)
        elif root and key == "metadata":
            text = {k: item[k] for k in ("name", "generateName") if k in item}
            found[celtypes.StringType(name)] = celtypes.MapType(
                {celtypes.StringType(k): celtypes.StringType(v) for k, v in text.items()}
            )
        elif key in properties:
            found[celtypes.StringType(name)] = to_cel(properties[key], item)
    return celtypes.MapType(found)
