from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from controlplane.store.local import LocalStore
from controlplane.store.log import SqliteLog
from controlplane.store.model import (
    Change,
    CompactedError,
    Contents,
    FutureRevisionError,
    Item,
    MismatchError,
    StoreError,
    Trim,
)
from controlplane.store.store import Store


@asynccontextmanager
async def opened(path: Path, **options: int) -> AsyncIterator[Store]:
    store = LocalStore(SqliteLog(path / "store.db"), **options)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with opened(tmp_path) as made:
        yield made


class BrokenLog:
    """Fails whenever it is told to."""

    def __init__(self) -> None:
        self.broken = False
        self.batches: list[list[Change]] = []

    def open(self) -> Contents:
        return Contents(0, 0, (), ())

    def append(self, changes: list[Change], trim: Trim | None) -> None:
        if self.broken:
            raise StoreError("no room")
        self.batches.append(changes)

    def close(self) -> None:
        pass


def told(item: Item | None) -> tuple[object, ...] | None:
    return None if item is None else (item.key, item.value, item.created, item.modified)


def tell(change: Change) -> tuple[object, ...]:
    return (change.revision, change.key, told(change.item), told(change.previous))


async def test_what_is_written_is_read_with_its_revisions(store: Store) -> None:
    made = await store.put("/a", b"1", expected=0)
    changed = await store.put("/a", b"2", expected=made.modified)
    assert (made.created, made.modified) == (1, 1)
    assert (changed.created, changed.modified) == (1, 2)
    assert store.get("/a") == changed
    assert store.revision == 2
    await store.delete("/a", expected=2)
    assert store.get("/a") is None
    assert (await store.put("/a", b"3")).created == 4
    assert await store.delete("/none") is None


async def test_a_condition_that_does_not_hold_writes_nothing(store: Store) -> None:
    await store.put("/a", b"1")
    for expected in (0, 7):
        with pytest.raises(MismatchError) as caught:
            await store.put("/a", b"2", expected=expected)
        assert caught.value.current == store.get("/a")
    with pytest.raises(MismatchError):
        await store.delete("/b", expected=1)
    assert store.revision == 1


async def test_of_writers_at_once_each_condition_is_met_by_one(store: Store) -> None:
    async def increment() -> None:
        while True:
            item = store.get("/n")
            value = int(item.value) if item else 0
            try:
                await store.put("/n", b"%d" % (value + 1), expected=item.modified if item else 0)
                return
            except MismatchError:
                await asyncio.sleep(0)

    await asyncio.gather(*(increment() for _ in range(40)))
    item = store.get("/n")
    assert item is not None
    assert (item.value, store.revision) == (b"40", 40)


async def test_writes_at_once_share_a_commit(tmp_path: Path) -> None:
    log = BrokenLog()
    store = LocalStore(log)
    await store.open()
    await asyncio.gather(*(store.put(f"/{n}", b"") for n in range(100)))
    assert len(log.batches) <= 3
    assert [c.revision for batch in log.batches for c in batch] == list(range(1, 101))
    await store.close()


async def test_a_failed_commit_takes_back_what_waited(tmp_path: Path) -> None:
    log = BrokenLog()
    store = LocalStore(log)
    await store.open()
    await store.put("/a", b"1")
    log.broken = True
    writes = [store.put("/a", b"2", expected=1), store.put("/b", b"2"), store.delete("/a")]
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert [type(result) for result in results] == [StoreError] * 3
    log.broken = False
    assert (await store.put("/a", b"3", expected=1)).modified == 2
    await store.close()
    with pytest.raises(StoreError, match="closed"):
        await store.put("/a", b"4")


async def test_nobody_sees_a_write_before_it_is_durable(tmp_path: Path) -> None:
    log = BrokenLog()
    log.broken = True
    store = LocalStore(log)
    await store.open()
    watch = store.watch("/", 0)
    with pytest.raises(StoreError, match="no room"):
        await store.put("/a", b"1")
    assert store.get("/a") is None
    assert watch.take() == []
    await store.close()


async def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        await store.put("/a", b"1")
        await store.put("/a", b"2")
        await store.put("/b", b"3")
        await store.delete("/b")
        before = (told(store.get("/a")), store.revision)
        changes = [tell(change) for change in store.watch("/", 0).take()]
    async with opened(tmp_path) as store:
        assert (told(store.get("/a")), store.revision) == before
        assert [tell(change) for change in store.watch("/", 0).take()] == changes
        assert (await store.put("/c", b"")).modified == 5
    assert os.stat(tmp_path / "store.db").st_mode & 0o777 == 0o600


async def test_pages_are_of_one_revision_whatever_is_written_meanwhile(store: Store) -> None:
    for name in "bdfh":
        await store.put(f"/p/{name}", name.encode())
    await store.put("/q/x", b"")
    first = store.read("/p/", limit=2)
    assert ([item.key for item in first.items], first.remaining) == (["/p/b", "/p/d"], 2)
    await store.put("/p/e", b"new")
    await store.put("/p/h", b"changed")
    await store.delete("/p/f")
    rest = store.read("/p/", after="/p/d", limit=5, revision=first.revision)
    assert [(item.key, item.value) for item in rest.items] == [("/p/f", b"f"), ("/p/h", b"h")]
    assert (rest.revision, rest.remaining) == (first.revision, 0)
    assert [item.key for item in store.read("/p/").items] == ["/p/b", "/p/d", "/p/e", "/p/h"]


