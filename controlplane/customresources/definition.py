"""CustomResourceDefinitions: their defaults and what they must be (pure).

Source: Kubernetes documentation, "Extend the Kubernetes API with CustomResourceDefinitions".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from controlplane.api.errors import Cause
from controlplane.api.metadata import (
    duplicate,
    forbidden,
    immutable,
    is_dns_subdomain,
    required,
    unsupported,
    wrong,
)
from controlplane.api.resource import Column, Context, Object, Strategy
from controlplane.customresources import paths
from controlplane.customresources.shape import Schema
from controlplane.customresources.structure import check_schema
from controlplane.customresources.values import FORMATS, invalid_value
from controlplane.kinds.types import Types, WrongTypeError

FINALIZER: Final = "customresourcecleanup.apiextensions.k8s.io"

_LABEL: Final = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", re.ASCII)
_NOT_A_LABEL: Final = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an "
    "alphabetic character, and end with an alphanumeric character"
)
_PROPS: Final = "apiextensions.v1.JSONSchemaProps"
_COLUMN_TYPES: Final = ("boolean", "date", "integer", "number", "string")
_COLUMN_FORMATS: Final = ("byte", "date", "date-time", "double", "float", "int32", "int64",
                          "password")  # fmt: skip
_MAX_SELECTABLE: Final = 8


class DefinitionStrategy(Strategy):
    """How CustomResourceDefinitions are made and changed."""

    unconditional = False
    deletion_finalizer = FINALIZER
    columns = (Column("Created At", "date", description="When it was made."),)

    def clean(self, types: Types, name: str, body: Object) -> tuple[Object, list[str]]:
        """Clean schemas inside of schemas, too, where the table has no type for them."""
        value, unknown = types.clean(name, body)
        for index, version in enumerate(value.get("spec", {}).get("versions", [])):
            schema = version.get("schema", {}).get("openAPIV3Schema")
            if schema is not None:
                path = f"spec.versions[{index}].schema.openAPIV3Schema"
                _clean_below(types, schema, path, unknown)
        return value, unknown

    def default(self, value: Object) -> None:
        """Name it in all forms; convert by nothing but the name of the version."""
        spec = value.setdefault("spec", {})
        names = spec.setdefault("names", {})
        kind = names.get("kind", "")
        if kind:
            if not names.get("singular"):
                names["singular"] = kind.lower()
            if not names.get("listKind"):
                names["listKind"] = f"{kind}List"
        spec.setdefault("conversion", {"strategy": "None"})

    def prepare_create(self, value: Object, context: Context) -> None:
        """Begin with an empty status."""
        value["status"] = {
            "conditions": [],
            "acceptedNames": {"plural": "", "kind": ""},
            "storedVersions": _storage(value),
        }

    def prepare_update(self, value: Object, old: Object, context: Context) -> None:
        """Note in which versions there may be objects."""
        stored = value.setdefault("status", {}).setdefault("storedVersions", [])
        stored += [name for name in _storage(value) if name not in stored]

    def prepare_delete(self, value: Object, context: Context) -> None:
        """Tell that its objects are about to go."""
        set_condition(
            value, "Terminating", True, "InstanceDeletionPending",
            "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon",
            context.now,
        )  # fmt: skip

    def validate(self, value: Object, old: Object | None) -> list[Cause]:
        """Check names, versions and schemas."""
        causes = [*_check_names(value), *_check_versions(value["spec"], "spec")]
        if old is not None:
            causes += _check_change(value, old)
        stored = value.get("status", {}).get("storedVersions", [])
        known = {one.get("name") for one in value["spec"].get("versions", [])}
        for index, name in enumerate(stored):
            if name not in known:
                text = (
                    f"missing from spec.versions; {name} was previously a storage version, and "
                    "must remain in spec.versions until a storage migration ensures no data "
                    f"remains persisted in {name} and removes {name} from status.storedVersions"
                )
                causes.append(wrong(f"status.storedVersions[{index}]", name, text))
        return causes

    def warnings(self, value: Object) -> list[str]:
        """Tell of formats that mean nothing."""
        found = [
            name
            for version in value["spec"]["versions"]
            for name in _formats(version.get("schema", {}).get("openAPIV3Schema", {}))
        ]
        return [f'unrecognized format "{name}"' for name in dict.fromkeys(found)]

    def row(self, value: Object) -> list[Any]:
        """Return when it was made."""
        return [value["metadata"].get("creationTimestamp", "")]


def set_condition(
    value: Object, kind: str, status: bool, reason: str, message: str, now: str
) -> bool:
    """Set a condition of a definition's status, and say whether that changed it."""
    conditions = value.setdefault("status", {}).setdefault("conditions", [])
    found = next((one for one in conditions if one["type"] == kind), None)
    text = "True" if status else "False"
    wanted = {"type": kind, "status": text, "reason": reason, "message": message}
    if found is None:
        conditions.append({**wanted, "lastTransitionTime": now})
        return True
    if all(found.get(key) == word for key, word in wanted.items()):
        return False
    moment = found.get("lastTransitionTime", now) if found["status"] == text else now
    found.update(wanted, lastTransitionTime=moment)
    return True


