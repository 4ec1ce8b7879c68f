from __future__ import annotations

import os
import resource
import signal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.shim.logs import LineCutter, LogFile, timestamp

NOW = 1_700_000_000_000_000_042


def entries(data: bytes) -> list[tuple[bytes, bytes, bytes]]:
    return [tuple(line.split(b" ", 3)[1:]) for line in data.split(b"\n")[:-1]]  # type: ignore[misc]


def test_timestamps_are_rfc_3339_with_nanoseconds() -> None:
    assert timestamp(NOW) == "2023-11-14T22:13:20.000000042Z"
    assert timestamp(0) == "1970-01-01T00:00:00.000000000Z"


def test_a_line_is_one_entry() -> None:
    cutter = LineCutter("stdout")
    assert cutter.feed(b"one\ntwo\nthr", NOW).decode() == (
        f"{timestamp(NOW)} stdout F one\n{timestamp(NOW)} stdout F two\n"
    )
    assert entries(cutter.feed(b"ee\n", NOW)) == [(b"stdout", b"F", b"three")]
    assert cutter.finish(NOW) == b""


def test_a_last_line_without_a_line_feed_is_not_lost_and_gets_none() -> None:
    cutter = LineCutter("stderr")
    assert cutter.feed(b"half", NOW) == b""
    assert entries(cutter.finish(NOW)) == [(b"stderr", b"P", b"half")]


def test_long_lines_are_split() -> None:
    cutter = LineCutter("stdout", max_line=4)
    got = entries(cutter.feed(b"0123456789\nabcd\n", NOW))
    assert got == [
        (b"stdout", b"P", b"0123"),
        (b"stdout", b"P", b"4567"),
        (b"stdout", b"F", b"89"),
        (b"stdout", b"F", b"abcd"),
    ]


@given(st.lists(st.binary(max_size=30), max_size=20), st.integers(1, 8))
def test_no_byte_is_lost_or_made_up(pieces: list[bytes], limit: int) -> None:
    cutter = LineCutter("stdout", max_line=limit)
    out = b"".join(cutter.feed(piece, NOW) for piece in pieces) + cutter.finish(NOW)
    text = b"".join(part + (b"\n" if tag == b"F" else b"") for _, tag, part in entries(out))
    assert text == b"".join(pieces)
    assert all(len(part) <= limit for _, _, part in entries(out))


def test_reopen_goes_on_in_a_new_file(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = LogFile(path)
    log.write(b"old\n")
    path.rename(tmp_path / "log.1")
    log.reopen()
    log.write(b"new\n")
    log.close()
    assert (tmp_path / "log.1").read_bytes() == b"old\n"
    assert path.read_bytes() == b"new\n"


def test_a_linked_log_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log").symlink_to(tmp_path / "victim")
    try:
        LogFile(tmp_path / "log")
    except OSError:
        pass
    assert not (tmp_path / "victim").exists()


def test_a_full_disk_costs_lines_and_a_line_says_so(tmp_path: Path) -> None:
    told: list[str] = []
    path = tmp_path / "log"
    log = LogFile(path, told.append)
    log.write(b"first\n")
    file = os.dup(log._fd)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, log._fd, inheritable=False)
    os.close(full)
    log.write(b"lost\nlost\n")
    log.write(b"lost\n")
    assert log.lost == 3
    os.dup2(file, log._fd, inheritable=False)
    os.close(file)
    log.write(b"last\n")
    log.close()
    first, notice, last = path.read_text().splitlines()
    assert (first, last) == ("first", "last")
    assert " stderr F kubeletpy: 3 log entries are missing here: No space left" in notice
    assert ["cannot be written" in told[0], "3 entries are missing" in told[1]] == [True, True]
    assert len(told) == 2


def test_half_an_entry_is_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = LogFile(path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (12, hard))
    try:
        log.write(b"whole\nwhole too\n")
        assert path.read_bytes() == b"whole\n"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, before)
    log.close()
    assert "1 log entries are missing" in path.read_text().splitlines()[1]


def test_only_a_plain_file_without_links_on_the_way_is_a_log(tmp_path: Path) -> None:
    """CVE-2024-5154: what somebody with a volume in the log directory puts there."""
    (tmp_path / "canary").write_text("canary")
    (tmp_path / "real").mkdir()
    (tmp_path / "directory").symlink_to("real")
    (tmp_path / "link").symlink_to("canary")
    (tmp_path / "loop").symlink_to("loop")
    os.mkfifo(tmp_path / "fifo")
    for name in ("link", "loop", "directory/log", "fifo", "real"):
        with pytest.raises(OSError, match=name):
            LogFile(tmp_path / name)
    with pytest.raises(OSError, match="something else is in its place"):
        LogFile(Path("/dev/null"))
    assert (tmp_path / "canary").read_text() == "canary"
    assert list((tmp_path / "real").iterdir()) == []


def test_a_reopened_log_is_looked_at_as_well(tmp_path: Path) -> None:
    log = LogFile(tmp_path / "log")
    (tmp_path / "log").rename(tmp_path / "log.1")
    (tmp_path / "log").symlink_to("canary")
    with pytest.raises(OSError, match="log"):
        log.reopen()
    log.write(b"kept\n")
    log.close()
    assert (tmp_path / "log.1").read_bytes() == b"kept\n"
    assert not (tmp_path / "canary").exists()
