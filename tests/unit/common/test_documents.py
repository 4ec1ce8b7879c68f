from __future__ import annotations

import json

import pytest

from kubeletpy_common.documents import LARGEST_MANIFEST, DocumentError, parse


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: 1", {"a": 1}),
        ("a: 0644", {"a": 0o644}),
        ("a: 0o644", {"a": 0o644}),
        ("a: 0x1F", {"a": 31}),
        ("a: -5", {"a": -5}),
        ("a: 1_000", {"a": 1000}),
        ("a: 1e3", {"a": 1000.0}),
        ("a: 1.5", {"a": 1.5}),
        ("a: yes", {"a": True}),
        ("a: null", {"a": None}),
        ("a: ~", {"a": None}),
        # As Kubernetes' library, unlike plain YAML 1.1: no dates, no numbers of base 60.
        ("a: 2020-01-01", {"a": "2020-01-01"}),
        ("a: 1:20", {"a": "1:20"}),
        ("a: 100m", {"a": "100m"}),
        ("1: a", {"1": "a"}),
        ("true: a", {"true": "a"}),
        ('{"a": [1, "b"]}', {"a": [1, "b"]}),
        ('\n\t{"a":\t1}', {"a": 1}),
        ("\ufeffa: 1", {"a": 1}),
        ("---\na: 1\n", {"a": 1}),
        ("a: &x {b: 1}\nc: *x", {"a": {"b": 1}, "c": {"b": 1}}),
        ("a: &x {b: 1}\nc: {<<: *x, d: 2}", {"a": {"b": 1}, "c": {"b": 1, "d": 2}}),
    ],
)
def test_parse(text: str, value: object) -> None:
    assert parse(text.encode()) == value


BOMB = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"{after}: &{after} [{','.join([f'*{before}'] * 9)}]\n"
    for before, after in zip("abcdefgh", "bcdefghi", strict=True)
)
MERGE_BOMB = "a: &a {k: 1}\n" + "".join(
    f"{after}: &{after} {{<<: [{','.join([f'*{before}'] * 9)}]}}\n"
    for before, after in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "no document"),
        (b"# only a comment\n", "no document"),
        (b"a: 1\n---\nb: 2\n", "second document"),
        (b"a: 1\na: 2\n", "line 2: key 'a' is given twice"),
        (b"a: {b: 1, 'b': 2}\n", "key 'b' is given twice"),
        (b'{"a": 1, "a": 2}', "key 'a' is given twice"),
        (b"a: [", "malformed YAML"),
        (b'{"a": }', "malformed JSON"),
        (b'{"a": NaN}', "NaN"),
        (b"{a: 1}", "malformed JSON"),
        (b"\xff\xfe", "not UTF-8"),
        (b"a: !!python/object:os.system {}", "malformed YAML"),
        (b"a: !!binary aGk=", "a bytes is no value"),
        (b"? [a, b]\n: c\n", "a key must be a scalar"),
        (BOMB.encode(), "nodes after its aliases"),
        (MERGE_BOMB.encode(), "nodes after its aliases"),
        (b"a: &a [*a]", "nested deeper"),
        (b"[" * 5000, "malformed YAML|nested"),
        (b'{"a":' * 150_000, "nested"),
        (b"a: " + b"[" * 300 + b"]" * 300, "nested deeper"),
        (b"#" * (LARGEST_MANIFEST + 1), "larger than"),
        (b'{"a": ' + b"1" * 10_000 + b"}", "malformed JSON"),
        (b"a: " + b"1" * 10_000, "malformed YAML"),
    ],
)
def test_refused(data: bytes, reason: str) -> None:
    with pytest.raises(DocumentError, match=reason):
        parse(data)


def test_json_and_yaml_agree() -> None:
    value = {"a": {"b": [1, 2.5, True, None, "x\ny"]}}
    assert parse(json.dumps(value).encode()) == value
    assert parse(b"# yaml\n" + json.dumps(value).encode()) == value