async def test_revisions_that_are_forgotten_or_not_reached(tmp_path: Path) -> None:
    async with opened(tmp_path, keep=3) as store:
        for number in range(6):
            await store.put("/a", b"%d" % number)
        assert [c.revision for c in store.watch("/", 3).take()] == [4, 5, 6]
        assert store.read("/", revision=3).items[0].value == b"2"
        for call in (lambda: store.watch("/", 2), lambda: store.read("/", revision=2)):
            with pytest.raises(CompactedError) as caught:
                call()
            assert caught.value.oldest == 3
        with pytest.raises(FutureRevisionError):
            store.watch("/", 7)
    async with opened(tmp_path, keep=3) as store:
        assert store.oldest == 3


async def test_a_watcher_misses_nothing_and_sees_nothing_twice(store: Store) -> None:
    await store.put("/w/a", b"0")
    watch = store.watch("/w/", 0)

    async def write() -> None:
        for number in range(200):
            await store.put(f"/w/{number % 7}", b"%d" % number)
            await store.put("/other", b"")
        await store.delete("/w/a")

    writing = asyncio.create_task(write())
    seen: list[Change] = []
    async for change in watch:
        seen.append(change)
        if change.item is None:
            watch.close()
    await writing
    assert len(seen) == 202
    assert [c.revision for c in seen] == sorted({c.revision for c in seen})
    for change in seen:
        earlier = [c.item for c in seen if c.key == change.key and c.revision < change.revision]
        assert change.previous == (earlier[-1] if earlier else None)


async def test_a_watcher_that_falls_behind_is_told(tmp_path: Path) -> None:
    async with opened(tmp_path, backlog=3) as store:
        slow = store.watch("/", 0)
        for number in range(5):
            await store.put("/a", b"%d" % number)
        with pytest.raises(CompactedError):
            await slow.wait()


async def test_closing_the_store_ends_its_watches(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        watch = store.watch("/", 0)
        waiting = asyncio.create_task(watch.wait())
    assert await waiting is False


async def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "store.db").write_bytes(b"no database" * 100)
    with pytest.raises(StoreError, match="damaged"):
        await LocalStore(SqliteLog(tmp_path / "store.db")).open()
    newer = tmp_path / "newer.db"
    with sqlite3.connect(newer) as connection:
        connection.execute("PRAGMA user_version = 99")
    with pytest.raises(StoreError, match="newer version"):
        await LocalStore(SqliteLog(newer)).open()


async def test_a_second_server_on_the_same_file_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path):
        with pytest.raises(StoreError, match="another API server"):
            await LocalStore(SqliteLog(tmp_path / "store.db")).open()


async def test_what_is_forgotten_is_gone_from_the_file_and_nothing_else(tmp_path: Path) -> None:
    async with opened(tmp_path, keep=20) as store:
        await store.put("/kept", b"still here")
        for number in range(200):
            await store.put(f"/{number % 4}", b"%d" % number)
            if number % 5 == 0:
                await store.delete(f"/{number % 4}")
        before = {item.key: told(item) for item in store.read("/").items}
        revision, oldest = store.revision, store.oldest
    with sqlite3.connect(tmp_path / "store.db") as connection:
        (rows,) = connection.execute("SELECT count(*) FROM versions").fetchone()
    connection.close()
    assert rows <= len(before) + 20 + 20 // 8 + 1
    async with opened(tmp_path, keep=20) as store:
        assert {item.key: told(item) for item in store.read("/").items} == before
        assert (store.revision, store.oldest) == (revision, oldest)
        assert len(store.watch("/", oldest).take()) == revision - oldest


async def test_deleting_the_last_key_and_forgetting_it_does_not_turn_back_the_revision(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path, keep=0) as store:
        await store.put("/a", b"1")
        await store.delete("/a")
        await store.put("/b", b"1")
        await store.delete("/b")
    async with opened(tmp_path, keep=0) as store:
        assert store.revision == 4
        assert store.read("/").items == ()


async def test_the_history_is_bounded_by_the_size_of_its_values_too(tmp_path: Path) -> None:
    async with opened(tmp_path, keep_bytes=100_000) as store:
        for _ in range(300):
            await store.put("/a", bytes(10_000))
        assert 8 <= store.revision - store.oldest <= 13
        size = (tmp_path / "store.db").stat().st_size
    assert size < 5_000_000


async def test_a_file_that_was_damaged_inside_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path) as store:
        for number in range(200):
            await store.put(f"/{number}", bytes(1000))
    content = bytearray((tmp_path / "store.db").read_bytes())
    content[8192:40960] = os.urandom(32768)
    (tmp_path / "store.db").write_bytes(content)
    with pytest.raises(StoreError, match="damaged"):
        await LocalStore(SqliteLog(tmp_path / "store.db")).open()


async def test_a_database_of_another_program_is_left_alone(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "store.db") as connection:
        connection.execute("CREATE TABLE songs (name TEXT)")
    connection.close()
    with pytest.raises(StoreError, match="another program"):
        await LocalStore(SqliteLog(tmp_path / "store.db")).open()
