from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from kubeletpy.sources import static
from kubeletpy.sources.static import StaticPodSource
from kubeletpy.sources.updates import PodUpdates

_DEADLINE = 10.0


def manifest(name: str = "web", image: str = "web:1") -> str:
    return json.dumps(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name},
            "spec": {"containers": [{"name": "main", "image": image}]},
        }
    )


class Reader:
    """Reads updates with a deadline."""

    def __init__(self, path: Path) -> None:
        self._updates: AsyncIterator[PodUpdates] = aiter(StaticPodSource(path, "node"))

    async def next(self) -> PodUpdates:
        return await asyncio.wait_for(anext(self._updates), _DEADLINE)

    async def until(self, condition: Callable[[PodUpdates], object]) -> PodUpdates:
        async with asyncio.timeout(_DEADLINE):
            while True:
                updates = await anext(self._updates)
                if condition(updates):
                    return updates

    async def close(self) -> None:
        await self._updates.aclose()  # type: ignore[attr-defined]


@pytest.fixture
async def reader(tmp_path: Path) -> AsyncIterator[Reader]:
    reader = Reader(tmp_path / "pods")
    yield reader
    await reader.close()


@pytest.fixture
def pods(tmp_path: Path) -> Path:
    directory = tmp_path / "pods"
    directory.mkdir()
    return directory


def names(updates: PodUpdates) -> list[str]:
    return [pod.metadata.name for pod in updates.added]


async def test_first_look_comes_at_once(pods: Path, reader: Reader) -> None:
    (pods / "b.yaml").write_text(manifest("b"))
    (pods / "a").write_text(manifest("a"))
    (pods / ".hidden.yaml").write_text(manifest("hidden"))
    (pods / "directory").mkdir()
    assert names(await reader.next()) == ["a-node", "b-node"]


async def test_first_look_comes_even_if_empty(pods: Path, reader: Reader) -> None:
    updates = await reader.next()
    assert not updates


async def test_file_added_changed_removed(pods: Path, reader: Reader) -> None:
    await reader.next()
    file = pods / "web.yaml"
    file.write_text(manifest())
    assert names(await reader.next()) == ["web-node"]
    file.write_text(manifest(image="web:2"))
    (change,) = (await reader.next()).changed
    assert change.old.metadata.uid != change.new.metadata.uid
    assert change.new.spec.containers[0].image == "web:2"
    file.unlink()
    (gone,) = (await reader.next()).removed
    assert gone.metadata.uid == change.new.metadata.uid


async def test_renames(pods: Path, reader: Reader, tmp_path: Path) -> None:
    await reader.next()
    (tmp_path / "outside").write_text(manifest("one"))
    (tmp_path / "outside").rename(pods / "one")
    assert names(await reader.next()) == ["one-node"]
    (tmp_path / "outside").write_text(manifest("one", "web:2"))
    (tmp_path / "outside").replace(pods / "one")
    assert (await reader.next()).changed
    (pods / "one").rename(tmp_path / "outside")
    assert (await reader.next()).removed


async def test_links_are_complete_when_they_appear(
    pods: Path, reader: Reader, tmp_path: Path
) -> None:
    await reader.next()
    (tmp_path / "outside").write_text(manifest("one"))
    (pods / "symbolic").symlink_to(tmp_path / "outside")
    assert names(await reader.next()) == ["one-node"]
    (tmp_path / "other").write_text(manifest("two"))
    os.link(tmp_path / "other", pods / "hard")
    assert names(await reader.next()) == ["two-node"]


async def test_bad_file_is_named_and_the_last_good_version_stays(
    pods: Path, reader: Reader
) -> None:
    (pods / "web.yaml").write_text(manifest())
    (pods / "other.yaml").write_text(manifest("other"))
    await reader.next()
    (pods / "web.yaml").write_text(manifest(image=""))
    updates = await reader.next()
    assert (updates.added, updates.changed, updates.removed) == ((), (), ())
    (error,) = updates.errors
    assert error.source == str(pods / "web.yaml")
    assert error.fields[0].path == "spec.containers[0].image"
    assert error.fields[0].reason == "Required value"
    assert error.kept == "default/web-node"
    assert str(pods / "web.yaml") in str(error)
    (pods / "web.yaml").write_text(manifest(image="web:3"))
    updates = await reader.next()
    assert updates.errors == ()
    assert updates.changed[0].new.spec.containers[0].image == "web:3"


async def test_the_error_of_a_file_is_told_once(pods: Path, reader: Reader) -> None:
    (pods / "bad").write_text("{}")
    assert (await reader.next()).errors
    (pods / "good").write_text(manifest())
    updates = await reader.next()
    assert names(updates) == ["web-node"]
    assert updates.errors == ()
    (pods / "bad").write_text("[]")
    assert len((await reader.next()).errors) == 1


