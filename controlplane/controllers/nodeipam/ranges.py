"""Ranges of a cluster, cut into pieces of one size (pure)."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any, Final

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
_MASKS: Final = {4: 24, 6: 64}
_MOST_BITS: Final = 16
"""Of the number of a piece: a range of IPv6 has more of them than anyone can keep a list of."""


class Pieces:
    """The pieces of one range; which of them are taken.

    Args:
        whole: the range of all pods.
        mask: prefix length of a piece.

    Raises:
        ValueError: there is no such piece, or there are too many.
    """

    def __init__(self, whole: Network, mask: int) -> None:
        bits = mask - whole.prefixlen
        if bits < 0 or mask > whole.max_prefixlen:
            raise ValueError(f"{whole} has no part with a prefix of {mask} bits")
        if whole.version == 6 and bits > _MOST_BITS:
            raise ValueError(f"parts of {whole} may have a prefix of at most "
                             f"{whole.prefixlen + _MOST_BITS} bits, not {mask}")  # fmt: skip
        self.whole = whole
        self._mask = mask
        self._count = 1 << bits
        self._shift = whole.max_prefixlen - mask
        self._taken: dict[int, int] = {}
        self._next = 0

    def take(self, network: Network) -> None:
        """Mark what a network has in common with the range as taken once more."""
        for number in self._numbers(network):
            self._taken[number] = self._taken.get(number, 0) + 1

    def give(self, network: Network) -> None:
        """Take back one `take`."""
        for number in self._numbers(network):
            left = self._taken.pop(number, 0) - 1
            if left > 0:
                self._taken[number] = left

    def next(self) -> Network | None:
        """Return the next piece that is free, so that one that was given back rests a while."""
        for step in range(self._count):
            number = (self._next + step) % self._count
            if number not in self._taken:
                self._next = (number + 1) % self._count
                first = int(self.whole.network_address) + (number << self._shift)
                return type(self.whole)((first, self._mask))
        return None

    def _numbers(self, network: Network) -> range:
        if network.version != self.whole.version:
            return range(0)
        base = int(self.whole.network_address)
        first = max(int(network.network_address) - base, 0) >> self._shift
        last = min(int(network.broadcast_address) - base, (self._count << self._shift) - 1)
        return range(first, (last >> self._shift) + 1) if last >= 0 else range(0)


def networks_of(text: str) -> list[Network]:
    """Return the networks that a flag says.

    Raises:
        ValueError: it says something else.
    """
    words = [word.strip() for word in text.split(",")]
    return [ipaddress.ip_network(word, strict=False) for word in words if word]


def pieces_of(options: Mapping[str, Any]) -> list[Pieces]:
    """Return what the flags of the process say.

    Raises:
        ValueError: they contradict each other.
    """
    ranges = networks_of(options.get("cluster_cidr") or "")
    if not ranges:
        raise ValueError("--allocate-node-cidrs needs --cluster-cidr")
    if len(ranges) > 2 or len({one.version for one in ranges}) < len(ranges):
        raise ValueError("--cluster-cidr: at most one range of each family")
    single = options.get("node_cidr_mask_size") or 0
    if single and len(ranges) > 1:
        raise ValueError("--node-cidr-mask-size is for one family; there are "
                         "--node-cidr-mask-size-ipv4 and --node-cidr-mask-size-ipv6")  # fmt: skip
    made = [
        Pieces(one, single or options.get(f"node_cidr_mask_size_ipv{one.version}")
               or _MASKS[one.version])
        for one in ranges
    ]  # fmt: skip
    for services in networks_of(options.get("service_cluster_ip_range") or ""):
        for each in made:
            each.take(services)
    return made
