from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from controlplane.server import duplicates
from tests.unit.controlplane.server.client import MAPS, running_api

APPLY = "application/apply-patch+yaml"
TWICE = b'{"kind":"ConfigMap","metadata":{"name":"a"},"data":{"x":"1","x":"2"},"none":1}'


@pytest.mark.parametrize(
    ("content", "paths"),
    [
        (b'{"a": 1, "b": {"a": 2}}', []),
        (b'{"a": 1, "a": 2}', ["a"]),
        (b'{"s": {"c": [{"n": 1}, {"n": 1, "m": {"x": 1, "x": 1}, "n": 2}]}}',
         ["s.c[1].m.x", "s.c[1].n"]),
        (b"[" * 100_000 + b"]" * 100_000, []),
    ],
)  # fmt: skip
def test_json(content: bytes, paths: list[str]) -> None:
    assert duplicates.in_json(content) == [f'duplicate field "{path}"' for path in paths]


def test_yaml() -> None:
    content = b"a: 1\nb:\n  - x: 1\n    x: 2\n    y: {z: 1, z: 2}\na: 2\n"
    assert duplicates.in_yaml(content) == [
        'line 4: key "x" already set in map',
        'line 5: key "z" already set in map',
        'line 6: key "a" already set in map',
    ]


def test_only_so_many_are_told() -> None:
    assert len(duplicates.in_json(b'{%b"a":1}' % (b'"a":1,' * 1000))) == 50


async def test_what_clients_hear_of_them(tmp_path: Path) -> None:
    async with running_api(tmp_path) as api:

        async def ask(method: str, path: str, body: bytes, **more: Any) -> tuple[int, Any, Any]:
            answer = await api.send(method, path, body, **more)
            return answer.status, await answer.json(), answer.headers.getall("Warning", [])

        status, error, _ = await ask("POST", f"{MAPS}?fieldValidation=Strict", TWICE)
        told = 'strict decoding error: unknown field "none", duplicate field "data.x"'
        assert (status, error["message"]) == (400, told)
        # Whatever has no type is taken for JSON.
        untyped = {"kind": "application/octet-stream"}
        status, error, _ = await ask("POST", f"{MAPS}?fieldValidation=Strict", TWICE, **untyped)
        assert (status, error["message"]) == (400, told)
        status, made, warnings = await ask("POST", MAPS, TWICE)
        assert (status, made["data"]) == (201, {"x": "2"})
        assert [w.split('"')[1].rstrip("\\") for w in warnings] == [
            "unknown field ",
            "duplicate field ",
        ]
        assert (await ask("PUT", f"{MAPS}/a?fieldValidation=Ignore", TWICE))[2] == []
        merge = "application/merge-patch+json"
        path = f"{MAPS}/a?fieldValidation=Strict"
        assert (await ask("PATCH", path, b'{"data":{"y":"1","y":"2"}}', kind=merge))[0] == 400

        applied = b"apiVersion: v1\nkind: ConfigMap\ndata:\n  x: '1'\n  x: '2'\n"
        path = f"{MAPS}/b?fieldManager=me&fieldValidation="
        status, error, _ = await ask("PATCH", f"{path}Strict", applied, kind=APPLY)
        assert (status, 'line 5: key "x" already set in map' in error["message"]) == (400, True)
        status, _, warnings = await ask("PATCH", f"{path}Warn", applied, kind=APPLY)
        assert (status, len(warnings)) == (201, 1)
        # Nobody can own what is not there.
        unknown = b"metadata: {name: b}\nnone: 1\ndata: {}\nmore: {}\n"
        status, error, _ = await ask("PATCH", f"{path}Ignore", unknown, kind=APPLY)
        assert status == 400
        assert error["message"] == (
            "failed to create typed patch object (b; v1, Kind=ConfigMap): errors:\n"
            "  .none: field not declared in schema\n  .more: field not declared in schema"
        )
