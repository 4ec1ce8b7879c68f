from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from runtime.config import Config
from runtime.preflight import check_state
from runtime.shim.messages import OLDEST_PROTOCOL, PROTOCOL
from runtime.state import takeover
from runtime.state.database import SCHEMA_VERSION
from runtime.state.records import StateError
from runtime.state.store import Store

_BOOT = "boot-1"


def _write(path: Path, *records: str) -> Path:
    Store.open(path).close()
    with closing(sqlite3.connect(path)) as database, database:
        for number, record in enumerate(records):
            row = (str(number), str(number), b"", record.encode())
            database.execute("INSERT INTO sandboxes VALUES (?, ?, ?, ?)", row)
    return path


def _record(
    protocol: int | None, boot: str = _BOOT, state: str = "ready", name: str = "web"
) -> str:
    written = "" if protocol is None else f', "protocol": {protocol}'
    return f'{{"name": "{name}", "boot_id": "{boot}", "state": "{state}", "later": [1]{written}}}'


@pytest.mark.parametrize(
    "records",
    [
        (),
        (_record(PROTOCOL), _record(OLDEST_PROTOCOL)),
        # Those of a version that did not write it down.
        (_record(None),),
        # No shim is left of these.
        (_record(99, boot="boot-0"),),
        (_record(99, state="creating"),),
    ],
)
def test_what_can_be_taken_over(tmp_path: Path, records: tuple[str, ...]) -> None:
    path = _write(tmp_path / "state.db", *records)
    assert takeover.problem(path, _BOOT) == ("", "")
    takeover.require(path, _BOOT)


@pytest.mark.parametrize("protocol", [OLDEST_PROTOCOL - 1, PROTOCOL + 1])
@pytest.mark.parametrize("state", ["ready", "not-ready"])
def test_shims_of_another_protocol_are_refused(tmp_path: Path, protocol: int, state: str) -> None:
    pods = [_record(protocol, name=f"pod{n}", state=state) for n in range(5)]
    path = _write(tmp_path / "state.db", _record(PROTOCOL), *pods)
    before = path.read_bytes()
    with pytest.raises(StateError, match=rf"5 pods are kept by shims of protocol {protocol},"):
        takeover.require(path, _BOOT)
    text, remedy = takeover.problem(path, _BOOT)
    assert "pod0, pod1, pod2 and 2 more" in text
    assert "go on with the release that started them" in remedy
    assert path.read_bytes() == before


def test_a_state_file_of_a_later_version_is_refused(tmp_path: Path) -> None:
    path = _write(tmp_path / "state.db")
    with closing(sqlite3.connect(path)) as database:
        database.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    text, remedy = takeover.problem(path, _BOOT)
    assert f"schema version {SCHEMA_VERSION + 1}" in text
    assert "a later one" in remedy


def test_the_check_of_the_command_line(tmp_path: Path) -> None:
    assert check_state(Config(root=tmp_path / "absent")).ok
    (tmp_path / "state.db").write_bytes(b"no database, " * 100)
    found = check_state(Config(root=tmp_path))
    assert not found.ok
    assert "cannot be read" in found.detail
    assert found.remedy