def is_true(value: Object, kind: str) -> bool:
    """Say whether a condition of a definition is true."""
    return any(
        one["type"] == kind and one["status"] == "True"
        for one in value.get("status", {}).get("conditions", [])
    )


def _storage(value: Object) -> list[str]:
    versions = value["spec"].get("versions", [])
    found = [one["name"] for one in versions if one.get("storage") and one.get("name")]
    return found[:1]


def _clean_below(types: Types, schema: Schema, path: str, unknown: list[str]) -> None:
    for key in ("items", "additionalProperties", "additionalItems", "not"):
        below = schema.get(key)
        if isinstance(below, dict):
            if key != "not":
                below, found = types.clean(_PROPS, below)
                unknown += [f"{path}.{key}.{one}" for one in found]
                schema[key] = below
            _clean_below(types, below, f"{path}.{key}", unknown)
        elif below is not None and (key == "items" or not isinstance(below, bool)):
            raise WrongTypeError(f"{path}.{key}: must be a schema")
    for key in ("allOf", "anyOf", "oneOf"):
        for index, below in enumerate(schema.get(key, [])):
            _clean_below(types, below, f"{path}.{key}[{index}]", unknown)
    for name, below in schema.get("properties", {}).items():
        _clean_below(types, below, f"{path}.properties[{name}]", unknown)


def _check_names(value: Object) -> Iterator[Cause]:
    spec, names = value["spec"], value["spec"].get("names", {})
    group, plural = spec.get("group", ""), names.get("plural", "")
    if value["metadata"].get("name") != f"{plural}.{group}":
        text = 'must be spec.names.plural+"."+spec.group'
        yield wrong("metadata.name", value["metadata"].get("name", ""), text)
    if not group:
        yield required("spec.group")
    elif not is_dns_subdomain(group):
        yield wrong("spec.group", group, "a lowercase RFC 1123 subdomain is needed")
    elif "." not in group:
        yield wrong("spec.group", group, "should be a domain with at least one dot")
    yield from _check_approval(value, group)
    scope = spec.get("scope", "")
    if not scope:
        yield required("spec.scope")
    elif scope not in ("Cluster", "Namespaced"):
        yield unsupported("spec.scope", scope, ["Cluster", "Namespaced"])
    for key in ("plural", "singular", "kind", "listKind"):
        name = names.get(key, "")
        if not name:
            yield required(f"spec.names.{key}")
        elif not _LABEL.fullmatch(name.lower() if key in ("kind", "listKind") else name):
            mixed = "may have mixed case, but should otherwise match: "
            text = (mixed if key in ("kind", "listKind") else "") + _NOT_A_LABEL
            yield wrong(f"spec.names.{key}", name, text)
    if names.get("kind") and names.get("kind") == names.get("listKind"):
        yield wrong("spec.names.listKind", names["kind"], "kind and listKind may not be the same")
    for key in ("shortNames", "categories"):
        for index, name in enumerate(names.get(key, [])):
            if not _LABEL.fullmatch(name):
                yield wrong(f"spec.names.{key}[{index}]", name, _NOT_A_LABEL)
    if spec.get("preserveUnknownFields"):
        text = (
            "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in "
            "spec.versions[*].schema instead"
        )
        yield invalid_value("spec.preserveUnknownFields", True, text)
    strategy = spec.get("conversion", {}).get("strategy", "")
    if strategy != "None":
        yield unsupported("spec.conversion.strategy", strategy, ["None"])
    for key in ("webhook",):
        if key in spec.get("conversion", {}) and strategy == "None":
            text = "should not be set when strategy is not set to Webhook"
            yield forbidden(f"spec.conversion.{key}", text)


