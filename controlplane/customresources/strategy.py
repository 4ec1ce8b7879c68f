"""Custom resources of one version: how their objects are cleaned, checked, shown and kept."""

from __future__ import annotations

from typing import Any, Final

from controlplane.api.errors import Cause
from controlplane.api.resource import AGE, Column, Context, Object, Resource, Strategy
from controlplane.customresources import paths
from controlplane.customresources.rules import Rules
from controlplane.customresources.shape import PRESERVE, Schema, Shape
from controlplane.customresources.values import Values
from controlplane.kinds.types import Types
from controlplane.openapi.schemas import CUSTOM
from controlplane.server.tables import age_of

VERBS: Final = ("delete", "deletecollection", "get", "list", "patch", "create", "update", "watch")

# What is wrong with a value so that rules about it make no sense.
_BLOCKING: Final = frozenset(
    {"FieldValueRequired", "FieldValueNotSupported", "FieldValueTooLong", "FieldValueTooMany",
     "FieldValueTypeInvalid"}
)  # fmt: skip
_UNCHECKED: Final = Cause(
    "FieldValueInvalid",
    "Invalid value: null: some validation rules were not checked because the object was invalid; "
    "correct the existing errors to complete validation",
    "<nil>",
)


class CustomStrategy(Strategy):
    """How objects of a custom resource are made and changed.

    Args:
        definition: the CustomResourceDefinition.
        version: entry of its ``spec.versions``.
        types: of the built-in kinds, for metadata.
    """

    typed = False

    def __init__(self, definition: Object, version: Object, types: Types) -> None:
        spec = definition["spec"]
        schema = schema_of(version)
        self._api_version = f"{spec['group']}/{version['name']}"
        self._shape = Shape(schema, types)
        self._values = Values(schema)
        self._rules = Rules(schema)
        self._warning = _deprecation(version, self._api_version, spec["names"]["kind"])
        self.has_status = "status" in version.get("subresources", {})
        stored = next(one["name"] for one in spec["versions"] if one.get("storage"))
        self.storage_version = stored
        self._stored = f"{spec['group']}/{stored}"
        # Objects that were kept before the definition changed may be of an older shape.
        self.converts = len(spec["versions"]) > 1 or definition["metadata"]["generation"] > 1
        self._selectable = {
            one["jsonPath"].removeprefix("."): paths.steps(one["jsonPath"])
            for one in version.get("selectableFields", [])
        }
        self.selectable = frozenset(self._selectable)
        self._columns = [
            (one, paths.compile_path(one["jsonPath"]))
            for one in version.get("additionalPrinterColumns", [])
        ]
        self.columns = _columns(version)

    def clean(self, types: Types, name: str, body: Object) -> tuple[Object, list[str]]:
        """Prune what the schema does not know."""
        return self._shape.clean(body)

    def default(self, value: Object) -> None:
        """Put in the schema's defaults."""
        self._shape.add_defaults(value)

    def prepare_create(self, value: Object, context: Context) -> None:
        """Drop the status, if it is a subresource."""
        if self.has_status:
            value.pop("status", None)

    def is_new_generation(self, value: Object, old: Object) -> bool:
        """Count changes of anything but metadata, and but the status if it is a subresource."""
        ignored = {"metadata"} | ({"status"} if self.has_status else set())
        return any(
            value.get(key) != old.get(key)
            for key in value.keys() | old.keys()
            if key not in ignored
        )

    def validate(self, value: Object, old: Object | None) -> list[Cause]:
        """Check values, then rules: these count on the values being of the right types."""
        causes = self._values.check(value, old)
        if not any(cause.reason in _BLOCKING for cause in causes):
            return causes + self._rules.check(value, old)
        return causes + ([_UNCHECKED] if self._rules.any else [])

    def validate_status(self, value: Object, old: Object) -> list[Cause]:
        """Check likewise."""
        return self.validate(value, old)

    def warnings(self, value: Object) -> list[str]:
        """Tell that the version is deprecated."""
        return [self._warning] if self._warning else []

    def fields(self, value: Object) -> dict[str, str]:
        """Return the definition's selectable fields."""
        return {path: _text(paths.get(value, names)) for path, names in self._selectable.items()}

    def row(self, value: Object) -> list[Any]:
        """Return the cells of the definition's columns."""
        return [_cell(one["type"], read(value)) for one, read in self._columns]

    def to_stored(self, value: Object) -> Object:
        """Keep it in the storage version: versions differ by name only (strategy None)."""
        return {**value, "apiVersion": self._stored}

    def to_served(self, value: Object) -> Object:
        """Return it in this version's name and shape."""
        served, _ = self._shape.clean({**value, "apiVersion": self._api_version})
        self._shape.add_defaults(served)
        return served


