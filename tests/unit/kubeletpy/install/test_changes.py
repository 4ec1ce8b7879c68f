from __future__ import annotations

from pathlib import Path

import pytest

from kubeletpy.install.changes import (
    Action,
    Change,
    Memory,
    carry_out,
    compare,
    decide,
    hash_of,
    read_memory,
)
from kubeletpy.install.errors import InstallError
from kubeletpy.install.places import Places
from kubeletpy.install.rendered import Rendered

NEW = Rendered(Path("/etc/file"), "new\n", 0o600)
CASES = {
    "absent": (None, [], False, Action.WRITE),
    "as it is to be": ("new\n", [], False, Action.SAME),
    "ours, older": ("old\n", [hash_of("old\n")], False, Action.WRITE),
    "changed": ("mine\n", [hash_of("old\n")], False, Action.KEEP),
    "never ours": ("mine\n", [], False, Action.KEEP),
    "changed, and to be overwritten": ("mine\n", [], True, Action.WRITE),
    "changed, back to ours before": ("older\n", [hash_of("older\n"), hash_of("old\n")], False,
                                     Action.WRITE),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_decide(case: str) -> None:
    before, known, overwrite, expected = CASES[case]
    assert decide(before, known, NEW, overwrite=overwrite) is expected


def test_what_is_written_is_known_before_it_is_there(tmp_path: Path) -> None:
    """A death between the two leaves a file that counts as ours, whichever of both it is."""
    state, at = tmp_path / "state.json", Places(tmp_path / "root")
    seen: list[list[str]] = []

    class Watched(Memory):
        pass

    memory = Watched()
    carry_out(compare([NEW], memory, at), memory, at, state)
    newer = Rendered(NEW.path, "newer\n", 0o600)
    path = at.of(NEW.path)
    path.unlink()
    path.mkdir()  # so that the write fails, after the memory was kept
    with pytest.raises(InstallError, match="cannot write"):
        carry_out([Change(newer, "new\n", Action.WRITE)], memory, at, state)
    seen.append(read_memory(state).files["/etc/file"])
    assert seen == [[hash_of("new\n"), hash_of("newer\n")]]


def test_a_changed_file_stays_and_the_difference_is_told(tmp_path: Path) -> None:
    state, at = tmp_path / "state.json", Places(tmp_path / "root")
    memory = Memory()
    carry_out(compare([NEW], memory, at), memory, at, state)
    path = at.of(NEW.path)
    assert path.read_text() == "new\n"
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text("mine\n")
    newer = Rendered(NEW.path, "newer\n", 0o600)
    (change,) = compare([newer], read_memory(state), at)
    carry_out([change], memory, at, state)
    assert path.read_text() == "mine\n"
    assert "-mine\n+newer\n" in change.difference()


def test_a_broken_memory_is_told(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    assert read_memory(path) == Memory()
    path.write_text("{")
    with pytest.raises(InstallError, match="remembers what was installed"):
        read_memory(path)
