"""Make the tables of kinds from the discovery and OpenAPI v3 documents of an API server.

    python -m controlplane.kinds.derive DISCOVERY_DIRECTORY OPENAPI_DIRECTORY

The directories hold ``api__v1.json``, ``apis__apps__v1.json`` ... as ``kubectl get --raw /api/v1``
and ``kubectl get --raw /openapi/v3/api/v1`` (with ``_openapi`` in the name) print them. Only facts
are kept: names, types, list keys, defaults, values of enumerations; no sentence of theirs.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
GROUP_VERSIONS = (
    "v1", "apps/v1", "batch/v1", "autoscaling/v1", "autoscaling/v2", "policy/v1",
    "events.k8s.io/v1", "discovery.k8s.io/v1", "networking.k8s.io/v1", "coordination.k8s.io/v1",
    "scheduling.k8s.io/v1", "node.k8s.io/v1", "storage.k8s.io/v1", "rbac.authorization.k8s.io/v1",
    "authentication.k8s.io/v1", "authorization.k8s.io/v1", "certificates.k8s.io/v1",
    "apiextensions.k8s.io/v1", "resource.k8s.io/v1", "admissionregistration.k8s.io/v1",
    "apiregistration.k8s.io/v1",
)  # fmt: skip
# What the server does not offer of these groups.
LEFT_OUT = {"componentstatuses"}
# Controllers want to list these kinds; nothing would enforce what is made of them, so nothing is.
READING = ("get", "list", "watch")
EMPTY = ("admissionregistration.k8s.io/v1",)
PREFIXES = (
    ("io.k8s.apimachinery.pkg.apis.meta.", "meta."),
    ("io.k8s.apimachinery.pkg.util.intstr.", "util."),
    ("io.k8s.apimachinery.pkg.api.resource.", "util."),
    ("io.k8s.apimachinery.pkg.runtime.", "util."),
    ("io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.", "apiextensions."),
    ("io.k8s.kube-aggregator.pkg.apis.apiregistration.", "apiregistration."),
    ("io.k8s.api.", ""),
)
SCALARS = {
    "util.IntOrString": "int-or-string",
    "util.Quantity": "quantity",
    "util.RawExtension": "any",
    "meta.v1.Time": "time",
    "meta.v1.MicroTime": "micro-time",
    "meta.v1.FieldsV1": "any",
    "meta.v1.Patch": "any",
    "apiextensions.v1.JSON": "any",
    "apiextensions.v1.JSONSchemaPropsOrArray": "any",
    "apiextensions.v1.JSONSchemaPropsOrBool": "any",
    "apiextensions.v1.JSONSchemaPropsOrStringArray": "any",
}


def main(discovery: Path, openapi: Path) -> None:
    """Write both tables beside this file."""
    resources: dict[str, Any] = {}
    types: dict[str, Any] = {}
    kinds: dict[str, str] = {}
    enums: dict[str, dict[str, list[str]]] = {}
    for group_version in GROUP_VERSIONS:
        stem = ("apis/" if "/" in group_version else "api/") + group_version
        stem = stem.replace("/", "__")
        resources[group_version] = _resources(json.loads((discovery / f"{stem}.json").read_text()))
        if group_version in EMPTY:
            for facts in resources[group_version].values():
                facts["verbs"] = [verb for verb in facts["verbs"] if verb in READING]
        document = json.loads((openapi / f"{stem}_openapi.json").read_text())
        schemas = document["components"]["schemas"]
        atomic = {
            _short(name)
            for name, schema in schemas.items()
            if schema.get("x-kubernetes-map-type") == "atomic"
        }
        for name, schema in schemas.items():
            short = _short(name)
            if short in SCALARS:
                continue
            types[short] = _fields(schema, atomic)
            enums[short] = _enums(schema)
            for entry in schema.get("x-kubernetes-group-version-kind", []):
                group = f"{entry['group']}/{entry['version']}".removeprefix("/")
                if not short.startswith("meta."):
                    kinds[f"{group}/{entry['kind']}"] = short
    served = {(group, one["kind"]) for group, found in resources.items() for one in found.values()}
    wanted = {kinds[f"{g}/{k}"] for g, k in served if f"{g}/{k}" in kinds} | {
        "meta.v1.Status", "meta.v1.DeleteOptions", "policy.v1.Eviction", "autoscaling.v1.Scale",
        "core.v1.Binding", "authentication.v1.TokenRequest",
    }  # fmt: skip
    kept = _reachable(types, wanted)
    names = {gvk: name for gvk, name in kinds.items() if name in kept}
    _write(HERE / "resources.json", resources)
    _write(HERE / "types.json", {"kinds": names, "types": {name: types[name] for name in kept}})
    _write(HERE / "enums.json", {name: enums[name] for name in kept if enums[name]})


def _resources(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for one in document["resources"]:
        if one["name"] in LEFT_OUT or one["name"].split("/")[0] in LEFT_OUT:
            continue
        facts = {
            key: one[key]
            for key in ("kind", "namespaced", "singularName", "shortNames", "categories", "verbs",
                        "group", "version")
            if one.get(key) not in (None, "", [])
        }  # fmt: skip
        found[one["name"]] = facts
    return found


def _enums(schema: dict[str, Any]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, facts in schema.get("properties", {}).items():
        values = facts.get("enum") or facts.get("items", {}).get("enum")
        if values:
            found[name] = values
    return found


def _fields(schema: dict[str, Any], atomic: set[str]) -> dict[str, Any]:
    required = set(schema.get("required", []))
    fields: dict[str, Any] = {}
    for name, facts in schema.get("properties", {}).items():
        field = _type(facts)
        # A type that is owned as a whole is so in every field that does not say otherwise.
        if field["type"][1:] in atomic and facts.get("x-kubernetes-map-type") != "granular":
            field["atomic"] = True
        if name in required:
            field["required"] = True
        # The zero of its type is no default but what an absent field means.
        if facts.get("default") not in (None, {}, [], "", 0, False):
            field["default"] = facts["default"]
        fields[name] = field
    return fields


def _type(facts: dict[str, Any]) -> dict[str, Any]:
    reference = facts.get("$ref") or next((a["$ref"] for a in facts.get("allOf", [])), None)
    found: dict[str, Any]
    if reference is not None:
        short = _short(reference.rpartition("/")[2])
        found = {"type": SCALARS[short]} if short in SCALARS else {"type": "#" + short}
    elif facts.get("type") == "array":
        found = {"type": "list", "of": _type(facts["items"])}
        kind = facts.get("x-kubernetes-list-type")
        if kind is not None and kind != "atomic":
            found["list"] = kind
        if "x-kubernetes-list-map-keys" in facts:
            found["keys"] = facts["x-kubernetes-list-map-keys"]
        if "merge" in facts.get("x-kubernetes-patch-strategy", ""):
            found["merge"] = facts.get("x-kubernetes-patch-merge-key", "")
    elif "additionalProperties" in facts:
        found = {"type": "map", "of": _type(facts["additionalProperties"])}
    elif facts.get("type") == "object" or "type" not in facts:
        found = {"type": "any"}
    else:
        found = {"type": facts.get("format") or facts["type"]}
        if facts["type"] == "integer" and found["type"] == "integer":
            found["type"] = "int64"
    if facts.get("x-kubernetes-map-type") == "atomic":
        found["atomic"] = True
    if "retainKeys" in facts.get("x-kubernetes-patch-strategy", ""):
        found["retain"] = True
    return found


def _reachable(types: dict[str, Any], wanted: set[str]) -> list[str]:
    seen: set[str] = set()
    queue = sorted(wanted)
    while queue:
        name = queue.pop()
        if name not in seen:
            seen.add(name)
            queue += [found for field in types[name].values() for found in _references(field)]
    return sorted(seen)


def _references(field: dict[str, Any]) -> list[str]:
    found = [field["type"][1:]] if field["type"].startswith("#") else []
    return found + (_references(field["of"]) if "of" in field else [])


def _short(name: str) -> str:
    for long, short in PREFIXES:
        if name.startswith(long):
            return short + name.removeprefix(long)
    return name


def _write(path: Path, table: dict[str, Any]) -> None:
    # A line for each entry of the second level, so that a change shows as one.
    parts = []
    for key, entries in table.items():
        lines = ",\n".join(
            f"  {json.dumps(name)}: {json.dumps(value, sort_keys=True)}"
            for name, value in sorted(entries.items())
        )
        parts.append(f"{json.dumps(key)}: {{\n{lines}\n}}")
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
