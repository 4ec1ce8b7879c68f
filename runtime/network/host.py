"""The node's side of the pod network: bridge, forwarding, rules, and the host ends of links.

All of it is in the network namespace that the daemon runs in. It is made at the first need, can
be made again at any time (after a restart, or when somebody removed part of it), and goes at the
end when no pod needs it any more. The bridge is made first and removed last: where there is no
bridge, nothing of ours is left.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import secrets
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Final

from kubeletpy_common import logs
from kubeletpy_common.netlink import Netlink, Reply, Request
from runtime.network import links, node_ranges, rules, settings
from runtime.network.allocator import Pool
from runtime.network.config import NetworkConfig
from runtime.network.errors import NetworkError
from runtime.network.links import Link, Route
from runtime.network.port_rules import PortRules
from runtime.network.store import NetworkStore

_LOGGER: Final = logging.getLogger(__name__)
_DEFAULT_MTU: Final = 1500
_SMALLEST_MTU: Final = 1280  # RFC 8200, section 5
# Links that no other network of pods, containers or machines is made of.
_HARMLESS_KINDS: Final = (None, "dummy", "ifb")
_GONE: Final = (errno.ENODEV,)
_NO_ADDRESS: Final = (errno.EADDRNOTAVAIL, errno.ENODEV)


@dataclass(frozen=True)
class Host:
    """What the host's side offers to a pod.

    Attributes:
        bridge: index of the bridge.
        mtu: bytes.
        pools: where pods get their addresses from; without IPv6 where that is missing.
    """

    bridge: int
    mtu: int
    pools: tuple[Pool, ...]


def uplinks(routes: Iterable[Route], family: int) -> list[int]:
    """Return the links of the default routes of ``family``, the preferred one first."""
    defaults = [r for r in routes if r.family == family and r.prefix_length == 0]
    return list(dict.fromkeys(r.link for r in sorted(defaults, key=lambda r: r.priority)))


def choose_mtu(present: Iterable[Link], routes: Sequence[Route]) -> int:
    """Return the MTU of the preferred default route's link, IPv4's first, else 1500."""
    mtus = {link.index: link.mtu for link in present}
    for family in (socket.AF_INET, socket.AF_INET6):
        for index in uplinks(routes, family):
            if index in mtus:
                return mtus[index]
    return _DEFAULT_MTU


def overlay_mtu(present: Iterable[Link], routes: Sequence[Route]) -> int:
    """Return the MTU with room for VXLAN over the family of the preferred default route."""
    only_v6 = not uplinks(routes, socket.AF_INET) and bool(uplinks(routes, socket.AF_INET6))
    overhead = node_ranges.OVERHEAD_V6 if only_v6 else node_ranges.OVERHEAD_V4
    # A link with less has IPv6 no more, and pods would not either.
    return max(choose_mtu(present, routes) - overhead, _SMALLEST_MTU)


def conflict(pool: Pool, bridge: str, present: Iterable[Link], routes: Iterable[Route]) -> str:
    """Return the name of another link that the pool's very subnet is routed to, or ""."""
    names = {link.index: link.name for link in present}
    network = pool.network
    for route in routes:
        target = (route.family, route.destination, route.prefix_length)
        if target == (pool.family, str(network.network_address), network.prefixlen):
            name = names.get(route.link, f"link {route.link}")
            if name != bridge:
                return name
    return ""


def others_need_forwarding(present: Iterable[Link], routes: Sequence[Route]) -> list[str]:
    """Return links that another network on this node may be made of, uplinks left out."""
    outward = {*uplinks(routes, socket.AF_INET), *uplinks(routes, socket.AF_INET6)}
    return [
        link.name
        for link in present
        if link.kind not in _HARMLESS_KINDS and link.index not in outward
    ]


