"""Objects of files: which forms are taken, and what is told of the others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from proxy.inputs.files import FileError, load
from proxy.inputs.sink import Key, Kind

SERVICE = {"kind": "Service", "metadata": {"name": "web"}, "spec": {"clusterIP": "10.0.0.1"}}
SLICE = {"kind": "EndpointSlice", "metadata": {"name": "web-1", "namespace": "x"}}
NODE = {"kind": "Node", "metadata": {"name": "here"}}


class Noted:
    def __init__(self) -> None:
        self.put_keys: list[tuple[str, str, str]] = []
        self.kept: dict[str, set[Key]] = {}

    def put(self, kind: Kind, one: Any) -> None:
        self.put_keys.append((kind.value, one.metadata.namespace, one.metadata.name))

    def drop(self, kind: Kind, key: Key) -> None:
        raise AssertionError

    def keep(self, kind: Kind, keys: Any) -> None:
        self.kept[kind.value] = set(keys)


ALL = [
    ("Service", "default", "web"), ("EndpointSlice", "x", "web-1"), ("Node", "", "here"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", json.dumps({"kind": "List", "items": [SERVICE, SLICE, NODE]})),
        ("a.yaml", "---\n".join(json.dumps(one) + "\n" for one in (SERVICE, SLICE, NODE))),
        ("a.yaml", "# nothing\n---\n" + "---\n".join(
            f"kind: {one['kind']}\nmetadata: {json.dumps(one['metadata'])}\n"
            for one in (SERVICE, SLICE, {"kind": "Pod", "metadata": {"name": "p"}}, NODE)
        )),
    ],
)  # fmt: skip
def test_forms(tmp_path: Path, name: str, text: str) -> None:
    if text.startswith("{") and name == "a.yaml":
        text = "---\n" + text
    (tmp_path / name).write_text(text)
    noted = Noted()
    load(tmp_path / name, noted)
    assert noted.put_keys == ALL
    assert noted.kept["EndpointSlice"] == {("x", "web-1")}


def test_a_directory_and_a_typed_list(tmp_path: Path) -> None:
    (tmp_path / "1.json").write_text(json.dumps(
        {"kind": "ServiceList", "items": [{"metadata": {"name": "web"}, "spec": {}}]}
    ))  # fmt: skip
    (tmp_path / "2.yml").write_text("kind: Node\nmetadata: {name: here}\n")
    (tmp_path / "3.txt").write_text("nonsense")
    (tmp_path / ".4.yaml").write_text("nonsense")
    noted = Noted()
    load(tmp_path, noted)
    assert noted.put_keys == [("Service", "default", "web"), ("Node", "", "here")]
    assert noted.kept == {"Service": {("default", "web")}, "EndpointSlice": set(),
                          "Node": {("", "here")}, "ServiceCIDR": set()}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "malformed JSON"),
        ("a: [", "malformed YAML"),
        ("- 1\n", "malformed JSON"),
        ('{"metadata": {}}', "an object without a kind"),
        (json.dumps({"kind": "Service", "metadata": {}}), "a Service without a name"),
        (json.dumps({"kind": "Service"}), "metadata"),
        (json.dumps(SERVICE | {"spec": {"ports": [{"port": "http"}]}}), "port"),
        (json.dumps({"kind": "List", "items": [SERVICE, SERVICE]}), "default/web is there twice"),
        ("a: &a [1]\nb: [*a, *a]\na: 1\n", "given twice"),
    ],
)
def test_what_is_no_object(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "objects"
    path.write_text(text)
    noted = Noted()
    with pytest.raises(FileError, match=reason) as caught:
        load(path, noted)
    assert str(path) in str(caught.value)
    assert not noted.kept


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="No such file"):
        load(tmp_path / "nowhere", Noted())
