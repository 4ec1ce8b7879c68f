from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kubeletpy_common.releases import ReleaseError, Releases, User, own_release

_OLD, _NEW = "0.1.0-aaaaaaaaaaaa", "0.2.0-bbbbbbbbbbbb"


@pytest.fixture
def releases(tmp_path: Path) -> Releases:
    proc = tmp_path / "proc"
    (proc / "self").mkdir(parents=True)
    found = Releases(tmp_path / "opt", proc)
    for name in (_OLD, _NEW):
        (found.directory / name / "lib").mkdir(parents=True)
    found.switch(found.directory / _NEW)
    return found


def _process(releases: Releases, **files: str | Path) -> None:
    process = releases.root.parent / "proc" / "4711"
    process.mkdir()
    for name, content in files.items():
        if isinstance(content, Path):
            (process / name).symlink_to(content)
        else:
            (process / name).write_text(content)


def test_the_link_is_moved(releases: Releases) -> None:
    assert releases.current() == releases.directory / _NEW
    releases.switch(releases.directory / _OLD)
    assert releases.current() == releases.directory / _OLD
    assert releases.link.resolve() == (releases.directory / _OLD).resolve()


def test_what_nobody_uses_goes_and_what_is_current_stays(releases: Releases) -> None:
    _process(releases, cmdline="/usr/bin/python3\0-m\0runtime\0", maps="", exe=Path("/usr/bin/x"))
    assert releases.collect() == [_OLD]
    assert [path.name for path in releases.all()] == [_NEW]
    assert releases.collect() == []


@pytest.mark.parametrize(
    "used",
    [
        lambda old: {"exe": Path(f"{old}/bin/python")},
        lambda old: {"cwd": Path(f"{old}")},
        lambda old: {"cmdline": f"{old}/bin/python\0-P\0-m\0runtime\0"},
        lambda old: {"environ": f"A=b\0VIRTUAL_ENV={old}\0"},
        lambda old: {"maps": f"7f00-7f01 r--s 00000000 fe:00 12 {old}/lib/a.py\n"},
        lambda old: {"maps": f"7f00-7f01 r--s 00000000 fe:00 12 {old}/lib/a.py (deleted)\n"},
    ],
)
def test_what_is_used_stays(
    releases: Releases, used: Callable[[Path], dict[str, str | Path]]
) -> None:
    _process(releases, **used(releases.directory / _OLD))
    assert [user.pid for user in releases.users()[_OLD]] == [4711]
    assert releases.collect() == []
    assert (releases.directory / _OLD / "lib").is_dir()


def test_what_starts_while_it_is_being_removed_gets_it_back(
    releases: Releases, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = releases.users
    calls = 0

    def late() -> dict[str, list[User]]:
        nonlocal calls
        calls += 1
        if calls == 2:
            _process(releases, cwd=releases.directory / f".leaving-{_OLD}" / "lib")
        return looked()

    monkeypatch.setattr(releases, "users", late)
    assert releases.collect() == []
    assert (releases.directory / _OLD / "lib").is_dir()


def test_without_a_current_one_nothing_is_removed(releases: Releases) -> None:
    releases.link.unlink()
    assert releases.collect() == []
    assert len(releases.all()) == 2


def test_without_processes_nothing_is_removed(releases: Releases) -> None:
    (releases.root.parent / "proc" / "self").rmdir()
    with pytest.raises(ReleaseError, match="shows no processes"):
        releases.collect()
    assert len(releases.all()) == 2


def test_what_was_half_made_is_cleared(releases: Releases) -> None:
    for name in (".making-0.3.0-cccccccccccc", ".leaving-0.0.1-dddddddddddd"):
        (releases.directory / name).mkdir()
    (releases.directory / "notes").mkdir()
    releases.collect()
    assert sorted(path.name for path in releases.directory.iterdir()) == [_NEW, "notes"]


def test_this_process_runs_from_no_release() -> None:
    assert own_release() is None
