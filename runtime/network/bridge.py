"""The default pod network: every pod on one bridge, the bridge routed and masqueraded.

A pod gets a pair of links, one end (``eth0``) in its network namespace, the other in the bridge,
an address of each family and default routes by the bridge. An attachment goes through

    nothing -> addresses taken -> links made -> pod configured -> host ports -> recorded

and whatever fails on the way is undone. If the daemon dies on the way nothing is recorded, and
:meth:`BridgeNetwork.reconcile` removes what is there. The way back is

    recorded -> forgotten -> host ports taken away -> link removed -> addresses free

of which :meth:`BridgeNetwork.detach` waits for the first two only (see the module ``reaper``).

Port mappings (hostPort) are rules of their own beside those of ``rules``: see ``hostports``. They
are made before an attachment is recorded, and taken away before its end is told.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from kubeletpy_common import logs
from runtime.network import links, node_ranges, pod
from runtime.network.allocator import Allocator, Pool
from runtime.network.config import Attachment, NetworkConfig
from runtime.network.errors import NetworkError, SubnetExhausted
from runtime.network.host import HostSide
from runtime.network.hostports import HostPorts
from runtime.network.pod_network import Reconciled
from runtime.network.reaper import Reaper
from runtime.network.request import NOTHING_SPECIAL, PodFacts
from runtime.network.rule_watch import RuleWatch
from runtime.network.rules import chain_of
from runtime.network.store import NetworkStore
from runtime.network.turns import Turns

__all__ = [
    "Attachment",
    "BridgeNetwork",
    "NetworkConfig",
    "NetworkError",
    "Reconciled",
    "SubnetExhausted",
]

_LOGGER: Final = logging.getLogger(__name__)
_THREADS: Final = 4
_CLOSE_SECONDS: Final = 30.0
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0
"""Seconds between looks at rules that somebody takes away: at first, and at most."""
# The bridge was removed by somebody (EINVAL: no such master), or a link is there from a life of
# the daemon before this one.
_WORTH_A_RETRY: Final = (errno.ENODEV, errno.EINVAL, errno.EEXIST)


class BridgeNetwork:
    """Attaches sandboxes to the bridge of ``config``; their addresses live in ``database``.

    To be made, used and closed in the event loop's thread, in the network namespace that the
    bridge is to be in. Calls for one sandbox are done one after the other, for different
    sandboxes at once. A call that is cancelled is finished or undone first.

    Raises:
        ValueError: the settings cannot work.
        NetworkError: the database cannot be used.
    """

    def __init__(self, config: NetworkConfig, database: Path) -> None:
        self.config = config
        subnets = [config.subnet_v4] + ([config.subnet_v6] if config.subnet_v6 else [])
        self._store = NetworkStore(database)
        self._heard: tuple[str, ...] = ()
        self._problem = ""
        pools: Sequence[Pool] = [Pool.parse(subnet) for subnet in subnets]
        if config.from_node:
            ranges = node_ranges.decide((), Allocator(self._store, ()).held())
            pools, self._problem = ranges.pools, ranges.problem
        self._allocator = Allocator(self._store, pools)
        self._executor = ThreadPoolExecutor(_THREADS, thread_name_prefix="network")
        self._host = HostSide(config, pools, self._store, self._executor)
        self._ports = HostPorts(config.bridge, pools, self._store, self._executor)
        self._reaper = Reaper(self._host.remove_links)
        self._turns = Turns()
        self._watch = RuleWatch(chain_of(config.bridge))
        self._keeping: asyncio.Task[None] | None = None
        self._closed = False

    async def attach(
        self, sandbox_id: str, netns: Path, facts: PodFacts = NOTHING_SPECIAL
    ) -> Attachment:
        """Give the pod its link, addresses, routes and host ports; set its loopback up.

        A sandbox that is attached already is left as it is.

        Args:
            sandbox_id: whose network it is; printable, at most 255 bytes.
            netns: where its network namespace is pinned.
            facts: of which the port mappings count here, and the name, for people.

        Raises:
            SubnetExhausted: no address is free.
            PortConflict: a host port is another sandbox's.
            NetworkError: the attachment failed, by the step in the text; nothing of it is left.
            ValueError: the id is unusable.
        """
        links.check_sandbox_id(sandbox_id)
        if self._closed:
            raise NetworkError(f"attaching sandbox {sandbox_id}: the network is closed")
        if self._problem and self._store.attachment(sandbox_id) is None:
            self._decide()
            if self._problem:
                raise NetworkError(f"attaching sandbox {sandbox_id}: {self._problem}")
        attaching = self._turns.spawn(self._attach_alone(sandbox_id, netns, facts))
        try:
            return await asyncio.shield(attaching)
        except asyncio.CancelledError:
            # Nobody will know of the attachment: have it undone as soon as it is made.
            attaching.add_done_callback(lambda _: self._turns.spawn(self._detach(sandbox_id)))
            raise

    async def _attach_alone(self, sandbox_id: str, netns: Path, facts: PodFacts) -> Attachment:
        name = links.host_link_name(self.config.bridge, sandbox_id)
        async with self._turns.exclusive(sandbox_id):
            present = self._store.attachment(sandbox_id)
            if present is not None:
                return present
            self._ports.check(sandbox_id, facts.ports)
            await self._reaper.wait(name)
            try:
                try:
                    return await self._attach(sandbox_id, netns, name, facts)
                except OSError as error:
                    if error.errno not in _WORTH_A_RETRY:
                        raise
                    await self._host.remove_links([name])
                    self._host.doubt()
                    self._ports.doubt()
                    return await self._attach(sandbox_id, netns, name, facts)
            except OSError as error:
                raise NetworkError(
                    f"attaching sandbox {sandbox_id} ({netns}) to {self.config.bridge}: {error}"
                ) from error

    async def _attach(self, sandbox_id: str, netns: Path, name: str, facts: PodFacts) -> Attachment:
        if self.config.from_node and self._allocator.empty():
            self._host.heed_mtu()
        host = await self._host.ensure()
        self._keep_rules()
        async with AsyncExitStack() as undo:
            undo.push_async_callback(self._undo, sandbox_id, name)
            addresses = self._allocator.allocate(sandbox_id, host.pools)
            plan = pod.Plan(
                sandbox_id=sandbox_id,
                netns=netns,
                host_interface=name,
                bridge=host.bridge,
                mac=links.hardware_address(addresses[0].ip),
                mtu=host.mtu,
                addresses=list(
                    zip(addresses, (pool.gateway.ip for pool in host.pools), strict=True)
                ),
            )
            loop = asyncio.get_running_loop()
            given = await loop.run_in_executor(self._executor, pod.connect, plan)
            attachment = Attachment(
                ips=[str(address.ip) for address, _ in given],
                interface=links.POD_INTERFACE,
                gateways=[str(gateway) for _, gateway in given],
                host_interface=name,
                mac=plan.mac,
                mtu=plan.mtu,
            )
            await self._ports.publish(sandbox_id, facts.label, facts.ports, attachment.ips)
            self._store.record(sandbox_id, attachment)
            undo.pop_all()
        return attachment

    async def _undo(self, sandbox_id: str, name: str) -> None:
        try:
            if self._ports.has(sandbox_id):
                self._store.forget(sandbox_id)
                await self._ports.withdraw(sandbox_id)
            await self._host.remove_links([name])
        except (OSError, NetworkError) as error:
            logs.event(
                _LOGGER, logging.WARNING, "cannot undo the network of a pod that could not be "
                "attached; its link and addresses stay until the runtime starts again",
                sandbox=sandbox_id, link=name, error=str(error),
            )  # fmt: skip
        else:
            self._allocator.release(sandbox_id)

    async def detach(self, sandbox_id: str, netns: Path | None) -> None:
        """Take the sandbox off the network; what of it is gone already is fine.

        On return the attachment is forgotten, its host ports are free, and its link is about to
        be removed. The address is free only after that.

        Args:
            sandbox_id: whose network it is; one that was never attached is fine.
            netns: where its network namespace is pinned, if it still is. Not needed: both ends
                of the link go when the host's end does.

        Raises:
            NetworkError: the rules of its host ports cannot be removed; the call can be repeated.
        """
        await asyncio.shield(self._turns.spawn(self._detach(sandbox_id)))

    async def _detach(self, sandbox_id: str) -> None:
        async with self._turns.exclusive(sandbox_id):
            has_ports = self._ports.has(sandbox_id)
            known = self._store.attachment(sandbox_id) is not None
            # An attachment that failed, and whose undoing did too, may have left some of it.
            if not known and not has_ports and not self._allocator.holds(sandbox_id):
                return
            self._store.forget(sandbox_id)
            if has_ports:
                await self._ports.withdraw(sandbox_id)
            self._doom(links.host_link_name(self.config.bridge, sandbox_id), sandbox_id)

    def _doom(self, name: str, sandbox_id: str | None) -> None:
        def released() -> None:
            if sandbox_id is not None:
                self._allocator.release(sandbox_id)

        self._reaper.submit(name, released)

    def lookup(self, sandbox_id: str) -> Attachment | None:
        """Return how the sandbox is attached, or None if it is not."""
        return self._store.attachment(sandbox_id)

    async def reconcile(self, known_ids: set[str]) -> Reconciled:
        """Remove what no known sandbox owns: to be called after a start of the daemon.

        Links are ours if they are ports of our bridge and have a name that we could have given.

        Args:
            known_ids: all sandboxes that exist, attached or not.

        Raises:
            NetworkError: the links cannot be listed, or the rules of host ports not be made.
        """
        # Who is recorded now has a link now; who is recorded only after the list, maybe not.
        attached_before = self._store.attached()
        try:
            present = {link.name for link in await self._host.pod_links()}
        except OSError as error:
            raise NetworkError(f"looking for links of pods that are gone: {error}") from error
        # No await from here to the removal: what was made meanwhile is busy or recorded.
        busy = self._turns.busy()
        attached = self._store.attached()
        owners = self._allocator.owners() | attached | self._ports.owners()
        names = {i: links.host_link_name(self.config.bridge, i) for i in owners | busy}
        ours = attached & known_ids
        lost = {i for i in ours & attached_before if names[i] not in present} - busy
        kept = (ours - lost) | busy
        stray = present - {names[i] for i in kept}
        released = owners - kept - lost
        for sandbox_id in released | lost:
            self._store.forget(sandbox_id)
            self._doom(names[sandbox_id], sandbox_id)
        for name in stray - {names[i] for i in released | lost}:
            self._doom(name, None)
        await self._ports.settle()
        await self._reaper.wait()
        if self._store.attached():
            self._keep_rules()
            # Nobody knows what was taken away before.
            self._watch.doubted.set()
        result = Reconciled(frozenset(released), frozenset(lost), frozenset(stray))
        if result.released or result.lost or result.links:
            logs.event(
                _LOGGER, logging.INFO, "removed what dead pods had left of their network",
                released=sorted(released), lost=sorted(lost), links=sorted(stray),
            )  # fmt: skip
        return result

    def _keep_rules(self) -> None:
        """Hear from now on of rules that others take away."""
        if self._watch.begin():
            self._keeping = asyncio.create_task(self._keep(), name="rules of the pod network")

    async def _keep(self) -> None:
        """Make rules again that others took away."""
        pause = _FIRST_PAUSE
        while True:
            await self._watch.doubted.wait()
            # What comes together, and what we do ourselves, is looked at once.
            await asyncio.sleep(pause)
            self._watch.doubted.clear()
            known = self._host.made
            try:
                if await self._host.has_rules():
                    pause = _FIRST_PAUSE
                    continue
                self._host.doubt()
                self._ports.doubt()
                await self._host.ensure()
                await self._ports.settle()
            except (OSError, NetworkError) as error:
                self._watch.doubted.set()
                what, reason = "rules of pods are gone and cannot be made again yet", str(error)
            else:
                if not known:
                    continue
                what, reason = "somebody else took away rules of pods; they are made again", ""
            logs.event(_LOGGER, logging.WARNING, what, bridge=self.config.bridge, reason=reason)
            # Who takes them away all the time is not chased.
            pause = min(pause * 2, _LONGEST_PAUSE)

    async def readiness(self) -> str:
        """Return why pods cannot be attached, "" if they can: the first makes the network."""
        if self._problem:
            self._decide()
        return self._problem

    def use_pod_cidrs(self, cidrs: Sequence[str]) -> None:
        """Take over the node's subnets, if the settings say so; else they are of the settings.

        Where pods have addresses of others, that waits for their end: :meth:`readiness` says so.
        """
        if self.config.from_node:
            self._heard = tuple(cidrs)
            self._decide()

    def _decide(self) -> None:
        ranges = node_ranges.decide(self._heard, self._allocator.held())
        if ranges.problem != self._problem:
            logs.event(
                _LOGGER, logging.WARNING if ranges.problem else logging.INFO,
                "subnets of this node's pods", subnets=[str(each.network) for each in ranges.pools],
                problem=ranges.problem,
            )  # fmt: skip
        self._problem = ranges.problem
        if ranges.pools != self._allocator.pools:
            self._allocator.pools = ranges.pools
            self._host.use(ranges.pools)
            self._ports.use(ranges.pools)

    async def close(self) -> None:
        """Remove bridge, rules and settings if no sandbox is attached; else leave everything.

        Raises:
            NetworkError: something could not be removed. All else was done.
        """
        if self._closed:
            return
        self._closed = True
        self._watch.close()
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._turns.drain()
                await self._reaper.wait()
            if not self._allocator.owners() and not self._store.attached():
                await self._host.remove()
        except TimeoutError as error:
            raise NetworkError(
                f"closing the pod network {self.config.bridge}: pods are still being attached or "
                f"detached after {_CLOSE_SECONDS:g} s; what is left goes at the next start"
            ) from error
        except OSError as error:
            raise NetworkError(f"removing the pod network {self.config.bridge}: {error}") from error
        finally:
            self._executor.shutdown(wait=False)
            self._store.close()
