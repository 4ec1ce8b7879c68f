"""Pools of numbers, each of which one service can have: addresses and ports (pure).

What is asked for by number may be anywhere in the range; what is chosen comes from its upper part
first, so that the lower one is left to those who ask (KEP-3070 for addresses, KEP-3668 for ports).
"""

from __future__ import annotations

import random
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from controlplane.kinds.strategies.core.addresses import IPAddress, IPNetwork

_TRIES: Final = 64


class NotFreeError(Exception):
    """The number cannot be had; the text says why."""


class FullError(Exception):
    """There is no number left."""


class Pool:
    """Numbers from ``first`` to ``last``.

    Args:
        first: number that can be had.
        last: number that can be had.
        static: how many of the first ones are chosen only when no other is left.
    """

    def __init__(self, first: int, last: int, static: int) -> None:
        self.first = first
        self.last = last
        self.static = min(static, max(last - first, 0))
        self.used: set[int] = set()

    def next_free(self) -> int:
        """Return a number that is free; it is not taken yet.

        Raises:
            FullError: there is none.
        """
        middle = self.first + self.static
        for low, high in ((middle, self.last), (self.first, middle - 1)):
            if low > high:
                continue
            # From anywhere: a number that was freed just now is not given again at once.
            start = random.randint(low, high)
            for number in range(start, min(start + _TRIES, high + 1)):
                if number not in self.used:
                    return number
            found = _first_free(low, high, self.used)
            if found is not None:
                return found
        raise FullError("range is full")


class AddressPool(Pool):
    """The addresses of a network, but the first one and, of IPv4, the last one.

    Args:
        network: of the addresses.
    """

    def __init__(self, network: IPNetwork) -> None:
        size = network.num_addresses
        static = min(max(16, size // 16), 256) if size > 16 else 0
        last = int(network.broadcast_address) - (network.version == 4)
        super().__init__(int(network.network_address) + 1, last, static)
        self.network = network

    @property
    def family(self) -> str:
        """``IPv4`` or ``IPv6``."""
        return f"IPv{self.network.version}"

    def address(self, number: int) -> IPAddress:
        """Return the address of a number."""
        return IPv4Address(number) if self.network.version == 4 else IPv6Address(number)

    def check(self, address: IPAddress) -> int:
        """Return the number of an address that is free.

        Raises:
            NotFreeError: it is not.
        """
        number = int(address)
        if address.version != self.network.version or not self.first <= number <= self.last:
            raise NotFreeError("the provided network does not match the current range")
        if number in self.used:
            raise NotFreeError("provided IP is already allocated")
        return number


class PortPool(Pool):
    """Ports of nodes.

    Args:
        first: lowest one.
        last: highest one.
    """

    def __init__(self, first: int, last: int) -> None:
        size = last - first + 1
        super().__init__(first, last, min(max(16, size // 32), 128) if size > 16 else 0)

    def check(self, port: int) -> int:
        """Return a port that is free.

        Raises:
            NotFreeError: it is not.
        """
        if not self.first <= port <= self.last:
            raise NotFreeError(
                "provided port is not in the valid range. The range of valid ports is "
                f"{self.first}-{self.last}"
            )
        if port in self.used:
            raise NotFreeError("provided port is already allocated")
        return port


def _first_free(low: int, high: int, used: set[int]) -> int | None:
    """Return the lowest number that is free; ``used`` is never as large as a large range."""
    for number in range(low, min(high, low + len(used)) + 1):
        if number not in used:
            return number
    return None