def _check_approval(value: Object, group: str) -> Iterator[Cause]:
    """Ask for the word of the project's owners for groups that are theirs (KEP-1111)."""
    if not group.endswith((".k8s.io", ".kubernetes.io")):
        return
    key = "api-approved.kubernetes.io"
    told = value["metadata"].get("annotations", {}).get(key, "")
    path = f"metadata.annotations[{key}]"
    if not told:
        text = 'protected groups must have approval annotation "api-approved.kubernetes.io", see '
        yield required(path, f"{text}https://github.com/kubernetes/enhancements/pull/1111")
    elif not told.startswith(("unapproved", "https://")):
        text = 'protected groups must have approval annotation "api-approved.kubernetes.io" with ' \
            'either a URL or a reason starting with "unapproved", see ' \
            "https://github.com/kubernetes/enhancements/pull/1111"  # fmt: skip
        yield wrong(path, told, text)


def _check_versions(spec: Object, path: str) -> Iterator[Cause]:
    versions, names = spec.get("versions", []), []
    for index, version in enumerate(versions):
        here = f"{path}.versions[{index}]"
        # What is the same for all versions is told as if it stood above them.
        above, schema_path = (path, "validation") if len(versions) == 1 else (here, "schema")
        schema_path = f"{above}.{schema_path}.openAPIV3Schema"
        name = version.get("name", "")
        names.append(name)
        if not _LABEL.fullmatch(name):
            yield wrong(f"{here}.name", name, _NOT_A_LABEL)
        if "deprecationWarning" in version:
            yield from _check_warning(version, f"{here}.deprecationWarning")
        schema = version.get("schema", {}).get("openAPIV3Schema")
        if schema is None:
            yield required(f"{here}.schema.openAPIV3Schema")
        else:
            yield from check_schema(schema, schema_path)
        yield from _check_scale(version.get("subresources", {}), f"{above}.subresources.scale")
        for number, column in enumerate(version.get("additionalPrinterColumns", [])):
            yield from _check_column(column, f"{above}.additionalPrinterColumns[{number}]")
        yield from _check_selectable(
            version.get("selectableFields", []), schema or {}, f"{above}.selectableFields"
        )
    told = "[]" if not versions else json.dumps(versions, separators=(",", ":"))[:200]
    if len(set(names)) != len(names):
        text = f"Invalid value: {told}: must contain unique version names"
        yield Cause("FieldValueInvalid", text, f"{path}.versions")
    if sum(bool(one.get("storage")) for one in versions) != 1:
        text = f"Invalid value: {told}: must have exactly one version marked as storage version"
        yield Cause("FieldValueInvalid", text, f"{path}.versions")


