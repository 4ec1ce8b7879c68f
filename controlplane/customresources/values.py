"""Checking values against a schema, in Kubernetes' terms.

Source: Kubernetes documentation, "Extend the Kubernetes API with CustomResourceDefinitions",
"Validation"; OpenAPI 3.0, "Schema Object", whose schemas are those of JSON Schema draft 4 but for
``nullable``.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from controlplane.api.errors import Cause
from controlplane.customresources.shape import INT_OR_STRING, Schema

if TYPE_CHECKING:
    import jsonschema_rs

Path = tuple[str | int, ...]

_KEPT: Final = (
    "type", "required", "enum", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum",
    "minLength", "maxLength", "pattern", "minItems", "maxItems", "uniqueItems", "minProperties",
    "maxProperties", "multipleOf",
)  # fmt: skip
FORMATS: Final = frozenset(
    {"bsonobjectid", "uri", "email", "hostname", "ipv4", "ipv6", "cidr", "mac", "uuid", "uuid3",
     "uuid4", "uuid5", "isbn", "isbn10", "isbn13", "creditcard", "ssn", "hexcolor", "rgbcolor",
     "byte", "password", "date", "duration", "datetime", "date-time", "int32", "int64", "float",
     "double", "k8s-short-name", "k8s-long-name"}
)  # fmt: skip
"""Formats that Kubernetes knows; others mean nothing to it."""

_CHECKED: Final = frozenset(
    {"uri", "email", "hostname", "ipv4", "ipv6", "cidr", "mac", "uuid", "byte", "date", "duration",
     "date-time", "datetime"}
)  # fmt: skip
_MAC: Final = re.compile(r"([0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}", re.ASCII)
_DURATION: Final = re.compile(r"[+-]?(0|(\d+(\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h))+", re.ASCII)


class Values:
    """Checks the values of objects of one version.

    Args:
        schema: structural, of the whole object.
    """

    def __init__(self, schema: Schema) -> None:
        self._schema = schema

    def check(self, value: dict[str, Any], old: dict[str, Any] | None) -> list[Cause]:
        """Return what is wrong with an object.

        Args:
            value: it, with its defaults.
            old: as it was before: what was wrong already and has not changed is let pass
                (KEP-4008, validation ratcheting).
        """
        found: list[tuple[Path, Cause]] = []
        for error in self._validator.iter_errors(value):
            path = tuple(error.instance_path)
            found.append((path, _cause(error, path)))
        found += _duplicates(self._schema, value, ())
        return [cause for path, cause in found if old is None or not same_at(path, value, old)]

    @cached_property
    def _validator(self) -> jsonschema_rs.Draft4Validator:
        import jsonschema_rs

        return jsonschema_rs.Draft4Validator(
            _plain(self._schema, root=True),
            validate_formats=True,
            formats={
                "cidr": _is_cidr, "mac": lambda text: bool(_MAC.fullmatch(text)),
                "byte": _is_base64, "duration": lambda text: bool(_DURATION.fullmatch(text)),
            },
        )  # fmt: skip


def compile_error(schema: Schema) -> str:
    """Return why values cannot be checked by a schema; "" if they can."""
    try:
        _ = Values(schema)._validator
    except ValueError as error:
        return str(error).partition("\n")[0]
    return ""


def dotted(path: Path) -> str:
    """Return a path as causes have it: ``spec.list[0].name``."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")


def invalid_value(path: str, value: Any, text: str, reason: str = "FieldValueInvalid") -> Cause:
    """A field has a value that it cannot have; told as JSON."""
    shown = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    return Cause(reason, f"Invalid value: {shown}: {text}", path)


def same_at(path: Path, value: Any, old: Any) -> bool:
    """Say whether what is at ``path`` is as it was; items of lists are compared with their list."""
    for step in path:
        if isinstance(step, int) or not isinstance(value, dict) or not isinstance(old, dict):
            break
        if step not in value or step not in old:
            return False
        value, old = value[step], old[step]
    return bool(value == old)


def _plain(schema: Schema, *, root: bool = False) -> Schema:
    """Return a schema in the terms of JSON Schema."""
    found: Schema = {key: schema[key] for key in _KEPT if key in schema}
    if schema.get("format") in _CHECKED:
        found["format"] = schema["format"].replace("datetime", "date-time")
    if schema.get(INT_OR_STRING):
        found["type"] = ["integer", "string"]
    if schema.get("nullable") and "type" in found:
        kinds = found["type"] if isinstance(found["type"], list) else [found["type"]]
        found["type"] = [*kinds, "null"]
    if "items" in schema:
        found["items"] = _plain(schema["items"])
    if "properties" in schema:
        found["properties"] = {key: _plain(one) for key, one in schema["properties"].items()}
        if root:
            # The rest of the metadata has been checked by its type.
            found["properties"].pop("apiVersion", None)
            found["properties"].pop("kind", None)
    if isinstance(schema.get("additionalProperties"), dict):
        found["additionalProperties"] = _plain(schema["additionalProperties"])
    for key in ("allOf", "anyOf", "oneOf"):
        if key in schema:
            found[key] = [_plain(one) for one in schema[key]]
    if "not" in schema:
        found["not"] = _plain(schema["not"])
    return found


