"""The network of pods by CNI plugins: ADD, CHECK, DEL, GC and STATUS of a configuration list.

An attachment goes

    nothing -> written down -> ADD of each plugin in order -> its result written down

and back by DEL of each plugin in reverse order, with the configuration and the result that were
written down, whatever the configuration is by then. DEL comes also after an ADD that failed half
way; if it fails too, the record stays, and the next detach or start of the daemon tries again.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final

from kubeletpy_common import logs
from runtime.network import pod
from runtime.network.cni import configuration
from runtime.network.cni.attachment import (
    INTERFACE,
    Record,
    arguments,
    capability_arguments,
    plugin_input,
    read_result,
    unserved,
)
from runtime.network.cni.cache import Cache
from runtime.network.cni.configuration import NetworkList
from runtime.network.cni.invoke import Programs
from runtime.network.config import Attachment
from runtime.network.errors import NetworkError
from runtime.network.pod_network import Reconciled
from runtime.network.request import NOTHING_SPECIAL, PodFacts
from runtime.network.turns import Turns

_LOGGER: Final = logging.getLogger(__name__)
_AT_ONCE: Final = 4
_CLOSE_SECONDS: Final = 30.0
# Specification, section 2, "Parameters"; it is a file's name as well.
_SANDBOX_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,127}")


@dataclass(frozen=True)
class CniConfig:
    """Settings of the network by plugins.

    Attributes:
        conf_dir: where configuration lists are; None: no pod is attached by plugins.
        bin_dirs: where plugins are.
        plugin_seconds: deadline of one run of one plugin.
        pod_cidrs: the pods' networks on this node, for plugins with the capability ``ipRanges``.

    Raises:
        ValueError: one of ``pod_cidrs`` is no network.
    """

    conf_dir: Path | None = None
    bin_dirs: tuple[Path, ...] = (Path("/opt/cni/bin"), Path("/usr/lib/cni"))
    plugin_seconds: float = 60.0
    pod_cidrs: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for cidr in self.pod_cidrs:
            ip_network(cidr)


class CniNetwork:
    """Attaches sandboxes by the plugins of ``config``; attachments are written in ``directory``.

    A :class:`~runtime.network.pod_network.PodNetwork`, to be used in the event loop's thread, in
    the network namespace that plugins are to work in.
    """

    def __init__(self, config: CniConfig, directory: Path) -> None:
        self._conf_dir = config.conf_dir
        self._pod_cidrs = config.pod_cidrs
        self._programs = Programs(config.bin_dirs, config.plugin_seconds)
        self._cache = Cache(directory)
        self._turns = Turns()
        self._checking: asyncio.Task[None] | None = None

    def configured(self) -> bool:
        """Tell whether there is a configuration, be it good or bad.

        Raises:
            NetworkError: its directory cannot be read.
        """
        return self._conf_dir is not None and bool(configuration.candidates(self._conf_dir))

    def network(self) -> NetworkList:
        """Return the network that pods are attached to now.

        Raises:
            NetworkError: there is none, it is malformed, or a plugin of it is missing.
        """
        found = configuration.load(self._conf_dir) if self._conf_dir else None
        if found is None:
            raise NetworkError(f"there is no CNI configuration in {self._conf_dir}")
        for kind in found.types:
            self._programs.find(kind)
        return found

    async def attach(
        self, sandbox_id: str, netns: Path, facts: PodFacts = NOTHING_SPECIAL
    ) -> Attachment:
        """Have the plugins attach a sandbox; see :class:`PodNetwork`.

        Raises:
            CniError: a plugin failed; what was done is undone.
            NetworkError: the configuration or the answer of a plugin cannot be used.
            ValueError: the id is unusable.
        """
        if not _SANDBOX_ID.fullmatch(sandbox_id):
            raise ValueError(f"sandbox id {sandbox_id!r} is not letters, digits, '_', '.', '-'")
        attaching = self._turns.spawn(self._attach(sandbox_id, netns, facts))
        try:
            return await asyncio.shield(attaching)
        except asyncio.CancelledError:
            # Nobody will know of the attachment: have it undone as soon as it is made.
            attaching.add_done_callback(lambda _: self._turns.spawn(self._detach(sandbox_id)))
            raise

    async def _attach(self, sandbox_id: str, netns: Path, facts: PodFacts) -> Attachment:
        async with self._turns.exclusive(sandbox_id):
            present = self._cache.get(sandbox_id)
            if present is not None and present.result is not None:
                return read_result(present.result)
            if present is not None:
                # An earlier attempt could not be undone at its time.
                await self._delete(present)
            network = self.network()
            record = Record(
                sandbox_id=sandbox_id,
                netns=str(netns),
                network=network,
                args=arguments(sandbox_id, facts),
                capabilities=capability_arguments(facts, self._pod_cidrs),
            )
            for name in unserved(network, record.capabilities):
                logs.event(
                    _LOGGER, logging.WARNING, "no CNI plugin of the network serves what a pod asks "
                    "for", capability=name, network=network.name, sandbox=sandbox_id,
                )  # fmt: skip
            await asyncio.to_thread(self._cache.put, record)
            try:
                await self._set_loopback_up(sandbox_id, netns)
                result = await self._add(record)
                attachment = read_result(result)
                await asyncio.to_thread(self._cache.put, replace(record, result=result))
            except BaseException as error:
                await self._undo(record, error)
                raise
            return attachment

    async def _set_loopback_up(self, sandbox_id: str, netns: Path) -> None:
        try:
            await asyncio.to_thread(pod.set_loopback_up, netns)
        except OSError as error:
            raise NetworkError(f"attaching sandbox {sandbox_id} ({netns}): {error}") from error

    async def _add(self, record: Record) -> dict[str, Any]:
        result: dict[str, Any] | None = None
        for plugin in record.network.plugins:
            content = plugin_input(
                record.network, plugin, capabilities=record.capabilities, previous=result
            )
            kind = plugin["type"]
            result = await self._programs.invoke(kind, "ADD", content, _variables(record))
        assert result is not None
        return result

    async def _undo(self, record: Record, reason: BaseException) -> None:
        try:
            await self._delete(record)
        except NetworkError as error:
            reason.add_note(f"undoing it failed too: {error}")
            logs.event(
                _LOGGER, logging.WARNING, "cannot undo the network of a pod that could not be "
                "attached; it is tried again when the pod is removed",
                sandbox=record.sandbox_id, error=str(error),
            )  # fmt: skip

    async def detach(self, sandbox_id: str, netns: Path | None) -> None:
        """Have the plugins take a sandbox off the network; see :class:`PodNetwork`.

        Args:
            sandbox_id: whose network it is; one that was never attached is fine.
            netns: not needed: it is written down.

        Raises:
            CniError: a plugin failed; the others were called all the same. The call can be
                repeated.
        """
        await asyncio.shield(self._turns.spawn(self._detach(sandbox_id)))

    async def _detach(self, sandbox_id: str) -> None:
        async with self._turns.exclusive(sandbox_id):
            record = self._cache.get(sandbox_id)
            if record is not None:
                await self._delete(record)

    async def _delete(self, record: Record) -> None:
        """Call DEL of every plugin, the last first, and forget the attachment.

        Raises:
            NetworkError: the first failure; the attachment is not forgotten.
        """
        failures: list[NetworkError] = []
        for plugin in reversed(record.network.plugins):
            content = plugin_input(
                record.network, plugin, capabilities=record.capabilities, previous=record.result
            )
            try:
                await self._programs.invoke(plugin["type"], "DEL", content, _variables(record))
            except NetworkError as error:
                failures.append(error)
        if failures:
            for failure in failures[1:]:
                failures[0].add_note(f"then also: {failure}")
            raise failures[0]
        self._cache.drop(record.sandbox_id)

    async def check(self, sandbox_id: str) -> None:
        """Have the plugins check that a sandbox's network is as it was made.

        Networks that do not want it, or whose specification is older than 0.4.0, are not checked.

        Raises:
            CniError: a plugin found something wrong.
            NetworkError: the sandbox is not attached.
        """
        async with self._turns.exclusive(sandbox_id):
            record = self._cache.get(sandbox_id)
            if record is None or record.result is None:
                raise NetworkError(f"sandbox {sandbox_id} is not attached by CNI plugins")
            if not record.network.check or not record.network.has("0.4.0"):
                return
            for plugin in record.network.plugins:
                content = plugin_input(
                    record.network,
                    plugin,
                    capabilities=record.capabilities,
                    previous=record.result,
                )
                await self._programs.invoke(plugin["type"], "CHECK", content, _variables(record))

    def lookup(self, sandbox_id: str) -> Attachment | None:
        """Return how the sandbox is attached, or None if it is not."""
        record = self._cache.get(sandbox_id)
        return None if record is None or record.result is None else read_result(record.result)

    async def reconcile(self, known_ids: set[str]) -> Reconciled:
        """Detach what no known sandbox owns, have the plugins collect garbage, check the others.

        A known sandbox whose network namespace is gone, by a reboot, is lost. The checks are made
        in the background; what they find is logged.
        """
        busy = self._turns.busy()
        records = {r.sandbox_id: r for r in self._cache.all() if r.sandbox_id not in busy}
        released = {i for i, r in records.items() if i not in known_ids or r.result is None}
        lost = {i for i in records.keys() - released if not Path(records[i].netns).exists()}
        slots = asyncio.Semaphore(_AT_ONCE)

        async def release(sandbox_id: str) -> None:
            async with slots:
                try:
                    await self._turns.spawn(self._detach(sandbox_id))
                except NetworkError as error:
                    logs.event(
                        _LOGGER, logging.WARNING, "cannot remove what a dead pod left of its CNI "
                        "network; it is tried again at the next start",
                        sandbox=sandbox_id, error=str(error),
                    )  # fmt: skip

        await asyncio.gather(*(release(sandbox_id) for sandbox_id in released | lost))
        await self._collect_garbage()
        self._checking = self._turns.spawn(self._check_all(slots))
        return Reconciled(frozenset(released), frozenset(lost), frozenset())

    async def _collect_garbage(self) -> None:
        """Call GC of the present network's plugins (specification 1.1); failures are logged."""
        try:
            if not self.configured():
                return
            network = self.network()
            if not network.collect or not network.has("1.1.0"):
                return
            valid = [r.sandbox_id for r in self._cache.all() if r.network.name == network.name]
            for plugin in network.plugins:
                content = plugin_input(network, plugin, valid_attachments=valid)
                await self._programs.invoke(plugin["type"], "GC", content, {})
        except NetworkError as error:
            logs.event(_LOGGER, logging.WARNING, "CNI plugins collected no garbage", error=error)

    async def _check_all(self, slots: asyncio.Semaphore) -> None:
        async def check(sandbox_id: str) -> None:
            async with slots:
                try:
                    if self.lookup(sandbox_id) is not None:
                        await self.check(sandbox_id)
                except NetworkError as error:
                    logs.event(
                        # No warning: portmap 1.1 says so of every pod where ip6tables exists.
                        _LOGGER, logging.INFO, "a CNI plugin says that the network of a pod is "
                        "not as it was made", sandbox=sandbox_id, error=str(error),
                    )  # fmt: skip

        await asyncio.gather(*(check(record.sandbox_id) for record in self._cache.all()))

    async def readiness(self) -> str:
        """Return why no pod can be attached, as far as configuration and STATUS tell, or ""."""
        try:
            network = self.network()
            if network.has("1.1.0"):
                for plugin in network.plugins:
                    content = plugin_input(network, plugin)
                    await self._programs.invoke(plugin["type"], "STATUS", content, {})
        except NetworkError as error:
            return str(error)
        return ""

    def use_pod_cidrs(self, cidrs: Sequence[str]) -> None:
        """Take over the pods' networks of this node, for the capability ``ipRanges``.

        Raises:
            ValueError: one is no network.
        """
        for cidr in cidrs:
            ip_network(cidr)
        self._pod_cidrs = tuple(cidrs)

    async def close(self) -> None:
        """Let plugins that run come to an end; pods stay attached.

        Raises:
            NetworkError: they do not.
        """
        if self._checking is not None:
            self._checking.cancel()
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await self._turns.drain()
        except TimeoutError as error:
            raise NetworkError(
                f"CNI plugins have not ended after {_CLOSE_SECONDS:g} s; what they leave goes at "
                "the next start"
            ) from error


def _variables(record: Record) -> Mapping[str, str]:
    # A namespace that is gone, by a reboot, is not named: DEL then frees what is left elsewhere.
    netns = record.netns if Path(record.netns).exists() else ""
    return {
        "CNI_CONTAINERID": record.sandbox_id,
        "CNI_NETNS": netns,
        "CNI_IFNAME": INTERFACE,
        "CNI_ARGS": record.args,
    }
