from __future__ import annotations

import asyncio
import gzip
from pathlib import Path

import grpc
import pytest

from kubeletpy.cri.client import CriError
from kubeletpy.log_rotation.manager import Log, LogRotator, Policy, next_look
from kubeletpy.log_rotation.rotation import (
    Sorted,
    make_room,
    move_aside,
    remove_all,
    sort_rotated,
)

A, B, C = "0.log.20260101-000001", "0.log.20260101-000002", "0.log.20260101-000003"


@pytest.mark.parametrize(
    ("names", "maximum", "expected"),
    [
        ([], 5, Sorted()),
        ([A], 5, Sorted(compress=(A,))),
        ([f"{A}.gz", B], 5, Sorted(compress=(B,))),
        # The new log, the one rotated now, and one more.
        ([f"{A}.gz", f"{B}.gz", C], 3, Sorted(remove=(f"{A}.gz", f"{B}.gz"), compress=(C,))),
        ([f"{A}.gz", B], 2, Sorted(remove=(f"{A}.gz", B))),
        # What an interrupted rotation left.
        ([f"{A}.tmp", f"{B}.gz", B], 5, Sorted(remove=(B, f"{A}.tmp"))),
    ],
)
def test_what_becomes_of_rotated_files(names: list[str], maximum: int, expected: Sorted) -> None:
    found = sort_rotated(names, maximum)
    assert (sorted(found.remove), found.compress) == (sorted(expected.remove), expected.compress)


def test_a_rotation_on_disk(tmp_path: Path) -> None:
    log = tmp_path / "0.log"
    log.write_text("one\n")
    log.chmod(0o640)
    first = move_aside(log, 1_000_000)
    log.write_text("two\n")
    make_room(log, 5)
    packed = first.with_name(f"{first.name}.gz")
    assert gzip.decompress(packed.read_bytes()) == b"one\n"
    assert packed.stat().st_mode & 0o777 == 0o640
    assert not first.exists()
    remove_all(log)
    assert list(tmp_path.iterdir()) == []


def test_two_rotations_within_a_second_lose_nothing(tmp_path: Path) -> None:
    log = tmp_path / "0.log"
    log.write_text("one\n")
    rotated = move_aside(log, 1_000_000)
    log.write_text("two\n")
    with pytest.raises(FileExistsError):
        move_aside(log, 1_000_000)
    assert (rotated.read_text(), log.read_text()) == ("one\n", "two\n")


@pytest.mark.parametrize(
    ("size", "before", "elapsed", "seconds"),
    [(0, 0, 10, 10), (50, 50, 10, 10), (60, 50, 10, 10), (50, 0, 1, 1), (90, 0, 9, 1),
     (200, 0, 1, 0.25), (10, 90, 1, 10)],
)  # fmt: skip
def test_what_grows_fast_is_looked_at_sooner(
    size: int, before: int, elapsed: float, seconds: float
) -> None:
    assert next_look(size, before, elapsed, Policy(maximum_size=100)) == seconds


class Runtime:
    """Opens logs anew, as a runtime does, unless it refuses."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.refuse = False

    async def reopen_container_log(self, container_id: str) -> None:
        if self.refuse:
            raise CriError("ReopenContainerLog", grpc.StatusCode.UNKNOWN, "no")
        self.log.touch()


def rotator(runtime: Runtime, maximum: int = 3) -> LogRotator:
    policy = Policy(maximum_size=10, maximum_files=maximum)
    return LogRotator(runtime, policy, lambda: [Log("c1", runtime.log)])


def test_a_log_that_is_too_large(tmp_path: Path) -> None:
    runtime = Runtime(tmp_path / "0.log")
    runtime.log.write_text("x" * 10)
    asyncio.run(rotator(runtime).look())
    assert runtime.log.read_text() == ""
    (old,) = tmp_path.glob("0.log.*")
    assert old.read_text() == "x" * 10


def test_a_log_that_is_small_enough(tmp_path: Path) -> None:
    runtime = Runtime(tmp_path / "0.log")
    runtime.log.write_text("x" * 9)
    asyncio.run(rotator(runtime).look())
    assert [path.name for path in tmp_path.iterdir()] == ["0.log"]


def test_a_runtime_that_refuses_gets_its_log_back(tmp_path: Path) -> None:
    runtime = Runtime(tmp_path / "0.log")
    runtime.log.write_text("x" * 10)
    runtime.refuse = True
    asyncio.run(rotator(runtime).look())
    assert runtime.log.read_text() == "x" * 10
    assert [path.name for path in tmp_path.iterdir()] == ["0.log"]


def test_a_log_that_somebody_took_away_is_made_anew(tmp_path: Path) -> None:
    runtime = Runtime(tmp_path / "0.log")
    asyncio.run(rotator(runtime).look())
    assert runtime.log.exists()


def test_negative_sizes_switch_it_off(tmp_path: Path) -> None:
    runtime = Runtime(tmp_path / "0.log")
    one = LogRotator(runtime, Policy(maximum_size=-1), lambda: [Log("c1", runtime.log)])
    asyncio.run(one.run())
    assert not runtime.log.exists()
