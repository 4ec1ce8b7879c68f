"""Whatever is sent, the answer is a Status with a 4xx, never a 500, and the next request is served.

The number of fuzzed objects is set by ``KUBELETPY_FUZZ`` (default 100).
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controlplane.kinds.strategies import STRATEGIES
from controlplane.kinds.types import Field, Types, builtin_types
from controlplane.server.body import MAX_BODY
from tests.unit.controlplane.server.client import JSON, MAPS, Api, running_api

_OBJECTS = int(os.environ.get("KUBELETPY_FUZZ", "100"))
_BATCH = 100
_YAML = "application/yaml"
_PROTOBUF = "application/vnd.kubernetes.protobuf"
_JSON_PATCH = "application/json-patch+json"
_MERGE = "application/merge-patch+json"
_STRATEGIC = "application/strategic-merge-patch+json"
_APPLY = "application/apply-patch+yaml"
_DEEP = 100_000

BODIES: list[tuple[str, bytes]] = [
    (JSON, b"{"),
    (JSON, b"\xff\xfe"),
    (JSON, b'{"metadata":{"name":"a"}} more'),
    (JSON, b'"text"'),
    (JSON, b"[]"),
    (JSON, b"null"),
    (JSON, b"1e999"),
    (JSON, b"NaN"),
    (JSON, b'{"metadata":[]}'),
    (JSON, b'{"metadata":{"name":7}}'),
    (JSON, b'{"metadata":{"name":"a","labels":{"a":{"b":1}}}}'),
    (JSON, b'{"metadata":{"name":"\\ud800"}}'),
    (JSON, b'{"metadata":{"name":"a\\u0000"}}'),
    (JSON, b'{"metadata":{"name":"' + b"a" * 300 + b'"}}'),
    (JSON, b'{"kind":"Pod","metadata":{"name":"a"}}'),
    (JSON, b'{"apiVersion":3,"metadata":{"name":"a"}}'),
    (JSON, b'{"metadata":{"name":"a","resourceVersion":"7"}}'),
    (JSON, b'{"data":{"a":1},"metadata":{"name":"a"}}'),
    (JSON, b'{"binaryData":{"a":"*"},"data":7,"metadata":{"name":"a"}}'),
    (JSON, b"[" * _DEEP),
    (JSON, b"[" * _DEEP + b"]" * _DEEP),
    (JSON, b'{"a":' * _DEEP + b"1" + b"}" * _DEEP),
    (JSON, b'{"metadata":{"name":"a","managedFields":[{"fieldsV1":'
     + b'{"f:a":' * 900 + b"{}" + b"}" * 900 + b"}]}}"),
    (_YAML, b"\t- a"),
    (_YAML, b"a: *b"),
    (_YAML, b"a: &a [*a]"),
    (_YAML, b"!!python/object/apply:os.system [echo]"),
    (_YAML, b"? [a, b]\n: c"),
    (_YAML, b"- " * 20_000),
    (_YAML, b"[" * 20_000),
    (_YAML, b"{a: " * 20_000),
    (_YAML, b"a: 2001-99-99"),
    (_YAML, b"a: .inf"),
    (_YAML, b"\x00"),
    (_YAML, b"a: !!binary ====="),
    (_YAML, b"---\na: 1\n---\nb: 2"),
    (_PROTOBUF, b"k8s\x00"),
    (_PROTOBUF, b"k8s\x00\xff\xff\xff\xff"),
    (_PROTOBUF, b"nothing"),
    (_PROTOBUF, b"k8s\x00\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x04\x0a\xff\xff\x7f"),
    (_PROTOBUF, b"k8s\x00\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12\x02\xff\xff"),
    (_PROTOBUF, b"k8s\x00\x0a\x0f\x0a\x02v1\x12\x09ConfigMap" + b"\x12\x7f" * 200),
    ("text/plain", b"{}"),
    ("", b"{}x"),
]  # fmt: skip

PATCHES: list[tuple[str, bytes]] = [
    (_JSON_PATCH, b"{}"),
    (_JSON_PATCH, b"[1]"),
    (_JSON_PATCH, b'[{"op":"add"}]'),
    (_JSON_PATCH, b'[{"op":"remove","path":"/none"}]'),
    (_JSON_PATCH, b'[{"op":"test","path":"/metadata","value":1}]'),
    (_JSON_PATCH, b'[{"op":"replace","path":"","value":[]}]'),
    (_JSON_PATCH, b'[{"op":"move","from":"/metadata","path":"/metadata/a"}]'),
    (_JSON_PATCH, b'[{"op":"add","path":"/data/-1","value":{}}]'),
    (_JSON_PATCH, b'[{"op":7,"path":[]}]'),
    (_MERGE, b"[]"),
    (_MERGE, b'{"metadata":"x"}'),
    (_MERGE, b'{"metadata":{"name":"b"}}'),
    (_MERGE, b'{"metadata":{"resourceVersion":"x"}}'),
    (_MERGE, b'{"kind":null,"metadata":{"labels":[]}}'),
    (_STRATEGIC, b'{"$patch":"what"}'),
    (_STRATEGIC, b'{"metadata":{"$patch":"delete"}}'),
    (_STRATEGIC, b'{"metadata":{"finalizers":{"a":1}}}'),
    (_STRATEGIC, b'{"metadata":{"$deleteFromPrimitiveList/finalizers":7}}'),
    (_STRATEGIC, b'{"metadata":{"ownerReferences":[7]}}'),
    (_STRATEGIC, b'{"data":{"$retainKeys":9}}'),
    (_APPLY, b"[]"),
    (_APPLY, b"7"),
    (_APPLY, b"metadata: {name: other}"),
    (_APPLY, b"metadata: {managedFields: [{}]}"),
    (_APPLY, b"data: [a]"),
    ("text/plain", b"{}"),
]

QUERIES = [
    "limit=-1", "limit=x", "limit=9999999999999999999999", "continue=x", "continue=eyJ9",
    "continue=" + "A" * 3000, "resourceVersion=x", "resourceVersion=-1",
    "resourceVersion=99999999999999999999", "resourceVersion=5&resourceVersionMatch=What",
    "resourceVersionMatch=Exact", "labelSelector=%3D%3D", "labelSelector=a%20in%20(",
    "labelSelector=" + "(" * 5000, "fieldSelector=spec.what%3Da", "fieldSelector=%3D",
    "watch=true&timeoutSeconds=x", "watch=true&resourceVersion=x", "watch=true&sendInitialEvents=1",
    "watch=true&resourceVersion=99999999", "resourceVersion=99999999",
]  # fmt: skip


async def told(api: Api, method: str, path: str, body: bytes, kind: str) -> tuple[int, Any]:
    headers = {"Content-Type": kind} if kind else {}
    async with asyncio.timeout(20):
        answer = await api.http.request(method, path, data=body, headers=headers)
        return answer.status, json.loads(await answer.read())


async def test_bad_bodies_patches_and_queries(tmp_path: Path) -> None:
    async with running_api(tmp_path, strategies=STRATEGIES) as api:
        await api.make("a")
        tries = [("POST", MAPS, kind, body) for kind, body in BODIES]
        tries += [("PUT", f"{MAPS}/a", kind, body) for kind, body in BODIES]
        tries += [("DELETE", f"{MAPS}/a", kind, body) for kind, body in BODIES[:3]]
        tries += [
            ("PATCH", f"{MAPS}/a?fieldManager=me&force=true", kind, body) for kind, body in PATCHES
        ]
        for method, path, kind, body in tries:
            status, value = await told(api, method, path, body, kind)
            where = f"{method} {kind} {body[:60]!r}: {status} {str(value)[:300]}"
            # A patch may be odd and yet mean something.
            if method == "PATCH" and status == 200:
                continue
            assert 400 <= status < 500, where
            assert (value["kind"], value["status"], value["code"]) == ("Status", "Failure", status)
        for query in QUERIES:
            status, value = await api.call("GET", f"{MAPS}?{query}")
            assert value.get("kind") == "Status", query
            assert 400 <= status < 500 or value["reason"] == "Timeout", (query, value)
        assert (await api.call("GET", f"{MAPS}/a"))[1]["metadata"]["name"] == "a"


@pytest.mark.parametrize("path", ["/api/v1/%ff", "/%00", "/api/v1/namespaces/%2e%2e/pods/a", "//"])
async def test_bad_paths(tmp_path: Path, path: str) -> None:
    async with running_api(tmp_path, strategies=STRATEGIES) as api:
        server = api.http.server
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n".encode())
        answer = await asyncio.wait_for(reader.read(), 10)
        writer.close()
        assert 400 <= int(answer.split()[1]) < 500, answer


async def test_bodies_up_to_the_limit_and_beyond(tmp_path: Path) -> None:
    async with running_api(tmp_path, strategies=STRATEGIES) as api:
        for body, chunked in ((b" " * (MAX_BODY + 1), False), (b"[" * (MAX_BODY + 1), True)):
            data: Any = _chunks(body) if chunked else body
            answer = await api.http.post(MAPS, data=data, headers={"Content-Type": JSON})
            value = json.loads(await answer.read())
            assert (answer.status, value["reason"]) == (413, "RequestEntityTooLarge")
            assert value["message"] == f"Request entity too large: limit is {MAX_BODY}"
        text = json.dumps({"metadata": {"name": "a"}})
        status, _ = await told(api, "POST", MAPS, text.ljust(MAX_BODY).encode(), JSON)
        assert status == 201


async def _chunks(body: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(body), 1 << 18):
        yield body[start : start + (1 << 18)]


_SCALARS: tuple[Any, ...] = (
    None, True, False, 0, 1, -1, 7, 2**31, 2**63, -(2**63), 2**70, 1.5, -0.0, 1e300, "", "a", "A b",
    "-1", "100m", "1Gi", "1e99", "10.0.0.1", "::1", "10.0.0.0/8", "2020-01-01T00:00:00Z", "/", "..",
    "a/b", "a=b", "\x00", "é", "x" * 300,
    "RollingUpdate", "ClusterIP", "Always", "TCP", "*/5 * * * *",
    "50%", "YQ==", [], {}, [[]], [{}], {"": ""}, {"a": "b"}, ["a"],
)  # fmt: skip


class Maker:
    """Makes objects that look like those of a type, with some things wrong in them."""

    def __init__(self, types: Types, rng: random.Random, wrong: float) -> None:
        self._types = types
        self._rng = rng
        self._wrong = wrong

    def object(self, name: str, depth: int = 0) -> Any:
        fields = self._types.fields(name)
        share = 0.5 if depth < 3 else 0.15
        value = {
            key: self.value(field, depth + 1)
            for key, field in fields.items()
            if self._rng.random() < (0.95 if field.required else share)
        }
        if self._rng.random() < self._wrong:
            value[self._rng.choice(("what", "", "a.b", "spec"))] = self.scalar()
        return value

    def value(self, field: Field, depth: int) -> Any:
        if self._rng.random() < self._wrong or depth > 12:
            return self.scalar()
        if field.object:
            return self.object(field.object, depth)
        if field.of is not None:
            count = self._rng.choice((0, 1, 1, 2, 3))
            if field.type == "list":
                return [self.value(field.of, depth + 1) for _ in range(count)]
            return {
                self._rng.choice(("a", "app", "cpu", "")): self.value(field.of, depth + 1)
                for _ in range(count)
            }
        return self._plain(field.type)

    def scalar(self) -> Any:
        return self._rng.choice(_SCALARS)

    def _plain(self, kind: str) -> Any:
        choices: dict[str, tuple[Any, ...]] = {
            "boolean": (True, False),
            "int32": (0, 1, 80, -1, 2**31 - 1),
            "int64": (0, 1, -5, 2**63 - 1),
            "double": (0.5, 1),
            "quantity": ("1", "100m", "1Gi", "-1", 5),
            "time": ("2020-01-01T00:00:00Z",),
            "micro-time": ("2020-01-01T00:00:00.000001Z",),
            "int-or-string": (80, "50%", "http"),
            "byte": ("YQ==", "", "*"),
            "any": ({"f:a": {}}, {}, "x"),
        }
        return self._rng.choice(choices.get(kind, _SCALARS[15:36]))


def _cases(types: Types) -> list[tuple[str, str]]:
    """Return path and type of every kind that can be created."""
    table = json.loads(
        (Path(__file__).parents[4] / "controlplane/kinds/resources.json").read_bytes()
    )
    found = []
    for group_version, entries in table.items():
        group, _, version = group_version.rpartition("/")
        for plural, facts in entries.items():
            if "/" in plural or "create" not in facts["verbs"] or "list" not in facts["verbs"]:
                continue
            base = f"/apis/{group}/{version}" if group else f"/api/{version}"
            inside = "/namespaces/default" if facts.get("namespaced") else ""
            found.append((f"{base}{inside}/{plural}", types.of_kind(group_version, facts["kind"])))
    return found


@settings(
    max_examples=max(1, _OBJECTS // _BATCH), deadline=None, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
@given(seed=st.integers(0, 2**64 - 1), wrong=st.sampled_from((0.0, 0.02, 0.2)))
def test_fuzzed_objects(tmp_path_factory: pytest.TempPathFactory, seed: int, wrong: float) -> None:
    asyncio.run(_fuzz(tmp_path_factory.mktemp("fuzz"), random.Random(seed), wrong))


async def _fuzz(directory: Path, rng: random.Random, wrong: float) -> None:
    types = builtin_types()
    maker, cases = Maker(types, rng, wrong), _cases(types)
    async with running_api(directory, strategies=STRATEGIES) as api:
        for number in range(_BATCH):
            path, name = rng.choice(cases)
            value = maker.object(name)
            value.pop("kind", None)
            value.pop("apiVersion", None)
            if isinstance(value.get("metadata"), dict) and rng.random() < 0.9:
                value["metadata"] = {"name": f"n{number}"}
            else:
                value.setdefault("metadata", {"generateName": "n-"})
            body = json.dumps(value).encode()
            status, answer = await told(api, "POST", path, body, JSON)
            assert status < 500, f"POST {path} {body.decode()[:3000]}: {answer}"
            if status == 201:
                where = f"{path}/{answer['metadata']['name']}"
                changed = {**answer, **maker.object(name), "metadata": answer["metadata"]}
                changed |= {"kind": answer["kind"], "apiVersion": answer["apiVersion"]}
                method = rng.choice(("PUT", "PATCH"))
                kind = JSON if method == "PUT" else rng.choice((_MERGE, _STRATEGIC))
                sent = json.dumps(changed).encode()
                status, answer = await told(api, method, where, sent, kind)
                assert status < 500, f"{method} {where} {sent.decode()[:3000]}: {answer}"
                status, answer = await told(api, "GET", path, b"", JSON)
                assert status == 200, answer


@settings(max_examples=max(1, _OBJECTS // _BATCH), deadline=None, database=None)
@given(seed=st.integers(0, 2**64 - 1))
def test_fuzzed_bytes_as_protobuf(seed: int) -> None:
    from controlplane.kinds.protobuf import ProtobufError, decode_object

    rng, types = random.Random(seed), builtin_types()
    for _ in range(_BATCH):
        noise = rng.randbytes(rng.randrange(60))
        body = b"\x0a" + bytes([rng.randrange(60)]) + noise
        raw = b"\x0a\x0f\x0a\x02v1\x12\x09ConfigMap\x12" + bytes([min(len(body), 127)]) + body
        if rng.random() < 0.3:
            raw = raw[: rng.randrange(len(raw))]
        if rng.random() < 0.2:
            raw += struct.pack("<Q", rng.getrandbits(64))
        try:
            decode_object(b"k8s\x00" + raw, types.kinds)
        except ProtobufError:
            continue
