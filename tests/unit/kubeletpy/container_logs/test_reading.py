"""Reading log files: rotations, and links that lead elsewhere."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from kubeletpy.container_logs.following import read_log
from kubeletpy.container_logs.options import LogOptions
from kubeletpy.container_logs.reading import LogError, LogFile
from kubeletpy.container_logs.rendering import Renderer
from kubeletpy.container_logs.watching import Bell, DirectoryWatches

NAME = "default_web_1/c/0.log"


def line(text: str) -> str:
    return f"2026-01-01T00:00:00Z stdout F {text}\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / NAME).parent.mkdir(parents=True)
    (tmp_path / NAME).write_text(line("one") + line("two"))
    return tmp_path


def everything(file: LogFile) -> bytes:
    renderer = Renderer(LogOptions())
    sent = b""
    while (data := file.next(renderer)) is not None:
        sent += data
    return sent


@pytest.mark.parametrize(
    ("tail", "expected"), [(None, b"one\ntwo\n"), (1, b"two\n"), (0, b""), (9, b"one\ntwo\n")]
)
def test_tail(root: Path, tail: int | None, expected: bytes) -> None:
    file = LogFile(root, NAME, tail=tail, follow=False)
    assert everything(file) == expected
    file.close()


def test_rotation_loses_nothing(root: Path) -> None:
    path = root / NAME
    file = LogFile(root, NAME, tail=None, follow=True)
    assert everything(file) == b"one\ntwo\n"
    with path.open("a") as old:
        path.rename(path.with_suffix(".log.20260101-000000"))
        assert everything(file) == b""
        path.write_text(line("four"))
        # The runtime may write to the old file until it has opened the new one.
        old.write(line("three"))
        old.flush()
        assert everything(file) == b"three\nfour\n"
    file.close()


def test_truncated_in_place(root: Path) -> None:
    file = LogFile(root, NAME, tail=None, follow=True)
    everything(file)
    (root / NAME).write_text(line("new"))
    assert everything(file) == b"new\n"
    file.close()


def test_half_a_line_waits_for_its_end_when_followed(root: Path) -> None:
    whole = line("three")
    with (root / NAME).open("a") as log:
        log.write(whole[:-3])
        log.flush()
        followed = LogFile(root, NAME, tail=1, follow=True)
        once = LogFile(root, NAME, tail=1, follow=False)
        assert everything(followed) == b""
        assert everything(once) == b"thr"
        log.write(whole[-3:])
        log.flush()
        assert everything(followed) == b"three\n"
    followed.close()
    once.close()


@pytest.mark.parametrize("where", ["file", "directory", "pod"])
def test_links_are_not_followed(
    root: Path, tmp_path_factory: pytest.TempPathFactory, where: str
) -> None:
    secret = tmp_path_factory.mktemp("elsewhere")
    (secret / "c").mkdir()
    for target in (secret / "0.log", secret / "c" / "0.log"):
        target.write_text(line("secret"))
    path = root / NAME
    if where == "file":
        path.unlink()
        path.symlink_to(secret / "0.log")
    elif where == "directory":
        path.parent.rename(root / "away")
        path.parent.symlink_to(secret)
    else:
        path.parents[1].rename(root / "away")
        path.parents[1].symlink_to(secret)
    with pytest.raises(LogError):
        LogFile(root, NAME, tail=None, follow=False)


def test_a_link_put_there_by_a_rotation_is_not_followed(root: Path) -> None:
    path = root / NAME
    file = LogFile(root, NAME, tail=None, follow=True)
    everything(file)
    path.unlink()
    path.symlink_to("/etc/hostname")
    with pytest.raises(LogError):
        everything(file)
    file.close()


def test_a_pipe_does_not_hang_the_reader(root: Path) -> None:
    (root / NAME).unlink()
    os.mkfifo(root / NAME)
    with pytest.raises(LogError, match="no plain file"):
        LogFile(root, NAME, tail=None, follow=False)


async def test_following_ends_with_the_container(root: Path) -> None:
    lives = True

    async def alive() -> bool:
        return lives

    watches, bell = DirectoryWatches(), Bell()
    file = LogFile(root, NAME, tail=0, follow=True)
    log = read_log(file, LogOptions(follow=True), alive, watches, bell)
    first = asyncio.ensure_future(anext(log))
    await asyncio.sleep(0)
    with (root / NAME).open("a") as writer:
        writer.write(line("three"))
        writer.flush()
        assert await first == b"three\n"
        rest = asyncio.ensure_future(anext(log))
        await asyncio.sleep(0)
        writer.write(line("last"))
        writer.flush()
        assert await rest == b"last\n"
    lives = False
    bell.doubt()
    with pytest.raises(StopAsyncIteration):
        await anext(log)
    assert not watches._watched
    file.close()


async def test_all_followers_of_a_directory_are_rung_by_one_instance(root: Path) -> None:
    watches, bells = DirectoryWatches(), [Bell() for _ in range(3)]
    directory = os.open(root / "default_web_1" / "c", os.O_PATH)
    with watches.watching(directory, bells[0]):
        with watches.watching(directory, bells[1]), watches.watching(directory, bells[2]):
            (root / NAME).write_text("x")
            async with asyncio.timeout(30):
                for bell in bells:
                    await bell._rung.wait()
        assert watches._inotify is not None
    assert watches._inotify is None
    os.close(directory)
