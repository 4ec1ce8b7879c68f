"""Links to logs, for those who collect them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

from kubeletpy.api.meta import ObjectMeta
from kubeletpy.api.pod import Pod, PodSpec
from kubeletpy.api.status import ContainerStatus, PodStatus
from kubeletpy.container_logs.links import LogLinks, link_name

POD = Pod(
    api_version="v1",
    kind="Pod",
    metadata=ObjectMeta(name="web", namespace="default", uid="u1"),
    spec=PodSpec(),
)


def status(container_id: str, restarts: int) -> PodStatus:
    one = ContainerStatus(
        name="c",
        ready=True,
        restart_count=restarts,
        image="",
        image_id="",
        container_id=f"runtime://{container_id}" if container_id else "",
    )
    return PodStatus(container_statuses=[one])


def make(tmp_path: Path) -> tuple[LogLinks, Path, Path]:
    logs, directory = tmp_path / "pods", tmp_path / "containers"
    core = SimpleNamespace(facts=SimpleNamespace(pod_logs=logs))
    (logs / "default_web_u1" / "c").mkdir(parents=True)
    return LogLinks(cast(Any, core), directory), logs / "default_web_u1" / "c", directory


def names(directory: Path) -> list[str]:
    return sorted(link.name for link in directory.iterdir()) if directory.is_dir() else []


def test_links_come_and_go_with_the_logs(tmp_path: Path) -> None:
    links, logs, directory = make(tmp_path)
    links.update(POD, status("", 0))
    links.update(POD, status("aa", 0))
    assert names(directory) == []
    (logs / "0.log").write_text("zero")
    links.update(POD, status("aa", 0))
    assert names(directory) == ["web_default_c-aa.log"]
    assert (directory / "web_default_c-aa.log").read_text() == "zero"
    (logs / "1.log").write_text("one")
    links.update(POD, status("bb", 1))
    assert names(directory) == ["web_default_c-aa.log", "web_default_c-bb.log"]
    (logs / "0.log").unlink()
    links.update(POD, status("bb", 1))
    assert names(directory) == ["web_default_c-bb.log"]
    links.remove(POD)
    assert names(directory) == []


def test_links_that_lead_nowhere_are_removed_at_the_start(tmp_path: Path) -> None:
    links, logs, directory = make(tmp_path)
    directory.mkdir()
    (logs / "0.log").write_text("zero")
    (directory / "good.log").symlink_to(logs / "0.log")
    (directory / "dead.log").symlink_to(logs / "1.log")
    (directory / "other.log").symlink_to(tmp_path / "elsewhere" / "1.log")
    (directory / "file.log").write_text("of somebody else")
    links.sweep()
    assert names(directory) == ["file.log", "good.log", "other.log"]
    # One that is there already is taken over.
    (directory / "web_default_c-aa.log").symlink_to(logs / "0.log")
    links.update(POD, status("aa", 0))
    links.remove(POD)
    assert names(directory) == ["file.log", "good.log", "other.log"]


def test_long_names_are_cut() -> None:
    assert len(link_name(POD, "c" * 300, "aa")) == 255
