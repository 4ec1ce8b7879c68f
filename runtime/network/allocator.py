"""Addresses of pods: each sandbox has one per family, and keeps it until it is released.

Addresses are given round-robin, so that one that was just freed rests as long as possible:
neighbours, connection tracking and clients still hold it for its former owner.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_network,
)

from runtime.network.errors import SubnetExhausted
from runtime.network.store import NetworkStore

Address = IPv4Address | IPv6Address
Interface = IPv4Interface | IPv6Interface

_GATEWAY = 1
# SQLite's integers have 64 bits, a /64 has more addresses than they can number; four billion
# pods in a row before an IPv6 address comes again are enough.
_MOST_POSITIONS = 1 << 32


@dataclass(frozen=True)
class Pool:
    """The addresses of ``network`` that pods can have, numbered from its base address.

    Left out are the base address (IPv6: the subnet-router anycast address, RFC 4291 section
    2.6.1), the gateway, which is the next one, and the IPv4 broadcast address.

    Raises:
        ValueError: the network is too small for a gateway and one pod.
    """

    network: IPv4Network | IPv6Network

    def __post_init__(self) -> None:
        if self.last < self.first:
            raise ValueError(f"subnet {self.network} has no room for a gateway and a pod")

    @classmethod
    def parse(cls, subnet: str) -> Pool:
        """Make the pool of a network in CIDR notation.

        Raises:
            ValueError: it is none, or too small.
        """
        return cls(ip_network(subnet))

    @property
    def family(self) -> int:
        """AF_INET or AF_INET6."""
        return socket.AF_INET if self.network.version == 4 else socket.AF_INET6

    @property
    def gateway(self) -> Interface:
        """The bridge's own address in this network, with the prefix length."""
        return self.interface(_GATEWAY)

    @property
    def first(self) -> int:
        """The lowest position a pod can have."""
        return _GATEWAY + 1

    @property
    def last(self) -> int:
        """The highest position a pod can have."""
        broadcast = 1 if self.network.version == 4 else 0
        return min(self.network.num_addresses - 1 - broadcast, _MOST_POSITIONS)

    def interface(self, position: int) -> Interface:
        """Return the address at ``position``, with the network's prefix length."""
        address = self.network[position]
        if isinstance(address, IPv4Address):
            return IPv4Interface((address, self.network.prefixlen))
        return IPv6Interface((address, self.network.prefixlen))


def next_position(pool: Pool, cursor: int, is_taken: Callable[[int], bool]) -> int | None:
    """Return the first free position after ``cursor``, going round, or None if there is none.

    Args:
        pool: where to look.
        cursor: the position given out last; anything outside the pool starts at its beginning.
        is_taken: whether a position belongs to somebody.
    """
    if not pool.first <= cursor <= pool.last:
        cursor = pool.last
    position = cursor
    while True:
        position = pool.first if position >= pool.last else position + 1
        if not is_taken(position):
            return position
        if position == cursor:
            return None


class Allocator:
    """Gives out addresses of ``pools`` (at most one per family), remembered in ``store``."""

    def __init__(self, store: NetworkStore, pools: Sequence[Pool]) -> None:
        self._store = store
        self.pools = tuple(pools)

    def allocate(self, sandbox_id: str, pools: Sequence[Pool] | None = None) -> list[Interface]:
        """Return the sandbox's address in each pool, taking a free one where it has none yet.

        All of them are taken or none. A sandbox whose address is of another subnet than the
        pool's (the setting was changed) is given a new one.

        Args:
            sandbox_id: the owner.
            pools: those of this allocator to take from; None means all.

        Raises:
            SubnetExhausted: a pool has no free address.
        """
        with self._store.transaction():
            return [
                pool.interface(self._position(sandbox_id, pool))
                for pool in (self.pools if pools is None else pools)
            ]

    def _position(self, sandbox_id: str, pool: Pool) -> int:
        execute = self._store.connection.execute
        subnet = str(pool.network)
        held = execute(
            "SELECT subnet, position FROM network_addresses WHERE sandbox_id = ? AND family = ?",
            (sandbox_id, pool.family),
        ).fetchone()
        if held is not None and held[0] == subnet:
            return int(held[1])
        position = self._free_position(subnet, pool)
        execute(
            "INSERT OR REPLACE INTO network_addresses (subnet, position, sandbox_id, family) "
            "VALUES (?, ?, ?, ?)",
            (subnet, position, sandbox_id, pool.family),
        )
        execute("INSERT OR REPLACE INTO network_cursors VALUES (?, ?)", (subnet, position))
        return position

    def _free_position(self, subnet: str, pool: Pool) -> int:
        execute = self._store.connection.execute
        size = pool.last - pool.first + 1
        [count] = execute(
            "SELECT count(*) FROM network_addresses WHERE subnet = ?", (subnet,)
        ).fetchone()
        cursor = execute(
            "SELECT position FROM network_cursors WHERE subnet = ?", (subnet,)
        ).fetchone()

        def is_taken(position: int) -> bool:
            query = "SELECT 1 FROM network_addresses WHERE subnet = ? AND position = ?"
            return execute(query, (subnet, position)).fetchone() is not None

        # The count spares a full pool the walk through all of it.
        position = (
            None if count >= size else next_position(pool, cursor[0] if cursor else 0, is_taken)
        )
        if position is None:
            raise SubnetExhausted(
                f"no free pod address: all {size} of subnet {subnet} are taken; remove pods "
                "that are no longer needed, or set a larger subnet"
            )
        return position

    def release(self, sandbox_id: str) -> None:
        """Free the sandbox's addresses; it may have none."""
        self._store.connection.execute(
            "DELETE FROM network_addresses WHERE sandbox_id = ?", (sandbox_id,)
        )

    def held(self) -> set[str]:
        """Return the subnets that addresses are taken of."""
        query = "SELECT DISTINCT subnet FROM network_addresses"
        return {row[0] for row in self._store.connection.execute(query)}

    def empty(self) -> bool:
        """Tell whether no address is taken."""
        query = "SELECT 1 FROM network_addresses LIMIT 1"
        return self._store.connection.execute(query).fetchone() is None

    def holds(self, sandbox_id: str) -> bool:
        """Tell whether the sandbox has an address."""
        query = "SELECT 1 FROM network_addresses WHERE sandbox_id = ?"
        return self._store.connection.execute(query, (sandbox_id,)).fetchone() is not None

    def owners(self) -> set[str]:
        """Return the ids of all sandboxes that hold an address."""
        return {
            row[0]
            for row in self._store.connection.execute("SELECT sandbox_id FROM network_addresses")
        }
