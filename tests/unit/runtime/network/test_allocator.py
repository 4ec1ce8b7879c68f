import signal
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import ip_interface
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.network.allocator import Allocator, Pool, next_position
from runtime.network.errors import NetworkError, SubnetExhausted
from runtime.network.store import NetworkStore

V4 = "192.0.2.0/29"  # base .0, gateway .1, pods .2 to .6, broadcast .7
V6 = "2001:db8::/64"


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "network.db"


@pytest.fixture
def store(database: Path) -> Iterator[NetworkStore]:
    store = NetworkStore(database)
    yield store
    store.close()


def allocator(store: NetworkStore, *subnets: str) -> Allocator:
    return Allocator(store, [Pool.parse(subnet) for subnet in subnets])


def take(source: Allocator, *sandboxes: str) -> list[str]:
    return [str(source.allocate(sandbox)[0].ip) for sandbox in sandboxes]


@pytest.mark.parametrize(
    ("subnet", "gateway", "first", "last"),
    [
        (V4, "192.0.2.1/29", "192.0.2.2/29", "192.0.2.6/29"),
        ("10.0.0.0/30", "10.0.0.1/30", "10.0.0.2/30", "10.0.0.2/30"),
        (V6, "2001:db8::1/64", "2001:db8::2/64", "2001:db8::1:0:0/64"),
        ("fd00::/126", "fd00::1/126", "fd00::2/126", "fd00::3/126"),
    ],
)
def test_pool_leaves_out_base_gateway_and_broadcast(
    subnet: str, gateway: str, first: str, last: str
) -> None:
    pool = Pool.parse(subnet)
    assert pool.gateway == ip_interface(gateway)
    assert pool.interface(pool.first) == ip_interface(first)
    assert pool.interface(pool.last) == ip_interface(last)


@pytest.mark.parametrize("subnet", ["10.0.0.0/31", "10.0.0.0/32", "fd00::/127", "fd00::/128"])
def test_pool_without_room_for_a_pod_is_refused(subnet: str) -> None:
    with pytest.raises(ValueError, match="no room"):
        Pool.parse(subnet)


@given(taken=st.sets(st.integers(2, 6)), cursor=st.integers(-1, 9))
def test_next_position_is_the_nearest_free_one_after_the_cursor(
    taken: set[int], cursor: int
) -> None:
    pool = Pool.parse(V4)
    start = cursor if 2 <= cursor <= 6 else 6
    order = [2 + (start - 2 + step) % 5 for step in range(1, 6)]
    expected = next((position for position in order if position not in taken), None)
    assert next_position(pool, cursor, taken.__contains__) == expected


def test_families_are_allocated_together(store: NetworkStore) -> None:
    source = allocator(store, V4, V6)
    assert source.allocate("a") == [ip_interface("192.0.2.2/29"), ip_interface("2001:db8::2/64")]
    assert source.allocate("b") == [ip_interface("192.0.2.3/29"), ip_interface("2001:db8::3/64")]
    assert source.owners() == {"a", "b"}


def test_second_allocation_of_a_sandbox_is_the_first(store: NetworkStore) -> None:
    source = allocator(store, V4, V6)
    assert source.allocate("a") == source.allocate("a")


def test_freed_address_rests_until_all_others_were_used(store: NetworkStore) -> None:
    source = allocator(store, V4)
    assert take(source, "a", "b") == ["192.0.2.2", "192.0.2.3"]
    source.release("a")
    assert take(source, "c", "d", "e", "f") == [
        "192.0.2.4",
        "192.0.2.5",
        "192.0.2.6",
        "192.0.2.2",
    ]


def test_release_is_idempotent(store: NetworkStore) -> None:
    source = allocator(store, V4)
    source.allocate("a")
    source.release("a")
    source.release("a")
    source.release("never seen")
    assert source.owners() == set()


def test_exhaustion_says_which_subnet_and_takes_nothing(store: NetworkStore) -> None:
    source = allocator(store, V6, V4)
    for number in range(5):
        source.allocate(f"s{number}")
    with pytest.raises(SubnetExhausted, match=r"all 5 of subnet 192\.0\.2\.0/29 are taken"):
        source.allocate("one too many")
    assert source.owners() == {f"s{number}" for number in range(5)}
    source.release("s3")
    assert str(source.allocate("fits now")[1].ip) == "192.0.2.5"


def test_sandbox_of_another_subnet_moves(store: NetworkStore) -> None:
    allocator(store, "10.9.0.0/24").allocate("a")
    assert take(allocator(store, V4), "a") == ["192.0.2.2"]
    assert take(allocator(store, "10.9.0.0/24"), "b", "a") == ["10.9.0.3", "10.9.0.4"]


def test_addresses_and_turn_survive_sigkill(database: Path) -> None:
    script = f"""
import os, signal
from pathlib import Path
from runtime.network.allocator import Allocator, Pool
from runtime.network.store import NetworkStore
source = Allocator(NetworkStore(Path({str(database)!r})), [Pool.parse({V4!r})])
source.allocate("gone")
source.allocate("kept")
source.release("gone")
os.kill(os.getpid(), signal.SIGKILL)
"""
    result = subprocess.run([sys.executable, "-c", script], timeout=30)
    assert result.returncode == -signal.SIGKILL
    store = NetworkStore(database)
    source = allocator(store, V4)
    assert source.owners() == {"kept"}
    assert take(source, "kept", "new") == ["192.0.2.3", "192.0.2.4"]
    store.close()


def test_runtimes_with_databases_of_their_own_do_not_meet(tmp_path: Path) -> None:
    stores = [NetworkStore(tmp_path / name) for name in ("one.db", "two.db")]
    first, second = allocator(stores[0], V4), allocator(stores[1], "10.9.0.0/24")
    first.allocate("a")
    assert take(second, "b") == ["10.9.0.2"]
    second.release("a")
    assert (first.owners(), second.owners()) == ({"a"}, {"b"})
    for store in stores:
        store.close()


def test_database_of_a_newer_version_is_refused(database: Path) -> None:
    store = NetworkStore(database)
    store.connection.execute("UPDATE network_schema SET version = 99")
    store.close()
    with pytest.raises(NetworkError, match="has schema 99"):
        NetworkStore(database)


def test_damaged_database_is_named(database: Path) -> None:
    database.write_bytes(b"this is no database" * 100)
    with pytest.raises(NetworkError, match=str(database)):
        NetworkStore(database)
