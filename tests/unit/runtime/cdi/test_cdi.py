"""CDI: spec files, their precedence, and what they change in an OCI configuration."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import pytest

from kubeletpy_proto import cri_pb2 as cri
from runtime.cdi.edits import complete_edits, merge_edits
from runtime.cdi.registry import CdiRegistry, requested_names
from runtime.cdi.spec import CdiError, DeviceNode, Edits, Hook, Mount, NetDevice, read_spec
from runtime.oci.executable import refuse_beyond_executor
from runtime.oci.request import TranslationError

KIND = "vendor.example/class"


def document(*names: str, **more: Any) -> dict[str, Any]:
    devices = [
        {"name": name, "containerEdits": {"env": [f"DEVICE_{name.upper()}=1"]}} for name in names
    ]
    return {"cdiVersion": "0.8.0", "kind": KIND, "devices": devices, **more}


def write(path: Path, value: dict[str, Any]) -> Path:
    path.write_text(json.dumps(value))
    return path


def config() -> dict[str, Any]:
    return {
        "process": {
            "user": {"uid": 1000, "gid": 2000, "additionalGids": [5]},
            "env": ["PATH=/bin", "A=old"],
        },
        "mounts": [
            {"destination": "/proc", "type": "proc"},
            {"destination": "/dev", "type": "tmpfs"},
            {"destination": "/etc/hosts", "type": "bind", "source": "/h", "options": []},
        ],
        "linux": {
            "devices": [{"path": "/dev/x", "type": "c", "major": 1, "minor": 1}],
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
        },
    }


def merged(edits: Edits, start: dict[str, Any] | None = None) -> dict[str, Any]:
    result = copy.deepcopy(start or config())
    merge_edits(result, edits)
    return result


def test_a_file_of_yaml_is_one_of_json(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(
        "cdiVersion: 1.0.0\nkind: vendor.example/class\nannotations: {a: b}\n"
        "containerEdits:\n  additionalGIDs: [7]\n"
        "devices:\n- name: one\n  annotations: {c: d}\n  containerEdits:\n"
        "    deviceNodes:\n    - {path: /dev/one, hostPath: /dev/null, permissions: rw, uid: 5}\n"
    )
    spec = read_spec(tmp_path / "a.yaml")
    assert spec.containerEdits.additionalGids == (7,)
    (node,) = spec.devices[0].containerEdits.deviceNodes
    assert node == DeviceNode(path="/dev/one", hostPath="/dev/null", permissions="rw", uid=5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"cdiVersion": "2.0.0"}, "cdiVersion"),
        ({"cdiVersion": None}, "cdiVersion"),
        ({"kind": "class"}, "fully qualified"),
        ({"kind": "vendor.example/a/b"}, "fully qualified"),
        ({"devices": []}, "no devices"),
        ({"devices": [{"name": "a"}, {"name": "a"}]}, "one name"),
        ({"devices": [{"name": "a b"}]}, "fully qualified"),
        ({"unknown": 1}, "unknown"),
        ({"containerEdits": {"env": ["=x"]}}, "NAME=value"),
        ({"containerEdits": {"hooks": [{"hookName": "x", "path": "/x"}]}}, "hook"),
        (
            {"containerEdits": {"hooks": [{"hookName": "prestart", "path": "x"}]}},
            "absolute",
        ),
        (
            {"containerEdits": {"hooks": [{"hookName": "prestart", "path": "/x", "timeout": 0}]}},
            "timeout",
        ),
        ({"containerEdits": {"deviceNodes": [{"path": "dev"}]}}, "absolute"),
        ({"containerEdits": {"deviceNodes": [{"path": "/dev", "type": "z"}]}}, "'z'"),
        ({"containerEdits": {"deviceNodes": [{"path": "/dev", "permissions": "x"}]}}, "rwm"),
        ({"containerEdits": {"mounts": [{"hostPath": "", "containerPath": "/x"}]}}, "host path"),
    ],
)
def test_files_that_are_no_good(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    path = write(tmp_path / "a.json", document("one") | change)
    with pytest.raises(CdiError, match=words) as caught:
        read_spec(path)
    assert str(path) in str(caught.value)


def test_a_file_is_bounded_and_broken_text_is_told(tmp_path: Path) -> None:
    (tmp_path / "big.json").write_bytes(b" " * (5 << 20))
    (tmp_path / "broken.yaml").write_text("a: [")
    for name, words in (("big.json", "larger"), ("broken.yaml", "no good"), ("none", "No such")):
        with pytest.raises(CdiError, match=words):
            read_spec(tmp_path / name)


def test_devices_and_files_are_put_together(tmp_path: Path) -> None:
    write(tmp_path / "a.json", document("one", "two", containerEdits={"env": ["FILE=1"]}))
    registry = CdiRegistry([tmp_path])
    edits = registry.resolve([f"{KIND}=two", f"{KIND}=one", f"{KIND}=two"])
    assert edits.env == ("FILE=1", "DEVICE_TWO=1", "DEVICE_ONE=1")
    assert registry.resolve([]) == Edits()


def test_a_later_directory_wins_and_a_conflict_in_one_is_told(tmp_path: Path) -> None:
    low, high = tmp_path / "low", tmp_path / "high"
    registry = CdiRegistry([low, high, tmp_path / "missing"])
    with pytest.raises(CdiError, match=r"unknown: no spec file in .*/low, .*/high"):
        registry.resolve([f"{KIND}=one"])
    low.mkdir()
    high.mkdir()
    write(low / "a.json", document("one", containerEdits={"env": ["FROM=low"]}))
    write(low / "b.json", document("two", containerEdits={"env": ["FROM=low"]}))
    assert registry.resolve([f"{KIND}=one"]).env[0] == "FROM=low"
    write(high / "a.json", document("one", containerEdits={"env": ["FROM=high"]}))
    assert registry.resolve([f"{KIND}=one"]).env[0] == "FROM=high"
    write(high / "b.json", document("one"))
    with pytest.raises(CdiError, match=r"more than one file: .*/high/a.json, .*/high/b.json"):
        registry.resolve([f"{KIND}=one"])
    assert registry.resolve([f"{KIND}=two"]).env[0] == "FROM=low"


def test_files_are_read_again_when_they_change(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json", document("one"))
    registry = CdiRegistry([tmp_path])
    registry.resolve([f"{KIND}=one"])
    path.write_text("{")
    with pytest.raises(CdiError, match=r"unknown.*a.json is no good"):
        registry.resolve([f"{KIND}=one"])
    write(path, document("other"))
    os.utime(path, ns=(1, 1))
    assert registry.resolve([f"{KIND}=other"]).env == ("DEVICE_OTHER=1",)
    path.unlink()
    (tmp_path / "b.txt").write_text("not one of ours")
    with pytest.raises(CdiError, match="unknown"):
        registry.resolve([f"{KIND}=other"])


@pytest.mark.parametrize("name", ["", "x", "a/b", "a=b", "/b=c", "a/=c", "a/b=", "a/b=c d"])
def test_names_that_are_none(tmp_path: Path, name: str) -> None:
    with pytest.raises(CdiError, match="fully qualified"):
        CdiRegistry([tmp_path]).resolve([name])


def test_names_come_from_the_field_and_from_annotations() -> None:
    asked = cri.ContainerConfig(
        CDI_devices=[cri.CDIDevice(name="a/b=c")],
        annotations={"cdi.k8s.io/plugin": "a/b=d,a/b=c", "other": "a/b=e"},
    )
    assert requested_names(asked) == ["a/b=c", "a/b=d"]
    with pytest.raises(CdiError, match="empty"):
        requested_names(cri.ContainerConfig(annotations={"cdi.k8s.io/p": ""}))


def test_variables_and_groups() -> None:
    result = merged(Edits(env=("A=new", "B=x=y"), additionalGids=(0, 7, 5, 7)))["process"]
    assert result["env"] == ["PATH=/bin", "A=new", "B=x=y"]
    assert result["user"]["additionalGids"] == [5, 7]


def test_device_nodes() -> None:
    nodes = (
        DeviceNode(path="/dev/x", type="b", major=8, minor=1, fileMode=0o640, permissions="r"),
        DeviceNode(path="/dev/y", type="c", major=9, minor=2, uid=0, gid=1),
        DeviceNode(path="/dev/z", type="c", major=9, minor=3, permissions="none"),
        DeviceNode(path="/dev/p", type="p"),
    )
    linux = merged(Edits(deviceNodes=nodes))["linux"]
    user = {"uid": 1000, "gid": 2000}
    assert linux["devices"] == [
        {"path": "/dev/x", "type": "b", "major": 8, "minor": 1, "fileMode": 0o640, **user},
        {"path": "/dev/y", "type": "c", "major": 9, "minor": 2, "uid": 0, "gid": 1},
        {"path": "/dev/z", "type": "c", "major": 9, "minor": 3, **user},
        {"path": "/dev/p", "type": "p", **user},
    ]
    assert linux["resources"]["devices"][1:] == [
        {"allow": True, "type": "b", "major": 8, "minor": 1, "access": "r"},
        {"allow": True, "type": "c", "major": 9, "minor": 2, "access": "rwm"},
    ]


def test_mounts_replace_and_are_sorted() -> None:
    mounts = (
        Mount(hostPath="/lib/x", containerPath="/usr/lib/deep/x", options=("ro", "bind")),
        Mount(hostPath="/new", containerPath="/etc/hosts"),
        Mount(hostPath="tmpfs", containerPath="/run", type="tmpfs", options=("size=1m",)),
    )
    start = config()
    mappings = {"uidMappings": [{"containerID": 0}], "gidMappings": [{"containerID": 0}]}
    start["linux"] |= mappings
    result = merged(Edits(mounts=mounts), start)["mounts"]
    assert result == [
        {"destination": "/proc", "type": "proc"},
        {"destination": "/dev", "type": "tmpfs"},
        {"destination": "/run", "source": "tmpfs", "type": "tmpfs", "options": ["size=1m"]},
        {"destination": "/etc/hosts", "source": "/new", "type": "bind", "options": ["rbind"],
         **mappings},
        {"destination": "/usr/lib/deep/x", "source": "/lib/x", "type": "bind",
         "options": ["ro", "bind"], **mappings},
    ]  # fmt: skip


@pytest.mark.parametrize("path", ["/proc", "/proc/", "/x/../proc", "/", ""])
def test_mounts_that_are_refused(path: str) -> None:
    with pytest.raises(TranslationError):
        merged(Edits(mounts=(Mount(hostPath="/x", containerPath=path),)))


def test_hooks_and_what_only_other_runtimes_do() -> None:
    edits = Edits(
        hooks=(
            Hook(hookName="createContainer", path="/bin/x", args=("x", "y"), timeout=3),
            Hook(hookName="createContainer", path="/bin/z"),
        )
    )
    result = merged(edits)
    assert result["hooks"] == {
        "createContainer": [
            {"path": "/bin/x", "args": ["x", "y"], "timeout": 3},
            {"path": "/bin/z"},
        ]
    }
    refuse_beyond_executor(result)
    for more, words in (
        (Edits(hooks=(Hook(hookName="poststop", path="/x"),)), "kind poststop"),
        (Edits(intelRdt={"closID": "x"}), "intelRdt"),
        (Edits(netDevices=(NetDevice(hostInterfaceName="e", name="f"),)), "netDevices"),
    ):
        with pytest.raises(TranslationError, match=words):
            refuse_beyond_executor(merged(edits + more))


def test_what_is_left_out_comes_from_the_host() -> None:
    nodes = (
        DeviceNode(path="/dev/of-zero", hostPath="/dev/zero"),
        DeviceNode(path="/dev/null", type="u"),
        DeviceNode(path="/dev/made-up", type="c", major=240, minor=1),
    )
    done = complete_edits(Edits(deviceNodes=nodes)).deviceNodes
    assert [(node.type, node.major, node.minor) for node in done] == [
        ("c", 1, 5), ("u", 1, 3), ("c", 240, 1),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("edits", "words"),
    [
        (Edits(deviceNodes=(DeviceNode(path="/dev/missing"),)), "cannot be looked at"),
        (Edits(deviceNodes=(DeviceNode(path="/dev/null", type="b"),)), "of type c, not b"),
        (Edits(deviceNodes=(DeviceNode(path="/etc/passwd"),)), "no device"),
        (Edits(mounts=(Mount(hostPath="/missing", containerPath="/x"),)), "does not exist"),
    ],
)
def test_what_the_host_has_not(edits: Edits, words: str) -> None:
    with pytest.raises(CdiError, match=words):
        complete_edits(edits)
