"""The chain FORWARD lets packets between pods through, also after others emptied it.

A packet from outside to a NodePort of this node may go on to a pod of another node: it passes no
bridge of pods here, so nothing else accepts it where FORWARD drops by default (as with Docker).

The nft back end tells of every change, and rules that somebody took away are there again at once.
The legacy one tells nobody: the size of its table is looked at now and then, without a program.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final

from kubeletpy_common import legacy_tables, logs

from ..backend import SyncError
from ..iptables import kernel
from ..iptables.tools import BackEnd, Tools, detect
from ..model.portal import Family
from .settings import Network, Settings

_log = logging.getLogger(__name__)

CHAIN: Final = "KUBELETPY-NETWORK"
TABLE: Final = "filter"
LOOK_SECONDS: Final = 10.0
"""Between looks at the legacy back end, one system call each."""
_COMMENT: Final = '-m comment --comment "kubeletpy network: pods of all nodes"'
_JUMP: Final = f"FORWARD {_COMMENT} -j {CHAIN}"
_CALM: Final = 10.0
"""Seconds without a loss after which the next one is made good at once again."""
_PATIENCE: Final = 4
"""Losses, one soon after the other, that are made good at once."""
_LONGEST_PAUSE: Final = 5.0
_RETRY: Final = 30.0
"""Seconds after which rules that were refused are tried again."""


def rules(networks: Sequence[Network]) -> list[str]:
    """Return the rules of our chain (pure)."""
    return [
        f"-A {CHAIN} {side} {each} {_COMMENT} -j ACCEPT"
        for each in networks
        for side in ("-s", "-d")
    ]


class Pauses:
    """How long to wait before rules are made again: somebody may take them away all the time."""

    def __init__(self) -> None:
        self._count = 0
        self._last = float("-inf")

    def next(self, now: float) -> float:
        """Return the seconds to wait before a loss at a moment is made good."""
        self._count = self._count + 1 if now - self._last < _CALM else 0
        self._last = now
        if self._count < _PATIENCE:
            return 0.0
        return float(min(0.05 * 2 ** min(self._count - _PATIENCE, 10), _LONGEST_PAUSE))


class Filters:
    """The rules of one family, made and kept.

    Args:
        family: of them.
        networks: of all pods, of that family.
        look_seconds: see `LOOK_SECONDS`.

    Attributes:
        tried: set once the rules were made, or could not be.
    """

    def __init__(
        self, family: Family, networks: Sequence[Network], look_seconds: float = LOOK_SECONDS
    ) -> None:
        self._family = family
        self._networks = networks
        self._look_seconds = look_seconds
        self._lost = asyncio.Event()
        self._reason = ""
        self._pauses = Pauses()
        self.tried = asyncio.Event()

    async def run(self) -> None:
        """Make the rules, and make them again whenever they are gone; until cancelled."""
        tools = await self._programs()
        with self._watch(tools) as watched:
            while True:
                made = await asyncio.to_thread(self._make, tools)
                self.tried.set()
                if not made:
                    await asyncio.sleep(_RETRY)
                    continue
                await self._until_lost(tools, watched=watched)
                await asyncio.sleep(self._pauses.next(time.monotonic()))
                logs.event(
                    _log, logging.WARNING, "somebody else took away rules that let packets between "
                    "pods through; they are made again", family=self._family.name,
                    reason=self._reason,
                )  # fmt: skip

    async def _programs(self) -> Tools:
        """Return the programs, once there are any: they may be installed later."""
        while True:
            tools = await asyncio.to_thread(self._detect)
            if tools is not None:
                return tools
            self.tried.set()
            await asyncio.sleep(_RETRY)

    def _detect(self) -> Tools | None:
        try:
            return detect(self._family)
        except SyncError as error:
            self._tell(error)
            return None

    @contextlib.contextmanager
    def _watch(self, tools: Tools) -> Iterator[bool]:
        """Have `_lost` set when the kernel tells of a loss; gives whether it does."""
        loop = asyncio.get_running_loop()

        def lost(reason: str) -> None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(self._take, reason)

        watch = None
        if tools.back_end is BackEnd.NFT:
            try:
                watch = kernel.Watch(
                    self._family, tools.own.__contains__, lost,
                    partial(lost, "more was changed than could be read"), _judge,
                    # Also in what is told of a table that goes: its chains go before it.
                    needle=CHAIN.encode(),
                )  # fmt: skip
            except OSError as error:
                logs.event(
                    _log, logging.WARNING, "changes of nftables by others cannot be watched; the "
                    "rules are looked at now and then", reason=str(error),
                )  # fmt: skip
        try:
            yield watch is not None
        finally:
            if watch is not None:
                watch.stop()

    def _take(self, reason: str) -> None:
        self._reason = reason
        self._lost.set()

    async def _until_lost(self, tools: Tools, *, watched: bool) -> None:
        """Return when rules are gone."""
        seen: object = None
        while True:
            if watched:
                await self._lost.wait()
                self._lost.clear()
            else:
                await asyncio.sleep(self._look_seconds)
                before, seen = seen, self._signature(tools)
                if before == seen is not None:
                    continue
                self._reason = "they are not there any more"
            if not await asyncio.to_thread(self._whole, tools):
                return

    def _signature(self, tools: Tools) -> object:
        """What any change of rules changes; None if the kernel does not tell."""
        try:
            if tools.back_end is BackEnd.NFT:
                return kernel.generation()
            return legacy_tables.sizes(self._family, (TABLE,))
        except OSError:
            return None

    def _whole(self, tools: Tools) -> bool:
        """Whether all rules are there."""
        there = tools.listed(TABLE, CHAIN)
        count = len([line for line in there or () if line.startswith("-A ")])
        return count == len(rules(self._networks)) and len(_jumps(tools)) == 1

    def _make(self, tools: Tools) -> bool:
        """Make the rules, whatever is there of them; whether that was possible."""
        try:
            jumps = _jumps(tools)
            text = [
                f"*{TABLE}", f":{CHAIN} - [0:0]", *(f"-D {each}" for each in jumps[1:]),
                *rules(self._networks), *([] if jumps else [f"-A {_JUMP}"]), "COMMIT\n",
            ]  # fmt: skip
            tools.write("\n".join(text), "let packets between pods through")
        except SyncError as error:
            self._tell(error)
            return False
        return True

    def _tell(self, error: SyncError) -> None:
        logs.event(
            _log, logging.WARNING, "packets to pods of other nodes may be dropped where the policy "
            "of FORWARD is DROP", family=self._family.name, reason=str(error),
        )  # fmt: skip


def _judge(kind: int, body: bytes) -> str:
    return kernel.loss(kind, body, TABLE, CHAIN)


def of(settings: Settings) -> list[Filters]:
    """Return those of all families that have pods."""
    found = []
    for version, family in ((4, Family.V4), (6, Family.V6)):
        networks = [each for each in settings.cluster if each.version == version]
        if networks:
            found.append(Filters(family, networks))
    return found


def _jumps(tools: Tools) -> list[str]:
    lines = tools.listed(TABLE, "FORWARD") or []
    return [
        line.removeprefix("-A ")
        for line in lines
        if line.startswith("-A ") and line.endswith(f"-j {CHAIN}")
    ]


def clean_up() -> list[str]:
    """Remove the rules; return what failed."""
    failed = []
    for family in Family:
        try:
            tools = detect(family)
        except SyncError:
            continue  # no programs, no rules
        try:
            if tools.listed(TABLE, CHAIN) is None:
                continue
            text = [
                f"*{TABLE}", f":{CHAIN} - [0:0]", *(f"-D {each}" for each in _jumps(tools)),
                f"-X {CHAIN}", "COMMIT\n",
            ]  # fmt: skip
            tools.write("\n".join(text), "remove the rules of the pod network")
        except SyncError as error:
            failed.append(f"{family.name}: {error}")
    return failed
