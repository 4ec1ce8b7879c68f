"""Port mappings of the default network: written down, made into rules, and taken back.

What is written down is the truth, and the rules are made from all of it at once. A host port goes

    nothing -> written down -> in the rules -> gone, but in the rules -> nothing

so that after a crash at any point :meth:`HostPorts.settle` knows of every rule that may be there.
Pods without port mappings cost nothing here, and start no process.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Iterable, Sequence
from concurrent.futures import Executor
from ipaddress import IPv6Address, ip_address
from typing import Final

from kubeletpy_common import logs
from runtime.network import conntrack, rules, settings
from runtime.network.allocator import Pool
from runtime.network.errors import NetworkError, PortConflict
from runtime.network.port_rules import Forward, PortRules
from runtime.network.request import PortMapping, Protocol, overlap
from runtime.network.rules import RuleSet
from runtime.network.store import NetworkStore

_LOGGER: Final = logging.getLogger(__name__)


def as_mapping(forward: Forward) -> PortMapping:
    """Return what was asked for, restricted to the forward's family."""
    everywhere = "0.0.0.0" if forward.family == socket.AF_INET else "::"
    return PortMapping(
        Protocol(forward.protocol),
        forward.host_port,
        forward.pod_port,
        forward.host_ip or everywhere,
    )


def find_conflict(
    sandbox_id: str, mappings: Iterable[PortMapping], present: Sequence[Forward]
) -> tuple[PortMapping, Forward] | None:
    """Return the first mapping that another sandbox's host port stands against, and that."""
    for mapping in mappings:
        for forward in present:
            if forward.sandbox_id != sandbox_id and overlap(mapping, as_mapping(forward)):
                return mapping, forward
    return None


def resolve(
    sandbox_id: str, label: str, mappings: Iterable[PortMapping], ips: Iterable[str]
) -> list[Forward]:
    """Return what ``mappings`` mean for a pod with the addresses ``ips``.

    A mapping for all addresses is made for those families that the pod has.

    Raises:
        NetworkError: one asks for a family that the pod has not.
    """
    targets: dict[int, str] = {
        socket.AF_INET6 if isinstance(ip_address(ip), IPv6Address) else socket.AF_INET: ip
        for ip in ips
    }
    result: list[Forward] = []
    for mapping in mappings:
        address = mapping.address
        families = [family for family in mapping.families if family in targets]
        if not families:
            version = 4 if socket.AF_INET in mapping.families else 6
            raise NetworkError(
                f"host port {mapping} of sandbox {sandbox_id}: the pod has no IPv{version} address "
                "to send it on to; leave the host IP out, or give the network that family"
            )
        host_ip = "" if address is None or address.is_unspecified else str(address)
        result += [
            Forward(
                sandbox_id, int(family), mapping.protocol.value, host_ip, mapping.host_port,
                targets[family], mapping.container_port, label,
            )
            for family in families
        ]  # fmt: skip
    return result


class _Family:
    """The rules of one family: changes that come together are made by one run of the program."""

    def __init__(self, port_rules: PortRules, store: NetworkStore) -> None:
        self._rules = port_rules
        self._store = store
        self._family = socket.AF_INET if port_rules.base.subnet.version == 4 else socket.AF_INET6
        self._lock = asyncio.Lock()
        self._asked = 0
        self._done = 0
        self.installed = False

    def _mine(self, *, gone: bool) -> list[Forward]:
        return [f for f in self._store.forwards(gone=gone) if f.family == self._family]

    async def sync(self) -> None:
        """Return when the rules are those of what was written down at the call, or later.

        Raises:
            NetworkError: iptables-restore failed; what is gone stays written down.
        """
        self._asked += 1
        turn = self._asked
        async with self._lock:
            if self._done < turn:
                now = self._asked
                await self._apply()
                self._done = now

    async def _apply(self) -> None:
        base = self._rules.base
        gone, forwards = self._mine(gone=True), self._mine(gone=False)
        if self.installed:
            text = self._rules.forwards(forwards)
        else:
            saved = await rules.save(base)
            # Whoever came meanwhile has asked for a turn of his own.
            text = self._rules.install(saved, forwards) if forwards else self._rules.remove(saved)
        loopback = any(forward.covers_loopback for forward in forwards)
        if not loopback:
            self._route_localnet("0")
        if text:
            await rules.restore(base, text)
        self.installed = self.installed or bool(forwards)
        if loopback:
            # Only with the guard of the rules in place (CVE-2020-8558).
            self._route_localnet("1")
        self._store.purge_forwards(gone)

    def _route_localnet(self, value: str) -> None:
        setting = settings.route_localnet(self._rules.base.bridge)
        if self._family != socket.AF_INET or settings.read(setting) in (None, value):
            return
        try:
            settings.write(setting, value)
        except OSError as error:
            raise NetworkError(
                f"setting net/{setting} to {value}, for host ports on 127.0.0.1: {error}"
            ) from error