def schema_of(version: Object) -> Schema:
    """Return the schema of a version of a definition."""
    schema: Schema = version.get("schema", {}).get("openAPIV3Schema", {PRESERVE: True})
    return schema


def type_name(definition: Object, version: str) -> str:
    """Return the name of the type of a version: ``custom:com.example.v1.Thing``."""
    spec = definition["spec"]
    group = ".".join(reversed(spec["group"].split(".")))
    return f"{CUSTOM}{group}.{version}.{spec['names']['kind']}"


def make_resource(definition: Object, version: Object, types: Types) -> Resource:
    """Return a version of a definition as it is served.

    Args:
        definition: whose names are accepted.
        version: entry of its ``spec.versions``.
        types: of the built-in kinds.
    """
    spec, names = definition["spec"], definition["status"]["acceptedNames"]
    ending = "deletionTimestamp" in definition["metadata"]
    kind = names["kind"]
    subresources: dict[str, dict[str, Any]] = {}
    verbs = ["get", "patch", "update"]
    if "status" in version.get("subresources", {}):
        subresources["status"] = {"kind": kind, "verbs": verbs}
    if "scale" in version.get("subresources", {}):
        subresources["scale"] = {
            "kind": "Scale", "group": "autoscaling", "version": "v1", "verbs": verbs,
        }  # fmt: skip
    return Resource(
        group=spec["group"],
        version=version["name"],
        plural=names["plural"],
        singular=names.get("singular", kind.lower()),
        kind=kind,
        namespaced=spec["scope"] == "Namespaced",
        type_name=type_name(definition, version["name"]),
        strategy=CustomStrategy(definition, version, types),
        short_names=tuple(names.get("shortNames", ())),
        categories=tuple(names.get("categories", ())),
        verbs=tuple(verb for verb in VERBS if not (ending and verb == "create")),
        subresources=subresources,
    )


def _columns(version: Object) -> tuple[Column, ...]:
    told = version.get("additionalPrinterColumns", [])
    if not told:
        return (AGE,)
    name = Column("Name", "string", "name", 0, "Name of the object, unique in its namespace.")
    columns = [
        Column(
            one["name"], one["type"], one.get("format", ""), one.get("priority", 0),
            one.get("description") or f"The value at {one['jsonPath']}.",
        )
        for one in told
    ]  # fmt: skip
    return (name, *columns)


def _cell(kind: str, found: list[Any]) -> Any:
    if not found:
        return None
    value = found[0]
    if kind == "date":
        return age_of(value) if isinstance(value, str) else "<unknown>"
    if kind == "string":
        return ",".join(_text(one) for one in found) if len(found) > 1 else _text(value)
    if kind == "boolean":
        return value if isinstance(value, bool) else None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if kind == "integer" else value


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict | list):
        import json

        return json.dumps(value, separators=(",", ":"))
    return str(value)


def _deprecation(version: Object, api_version: str, kind: str) -> str:
    if not version.get("deprecated"):
        return ""
    told: str = version.get("deprecationWarning", f"{api_version} {kind} is deprecated")
    return told