async def test_two_files_with_one_pod(pods: Path, reader: Reader) -> None:
    (pods / "1").write_text(manifest(image="web:1"))
    (pods / "2").write_text(manifest(image="web:2"))
    updates = await reader.next()
    assert updates.added[0].spec.containers[0].image == "web:1"
    assert updates.errors[0].source == str(pods / "2")
    assert updates.errors[0].fields[0].reason == "Duplicate value"
    (pods / "1").unlink()
    (change,) = (await reader.next()).changed
    assert change.new.spec.containers[0].image == "web:2"


async def test_touching_a_file_changes_nothing(pods: Path, reader: Reader) -> None:
    (pods / "web").write_text(manifest())
    await reader.next()
    (pods / "web").write_text(manifest())
    os.utime(pods / "web")
    (pods / "later").write_text(manifest("later"))
    updates = await reader.next()
    assert names(updates) == ["later-node"]
    assert updates.changed == ()


async def test_a_half_written_file_is_not_read(pods: Path, reader: Reader) -> None:
    await reader.next()
    text = manifest("slow")
    with (pods / "slow").open("w") as file:
        file.write(text[:20])
        file.flush()
        (pods / "quick").write_text(manifest("quick"))
        updates = await reader.next()
        assert names(updates) == ["quick-node"]
        assert updates.errors == ()
        file.write(text[20:])
    updates = await reader.next()
    assert names(updates) == ["slow-node"]
    assert updates.errors == ()


async def test_a_writer_that_never_closes_is_not_waited_for_for_ever(
    pods: Path, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(static, "_WRITE_PAUSE", 0.1)
    await reader.next()
    with (pods / "open").open("w") as file:
        file.write(manifest("open"))
        file.flush()
        assert names(await reader.next()) == ["open-node"]


async def test_directory_that_comes_later(tmp_path: Path) -> None:
    reader = Reader(tmp_path / "a" / "b" / "pods")
    assert not await reader.next()
    (tmp_path / "a" / "b" / "pods").mkdir(parents=True)
    (tmp_path / "a" / "b" / "pods" / "web").write_text(manifest())
    assert names(await reader.next()) == ["web-node"]
    (tmp_path / "a").rename(tmp_path / "z")
    await reader.close()


async def test_directory_that_goes_and_comes_back(pods: Path, reader: Reader) -> None:
    (pods / "web").write_text(manifest())
    await reader.next()
    (pods / "web").unlink()
    pods.rmdir()
    assert (await reader.until(lambda updates: updates.removed)).removed
    pods.mkdir()
    (pods / "web").write_text(manifest())
    assert names(await reader.next()) == ["web-node"]


async def test_a_single_file(tmp_path: Path) -> None:
    reader = Reader(tmp_path / "pod.yaml")
    assert not await reader.next()
    (tmp_path / "other.yaml").write_text(manifest("other"))
    (tmp_path / "pod.yaml").write_text(manifest())
    assert names(await reader.next()) == ["web-node"]
    (tmp_path / "pod.yaml").unlink()
    assert (await reader.next()).removed
    await reader.close()


async def test_what_is_no_regular_file(pods: Path, reader: Reader) -> None:
    os.mkfifo(pods / "fifo")
    (pods / "dangling").symlink_to("nowhere")
    (pods / "endless").symlink_to("/dev/zero")
    (pods / "web").write_text(manifest())
    updates = await reader.next()
    assert names(updates) == ["web-node"]
    assert [(Path(each.source).name, each.reason) for each in updates.errors] == [
        ("endless", "not a regular file"),
        ("fifo", "not a regular file"),
    ]


async def test_a_huge_file_is_not_read_whole(pods: Path, reader: Reader) -> None:
    with (pods / "huge").open("wb") as file:
        file.truncate(10**12)
    (error,) = (await reader.next()).errors
    assert "larger than 1048576 bytes" in error.reason


@pytest.mark.slow
async def test_lost_events_are_made_up_for(pods: Path, reader: Reader) -> None:
    await reader.next()
    limit = int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())
    # Each pair of attribute changes on two files is two events: the kernel merges equal ones.
    for file in ("x", "y"):
        (pods / f".{file}").touch()
    for _ in range(limit // 2 + 10):
        os.utime(pods / ".x")
        os.utime(pods / ".y")
    (pods / "web").write_text(manifest())
    assert names(await reader.until(lambda updates: updates.added)) == ["web-node"]


async def test_changes_of_a_busy_consumer_add_up(pods: Path, reader: Reader) -> None:
    await reader.next()
    for number in range(50):
        (pods / f"pod{number}").write_text(manifest(f"pod{number}"))
    found: list[str] = []
    while len(found) < 50:
        found += names(await reader.next())
    assert sorted(found) == sorted(f"pod{number}-node" for number in range(50))
