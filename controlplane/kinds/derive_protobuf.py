"""Make the table of protobuf fields from the sources that define the kinds.

    python -m controlplane.kinds.derive_protobuf DIRECTORY...

The directories are those of the modules ``k8s.io/api``, ``k8s.io/apimachinery`` and
``k8s.io/apiextensions-apiserver``. Only facts are kept: numbers, names, types, and whether a zero
means something (a pointer in Go) or stands for an absent field.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from controlplane.kinds.derive import HERE

_PREFIXES = (
    ("k8s.io.apimachinery.pkg.apis.meta.", "meta."),
    ("k8s.io.apimachinery.pkg.util.intstr.", "util."),
    ("k8s.io.apimachinery.pkg.api.resource.", "util."),
    ("k8s.io.apimachinery.pkg.runtime.", "util."),
    ("k8s.io.apiextensions_apiserver.pkg.apis.apiextensions.", "apiextensions."),
    ("k8s.io.kube_aggregator.pkg.apis.apiregistration.", "apiregistration."),
    ("k8s.io.api.", ""),
)
_MESSAGE = re.compile(r"^message (\w+) \{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
_FIELD = re.compile(
    r"^  (?:(optional|repeated|required) ([\w.]+)|map<(\w+), ([\w.]+)>) (\w+) = (\d+);",
    re.MULTILINE,
)
_STRUCT = re.compile(r"^type (\w+) struct \{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
_MEMBER = re.compile(
    r"^\t(?:\w+\s+)?(\*?)\S+\s+`[^`]*?json:\"([^\",]*)[^`]*?protobuf:\"\w+,(\d+),", re.MULTILINE
)
_SCALARS = {"string", "bytes", "bool", "int32", "int64", "double", "uint32", "uint64"}


def main(directories: list[Path]) -> None:
    """Write the table beside this file."""
    known = json.loads((HERE / "types.json").read_bytes())
    wanted = set(known["types"])
    table: dict[str, Any] = {}
    for file in sorted(f for one in directories for f in one.glob("**/generated.proto")):
        text = re.sub(r"//[^\n]*", "", file.read_text())
        package = re.search(r"^package ([\w.]+);", text, re.MULTILINE)
        if package is None or not _short(package[1] + ".").endswith("."):
            continue
        members = _members(file.parent)
        for name, body in _MESSAGE.findall(text):
            short = _short(f"{package[1]}.{name}")
            fields = known["types"].get(short, {})
            table[short] = {
                found[5]: _entry(found, package[1], fields, members.get(name, {}))
                for found in _FIELD.findall(body)
            }
    kept = _reachable(table, wanted)
    lines = ",\n".join(f"  {json.dumps(n)}: {json.dumps(table[n], sort_keys=True)}" for n in kept)
    (HERE / "protobuf.json").write_text("{\n" + lines + "\n}\n")


def _entry(
    found: tuple[str, ...], package: str, fields: dict[str, Any], members: dict[str, Any]
) -> dict[str, Any]:
    label, kind, key, value, name, number = found
    json_name, pointer = members.get(number, ("", False))
    name = json_name or name
    entry: dict[str, Any] = {"name": name, "type": _type(kind or value, package)}
    if key:
        entry["map"] = key
    elif label == "repeated":
        entry["list"] = True
    if fields and name not in fields:
        # A struct that is embedded in Go has no name of its own in JSON.
        entry["inline"] = True
    if pointer:
        entry["zero"] = True
    return entry


def _type(kind: str, package: str) -> str:
    if kind in _SCALARS:
        return kind
    full = kind.lstrip(".") if "." in kind else f"{package}.{kind}"
    return "#" + _short(full)


def _members(directory: Path) -> dict[str, dict[str, tuple[str, bool]]]:
    """Return JSON name and whether it is a pointer, by struct and number."""
    return {
        name: {number: (json_name, bool(star)) for star, json_name, number in _MEMBER.findall(body)}
        for file in directory.glob("*.go")
        for name, body in _STRUCT.findall(file.read_text())
    }


def _reachable(table: dict[str, Any], wanted: set[str]) -> list[str]:
    seen: set[str] = set()
    queue = sorted(wanted & set(table))
    while queue:
        name = queue.pop()
        if name not in seen:
            seen.add(name)
            queue += [
                entry["type"][1:] for entry in table[name].values() if entry["type"][0] == "#"
            ]
    return sorted(seen)


def _short(name: str) -> str:
    for long, short in _PREFIXES:
        if name.startswith(long):
            return short + name.removeprefix(long)
    return name


if __name__ == "__main__":
    main([Path(name) for name in sys.argv[1:]])
