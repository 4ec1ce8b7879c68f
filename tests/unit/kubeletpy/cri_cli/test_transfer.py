"""Layouts in directories, statuses and ports, as the command line reads and writes them."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from kubeletpy.cli import main
from kubeletpy.cri_cli.layout_files import LayoutError, extract, files_of, tar_of
from kubeletpy.cri_cli.streaming.forward import Ports, parse_ports
from kubeletpy.cri_cli.streaming.status import Ended, parse_status
from kubeletpy.cri_cli.transfer import names_of
from kubeletpy_proto import images_pb2 as pb
from tests.support.archives import index_layout, link
from tests.support.archives import tar_of as made
from tests.support.ociimage import build_image


def test_a_layout_goes_through_a_tar_and_back(tmp_path: Path) -> None:
    index_layout(tmp_path / "in", {"amd64": build_image({"a": b"a"})}, "v1")
    (tmp_path / "in/blobs/sha256/not-a-blob").write_text("left out")
    (tmp_path / f"in/blobs/sha256/{'a' * 64}").symlink_to("/etc/passwd")
    files = files_of(tmp_path / "in")
    assert [name for name, _ in files[:2]] == ["oci-layout", "index.json"]
    extract(io.BytesIO(b"".join(tar_of(tmp_path / "in", files))), tmp_path / "out")
    assert sorted(files) == sorted(files_of(tmp_path / "out"))
    for name, _ in files:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "in" / name).read_bytes()
    assert sorted(os.listdir(tmp_path)) == ["in", "out"]


def test_a_directory_that_is_no_layout(tmp_path: Path) -> None:
    with pytest.raises(LayoutError, match="is no OCI image layout"):
        files_of(tmp_path)


def test_a_file_that_shrinks_is_noticed(tmp_path: Path) -> None:
    (tmp_path / "oci-layout").write_bytes(b"short")
    with pytest.raises(LayoutError, match="changed while it was read"):
        list(tar_of(tmp_path, [("oci-layout", 10)]))


@pytest.mark.parametrize(
    "name", ["../oci-layout", "/etc/passwd", "blobs/sha256/../../x", "blobs/sha256/short", "other"]
)
def test_nothing_else_is_written(tmp_path: Path, name: str) -> None:
    (tmp_path / "here").mkdir()
    archive = made([("oci-layout", b"{}"), (name, b"x")])
    with pytest.raises(LayoutError, match="which no layout has"):
        extract(io.BytesIO(archive), tmp_path / "here/out")
    assert list((tmp_path / "here").iterdir()) == []
    links = made([("oci-layout", link("/etc/passwd"))])
    with pytest.raises(LayoutError, match="which no layout has"):
        extract(io.BytesIO(links), tmp_path / "here/out")
    assert sorted(os.listdir(tmp_path)) == ["here"]


def test_a_full_directory_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LayoutError, match="not an empty directory"):
        extract(io.BytesIO(made([])), tmp_path)


@pytest.mark.parametrize(
    ("data", "ended"),
    [
        (b'{"status":"Success"}', Ended(0)),
        (
            b'{"status":"Failure","message":"m","reason":"NonZeroExitCode",'
            b'"details":{"causes":[{"reason":"ExitCode","message":"7"}]}}',
            Ended(7, "m"),
        ),
        (b'{"status":"Failure","reason":"NonZeroExitCode","message":"m"}', Ended(None, "m")),
        (b'{"status":"Failure","reason":"InternalError","message":"why"}', Ended(None, "why")),
        (b"", Ended(None, "the connection ended before the session did")),
        (b"no json", Ended(None, "no json")),
        (b"[1]", Ended(None, "[1]")),
    ],
)
def test_statuses(data: bytes, ended: Ended) -> None:
    assert parse_status(data) == ended


def test_ports() -> None:
    assert parse_ports("80") == Ports(80, 80)
    assert parse_ports("8080:80") == Ports(8080, 80)
    assert parse_ports(":80") == Ports(0, 80)
    for text in ("", "a", "80:", "1:2:3", "0", "70000", "80:70000", "-1"):
        with pytest.raises(ValueError, match=r"is not|no port"):
            parse_ports(text)


def test_names_for_a_person() -> None:
    image = pb.Image(id="sha256:0123456789abcdef", tags=["r/a:v1\x1b[2J"])
    assert names_of(image) == "0123456789abc  r/a:v1\N{REPLACEMENT CHARACTER}[2J"
    assert names_of(pb.Image(id="sha256:01")) == "01  <none>"


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["image", "import", "--tag", "v1", "x"], "--tag goes with --name"),
        (["image", "export", "--format", "oci", "-", "x"], "takes an archive"),
        (["image", "import", "/nowhere/x.tar"], "No such file"),
        (["cri", "exec", "--limit", "3", "a", "b"], "--limit goes with --sync"),
        (["cri", "exec", "--sync", "-i", "a", "b"], "--sync has neither"),
        (["cri", "port-forward", "pod", "http"], "is not REMOTE"),
    ],
)
def test_senseless_command_lines(arguments: list[str], why: str) -> None:
    group, *rest = arguments
    done = CliRunner().invoke(main, [group, "-r", "unix:///nowhere.sock", *rest])
    assert done.exit_code in (1, 2)
    assert why in done.output
