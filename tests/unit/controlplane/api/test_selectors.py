from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.api.errors import ApiError
from controlplane.api.selectors import from_object, parse_fields, parse_labels

LABELS = {"app": "web", "tier": "front", "n": "5", "example.com/x": ""}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", True), ("app=web", True), ("app==web", True), ("app!=web", False), ("app", True),
        ("!app", False), ("!old", True), ("app = web , tier=front", True),
        ("app=web,tier=x", False),
        ("tier in (front, back)", True), ("tier notin (front)", False), ("none notin (a)", True),
        ("none in (a)", False), ("none!=a", True), ("n>4", True), ("n<5", False), ("app>1", False),
        ("example.com/x=", True), ("example.com/x", True), ("example.com/x in (,a)", True),
        ("in=a", False), ("app in (web)", True), ("none>1", False),
    ],
)  # fmt: skip
def test_label_selectors(text: str, expected: bool) -> None:
    assert parse_labels(text).matches(LABELS) is expected


@pytest.mark.parametrize(
    "text",
    ["=a", "a=b=c", "a in", "a in (", "a in b", "a in (b", "a,", ",a", "a b", "-a=b", "a=b c",
     "a>x", "a/b/c=d", "UPPER.com/a=b", "a" * 64, "a=" + "b" * 64, "!", "a in (b;c)", "(a)"],
)  # fmt: skip
def test_what_is_no_label_selector(text: str) -> None:
    with pytest.raises(ApiError) as caught:
        parse_labels(text)
    assert caught.value.code == 400


@given(st.text(max_size=40))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    for parse in (parse_labels, lambda text: parse_fields(text, frozenset({"a"}))):
        with suppress(ApiError):
            parse(text)


def test_selectors_of_objects() -> None:
    selector = {
        "matchLabels": {"app": "web"},
        "matchExpressions": [
            {"key": "tier", "operator": "In", "values": ["front", "back"]},
            {"key": "old", "operator": "DoesNotExist"},
            {"key": "app", "operator": "Exists"},
            {"key": "n", "operator": "NotIn", "values": ["6"]},
        ],
    }
    found = from_object(selector)
    assert found is not None
    assert found.matches(LABELS)
    assert not found.matches({**LABELS, "old": ""})
    assert from_object(None) is None
    everything = from_object({})
    assert everything is not None
    assert everything.matches({})
    with pytest.raises(ApiError):
        from_object({"matchExpressions": [{"key": "a", "operator": "Near"}]})


def test_field_selectors() -> None:
    known = frozenset({"metadata.name", "status.phase"})
    fields = {"metadata.name": "a,b=c", "status.phase": "Running"}
    assert parse_fields("", known).matches(fields)
    assert parse_fields(r"metadata.name=a\,b\=c,status.phase!=Failed", known).matches(fields)
    assert not parse_fields("status.phase!=Running", known).matches(fields)
    assert parse_fields("metadata.name==x", known).required("metadata.name") == "x"
    assert parse_fields("metadata.name!=x", known).required("metadata.name") is None
    for text in ("spec.other=x", "metadata.name", "=x", "a=b=c"):
        with pytest.raises(ApiError):
            parse_fields(text, known)
