"""A disk without room: writes fail clearly, nothing is half there, and go on once there is room."""

from __future__ import annotations

from pathlib import Path

import pytest

from controlplane.store.local import LocalStore
from controlplane.store.log import SqliteLog
from controlplane.store.model import StoreError
from tests.support.disks import filled, small_disk

pytestmark = pytest.mark.root


async def test_a_full_disk_fails_writes_and_loses_nothing(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    with small_disk(disk, 16 << 20):
        store = LocalStore(SqliteLog(disk / "store.db"))
        await store.open()
        for number in range(50):
            await store.put(f"/core/maps/{number}", bytes(2000))
        watch = store.watch("/core/maps/", store.revision)
        with filled(disk):
            failed, text = 0, ""
            for number in range(50, 1000):
                try:
                    await store.put(f"/core/maps/{number}", bytes(20_000), expected=0)
                except StoreError as error:
                    text = str(error)
                    failed += 1
                    if failed == 3:
                        break
            assert failed == 3
            assert "full" in text
            assert "make room" in text
            assert "full" in store.problem()
            revision, keys = store.revision, [item.key for item in store.read("/").items]
            with pytest.raises(StoreError, match="full"):
                await store.put("/core/maps/0", bytes(20_000))
        item = await store.put("/core/maps/more", b"x" * 20_000, expected=0)
        assert item.modified == revision + 1
        assert store.problem() == ""
        assert watch.take()[-1].revision == item.modified
        await store.close()
        again = LocalStore(SqliteLog(disk / "store.db"))
        await again.open()
        assert again.revision == item.modified
        assert sorted([*keys, item.key]) == [found.key for found in again.read("/").items]
        await again.close()
