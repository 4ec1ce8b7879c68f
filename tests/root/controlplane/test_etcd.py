"""The store over a real etcd: one member and three, several servers, broken connections."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from controlplane.api import codec
from controlplane.store.etcd import EtcdStore
from controlplane.store.etcd_client import EtcdServers
from controlplane.store.model import CompactedError, MismatchError, StoreError, TooLargeError
from controlplane.store.store import Store
from tests.support.etcd import Member, running_etcd
from tests.support.machine import Allowances

pytestmark = pytest.mark.root


@pytest.fixture(scope="module")
def etcd(
    tmp_path_factory: pytest.TempPathFactory, machine_allowances: Allowances
) -> Iterator[Member]:
    machine_allowances.allow("processes", "etcd")
    with running_etcd(tmp_path_factory.mktemp("etcd")) as (member,):
        yield member


@asynccontextmanager
async def opened(urls: list[str], prefix: str, **options: Any) -> AsyncIterator[EtcdStore]:
    store = EtcdStore(EtcdServers(tuple(urls)), f"/{prefix}", codec.restamp, **options)
    await store.open()
    try:
        yield store
    finally:
        await store.close()


async def settled(store: Store) -> bool:
    try:
        await store.settle()
    except StoreError:
        await asyncio.sleep(0.02)
        return False
    return True


def an_object(name: str) -> Any:
    value = {"kind": "ConfigMap", "apiVersion": "v1", "metadata": {"name": name}}
    return lambda revision: codec.stored(value, revision)


async def test_conditions_and_revisions_are_etcds(etcd: Member) -> None:
    async with opened([etcd.url], "conditions") as store:
        made = await store.put("/core/maps/a", b"1", expected=0)
        assert made.created == made.modified == store.revision
        with pytest.raises(MismatchError) as caught:
            await store.put("/core/maps/a", b"2", expected=0)
        assert caught.value.current is not None
        assert caught.value.current.value == b"1"
        changed = await store.put("/core/maps/a", b"2", expected=made.modified)
        assert changed.created == made.created
        assert changed.modified > made.modified
        assert store.get("/core/maps/a") is changed
        with pytest.raises(MismatchError):
            await store.delete("/core/maps/a", expected=made.modified)
        with pytest.raises(MismatchError):
            await store.delete("/core/maps/none", expected=5)
        assert await store.delete("/core/maps/none") is None
        gone = await store.delete("/core/maps/a")
        assert gone is not None
        assert gone.previous is not None
        assert gone.previous.value == b"2"
        assert store.get("/core/maps/a") is None
        with pytest.raises(TooLargeError, match="too large"):
            await store.put("/core/maps/big", bytes(3 << 20))


async def test_an_object_holds_its_revision_and_is_kept_without(etcd: Member) -> None:
    async with opened([etcd.url], "objects") as store:
        item = await store.put("/core/maps/a", an_object("a"))
        assert codec.decode(item)["metadata"]["resourceVersion"] == str(item.modified)
    async with opened([etcd.url], "objects") as store:
        again = store.get("/core/maps/a")
        assert again is not None
        assert (again.value, again.modified) == (item.value, item.modified)


async def test_history_survives_a_restart_and_watches_go_on_where_they_were(etcd: Member) -> None:
    async with opened([etcd.url], "restart") as store:
        start = store.revision
        for number in range(30):
            await store.put(f"/core/maps/{number % 4}", b"%d" % number)
        await store.delete("/core/maps/1")
        before = [(c.revision, c.key, c.item and c.item.value, c.previous and c.previous.value)
                  for c in store.watch("/core/maps/", start).take()]  # fmt: skip
        middle = before[10][0]
    async with opened([etcd.url], "restart") as store:
        found = [(c.revision, c.key, c.item and c.item.value, c.previous and c.previous.value)
                 for c in store.watch("/core/maps/", middle).take()]  # fmt: skip
        assert found == before[11:]
        page = store.read("/core/maps/", revision=middle)
        assert {item.value for item in page.items} == {b"7", b"8", b"9", b"10"}


async def test_two_servers_see_each_others_writes(etcd: Member) -> None:
    async with opened([etcd.url], "two") as one, opened([etcd.url], "two") as other:
        watch = other.watch("/core/maps/", other.revision)
        for number in range(20):
            item = await one.put(f"/core/maps/{number}", b"x")
            await other.settle()
            assert [found.modified for found in other.read(item.key).items] == [item.modified]
        assert [change.key for change in watch.take()] == [f"/core/maps/{n}" for n in range(20)]

        async def count(store: Store) -> None:
            for _ in range(10):
                while True:
                    item = store.get("/core/maps/n")
                    value = int(item.value) if item else 0
                    try:
                        content = b"%d" % (value + 1)
                        await store.put(
                            "/core/maps/n", content, expected=item.modified if item else 0
                        )
                        break
                    except MismatchError:
                        await store.settle()

        await asyncio.gather(count(one), count(other), count(one), count(other))
        await one.settle()
        assert one.read("/core/maps/n").items[0].value == b"40"


async def test_settling_is_not_held_up_by_the_writes_of_other_tenants(etcd: Member) -> None:
    async with opened([etcd.url], "mine") as mine, opened([etcd.url], "other") as other:
        for _ in range(3):
            item = await other.put("/core/maps/a", b"x")
            await mine.settle()
            assert mine.revision >= item.modified
            assert mine.get("/core/maps/a") is None


async def test_compaction_forgets_what_is_older_than_one_interval(etcd: Member) -> None:
    async with opened([etcd.url], "compact", compaction=0) as store:
        first = await store.put("/core/maps/a", b"1")
        await store.put("/core/maps/a", b"2")
        version, revision = await store._compact(0, 0)
        last = await store.put("/core/maps/a", b"3")
        assert await store._compact(version, revision) != (version, revision)
        # Another server whose turn it was not: nothing is compacted, it learns where things are.
        assert (await store._compact(7, revision))[0] == 2
    async with opened([etcd.url], "compact") as store:
        assert store.oldest >= revision
        with pytest.raises(CompactedError):
            store.watch("/", first.modified)
        assert [c.revision for c in store.watch("/core/maps/", revision).take()] == [last.modified]


async def test_watchers_go_on_after_etcd_was_gone_and_writes_fail_clearly(tmp_path: Path) -> None:
    with running_etcd(tmp_path) as (member,):
        async with opened([member.url], "gone") as store:
            await store.put("/core/maps/a", b"1")
            watch = store.watch("/core/maps/", store.revision)
            member.kill()
            with pytest.raises(StoreError, match=r"etcd"):
                await store.put("/core/maps/b", b"2")
            with pytest.raises(StoreError, match=r"etcd"):
                await store.settle()
            assert store.problem()
            assert store.get("/core/maps/a") is not None
            member.restart()
            async with asyncio.timeout(20):
                while not await settled(store):
                    pass
                item = await store.put("/core/maps/c", b"3")
                assert await watch.wait()
            assert [c.revision for c in watch.take()] == [item.modified]
            assert store.problem() == ""


async def test_history_that_was_forgotten_meanwhile_is_read_anew(tmp_path: Path) -> None:
    with running_etcd(tmp_path) as (member,):
        async with opened([member.url], "anew") as store:
            await store.put("/core/maps/a", b"1")
            watch = store.watch("/core/maps/", store.revision)
            store._tasks[0].cancel()
            await asyncio.wait(store._tasks[:1])
            async with opened([member.url], "anew") as other:
                await other.put("/core/maps/a", b"2")
                last = await other.put("/core/maps/b", b"3")
                await other._ready().compact(last.modified)
            store._tasks[0] = asyncio.create_task(store._follow())
            with pytest.raises(CompactedError):
                await asyncio.wait_for(watch.wait(), 10)
            assert [item.value for item in store.read("/core/maps/").items] == [b"2", b"3"]
            assert (await store.put("/core/maps/c", b"4")).modified > last.modified


async def test_the_loss_of_members_and_of_the_leader(tmp_path: Path) -> None:
    with running_etcd(tmp_path, 3) as members:
        async with opened([member.url for member in members], "three") as store:
            written = [(await store.put("/core/maps/0", b"0")).modified]
            watch = store.watch("/core/maps/", 1)
            for number, member in enumerate(members, 1):
                member.kill()
                while len(written) == number:
                    try:
                        item = await store.put(f"/core/maps/{number}", b"", expected=0)
                        written.append(item.modified)
                    except StoreError:
                        await asyncio.sleep(0.05)
                    except MismatchError as error:
                        # The answer was lost, not the write.
                        written.append(error.current.modified if error.current else 0)
                member.restart()
            members[0].kill()
            members[1].kill()
            with pytest.raises(StoreError):
                await store.settle()
            members[0].restart()
            async with asyncio.timeout(20):
                while not await settled(store):
                    pass
            assert [change.revision for change in watch.take()] == written


async def test_an_etcd_that_is_not_there(tmp_path: Path) -> None:
    store = EtcdStore(EtcdServers(("http://127.0.0.1:1",)), "/x", codec.restamp)
    with pytest.raises(StoreError, match=r"no etcd takes connections at http://127\.0\.0\.1:1"):
        await store.open()
    with pytest.raises(StoreError, match="is no URL"):
        await EtcdStore(EtcdServers(("127.0.0.1:2379",)), "/x", codec.restamp).open()