class HostPorts:
    """The host ports of one bridge's pods; to be used in the event loop's thread."""

    def __init__(
        self, bridge: str, pools: Sequence[Pool], store: NetworkStore, executor: Executor
    ) -> None:
        self._bridge = bridge
        self._store = store
        self._executor = executor
        self._families: dict[int, _Family] = {}
        self.use(pools)

    def use(self, pools: Iterable[Pool]) -> None:
        """Take other subnets from now on; to be called when no pod has host ports."""
        self._families = {
            pool.family: _Family(PortRules(RuleSet(self._bridge, pool.network)), self._store)
            for pool in pools
        }

    def doubt(self) -> None:
        """Have the next change make everything again: somebody may have removed part of it."""
        for family in self._families.values():
            family.installed = False

    def check(self, sandbox_id: str, mappings: Iterable[PortMapping]) -> None:
        """Raise PortConflict if a host port is another sandbox's."""
        found = find_conflict(sandbox_id, mappings, self._store.forwards())
        if found is not None:
            mapping, other = found
            owner = f"pod {other.label} (sandbox {other.sandbox_id})" if other.label else (
                f"sandbox {other.sandbox_id}")  # fmt: skip
            raise PortConflict(
                f"host port {mapping} for sandbox {sandbox_id} is taken: {as_mapping(other)} leads "
                f"to {owner}; stop that one first, or choose another host port or host IP"
            )

    async def publish(
        self, sandbox_id: str, label: str, mappings: Sequence[PortMapping], ips: Sequence[str]
    ) -> None:
        """Send the host ports on to the pod's addresses.

        Raises:
            PortConflict: one is another sandbox's.
            NetworkError: the rules cannot be made; :meth:`withdraw` is then still to be called.
        """
        if not mappings:
            return
        forwards = resolve(sandbox_id, label, mappings, ips)
        # Nothing awaits from the check to the record.
        self.check(sandbox_id, mappings)
        self._store.add_forwards(forwards)
        await self._sync(forwards)
        await self._forget_flows(forwards, arrived=True)

    def has(self, sandbox_id: str) -> bool:
        """Tell whether the sandbox has host ports, or rules that are left of them."""
        known = (*self._store.forwards(), *self._store.forwards(gone=True))
        return any(forward.sandbox_id == sandbox_id for forward in known)

    def owners(self) -> set[str]:
        """Return the sandboxes that have host ports in use."""
        return {forward.sandbox_id for forward in self._store.forwards()}

    async def settle(self) -> None:
        """Make the rules as they are to be, whatever is there: after a start of the daemon.

        Raises:
            NetworkError: the rules cannot be changed.
        """
        forwards = self._store.forwards()
        gone = self._store.forwards(gone=True)
        await self._sync([*forwards, *gone])
        await self._forget_flows(gone, arrived=False)

    async def withdraw(self, sandbox_id: str) -> None:
        """Take away the rules of a sandbox that :meth:`NetworkStore.forget` was called for.

        Raises:
            NetworkError: the rules cannot be changed; the call can be repeated.
        """
        gone = [f for f in self._store.forwards(gone=True) if f.sandbox_id == sandbox_id]
        await self._sync(gone)
        await self._forget_flows(gone, arrived=False)

    async def _sync(self, forwards: Sequence[Forward]) -> None:
        numbers = {forward.family for forward in forwards}
        # The network may have no IPv6 by its settings of today.
        self._store.purge_forwards(f for f in forwards if f.family not in self._families)
        # Both at once: each is a program that mostly waits. None may go on behind our back.
        done = await asyncio.gather(
            *(self._families[number].sync() for number in sorted(numbers & self._families.keys())),
            return_exceptions=True,
        )
        for failure in done:
            if failure is not None:
                raise failure

    async def _forget_flows(self, forwards: Sequence[Forward], *, arrived: bool) -> None:
        if not any(forward.protocol == "udp" for forward in forwards):
            return
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(
                self._executor, lambda: conntrack.forget_flows(forwards, arrived=arrived)
            )
        except Exception as error:
            # They end by themselves when their sender pauses; the port works for all others.
            logs.event(
                _LOGGER, logging.WARNING, "cannot drop UDP flows of host ports; clients that go on "
                "sending reach nobody until they pause for half a minute", error=str(error),
            )  # fmt: skip