def _cause(error: jsonschema_rs.ValidationError, path: Path) -> Cause:
    kind: Any = error.kind
    name, field = str(error.schema_path[-1]), dotted(path)
    value: Any = error.instance
    if kind.name in _WORDS:
        name = kind.name
    if name == "required":
        return Cause("FieldValueRequired", "Required value", dotted((*path, kind.property)))
    if name == "enum":
        listed = ", ".join(json.dumps(option) for option in kind.options)
        text = f"Unsupported value: {json.dumps(value)}: supported values: {listed}"
        return Cause("FieldValueNotSupported", text, field)
    if name == "type":
        kinds = [one for one in list(kind.types) if one != "null"]
        wanted, is_one = ",".join(kinds), _type_of(value)
        text = f'{field} in body must be of type {wanted}: "{is_one}"'
        return Cause("FieldValueTypeInvalid", f'Invalid value: "{is_one}": {text}', field)
    if name == "maxLength":
        text = f"Too long: may not be more than {kind.limit} bytes"
        return Cause("FieldValueTooLong", text, field)
    if name in ("maxItems", "maxProperties"):
        text = f"Too many: {len(value)}: must have at most {kind.limit} items"
        return Cause("FieldValueTooMany", text, field)
    return invalid_value(field, value, _words(name, kind, value, field))


_WORDS: Final = {
    "minimum": "should be greater than or equal to {limit}",
    "maximum": "should be less than or equal to {limit}",
    "exclusiveMinimum": "should be greater than {limit}",
    "exclusiveMaximum": "should be less than {limit}",
    "minLength": "should be at least {limit} chars long",
    "minItems": "should have at least {limit} items",
    "minProperties": "should have at least {limit} properties",
    "uniqueItems": "shouldn't contain duplicates",
    "pattern": "should match '{pattern}'",
    "multipleOf": "should be a multiple of {multiple_of}",
}


def _words(name: str, kind: Any, value: Any, field: str) -> str:
    if name in _WORDS:
        facts = {
            key: _number(getattr(kind, key))
            for key in ("limit", "pattern", "multiple_of")
            if hasattr(kind, key)
        }
        return f"{field} in body {_WORDS[name].format(**facts)}"
    if name == "format":
        return f"{field} in body must be of type {kind.format}: {json.dumps(value)}"
    shown = f'"{field}"'
    if name == "anyOf":
        return f"{shown} must validate at least one schema (anyOf)"
    if name == "oneOf":
        many = kind.name == "oneOf" and type(kind).__name__.endswith("OneOfMultipleValid")
        tail = "Found 2 valid alternatives" if many else "Found none valid"
        return f"{shown} must validate one and only one schema (oneOf). {tail}"
    return f"{shown} must not validate the schema ({name})"


def _number(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _type_of(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    if value is None:
        return "null"
    names = {str: "string", int: "integer", float: "number", list: "array", dict: "object"}
    return names[type(value)]


def _duplicates(schema: Schema, value: Any, path: Path) -> Iterator[tuple[Path, Cause]]:
    """Yield items that are twice in a set, or have the same keys in a list of type ``map``."""
    if isinstance(value, dict):
        properties = schema.get("properties", {})
        additional = schema.get("additionalProperties")
        for key, item in value.items():
            below = properties.get(key, additional)
            if isinstance(below, dict):
                yield from _duplicates(below, item, (*path, key))
    elif isinstance(value, list):
        kind = schema.get("x-kubernetes-list-type")
        keys = schema.get("x-kubernetes-list-map-keys", [])
        seen: set[str] = set()
        for index, item in enumerate(value):
            told = item
            if kind == "map" and isinstance(item, dict):
                told = {key: item[key] for key in keys if key in item}
            text = json.dumps(told, sort_keys=True, separators=(",", ":"))
            if kind in ("set", "map") and text in seen:
                there = (*path, index)
                cause = Cause("FieldValueDuplicate", f"Duplicate value: {text}", dotted(there))
                yield there, cause
            seen.add(text)
            yield from _duplicates(schema.get("items", {}), item, (*path, index))


def _is_cidr(text: str) -> bool:
    from ipaddress import ip_network

    try:
        ip_network(text, strict=False)
    except ValueError:
        return False
    return "/" in text


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except ValueError:
        return False
    return True