class HostSide:
    """Makes and removes the node's side of the network that ``config`` describes."""

    def __init__(
        self, config: NetworkConfig, pools: Sequence[Pool], store: NetworkStore, executor: Executor
    ) -> None:
        self._config = config
        self._pools = tuple(pools)
        self._replaced: tuple[Pool, ...] = ()
        self._told_mtu: int | None = None
        self._forwarding = settings.Forwarding(store)
        self._executor = executor
        self._lock = asyncio.Lock()
        self._mtu_is_free = False
        self._ready: Host | None = None

    async def _exchange(self, *requests: Request) -> list[list[Reply]]:
        def exchange() -> list[list[Reply]]:
            with Netlink() as host:
                return host.exchange(*requests)

        return await asyncio.get_running_loop().run_in_executor(self._executor, exchange)

    async def _dump(self, request: Request) -> list[Reply]:
        def dump() -> list[Reply]:
            with Netlink() as host:
                return host.dump(request)

        return await asyncio.get_running_loop().run_in_executor(self._executor, dump)

    def doubt(self) -> None:
        """Have the next :meth:`ensure` look at everything again."""
        self._ready = None

    def use(self, pools: Iterable[Pool]) -> None:
        """Take other subnets from the next :meth:`ensure` on; what goes with the old ones, goes."""
        self._replaced = (*self._replaced, *self._pools)
        self._pools = tuple(pools)
        self.doubt()

    def heed_mtu(self) -> None:
        """Have the next :meth:`ensure` give another MTU, if the node's file says so by now.

        To be called when no pod is attached: pods of different MTUs on one bridge lose packets.
        """
        if self._config.from_node and not self._config.mtu:
            told = node_ranges.told_mtu(self._config.node_file)
            if told != self._told_mtu or self._ready is None:
                self._told_mtu = told
                self._mtu_is_free = True
                self.doubt()

    async def ensure(self) -> Host:
        """Make what is missing; costs nothing when it was made before.

        Raises:
            NetworkError: the machine lacks something, or the settings conflict with it.
            OSError: the kernel refused a step.
        """
        if self._ready is None:
            async with self._lock:
                while self._ready is None:
                    pools = self._pools
                    made = await self._make()
                    # Others may have come meanwhile.
                    if self._pools is pools:
                        self._ready = made
        return self._ready

    async def _make(self) -> Host:
        present = await self.links()
        routes = await self._routes()
        pools = self._usable_pools()
        for pool in pools:
            taken_by = conflict(pool, self._config.bridge, present, routes)
            if taken_by:
                raise NetworkError(
                    f"subnet {pool.network} of the pods is already routed to {taken_by}; "
                    "set another subnet for this runtime, or remove the other network"
                )
        bridge = await self._make_bridge(present, routes, pools)
        names = {link.index: link.name for link in present}
        outward = [names[i] for i in uplinks(routes, socket.AF_INET6) if i in names]
        ipv6 = any(pool.family == socket.AF_INET6 for pool in pools)
        self._forwarding.enable(ipv6, outward)
        pools = await self._make_rules(pools)
        logs.event(
            _LOGGER, logging.INFO, "pod network is ready", bridge=bridge.name, mtu=bridge.mtu,
            subnets=[str(pool.network) for pool in pools],
        )  # fmt: skip
        self._mtu_is_free = False
        return Host(bridge.index, bridge.mtu, pools)

    def _wanted_mtu(self, present: Iterable[Link], routes: Sequence[Route]) -> int:
        if self._config.mtu:
            return self._config.mtu
        if not self._config.from_node:
            return choose_mtu(present, routes)
        if self._told_mtu is None:
            self._told_mtu = node_ranges.told_mtu(self._config.node_file)
        return self._told_mtu or overlay_mtu(present, routes)

    async def _replace_addresses(self, bridge: int, pools: Sequence[Pool]) -> None:
        """Remove the gateways of subnets that do not count any more, and their rules."""
        kept = {pool.gateway for pool in pools}
        old = {pool.gateway for pool in self._replaced} - kept
        replies = await self._dump(links.get_addresses()) if self._config.from_node else []
        found = [links.parse_address(reply) for reply in replies]
        stale = [each for link, each in filter(None, found) if link == bridge and each not in kept]
        if stale:
            await self._exchange(
                *(links.delete_address(bridge, each, tolerated=_NO_ADDRESS) for each in stale)
            )
        gone = {each.network for each in (*stale, *old)}
        for network in gone:
            if all(network.version != pool.network.version for pool in pools):
                rule_set = rules.RuleSet(self._config.bridge, network)
                await rules.withdraw(rule_set, PortRules(rule_set).remove)
        self._replaced = ()

    def _usable_pools(self) -> tuple[Pool, ...]:
        if settings.has_ipv6():
            return self._pools
        reason = "this network namespace has no IPv6 (net.ipv6.conf.all.disable_ipv6 is not 0)"
        return self._without_ipv6(self._pools, reason)

    def _without_ipv6(self, pools: Iterable[Pool], reason: str) -> tuple[Pool, ...]:
        """Return the IPv4 pools; say so if that is less, and refuse if IPv6 was asked for."""
        kept = tuple(pool for pool in pools if pool.family == socket.AF_INET)
        if kept != tuple(pools):
            if self._config.ipv6_required or not kept:
                raise NetworkError(f"pods cannot have IPv6, which is required: {reason}")
            logs.event(
                _LOGGER, logging.WARNING, "pods get IPv4 only",
                reason=reason,
                subnet=[str(p.network) for p in pools if p.family == socket.AF_INET6],
            )  # fmt: skip
        return kept

    async def _make_bridge(
        self, present: Sequence[Link], routes: Sequence[Route], pools: Sequence[Pool]
    ) -> Link:
        name = self._config.bridge
        bridge = next((link for link in present if link.name == name), None)
        if bridge is None:
            mtu = self._wanted_mtu(present, routes)
            mac = links.hardware_address(pools[0].gateway.ip)
            _, [reply] = await self._exchange(
                links.add_bridge(name, mac, mtu), links.get_link(name)
            )
            bridge = links.parse_link(reply)
        elif bridge.kind != "bridge":
            raise NetworkError(
                f"link {name} exists and is no bridge (kind {bridge.kind}); set another name "
                "for the pods' bridge"
            )
        if settings.read(settings.accept_ra(name)) is not None:
            # A pod must not be able to become the node's router (CVE-2020-10749).
            settings.write(settings.accept_ra(name), "0")
        if any(pool.family == socket.AF_INET6 for pool in pools):
            settings.write(f"ipv6/conf/{name}/disable_ipv6", "0")
        mtu = self._wanted_mtu(present, routes) if self._mtu_is_free else (
            self._config.mtu or bridge.mtu)  # fmt: skip
        await self._replace_addresses(bridge.index, pools)
        await self._exchange(
            links.set_up(bridge.index, f"setting bridge {name} up", mtu=mtu),
            *(
                links.add_address(bridge.index, pool.gateway, tolerated=(errno.EEXIST,))
                for pool in pools
            ),
        )
        return replace(bridge, mtu=mtu)

    async def _make_rules(self, pools: tuple[Pool, ...]) -> tuple[Pool, ...]:
        """Make the rules of each family; return the pools that can be used with them."""
        for pool in pools:
            rule_set = rules.RuleSet(self._config.bridge, pool.network, self._config.no_masquerade)
            try:
                await rules.apply(rule_set)
            except NetworkError as error:
                if pool.family == socket.AF_INET:
                    raise
                return self._without_ipv6(pools, str(error))
        return pools

    @property
    def made(self) -> bool:
        """Whether all was made in this life of the daemon."""
        return self._ready is not None

    async def has_rules(self) -> bool:
        """Tell whether all is made, and all rules of it are there still.

        Raises:
            NetworkError: they cannot be listed.
        """
        if self._ready is None:
            return False
        for pool in self._ready.pools:
            rule_set = rules.RuleSet(self._config.bridge, pool.network, self._config.no_masquerade)
            if not rule_set.is_whole(await rules.save(rule_set)):
                return False
        return True

    async def links(self) -> list[Link]:
        """Return all links of the daemon's network namespace."""
        return [links.parse_link(reply) for reply in await self._dump(links.get_links())]

    async def pod_links(self) -> list[Link]:
        """Return the host ends of pods' links: ports of our bridge with a name of ours."""
        present = await self.links()
        bridges = [link.index for link in present if link.name == self._config.bridge]
        return [
            link
            for link in present
            if link.master in bridges and links.is_host_link_name(link.name)
        ]

    async def _routes(self) -> list[Route]:
        replies = [
            *await self._dump(links.get_routes(socket.AF_INET)),
            *await self._dump(links.get_routes(socket.AF_INET6)),
        ]
        parsed = [links.parse_route(reply) for reply in replies]
        return [route for route in parsed if route is not None]

    async def remove_links(self, names: list[str]) -> None:
        """Remove links, at once however many they are; those already gone are fine.

        Raises:
            OSError: the kernel refused.
        """
        if len(names) == 1:
            await self._exchange(links.delete_link(names[0], tolerated=_GONE))
            return
        # Group 0 is everybody's. Nobody else has this number but by a chance of 1 in 2^31.
        group = 1 + secrets.randbelow((1 << 31) - 1)
        await self._exchange(
            *(links.set_group(name, group, tolerated=_GONE) for name in names),
            links.delete_group(group, tolerated=_GONE),
        )

    async def remove(self) -> None:
        """Remove rules, settings and the bridge, unless a port is still in it.

        Raises:
            NetworkError, OSError: a step failed; those after it were tried all the same.
        """
        self.doubt()
        present = await self.links()
        bridge = next((link for link in present if link.name == self._config.bridge), None)
        if bridge is None or bridge.kind != "bridge":
            return
        ports = [link.name for link in present if link.master == bridge.index]
        if ports:
            logs.event(
                _LOGGER, logging.WARNING, "the pods' bridge stays: it still has ports",
                bridge=bridge.name, ports=ports,
            )  # fmt: skip
            return
        ipv6 = settings.has_ipv6()
        await _all(
            *(self._withdraw(p) for p in self._pools if ipv6 or p.family == socket.AF_INET),
            lambda: self._restore_forwarding(present, bridge),
            lambda: self.remove_links([bridge.name]),
        )

    def _withdraw(self, pool: Pool) -> Callable[[], Awaitable[None]]:
        rule_set = rules.RuleSet(self._config.bridge, pool.network)
        return lambda: rules.withdraw(rule_set, PortRules(rule_set).remove)

    async def _restore_forwarding(self, present: Sequence[Link], bridge: Link) -> None:
        rest = [link for link in present if link != bridge]
        others = others_need_forwarding(rest, await self._routes())
        if others:
            logs.event(
                _LOGGER, logging.INFO, "forwarding stays on, other networks may need it",
                links=others[:10],
            )  # fmt: skip
        else:
            self._forwarding.restore()


async def _all(*steps: Callable[[], Awaitable[None]]) -> None:
    """Do all steps, then raise the first failure."""
    failures: list[Exception] = []
    for step in steps:
        try:
            await step()
        except (NetworkError, OSError) as error:
            failures.append(error)
    if failures:
        for failure in failures[1:]:
            failures[0].add_note(f"then also: {failure}")
        raise failures[0]
