"""Each field that a request can carry is honoured, refused, or ignored for a stated reason.

The table names the test that shows it; a field that a later protocol adds has no line, and fails.
Fields of answers: tests/root/runtime/cri/test_every_response_field.py.
"""

from __future__ import annotations

import csv
import re
from functools import cache
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor

from kubeletpy_proto import cri_pb2

TESTS = Path(__file__).parents[2]
TABLE = TESTS / "data/cri-request-fields.tsv"
Row = tuple[str, tuple[str, ...], str, str]


def rows() -> list[Row]:
    with TABLE.open(newline="") as stream:
        lines = csv.reader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)
        return [
            (name, tuple(fields.split(",")), handling, evidence)
            for name, fields, handling, evidence in (
                line for line in lines if line and not line[0].startswith("#")
            )
        ]


@cache
def requests() -> dict[str, Descriptor]:
    """Return all messages that requests consist of."""
    messages = cri_pb2.DESCRIPTOR.message_types_by_name
    todo = [descriptor for name, descriptor in messages.items() if name.endswith("Request")]
    found: dict[str, Descriptor] = {}
    while todo:
        descriptor = todo.pop()
        # Of Windows the field that would hold it is refused as a whole.
        if descriptor.name in found or descriptor.name.startswith("Windows"):
            continue
        found[descriptor.name] = descriptor
        todo += [
            field.message_type
            for field in descriptor.fields
            if field.message_type and not field.message_type.GetOptions().map_entry
        ]
    return found


def test_every_field_of_a_request_has_one_line() -> None:
    told: list[tuple[str, str]] = []
    for name, fields, _, _ in rows():
        names = [field.name for field in requests()[name].fields] if fields == ("*",) else fields
        told += [(name, field) for field in names]
    assert len(told) == len(set(told)), "a field has two lines"
    known = {(name, field.name) for name, d in requests().items() for field in d.fields}
    assert sorted(known - set(told)) == []
    assert sorted(set(told) - known) == []


@pytest.mark.parametrize("row", rows(), ids=lambda row: f"{row[0]}-{','.join(row[1])}")
def test_what_becomes_of_it_is_shown_or_explained(row: Row) -> None:
    _, fields, handling, evidence = row
    assert handling in ("honoured", "refused", "ignored")
    if handling == "ignored":
        assert len(evidence.split()) > 3, "a reason"
        return
    file, _, function = evidence.partition("::")
    source = (TESTS / file).read_text()
    if function:
        assert re.search(rf"^(async )?def {function}\(", source, re.MULTILINE), evidence
    else:
        # A whole file is about it: the names of the fields stand there.
        assert all(field == "*" or field in source for field in fields), evidence
