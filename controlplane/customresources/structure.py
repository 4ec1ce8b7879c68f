"""Rules for the schemas of definitions: they must be structural (pure).

Source: Kubernetes documentation, "Specifying a structural schema", "Validation rules".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from controlplane.api.errors import Cause
from controlplane.api.metadata import forbidden, required, unsupported, wrong
from controlplane.customresources.rules import RULES
from controlplane.customresources.shape import EMBEDDED, INT_OR_STRING, PRESERVE, Schema
from controlplane.customresources.values import Values, compile_error, invalid_value

_TYPES: Final = ("array", "boolean", "integer", "number", "object", "string")
_EITHER: Final = [{"type": "integer"}, {"type": "string"}]
_LIST_TYPE: Final = "x-kubernetes-list-type"
_LIST_KEYS: Final = "x-kubernetes-list-map-keys"
_MAP_TYPE: Final = "x-kubernetes-map-type"
_REASONS: Final = ["FieldValueRequired", "FieldValueForbidden", "FieldValueInvalid",
                   "FieldValueDuplicate"]  # fmt: skip
# What only the structure itself may say, and no alternative inside it.
_OUTSIDE: Final = {
    "type": "must be empty to be structural",
    "additionalProperties": "must be undefined to be structural",
    "default": "must be undefined to be structural",
    "title": "must be empty to be structural",
    "description": "must be empty to be structural",
    "nullable": "must be false to be structural",
    PRESERVE: "must be false to be structural",
    EMBEDDED: "must be false to be structural",
    INT_OR_STRING: "must be false to be structural",
    _LIST_KEYS: "must be empty to be structural",
    _LIST_TYPE: "must be undefined to be structural",
    _MAP_TYPE: "must be undefined to be structural",
    RULES: "must be empty to be structural",
}
_UNSUPPORTED: Final = ("$ref", "definitions", "dependencies", "id", "patternProperties", "$schema")
_MAX_DEPTH: Final = 100


def check_schema(schema: Schema, path: str) -> list[Cause]:
    """Return what is wrong with the schema of a version.

    Args:
        schema: ``openAPIV3Schema``.
        path: of it.
    """
    causes = list(_structure(schema, path, "root", 0))
    if schema.get("nullable"):
        causes.append(forbidden(f"{path}.nullable", "nullable cannot be true at the root"))
    if not causes:
        text = compile_error(schema)
        if text:
            causes.append(wrong(path, "", f"error building validator: {text}"))
    return causes or list(_defaults(schema, path))


def _structure(schema: Schema, path: str, level: str, depth: int) -> Iterator[Cause]:
    if depth > _MAX_DEPTH:
        yield forbidden(path, f"nested deeper than {_MAX_DEPTH} levels")
        return
    yield from _type(schema, path, level)
    yield from _lists(schema, path)
    yield from _extensions(schema, path)
    for key in _UNSUPPORTED:
        if key in schema:
            yield forbidden(f"{path}.{key}", f"{key} is not supported")
    if schema.get("uniqueItems"):
        yield forbidden(f"{path}.uniqueItems", "uniqueItems cannot be set to true since the "
                        "runtime complexity becomes quadratic")  # fmt: skip
    additional = schema.get("additionalProperties")
    if additional is not None:
        if level == "root":
            yield forbidden(f"{path}.additionalProperties", "must not be used at the root")
        if "properties" in schema:
            text = "additionalProperties and properties are mutual exclusive"
            yield forbidden(f"{path}.additionalProperties", text)
        if additional is False:
            text = "additionalProperties cannot be set to false"
            yield forbidden(f"{path}.additionalProperties", text)
    if isinstance(additional, dict):
        yield from _structure(additional, f"{path}.additionalProperties", "field", depth + 1)
    if schema.get("type") == "array" and not isinstance(schema.get("items"), dict):
        yield required(f"{path}.items", "must be specified")
    if isinstance(schema.get("items"), dict):
        yield from _structure(schema["items"], f"{path}.items", "item", depth + 1)
    whole = level == "root" or schema.get(EMBEDDED)
    for key, below in schema.get("properties", {}).items():
        here = f"{path}.properties[{key}]"
        if whole and key == "metadata":
            yield from _metadata(below, here, level)
            continue
        if whole and key in ("apiVersion", "kind") and below.get("type") != "string":
            yield wrong(f"{here}.type", below.get("type", ""), "must be string")
        yield from _structure(below, here, "field", depth + 1)
    yield from _alternatives(schema, path, depth, outer=True)
    yield from _rules(schema, path)


def _type(schema: Schema, path: str, level: str) -> Iterator[Cause]:
    kind = schema.get("type", "")
    if kind and kind not in _TYPES:
        yield unsupported(f"{path}.type", kind, list(_TYPES))
    if schema.get(EMBEDDED) and kind != "object":
        text = f"must be object if {EMBEDDED} is true"
        yield wrong(f"{path}.type", kind, text) if kind else required(f"{path}.type", text)
    elif not kind and not schema.get(INT_OR_STRING) and not schema.get(PRESERVE):
        places = {"root": "at the root", "item": "for specified array items",
                  "field": "for specified object fields"}  # fmt: skip
        yield required(f"{path}.type", f"must not be empty {places[level]}")
    elif level == "root" and kind not in ("", "object"):
        yield wrong(f"{path}.type", kind, "must be object at the root")
    if schema.get(INT_OR_STRING) and kind:
        yield wrong(f"{path}.type", kind, f"must be empty if {INT_OR_STRING} is true")
    if "pattern" in schema:
        try:
            re.compile(schema["pattern"])
        except re.error as error:
            text = f"must be a valid regular expression, but isn't: {error}"
            yield wrong(f"{path}.pattern", schema["pattern"], text)


def _lists(schema: Schema, path: str) -> Iterator[Cause]:
    listed, keys = schema.get(_LIST_TYPE), schema.get(_LIST_KEYS, [])
    items = schema.get("items") if isinstance(schema.get("items"), dict) else {}
    assert isinstance(items, dict)
    if listed is not None and listed not in ("atomic", "map", "set"):
        yield unsupported(f"{path}.{_LIST_TYPE}", listed, ["atomic", "map", "set"])
    if listed is not None and schema.get("type") != "array":
        yield wrong(f"{path}.type", schema.get("type", ""), f"must be array if {_LIST_TYPE} is "
                    "specified")  # fmt: skip
    if schema.get(_MAP_TYPE) not in (None, "atomic", "granular"):
        yield unsupported(f"{path}.{_MAP_TYPE}", schema[_MAP_TYPE], ["atomic", "granular"])
    if schema.get(_MAP_TYPE) and schema.get("type") != "object":
        yield wrong(f"{path}.type", schema.get("type", ""), f"must be object if {_MAP_TYPE} is "
                    "specified")  # fmt: skip
    if keys and listed != "map":
        text = f"must be map if {_LIST_KEYS} is non-empty"
        yield wrong(f"{path}.{_LIST_TYPE}", listed or "", text)
    if listed in ("set", "map") and items.get("nullable"):
        text = f"cannot be nullable when {_LIST_TYPE} is {listed}"
        yield forbidden(f"{path}.items.nullable", text)
    if listed == "map":
        yield from _keys(schema, items, keys, path)


def _keys(schema: Schema, items: Schema, keys: list[str], path: str) -> Iterator[Cause]:
    if not keys:
        yield required(f"{path}.{_LIST_KEYS}", f"must not be empty if {_LIST_TYPE} is map")
    if items.get("type") != "object":
        text = f"must be object if parent array's {_LIST_TYPE} is map"
        yield wrong(f"{path}.items.type", items.get("type", ""), text)
    properties = items.get("properties", {})
    for index, key in enumerate(keys):
        known = properties.get(key)
        if known is None:
            text = f"entry not found in `{path}.items.properties`"
            yield wrong(f"{path}.{_LIST_KEYS}[{index}]", key, text)
            continue
        if known.get("type") in ("array", "object"):
            text = f"must be a scalar type if parent array's {_LIST_TYPE} is map"
            yield wrong(f"{path}.items.properties[{key}].type", known["type"], text)
        if key not in items.get("required", []) and "default" not in known:
            text = (
                f"this property is in {_LIST_KEYS}, so it must have a default or be a required "
                "property"
            )
            yield required(f"{path}.items.properties[{key}].default", text)
    if len(set(keys)) != len(keys):
        yield wrong(f"{path}.{_LIST_KEYS}", json.dumps(keys), "must not contain duplicates")


def _extensions(schema: Schema, path: str) -> Iterator[Cause]:
    if schema.get(PRESERVE) is False:
        yield wrong(f"{path}.{PRESERVE}", "false", "must be true or undefined")
    if schema.get(INT_OR_STRING):
        for key in (PRESERVE, EMBEDDED):
            if schema.get(key):
                text = f"must be false if {INT_OR_STRING} is true"
                yield invalid_value(f"{path}.{key}", True, text)
    if schema.get(EMBEDDED) and not schema.get(PRESERVE) and not schema.get("properties"):
        text = f"must not be empty if {EMBEDDED} is true without {PRESERVE}"
        yield required(f"{path}.properties", text)


def _metadata(schema: Schema, path: str, level: str) -> Iterator[Cause]:
    if schema.get("type") != "object":
        yield wrong(f"{path}.type", schema.get("type", ""), "must be object")
    told = {key for key, value in schema.items() if value not in (None, {}, [], "", False)}
    fields = set(schema.get("properties", {}))
    if level == "root" and (
        told - {"type", "properties", "description"} or fields - {"name", "generateName"}
    ):
        text = (
            "must not specify anything other than name and generateName, but metadata is "
            "implicitly specified"
        )
        yield forbidden(path, text)


def _alternatives(schema: Schema, path: str, depth: int, *, outer: bool) -> Iterator[Cause]:
    """Check what stands in ``allOf``, ``anyOf``, ``oneOf`` and ``not``."""
    for key in ("allOf", "anyOf", "oneOf"):
        for index, one in enumerate(schema.get(key, [])):
            either = schema.get(INT_OR_STRING) and (
                schema.get("anyOf") == _EITHER if key == "anyOf" else key == "allOf" and not index
            )
            if key == "anyOf" and either:
                continue
            here = f"{path}.{key}[{index}]"
            if either and one.get("anyOf") == _EITHER:
                one = {name: value for name, value in one.items() if name != "anyOf"}
            yield from _nested(one, here, depth + 1)
    if isinstance(schema.get("not"), dict):
        yield from _nested(schema["not"], f"{path}.not", depth + 1)


def _nested(schema: Schema, path: str, depth: int) -> Iterator[Cause]:
    if depth > _MAX_DEPTH:
        yield forbidden(path, f"nested deeper than {_MAX_DEPTH} levels")
        return
    for key, text in _OUTSIDE.items():
        if schema.get(key) not in (None, "", [], False):
            yield forbidden(f"{path}.{key}", text)
    for key, below in schema.get("properties", {}).items():
        if key == "metadata":
            text = "must not be specified in a nested context"
            yield forbidden(f"{path}.properties[metadata]", text)
        yield from _nested(below, f"{path}.properties[{key}]", depth + 1)
    if isinstance(schema.get("items"), dict):
        yield from _nested(schema["items"], f"{path}.items", depth + 1)
    yield from _alternatives(schema, path, depth, outer=False)


def _rules(schema: Schema, path: str) -> Iterator[Cause]:
    for index, rule in enumerate(schema.get(RULES, [])):
        here = f"{path}.{RULES}[{index}]"
        text = rule.get("rule", "")
        if not text.strip():
            yield required(f"{here}.rule", "rule is not specified")
            continue
        if rule.get("optionalOldSelf"):
            yield forbidden(f"{here}.optionalOldSelf", "this server does not support it")
        if rule.get("reason", "") not in ("", *_REASONS):
            yield unsupported(f"{here}.reason", rule["reason"], _REASONS)
        if "message" in rule and not rule["message"].strip():
            yield wrong(
                f"{here}.message", rule["message"], "message must be non-empty if specified"
            )
        yield from _compiles(text, f"{here}.rule")
        if rule.get("messageExpression"):
            yield from _compiles(rule["messageExpression"], f"{here}.messageExpression")


def _compiles(text: str, path: str) -> Iterator[Cause]:
    from controlplane.customresources.cel import CelError, compile_expression

    try:
        compile_expression(text)
    except CelError as error:
        yield wrong(path, text, f"compilation failed: {error}")


def _defaults(schema: Schema, path: str, *, top: bool = True) -> Iterator[Cause]:
    if "default" in schema:
        if top:
            yield forbidden(f"{path}.default", "must not be set at the root")
        else:
            wrapped: dict[str, Any] = {"properties": {"default": schema}}
            causes = Values(wrapped).check({"default": schema["default"]}, None)
            for cause in causes:
                field = f"{path}.{cause.field}"
                yield Cause(cause.reason, cause.message.replace(cause.field, field), field)
    for key, below in schema.get("properties", {}).items():
        yield from _defaults(below, f"{path}.properties[{key}]", top=False)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            yield from _defaults(schema[key], f"{path}.{key}", top=False)
