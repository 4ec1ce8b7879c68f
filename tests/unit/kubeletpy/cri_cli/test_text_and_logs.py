"""Numbers, times and log files, as people read them."""

from __future__ import annotations

import io
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from kubeletpy.container_logs.format import parse, tail_offset
from kubeletpy.cri_cli.logs import LogReader, Printer, Shown
from kubeletpy.cri_cli.output import printable
from kubeletpy.cri_cli.text import age, moment, short, size

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "0s"), (59, "59s"), (61, "1m"), (7200, "2h"), (86400 * 3, "3d"), (-5, "0s")],
)
def test_ages(seconds: int, expected: str) -> None:
    now = 10**18
    assert age(now - seconds * 10**9, now) == expected
    assert age(0, now) == "-"


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (5 << 20, "5.0 MiB"),
        (1 << 62, "4096.0 PiB"),
    ],
)
def test_sizes(count: int, expected: str) -> None:
    assert size(count) == expected


def test_short_ids() -> None:
    assert short("sha256:0123456789abcdef") == "0123456789abc"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("90s", NOW - timedelta(seconds=90)),
        ("1h30m", NOW - timedelta(minutes=90)),
        ("2d", NOW - timedelta(days=2)),
        ("2026-05-01T11:00:00Z", NOW - timedelta(hours=1)),
        ("2026-05-01T13:00:00+02:00", NOW - timedelta(hours=1)),
        ("2026-05-01", NOW - timedelta(hours=12)),
    ],
)
def test_moments(text: str, expected: datetime) -> None:
    assert moment(text, NOW) == expected


@pytest.mark.parametrize("text", ["", "soon", "5", "m5", "1h x"])
def test_what_is_no_moment(text: str) -> None:
    with pytest.raises(ValueError, match="neither a duration"):
        moment(text, NOW)


def line(text: str, tag: str = "F", stream: str = "stdout", second: int = 0) -> bytes:
    return f"2026-05-01T12:00:{second:02}.123456789Z {stream} {tag} {text}\n".encode()


def test_entries() -> None:
    entry = parse(line("a b  c", "P", "stderr").rstrip(b"\n"))
    assert entry is not None
    assert (entry.stream, entry.whole, entry.content) == ("stderr", False, b"a b  c")
    assert entry.at() == NOW.replace(microsecond=123456)
    assert parse(b"no log line") is None
    empty = parse(b"2026-05-01T12:00:00.5+02:00 stdout F ")
    assert empty is not None
    assert empty.content == b""
    assert empty.at() == NOW.replace(microsecond=500000) - timedelta(hours=2)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 50, 2999, 3000, 4000])
def test_tail_finds_the_last_lines_over_blocks(count: int) -> None:
    # Every third line of the program is in two parts.
    lines = []
    for number in range(3000):
        text = f"{number} {'x' * (number % 90)}"
        parts = [line(text, "P"), line("end")] if number % 3 == 0 else [line(text)]
        lines.append(b"".join(parts))
    content = b"".join(lines)
    offset = tail_offset(io.BytesIO(content), count)
    assert content[offset:] == b"".join(lines[len(lines) - min(count, 3000) :])


def output(path: Path, tail: int | None, shown: Shown) -> tuple[bytes, bytes]:
    stdout, stderr = io.BytesIO(), io.BytesIO()
    reader = LogReader(path, tail)
    Printer(shown, stdout, stderr).show(reader.entries())
    reader.close()
    return stdout.getvalue(), stderr.getvalue()


def test_streams_are_kept_apart_and_parts_joined(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(
        line("one ", "P") + line("oops", stream="stderr", second=1) + line("line", second=2)
        + line("two", second=3)
    )  # fmt: skip
    assert output(path, None, Shown()) == (b"one line\ntwo\n", b"oops\n")
    assert output(path, 1, Shown()) == (b"two\n", b"")
    late = NOW.replace(second=3)
    assert output(path, None, Shown(since=late)) == (b"two\n", b"")
    stamped, _ = output(path, None, Shown(timestamps=True))
    assert stamped == (
        b"2026-05-01T12:00:00.123456789Z one line\n2026-05-01T12:00:03.123456789Z two\n"
    )


def test_a_reader_follows_a_rotation_and_waits_for_the_end_of_a_line(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(line("one") + line("two")[:-3])
    reader = LogReader(path, None)
    assert [entry.content for entry in reader.entries()] == [b"one"]
    with open(path, "ab") as file:
        file.write(b"wo\n")
    assert [entry.content for entry in reader.entries()] == [b"two"]
    os.rename(path, tmp_path / "log.1")
    assert list(reader.entries()) == []
    with open(tmp_path / "log.1", "ab") as file:
        file.write(line("last of the old"))
    path.write_bytes(line("first of the new"))
    assert [entry.content for entry in reader.entries()] == [
        b"last of the old", b"first of the new",
    ]  # fmt: skip
    os.truncate(path, 0)
    with open(path, "ab") as file:
        file.write(line("x"))
    assert [entry.content for entry in reader.entries()] == [b"x"]
    reader.close()


def test_nothing_steers_the_terminal() -> None:
    assert "\x1b" not in printable("web\x1b[2J\r\n")