def _check_warning(version: Object, path: str) -> Iterator[Cause]:
    told = version["deprecationWarning"]
    if not version.get("deprecated"):
        yield wrong(path, told, "can only be set for deprecated versions")
    if len(told) > 256:
        yield wrong(path, told, "must be <= 256 characters long")
    if not told:
        yield wrong(path, told, "must not be an empty string")
    if not told.isprintable():
        yield wrong(path, told, "must only contain printable UTF-8 characters")


def _check_scale(subresources: Object, path: str) -> Iterator[Cause]:
    scale = subresources.get("scale")
    if scale is None:
        return
    for key, root, needed in (
        ("specReplicasPath", "spec", True),
        ("statusReplicasPath", "status", True),
        ("labelSelectorPath", "", False),
    ):
        told = scale.get(key, "")
        if not told:
            if needed:
                yield required(f"{path}.{key}")
        elif not paths.is_simple(told):
            yield wrong(f"{path}.{key}", told, "only simple json paths with dots are supported")
        elif paths.steps(told)[0] not in ([root] if root else ["spec", "status"]):
            where = f".{root}" if root else ".spec or .status"
            yield wrong(f"{path}.{key}", told, f"should be a json path under {where}")


def _check_column(column: Object, path: str) -> Iterator[Cause]:
    if not column.get("name"):
        yield required(f"{path}.name")
    kind = column.get("type", "")
    text = f"must be one of {','.join(_COLUMN_TYPES)}"
    if not kind:
        yield required(f"{path}.type", text)
    elif kind not in _COLUMN_TYPES:
        yield wrong(f"{path}.type", kind, text)
    if column.get("format") and column["format"] not in _COLUMN_FORMATS:
        text = f"must be one of {','.join(_COLUMN_FORMATS)}"
        yield wrong(f"{path}.format", column["format"], text)
    told = column.get("jsonPath", "")
    if not told:
        yield required(f"{path}.JSONPath")
        return
    try:
        paths.compile_path(told)
    except ValueError as error:
        yield wrong(f"{path}.JSONPath", told, f"is an invalid path: {error}")


def _check_selectable(fields: list[Object], schema: Schema, path: str) -> Iterator[Cause]:
    seen: set[str] = set()
    for index, one in enumerate(fields):
        here, told = f"{path}[{index}].jsonPath", one.get("jsonPath", "")
        if not told:
            yield required(here)
            continue
        known: Any = schema
        for name in paths.steps(told) if paths.is_simple(told) else ("",):
            known = known.get("properties", {}).get(name, {})
        if not known:
            yield wrong(here, told, "is an invalid path: the schema has no such field")
        elif paths.steps(told)[0] == "metadata":
            yield wrong(here, told, "must not point to fields in metadata")
        elif known.get("type") not in ("string", "boolean", "integer"):
            text = (
                "must point to a field of type string, boolean or integer. Enum string fields and "
                "strings with formats are allowed."
            )
            yield wrong(here, told, text)
        if told in seen:
            yield duplicate(here, told)
        seen.add(told)
    if len(seen) > _MAX_SELECTABLE:
        text = f"Too many: {len(seen)}: must have at most {_MAX_SELECTABLE} items"
        yield Cause("FieldValueTooMany", text, path)


def _check_change(value: Object, old: Object) -> Iterator[Cause]:
    now, before = value["spec"], old["spec"]
    fixed = [("group",), ("names", "plural")]
    if is_true(old, "Established"):
        fixed += [("scope",), ("names", "kind")]
    for names in fixed:
        if paths.get(now, names) != paths.get(before, names):
            yield immutable(f"spec.{'.'.join(names)}", paths.get(now, names) or "")


def _formats(schema: Schema) -> Iterator[str]:
    if schema.get("format") and schema["format"] not in FORMATS:
        yield schema["format"]
    below = [*schema.get("properties", {}).values(), schema.get("items")]
    for one in [*below, schema.get("additionalProperties")]:
        if isinstance(one, dict):
            yield from _formats(one)
