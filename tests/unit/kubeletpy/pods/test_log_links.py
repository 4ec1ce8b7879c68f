"""Links to the logs of containers."""

from __future__ import annotations

from pathlib import Path

from kubeletpy.pods.log_links import add_link, directory_of, remove_links

from .build import pod


def test_links_are_made_and_removed(tmp_path: Path) -> None:
    logs, made = tmp_path / "pods", pod("a")
    directory = logs / "default_web_u1"
    first, second = directory / "a" / "0.log", directory / "a" / "1.log"
    assert directory_of(logs) == tmp_path / "containers"
    remove_links(logs, made, directory)
    add_link(logs, made, "a", "id0", first)
    add_link(logs, made, "a", "id0", first)
    add_link(logs, made, "a", "id1", second)
    (tmp_path / "containers" / "web_default_note.log").write_text("a file of somebody else")
    remove_links(logs, made, first)
    names = sorted(path.name for path in (tmp_path / "containers").iterdir())
    assert names == ["web_default_a-id1.log", "web_default_note.log"]
    assert (tmp_path / "containers" / "web_default_a-id1.log").readlink() == second
    other = pod("a")
    other.metadata.name = "we"
    remove_links(logs, other, directory)
    remove_links(logs, made, logs / "default_web_u2")
    assert len(list((tmp_path / "containers").iterdir())) == 2
    remove_links(logs, made, directory)
    names = [path.name for path in (tmp_path / "containers").iterdir()]
    assert names == ["web_default_note.log"]


def test_a_long_name_is_cut(tmp_path: Path) -> None:
    made = pod("a")
    made.metadata.name = "p" * 253
    add_link(tmp_path / "pods", made, "a", "1" * 64, tmp_path / "x.log")
    (name,) = (path.name for path in (tmp_path / "containers").iterdir())
    assert len(name) == 255
    assert name.endswith(".log")
