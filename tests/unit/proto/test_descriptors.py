"""No field of the protocol may drift from the published table."""

from __future__ import annotations

import csv
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor

from kubeletpy_proto import cri_pb2

ROOT = Path(__file__).parents[3]
TABLE = ROOT / "tests/data/cri-v1-wire.tsv"
PACKAGE = cri_pb2.DESCRIPTOR

SCALARS = {
    FieldDescriptor.TYPE_DOUBLE: "double",
    FieldDescriptor.TYPE_INT64: "int64",
    FieldDescriptor.TYPE_UINT64: "uint64",
    FieldDescriptor.TYPE_INT32: "int32",
    FieldDescriptor.TYPE_UINT32: "uint32",
    FieldDescriptor.TYPE_BOOL: "bool",
    FieldDescriptor.TYPE_STRING: "string",
    FieldDescriptor.TYPE_BYTES: "bytes",
}


def rows(kind: str) -> list[list[str]]:
    with TABLE.open(newline="") as stream:
        return [row[1:] for row in csv.reader(stream, delimiter="\t") if row and row[0] == kind]


def type_name(field: FieldDescriptor) -> str:
    if field.message_type is not None:
        if field.message_type.GetOptions().map_entry:
            key, value = (field.message_type.fields_by_name[n] for n in ("key", "value"))
            return f"map<{type_name(key)},{type_name(value)}>"
        base = field.message_type.name
    elif field.enum_type is not None:
        base = field.enum_type.name
    else:
        base = SCALARS[field.type]
    return f"repeated {base}" if field.is_repeated else base


def message(name: str) -> Descriptor:
    return PACKAGE.message_types_by_name[name]


def test_the_package_is_the_published_one() -> None:
    assert PACKAGE.package == "runtime.v1"


def test_every_message_has_exactly_the_published_fields() -> None:
    published: dict[str, dict[str, tuple[int, str]]] = defaultdict(dict)
    for name, *rest in rows("message"):
        if rest[0] == "(no fields)":
            published[name] = {}
        else:
            published[name][rest[1]] = (int(rest[0]), rest[2])
    assert len(published) > 170
    ours = {
        name: {field.name: (field.number, type_name(field)) for field in descriptor.fields}
        for name, descriptor in PACKAGE.message_types_by_name.items()
    }
    assert ours == published


def test_every_enum_has_exactly_the_published_values() -> None:
    published: dict[str, dict[str, int]] = defaultdict(dict)
    for name, value, number in rows("enum"):
        published[name][value] = int(number)
    ours = {name: dict(e.values_by_name.items()) for name, e in PACKAGE.enum_types_by_name.items()}
    for outer, descriptor in PACKAGE.message_types_by_name.items():
        for name, nested in descriptor.enum_types_by_name.items():
            ours[f"{outer}.{name}"] = dict(nested.values_by_name.items())
    numbers = {name: {v: d.number for v, d in values.items()} for name, values in ours.items()}
    assert numbers == published


def test_every_service_has_exactly_the_published_methods() -> None:
    published: dict[str, dict[str, tuple[str, str]]] = defaultdict(dict)
    for service, method, request, response in rows("rpc"):
        published[service][method] = (request, response)
    ours = {
        name: {
            method.name: (
                method.input_type.name,
                ("stream " if method.server_streaming else "") + method.output_type.name,
            )
            for method in service.methods
        }
        for name, service in PACKAGE.services_by_name.items()
    }
    assert ours == published


@pytest.mark.slow
def test_the_committed_code_is_what_the_command_generates(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "proto/generate.py"), str(tmp_path)]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    for path in (ROOT / "proto/kubeletpy_proto").glob("*_pb2*"):
        fresh = (tmp_path / path.name).read_text()
        # A newer generator may word the code otherwise; the descriptor in it may not differ.
        if path.name.endswith("_pb2.py"):
            wanted = next(line for line in path.read_text().splitlines() if "AddSerialized" in line)
            assert wanted in fresh
        else:
            assert fresh
