"""Rows, endpoints, what prune takes, and errors that help."""

from __future__ import annotations

import socket
from pathlib import Path

import click
import grpc
import pytest
from click.testing import CliRunner

from kubeletpy.cli import main
from kubeletpy.cri_cli.commands import labels_of
from kubeletpy.cri_cli.connection import choose_endpoint
from kubeletpy.cri_cli.events import described
from kubeletpy.cri_cli.images import image_rows, split_tag, unused, with_prefix
from kubeletpy.cri_cli.inspect import described as inspected
from kubeletpy.cri_cli.inspect import rows
from kubeletpy.cri_cli.stats import limit, percent
from kubeletpy_proto import cri_pb2 as cri

IMAGE = cri.Image(
    id="sha256:0123456789abcdef",
    repo_tags=["r:5000/web:v1", "r:5000/web:v2"],
    repo_digests=["r:5000/web@sha256:dd"],
    size=1 << 20,
)


def test_an_image_has_a_row_for_each_name() -> None:
    assert image_rows(IMAGE, digests=True) == [
        ("r:5000/web", "v1", "sha256:dd", "0123456789abc", "1.0 MiB", ""),
        ("r:5000/web", "v2", "sha256:dd", "0123456789abc", "1.0 MiB", ""),
    ]
    assert image_rows(cri.Image(id="sha256:ff", pinned=True), digests=False) == [
        ("<none>", "<none>", "ff", "0 B", "yes")
    ]
    assert split_tag("host:5000/name") == ("host:5000/name", "<none>")


def test_images_by_the_beginning_of_their_id() -> None:
    assert with_prefix([IMAGE], "01234") == [IMAGE]
    assert with_prefix([IMAGE], "sha256:01234") == [IMAGE]
    assert with_prefix([IMAGE], "012") == []


@pytest.mark.parametrize(
    "container",
    [
        cri.Container(image_id=IMAGE.id),
        cri.Container(image_ref="r:5000/web@sha256:dd"),
        cri.Container(image=cri.ImageSpec(image="r:5000/web:v2")),
    ],
)
def test_prune_takes_what_nobody_uses(container: cri.Container) -> None:
    untagged = cri.Image(id=IMAGE.id, repo_digests=IMAGE.repo_digests)
    assert unused([IMAGE], [], everything=True) == [IMAGE]
    assert unused([IMAGE], [], everything=False) == []
    assert unused([untagged], [], everything=False) == [untagged]
    assert unused([IMAGE], [container], everything=True) == []
    assert unused([cri.Image(id="sha256:1", pinned=True)], [], everything=True) == []


def test_the_endpoint_is_the_one_given_or_a_socket_that_is_there(tmp_path: Path) -> None:
    path = tmp_path / "s.sock"
    assert choose_endpoint("unix:///x", []) == "unix:///x"
    with pytest.raises(click.UsageError, match="no runtime listens on"):
        choose_endpoint(None, [str(path)])
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        assert choose_endpoint(None, ["/nowhere", str(path)]) == f"unix://{path}"


def test_labels() -> None:
    assert labels_of(("a=b", "c=")) == {"a": "b", "c": ""}
    with pytest.raises(click.BadParameter, match="key=value"):
        labels_of(("a",))


def test_percent_and_limit() -> None:
    def reading(at: int, used: int) -> cri.CpuUsage:
        return cri.CpuUsage(timestamp=at, usage_core_nano_seconds=cri.UInt64Value(value=used))

    assert percent(reading(0, 0), reading(2_000, 1_000)) == "50.0"
    assert percent(reading(5, 0), reading(5, 1)) == "-"
    assert percent(None, reading(5, 1)) == "-"
    memory = cri.MemoryUsage(
        working_set_bytes=cri.UInt64Value(value=1 << 20),
        available_bytes=cri.UInt64Value(value=3 << 20),
    )
    assert limit(memory) == "4.0 MiB"
    assert limit(cri.MemoryUsage()) == "-"


def test_events_in_a_line() -> None:
    event = cri.ContainerEventResponse(
        container_id="c" * 64,
        container_event_type=cri.CONTAINER_STOPPED_EVENT,
        created_at=1_700_000_000_000_000_000,
        pod_sandbox_status=cri.PodSandboxStatus(
            id="p", metadata=cri.PodSandboxMetadata(name="web", namespace="default")
        ),
        containers_statuses=[
            cri.ContainerStatus(
                id="c" * 64,
                metadata=cri.ContainerMetadata(name="nginx\x1b[0m"),
                exit_code=3,
                reason="Error",
            )
        ],
    )
    line = described(event)
    assert line.startswith("2023-11-14T22:13:20.000+00:00 stopped  ccccccccccccc default/web")
    assert line.endswith("exit code 3 (Error)")
    assert "\x1b" not in line


def test_info_that_is_json_is_shown_as_such() -> None:
    shown = inspected(cri.Image(id="x"), {"info": '{"pid": 5}', "note": "words"})
    assert shown["info"] == {"pid": 5}
    assert shown["note"] == "words"
    assert shown["status"]["id"] == "x"


def test_a_runtime_that_is_not_there_is_one_line_that_helps(tmp_path: Path) -> None:
    endpoint = f"unix://{tmp_path}/no.sock"
    for arguments in (["cri", "-r", endpoint, "ps"], ["image", "ls", "-r", endpoint]):
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 1
        assert grpc.StatusCode.UNAVAILABLE.name in result.output
        assert "--runtime-endpoint" in result.output
        assert "Traceback" not in result.output
    result = CliRunner().invoke(main, ["cri", "ps", "-r", "tcp://x"])
    assert result.exit_code == 2


@pytest.mark.parametrize(
    ("group", "names"),
    [
        ("cri", ["ps", "pods", "images", "inspect", "logs", "exec", "stats", "events"]),
        ("image", ["pull", "ls", "rm", "prune"]),
    ],
)
def test_each_command_explains_itself(group: str, names: list[str]) -> None:
    result = CliRunner().invoke(main, [group, "--help"])
    assert all(f"\n  {name} " in result.output for name in names)
    for name in names:
        result = CliRunner().invoke(main, [group, name, "--help"])
        assert result.exit_code == 0
        assert "--runtime-endpoint" in result.output


def test_rows_of_an_inspection() -> None:
    status = {"id": "x", "empty": "", "ips": [{"ip": "a"}, {"ip": "b"}], "labels": {"k": "v"}}
    assert rows(status) == [
        ("id", "x"),
        ("ips[0].ip", "a"),
        ("ips[1].ip", "b"),
        ("labels.k", "v"),
    ]
