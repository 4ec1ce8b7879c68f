"""Archives go in and out, and tools that are not ours agree with what they hold."""

from __future__ import annotations

import gzip
import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from kubeletpy_common.linux.namespaces import in_namespace
from kubeletpy_proto import cri_pb2 as cri
from tests.root.runtime.cri.node import SLEEP, Node
from tests.root.runtime.transfer.tools import CHECKOUT, command, ok, podman, run, tool
from tests.support.archives import index_layout
from tests.support.circumstances import patient
from tests.support.ociimage import build_image, push

pytestmark = pytest.mark.root

FORMS = ["oci-archive", "docker-archive", "oci"]


@pytest.fixture(scope="module")
def reference(node: Node) -> str:
    """A pulled image of two layers."""
    pushed = node.push("tests/web", {"www/index": b"<h1>hi</h1>" * 1000}, Cmd=["sleep", "1h"])
    node.pull(pushed)
    return pushed


def inspected(*arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(tool("skopeo", "inspect", *arguments))
    return found


@pytest.mark.parametrize("form", FORMS)
def test_skopeo_reads_what_we_export(node: Node, reference: str, form: str, tmp_path: Path) -> None:
    identifier = json.loads(ok(node, "ls", "-o", "json", reference))["images"][0]["id"]
    target = tmp_path / "exported"
    told = json.loads(ok(node, "export", "--format", form, "-o", "json", str(target), reference))
    assert told["images"][0]["tags"] == [reference]
    if form != "oci":
        assert int(told["bytes"]) == target.stat().st_size
    config = inspected("--config", f"{form}:{target}" + (":v1" if form == "oci" else ""))
    assert config["config"]["Cmd"] == ["sleep", "1h"]
    raw = inspected("--raw", f"{form}:{target}" + (":v1" if form == "oci" else ""))
    assert raw["config"]["digest"] == identifier
    # skopeo verifies every blob that it copies.
    tool("skopeo", "copy", f"{form}:{target}", f"dir:{tmp_path}/copy")
    if form == "docker-archive":
        assert tool("skopeo", "list-tags", f"{form}:{target}").count(reference) == 1


def test_umoci_unpacks_what_we_export(node: Node, reference: str, tmp_path: Path) -> None:
    ok(node, "export", f"{tmp_path}/layout/", reference)
    tool("umoci", "unpack", "--image", f"{tmp_path}/layout:v1", tmp_path / "bundle")
    assert (tmp_path / "bundle/rootfs/www/index").read_bytes() == b"<h1>hi</h1>" * 1000
    assert (tmp_path / "bundle/rootfs/bin/sh").readlink() == Path("busybox")


@pytest.mark.parametrize("form", ["oci-archive", "docker-archive"])
def test_podman_loads_what_we_export_and_we_import_what_it_saves(
    node: Node, reference: str, form: str, tmp_path: Path
) -> None:
    ours, theirs = tmp_path / "ours.tar", tmp_path / "theirs.tar"
    ok(node, "export", "--format", form, str(ours), reference)
    identifier = json.loads(ok(node, "ls", "-o", "json", reference))["images"][0]["id"]
    renamed = reference.replace("tests/web:v1", f"tests/saved:{form}")
    with podman() as call:
        call("load", "--input", ours)
        [loaded] = json.loads(call("images", "--format", "json"))
        assert "sha256:" + loaded["Id"] == identifier
        assert loaded["Names"] == [reference]
        call("tag", reference, renamed)
        call("save", "--format", form, "--output", theirs, renamed)
    told = json.loads(ok(node, "import", "-o", "json", str(theirs)))
    [image] = told["images"]
    assert image["id"] == identifier
    assert renamed in image["tags"]
    ok(node, "rm", renamed)


@pytest.mark.parametrize("form", FORMS)
def test_what_skopeo_copies_is_imported_and_runs(node: Node, form: str, tmp_path: Path) -> None:
    pushed = node.push(f"tests/in-{form}", {"greeting": form.encode()})
    name = f"example.org/tests/{form}:v2"
    archive = tmp_path / "archive"
    target = f"{form}:{archive}:{'v2' if form == 'oci' else name}"
    tool("skopeo", "copy", "--src-tls-verify=false", f"docker://{pushed}", target, node=node)
    named = ["--name", name.rpartition(":")[0]] if form == "oci" else []
    assert name in ok(node, "import", *named, str(archive))
    [image] = json.loads(ok(node, "ls", "-o", "json", name))["images"]
    assert image["repoTags"] == [name]
    # A manifest that was made from docker's form is no registry's.
    assert bool(image["repoDigests"]) == (form != "docker-archive")
    with node.pod() as sandbox:
        container = node.run(sandbox, *SLEEP, image=cri.ImageSpec(image=name))
        assert node.shell(container, "cat /greeting") == form
    ok(node, "rm", name)


def test_an_archive_by_pipes_and_compressed(node: Node, reference: str, tmp_path: Path) -> None:
    pushed = node.push("tests/piped", {"only": b"here"})
    node.pull(pushed)
    plain = subprocess.run(
        command(node, "export", "--format", "docker-archive", "-", pushed),
        stdout=subprocess.PIPE, cwd=CHECKOUT, timeout=patient(60), check=True,
    ).stdout  # fmt: skip
    ok(node, "rm", pushed)
    packed = gzip.compress(plain, 1)
    done = subprocess.run(
        command(node, "import", "-"), input=packed, stdout=subprocess.PIPE, cwd=CHECKOUT,
        timeout=patient(60), check=True,
    )  # fmt: skip
    assert pushed in done.stdout.decode()
    ok(node, "rm", pushed)


def test_several_images_share_blobs_and_keep_their_names(
    node: Node, reference: str, tmp_path: Path
) -> None:
    other = node.push("tests/other", {"b": b"b"})
    node.pull(other)
    archive = tmp_path / "two.tar"
    ok(node, "export", str(archive), reference, other)
    with tarfile.open(archive) as tar:
        names = tar.getnames()
        index = json.load(tar.extractfile("index.json"))  # type: ignore[arg-type]
    assert names[:2] == ["oci-layout", "index.json"]
    assert len(names) == len(set(names))
    # Both are called v1: the whole names tell them apart.
    refs = [each["annotations"]["org.opencontainers.image.ref.name"] for each in index["manifests"]]
    assert refs == [reference, other]
    inspected(f"oci-archive:{archive}:{other}")
    ok(node, "rm", reference, other)
    told = ok(node, "import", str(archive))
    assert reference in told
    assert other in told


def test_platforms_of_an_index(node: Node, tmp_path: Path) -> None:
    images = {arch: build_image({"arch": arch}, architecture=arch) for arch in ("amd64", "arm64")}
    layout = tmp_path / "layout"
    index = index_layout(layout, images, "multi")
    name = "example.org/tests/multi"
    told = json.loads(ok(node, "import", "--name", name, "-o", "json", str(layout)))
    assert [(each["id"], each["platform"]) for each in told["images"]] == [
        (images["amd64"].id, "linux/amd64")
    ]
    assert told["images"][0]["digests"] == [f"{name}@{index}"]
    refused = run(node, "export", "--platform", "linux/arm64", str(tmp_path / "x"), f"{name}:multi")
    assert refused.returncode == 1
    assert "not here for linux/arm64" in refused.stderr
    assert not (tmp_path / "x").exists()
    ok(node, "import", "--all-platforms", "--name", name, str(layout))
    ok(node, "export", "--platform", "linux/arm64", str(tmp_path / "arm"), f"{name}:multi")
    raw = inspected("--raw", f"oci-archive:{tmp_path}/arm")
    assert raw["config"]["digest"] == images["arm64"].id
    ok(node, "export", "--all-platforms", str(tmp_path / "all"), f"{name}:multi")
    raw = inspected("--raw", f"oci-archive:{tmp_path}/all")
    assert [each["digest"] for each in raw["manifests"]] == [i.digest for i in images.values()]
    ok(node, "rm", f"{name}:multi")
    foreign = json.loads(
        ok(node, "import", "--platform", "linux/arm64", "-o", "json", str(layout))
    )["images"]  # fmt: skip
    assert [(each["id"], each.get("tags")) for each in foreign] == [(images["arm64"].id, [])]
    ok(node, "rm", images["arm64"].id)


def test_a_layer_that_came_with_another_image_is_exported_too(node: Node, tmp_path: Path) -> None:
    files = {"shared": b"layer"}
    first = build_image(files, config={"Cmd": ["one"]}, compression="gzip")
    second = build_image(files, config={"Cmd": ["two"]}, compression="zstd")
    with in_namespace(node.place.netns):
        for number, image in enumerate((first, second)):
            push(image, node.registry, "tests/twins", f"v{number}")
    references = [f"{node.registry}/tests/twins:v{number}" for number in (0, 1)]
    for reference in references:
        node.pull(reference)
    # The second's layers were here, unpacked, so its blobs were never fetched.
    ok(node, "export", str(tmp_path / "second"), references[1])
    raw = inspected("--raw", f"oci-archive:{tmp_path}/second")
    assert raw["config"]["digest"] == second.id
    tool("skopeo", "copy", f"oci-archive:{tmp_path}/second", f"dir:{tmp_path}/copy")
    # And they go on being here when the first is not.
    ok(node, "rm", references[0])
    ok(node, "export", "--format", "docker-archive", str(tmp_path / "again"), references[1])
    assert inspected("--raw", f"docker-archive:{tmp_path}/again")["config"]["digest"] == second.id
    ok(node, "rm", references[1])


def test_pull_prints_the_image_and_prune_removes_it(node: Node) -> None:
    with node.pod() as sandbox:
        used = node.push("tests/used", {"used": b"1"})
        node.pull(used)
        node.run(sandbox, *SLEEP, image=cri.ImageSpec(image=used))
        first = node.push("tests/pruned", {"a": b"1"})
        old = json.loads(ok(node, "pull", "-o", "json", first))
        assert old["tags"] == [first]
        assert old["platform"] == "linux/amd64"
        node.push("tests/pruned", {"a": b"2"})
        new = ok(node, "pull", first).strip()
        assert new != old["id"]
        dry = json.loads(ok(node, "prune", "--dry-run", "-o", "json"))
        assert [each["id"] for each in dry["removed"]] == [old["id"]]
        done = json.loads(ok(node, "prune", "-f", "-o", "json"))
        assert done == dry
        assert int(done["bytes"]) > 0
        assert "nothing to remove" in run(node, "prune", "-f").stderr
        before = disk_bytes(node)
        dry = json.loads(ok(node, "prune", "-a", "--dry-run", "-o", "json"))
        assert new in [each["id"] for each in dry["removed"]]
        ids = ok(node, "prune", "-a", "-f").split()
        assert new in ids
        assert before - disk_bytes(node) >= int(dry["bytes"]) * 0.9
        listed = json.loads(ok(node, "ls", "-o", "json"))["images"]
        assert [each["repoTags"] for each in listed] == [[used]]
    node.image = node.pull(node.push("tests/busybox"))


def disk_bytes(node: Node) -> int:
    return sum(
        path.lstat().st_size for path in (node.place.root / "content/blobs").rglob("*")
        if path.is_file()
    ) + sum(
        path.lstat().st_blocks * 512 for path in (node.place.root / "snapshots").rglob("*")
    )  # fmt: skip
