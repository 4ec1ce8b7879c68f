"""What a structural schema says of the shape of objects: pruning, defaults, field types (pure).

Source: Kubernetes documentation, "Extend the Kubernetes API with CustomResourceDefinitions":
"Specifying a structural schema", "Field pruning", "Defaulting and Nullable".
"""

from __future__ import annotations

import copy
from typing import Any, Final

from controlplane.kinds.types import REST, Field, Types, WrongTypeError

Schema = dict[str, Any]

PRESERVE: Final = "x-kubernetes-preserve-unknown-fields"
EMBEDDED: Final = "x-kubernetes-embedded-resource"
INT_OR_STRING: Final = "x-kubernetes-int-or-string"
_OWN: Final = ("apiVersion", "kind", "metadata")
_META: Final = "meta.v1.ObjectMeta"
_MAX_DEPTH: Final = 200


class Shape:
    """The shape of the objects of one version.

    Args:
        schema: structural, of the whole object.
        types: for the metadata.
    """

    def __init__(self, schema: Schema, types: Types) -> None:
        self._schema = schema
        self._types = types

    def clean(self, value: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
        """Return an object as it is kept, and the paths of fields that it does not have.

        Raises:
            WrongTypeError: its metadata has a value of another type, or it is nested too deep.
        """
        unknown: list[str] = []
        cleaned = self._prune(self._schema, value, "", unknown, 0, resource=True)
        return cleaned, unknown

    def add_defaults(self, value: dict[str, Any]) -> None:
        """Put in what the schema says of absent fields."""
        _default(self._schema, value, resource=True)

    def _prune(
        self,
        schema: Schema,
        value: Any,
        path: str,
        unknown: list[str],
        depth: int,
        *,
        resource: bool = False,
    ) -> Any:
        if depth > _MAX_DEPTH:
            raise WrongTypeError(f"{path}: nested deeper than {_MAX_DEPTH} levels")
        if isinstance(value, list):
            below = schema.get("items", {PRESERVE: True} if schema.get(PRESERVE) else {})
            return [
                self._prune(below, item, f"{path}[{index}]", unknown, depth + 1)
                for index, item in enumerate(value)
            ]
        if not isinstance(value, dict):
            return value
        resource = resource or bool(schema.get(EMBEDDED))
        result: dict[str, Any] = {}
        for key, item in value.items():
            here = f"{path}.{key}" if path else key
            if resource and key in _OWN:
                result[key] = self._own(key, item, here, unknown)
                continue
            known = _below(schema, key)
            if known is None:
                unknown.append(here)
            elif item is not None or known.get("nullable") or PRESERVE in known:
                result[key] = self._prune(known, item, here, unknown, depth + 1)
        return result

    def _own(self, key: str, value: Any, path: str, unknown: list[str]) -> Any:
        if key != "metadata":
            return value
        try:
            cleaned, found = self._types.clean(_META, value if value is not None else {})
        except WrongTypeError as error:
            raise WrongTypeError(f"{path}.{error}") from error
        unknown += [f"{path}.{one}" for one in found]
        return cleaned


def _below(schema: Schema, key: str) -> Schema | None:
    """Return the schema of a field or of a map's value; None: there is no such field."""
    properties = schema.get("properties", {})
    if key in properties:
        found: Schema = properties[key]
        return found
    additional = schema.get("additionalProperties")
    if isinstance(additional, dict):
        return additional
    if additional is True or schema.get(PRESERVE):
        return {PRESERVE: True}
    return None


def _default(schema: Schema, value: Any, *, resource: bool = False) -> None:
    if isinstance(value, list):
        for item in value:
            _default(schema.get("items", {}), item)
    if not isinstance(value, dict):
        return
    for key, below in schema.get("properties", {}).items():
        if resource and key in _OWN:
            continue
        if key not in value and "default" in below:
            value[key] = copy.deepcopy(below["default"])
        if key in value:
            _default(below, value[key])
    additional = schema.get("additionalProperties")
    if isinstance(additional, dict):
        for key, item in value.items():
            if key not in schema.get("properties", {}):
                _default(additional, item)


def field_types(name: str, schema: Schema) -> dict[str, dict[str, Field]]:
    """Return the types of a schema's fields, as far as owners of fields need to know them.

    Args:
        name: of the type of the whole object; those of parts begin with it.
        schema: structural.
    """
    found: dict[str, dict[str, Field]] = {}
    _object(name, schema, found)
    found[name] |= {
        "apiVersion": Field("string"),
        "kind": Field("string"),
        "metadata": Field(f"#{_META}"),
    }
    return found


def _object(name: str, schema: Schema, found: dict[str, dict[str, Field]]) -> Field:
    fields = {
        key: _field(f"{name}.{key}", below, found)
        for key, below in schema.get("properties", {}).items()
    }
    if schema.get(PRESERVE):
        fields[REST] = Field("deduced")
    if schema.get(EMBEDDED):
        fields["metadata"] = Field(f"#{_META}")
    found[name] = fields
    return Field(f"#{name}", atomic=schema.get("x-kubernetes-map-type") == "atomic")


def _field(name: str, schema: Schema, found: dict[str, dict[str, Field]]) -> Field:
    kind = schema.get("type")
    if kind == "array":
        of = _field(f"{name}[]", schema.get("items", {}), found)
        listed = schema.get("x-kubernetes-list-type", "atomic")
        keys = tuple(schema.get("x-kubernetes-list-map-keys", ()))
        if listed == "map" and of.object:
            # What an absent key stands for tells items apart as well.
            properties = schema["items"].get("properties", {})
            for key in keys:
                if "default" in properties.get(key, {}):
                    found[of.object][key] = Field("any", default=properties[key]["default"])
        return Field("list", of, list="" if listed == "atomic" else listed, keys=keys)
    if kind == "object" and isinstance(schema.get("additionalProperties"), dict):
        of = _field(f"{name}{{}}", schema["additionalProperties"], found)
        return Field("map", of, atomic=schema.get("x-kubernetes-map-type") == "atomic")
    if kind == "object" and ("properties" in schema or schema.get(EMBEDDED)):
        return _object(name, schema, found)
    if schema.get(PRESERVE):
        return Field("deduced")
    return Field("any")
