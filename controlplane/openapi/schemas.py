"""Object types as OpenAPI schemas (pure).

Source: Kubernetes documentation, "The Kubernetes API", "OpenAPI interface definition"; API
conventions and KEP-1693 for the ``x-kubernetes-`` extensions.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Final

from controlplane.kinds.types import Field, Types

Schema = dict[str, Any]
Describe = Callable[[str, str], str]
"""Returns what a field is for, by the name of its type and its own; of the type itself for ""."""

LIST: Final = "List"
"""Ends the names of the types of lists, which no table has."""

_ONLY_3: Final = ("oneOf", "anyOf", "allOf", "not", "x-kubernetes-validations")
_TYPING: Final = ("type", "properties", "items", "additionalProperties", "enum", "format")

CUSTOM: Final = "custom:"
"""Begins the names of the types of custom resources; the rest is the name that is published."""

_META: Final = "io.k8s.apimachinery.pkg.apis.meta."
_LONG: Final = (
    ("meta.", _META),
    ("apiextensions.", "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions."),
)
_QUANTITY: Final = "io.k8s.apimachinery.pkg.api.resource.Quantity"
_INT_OR_STRING: Final = "io.k8s.apimachinery.pkg.util.intstr.IntOrString"
_FIELDS: Final = f"{_META}v1.FieldsV1"
_RAW: Final = "io.k8s.apimachinery.pkg.runtime.RawExtension"
# Types of fields that have a schema of their own, to which the fields refer.
_SHARED: Final[dict[str, str]] = {
    "time": f"{_META}v1.Time",
    "micro-time": f"{_META}v1.MicroTime",
    "quantity": _QUANTITY,
    "int-or-string": _INT_OR_STRING,
}
_PLAIN: Final[dict[str, Schema]] = {
    "string": {"type": "string"},
    "boolean": {"type": "boolean"},
    "int32": {"type": "integer", "format": "int32"},
    "int64": {"type": "integer", "format": "int64"},
    "double": {"type": "number", "format": "double"},
    "byte": {"type": "string", "format": "byte"},
}
# Untyped fields that hold objects; any other one can hold anything.
_OBJECTS: Final = {"fieldsV1": _FIELDS, "data": _RAW, "parameters": _RAW, "object": _RAW}


def long_name(name: str) -> str:
    """Return the name that a type has in published documents: ``io.k8s.api.core.v1.Pod``."""
    if name.startswith(CUSTOM):
        return name.removeprefix(CUSTOM)
    for short, prefix in _LONG:
        if name.startswith(short):
            return prefix + name.removeprefix(short)
    return name if name.startswith("io.k8s.") else f"io.k8s.api.{name}"


def reference(name: str, version: int) -> Schema:
    """Return a reference to a schema.

    Args:
        name: as published.
        version: of OpenAPI, 2 or 3.
    """
    return {"$ref": f"#/{'components/schemas' if version == 3 else 'definitions'}/{name}"}


class Schemas:
    """Collects the schemas that a document needs.

    Args:
        types: of the fields.
        version: of OpenAPI, 2 or 3.
        describe: tells what fields are for.
        published: schemas of types that ``types`` does not tell in full, version 3.
    """

    def __init__(
        self, types: Types, version: int, describe: Describe, published: dict[str, Schema]
    ) -> None:
        self.found: dict[str, Schema] = {}
        self._published = published
        self.version = version
        self._types = types
        self._describe = describe
        self._kinds: dict[str, list[Schema]] = {}
        for key, name in types.kinds.items():
            group_version, _, kind = key.rpartition("/")
            group, _, group_version = group_version.rpartition("/")
            entry = {"group": group, "version": group_version, "kind": kind}
            self._kinds.setdefault(name, []).append(entry)

    def refer(self, name: str) -> Schema:
        """Return a reference to an object type; it and all that it needs are collected."""
        queue = [name]
        while queue:
            one = queue.pop()
            long = long_name(one)
            if long not in self.found:
                self.found[long] = self._custom(one) or self._object(one, queue)
        return reference(long_name(name), self.version)

    def refer_list(self, name: str, group: str, version: str, kind: str) -> Schema:
        """Return a reference to the list of a kind."""
        items, meta = self.refer(name), self.refer("meta.v1.ListMeta")
        text = {"type": "string"}
        long = long_name(name) + LIST
        self.found[long] = {
            "description": f"A list of objects of kind {kind}.",
            "type": "object",
            "required": ["items"],
            "properties": {
                "apiVersion": {"description": "Group and version of the list.", **text},
                "items": {
                    "description": "The objects.",
                    "type": "array",
                    "items": items,
                },
                "kind": {"description": f"{kind}List", **text},
                "metadata": self._with(meta, {"description": "What holds for the list itself."}),
            },
            "x-kubernetes-group-version-kind": [
                {"group": group, "version": version, "kind": kind + LIST}
            ],
        }
        return reference(long, self.version)

    def _custom(self, name: str) -> Schema | None:
        schema = self._published.get(name)
        if schema is None:
            return None
        if self.version == 2:
            schema = _as_version_2(schema)
        properties = dict(schema.get("properties", {}))
        about = {key: properties.get("metadata", {}).get(key) for key in ("description",)}
        about = {key: value for key, value in about.items() if value}
        properties["metadata"] = self._with(self.refer("meta.v1.ObjectMeta"), about)
        text = {"type": "string"}
        properties["apiVersion"] = {"description": "Group and version of the object.", **text}
        properties["kind"] = {"description": "Kind of the object.", **text}
        return {
            **schema,
            "type": "object",
            "properties": properties,
            "x-kubernetes-group-version-kind": self._kinds.get(name, []),
        }

    def _object(self, name: str, queue: list[str]) -> Schema:
        fields = self._types.fields(name)
        properties: dict[str, Schema] = {}
        enums = _enums().get(name, {})
        for key, field in sorted(fields.items()):
            below = self._field(field, key, queue)
            values = enums.get(key)
            if values:
                (below["items"] if field.type == "list" else below)["enum"] = values
            about: Schema = {}
            text = self._describe(name, key)
            if not text and field.object:
                text = self._describe(field.object, "")
            if text:
                about["description"] = text
            if field.default is not None:
                about["default"] = field.default
            properties[key] = self._with(below, about)
        schema: Schema = {"type": "object"}
        text = self._describe(name, "")
        if text:
            schema = {"description": text, **schema}
        if properties:
            schema["properties"] = properties
        required = sorted(key for key, field in fields.items() if field.required)
        if required:
            schema["required"] = required
        if name in self._kinds:
            schema["x-kubernetes-group-version-kind"] = self._kinds[name]
        return schema

    def _field(self, field: Field, key: str, queue: list[str]) -> Schema:
        schema: Schema
        if field.object:
            queue.append(field.object)
            schema = reference(long_name(field.object), self.version)
        elif field.type == "list":
            assert field.of is not None
            schema = {"type": "array", "items": self._field(field.of, "", queue)}
            schema["x-kubernetes-list-type"] = field.list or "atomic"
            if field.keys:
                schema["x-kubernetes-list-map-keys"] = list(field.keys)
        elif field.type == "map":
            assert field.of is not None
            schema = {"type": "object", "additionalProperties": self._field(field.of, "", queue)}
        elif field.type in _PLAIN:
            return dict(_PLAIN[field.type])
        else:
            return self._untyped(field, key)
        strategy = [] if field.merge is None else ["merge"]
        strategy += ["retainKeys"] if field.retain else []
        more: Schema = {}
        if strategy:
            more["x-kubernetes-patch-strategy"] = ",".join(strategy)
        if field.merge:
            more["x-kubernetes-patch-merge-key"] = field.merge
        if field.atomic:
            more["x-kubernetes-map-type"] = "atomic"
        return self._with(schema, more)

    def _untyped(self, field: Field, key: str) -> Schema:
        name = _SHARED.get(field.type) or _OBJECTS.get(key)
        if name is None:
            return {"x-kubernetes-preserve-unknown-fields": True}
        self.found[name] = self._shared(name)
        return reference(name, self.version)

    def _shared(self, name: str) -> Schema:
        if name == _QUANTITY:
            if self.version == 3:
                return {"oneOf": [{"type": "string"}, {"type": "number"}]}
            return {"type": "string"}
        if name == _INT_OR_STRING:
            if self.version == 3:
                return {
                    "format": "int-or-string",
                    "oneOf": [{"type": "integer"}, {"type": "string"}],
                }
            return {"type": "string", "format": "int-or-string"}
        if name in (_FIELDS, _RAW):
            return {"type": "object"}
        return {"type": "string", "format": "date-time"}

    def _with(self, schema: Schema, more: Schema) -> Schema:
        """Return ``schema`` with more said of it; in OpenAPI 3 a ``$ref`` stands alone."""
        if not more:
            return schema
        if self.version == 3 and "$ref" in schema:
            return {**more, "allOf": [schema]}
        return {**more, **schema}


def _as_version_2(schema: Schema) -> Schema:
    """Return a structural schema in the terms of OpenAPI 2, which are those of older clients."""
    kept = {key: value for key, value in schema.items() if key not in _ONLY_3}
    if kept.pop("nullable", False) or schema.get("x-kubernetes-int-or-string"):
        # There null, or one of two types, can only be said by saying nothing.
        kept = {key: value for key, value in kept.items() if key not in _TYPING}
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        # Clients take fields that are not listed for unknown ones.
        kept = {key: value for key, value in kept.items() if key not in _TYPING}
    if "properties" in kept:
        kept["properties"] = {
            key: _as_version_2(below) for key, below in kept["properties"].items()
        }
    for key in ("items", "additionalProperties"):
        if isinstance(kept.get(key), dict):
            kept[key] = _as_version_2(kept[key])
    return kept


@cache
def _enums() -> dict[str, dict[str, list[str]]]:
    path = Path(__file__).parent.parent / "kinds" / "enums.json"
    found: dict[str, dict[str, list[str]]] = json.loads(path.read_bytes())
    return found
