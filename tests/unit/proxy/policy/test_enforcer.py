"""When tables are changed, when they are made anew, and what a refusal leads to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from proxy.backend import SyncError
from proxy.model.portal import Family
from proxy.nftables.ledger import Changes, Contents
from proxy.policy import enforcer
from proxy.policy.enforcer import Enforcer
from proxy.policy.inputs import Kind, decoded
from tests.support.policies import Json, namespace, pod, policy

NODE = "here"


class Table:
    """A table that says what is done to it."""

    made: Table

    def __init__(self, family: Family) -> None:
        self.family = family
        self.done: asyncio.Queue[str] = asyncio.Queue()
        self.refusals = 0
        self.is_intact = True
        self.doubt: Callable[[str], None] = lambda _: None
        self.lost: Callable[[], None] = lambda: None
        self.loop = asyncio.get_running_loop()
        Table.made = self

    def _tell(self, what: str) -> None:
        self.loop.call_soon_threadsafe(self.done.put_nowait, what)

    def _refuse(self, what: str) -> None:
        if self.refusals:
            self.refusals -= 1
            self._tell(f"{what} refused")
            raise SyncError("refused")

    def alter(self, changes: Changes) -> bool:
        self._refuse("change")
        too_much = sum(map(len, changes.added.values())) > 20
        self._tell("too much" if too_much else "change")
        return not too_much

    def replace(self, contents: Contents) -> int:
        self._refuse("anew")
        self._tell("anew")
        return 0

    def intact(self) -> bool:
        self._tell("looked")
        return self.is_intact

    def watch(self, doubt: Callable[[str], None], lost: Callable[[], None]) -> Callable[[], None]:
        self.doubt, self.lost = doubt, lost
        self._tell("watched")
        return lambda: None

    def close(self) -> None:
        self._tell("closed")


async def never() -> None:
    await asyncio.Event().wait()


def put(one: Enforcer, *things: Json) -> None:
    kinds = {"Pod": Kind.POD, "Namespace": Kind.NAMESPACE, "NetworkPolicy": Kind.POLICY}
    for each in things:
        found, _ = decoded(kinds[each["kind"]], json.dumps(each).encode())
        one.inputs.put(kinds[each["kind"]], found)


async def test_from_start_to_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enforcer, "PolicyTable", Table)
    monkeypatch.setattr(enforcer, "FIRST_RETRY", 0.01)
    monkeypatch.setattr(enforcer, "DOUBT_PAUSE", 0.01)
    refused: list[Any] = []
    one = Enforcer(NODE, [Family.V4], refused.append)
    ready = asyncio.Event()
    running = asyncio.create_task(one.run(never(), ready.set))

    async def does(*expected: str) -> None:
        async with asyncio.timeout(30):
            for each in expected:
                assert await Table.made.done.get() == each

    put(one, namespace("x"), policy("x/p", {}))
    # Nothing is written before there was a whole list of each kind.
    for kind in Kind:
        assert not ready.is_set()
        keys = {Kind.NAMESPACE: [("", "x")], Kind.POLICY: [("x", "p")], Kind.POD: []}[kind]
        one.inputs.keep(kind, keys)
    async with asyncio.timeout(30):
        await ready.wait()
    await does("anew", "watched")
    put(one, pod("x/q", ["10.0.0.1"], node=NODE))
    await does("change")
    put(one, pod("x/q", ["10.0.0.1"], node=NODE))
    # What changes nothing is not written; one that is refused has everything made anew.
    Table.made.refusals = 2
    put(one, pod("x/r", ["10.0.0.2"], node=NODE))
    await does("change refused", "anew refused", "anew")
    put(one, *(pod(f"x/n{each}", [f"10.0.1.{each}"], node=NODE) for each in range(1, 30)))
    await does("too much", "anew")
    Table.made.lost()
    await does("looked")
    Table.made.doubt("somebody did something")
    await does("anew")
    Table.made.is_intact = False
    Table.made.lost()
    await does("looked", "anew")
    put(one, policy("x/bad", {"matchLabels": {"is": "no"}}, ingress=[{"from": [{}]}]))
    put(one, policy("x/bad", {"matchLabels": {"is": "no"}}, ingress=[{"from": [{}]}]))
    assert [each.name for each in refused] == ["bad"]
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await does("closed")


async def test_a_source_that_fails_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(enforcer, "PolicyTable", Table)

    async def failing() -> None:
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        await Enforcer(NODE, [Family.V4]).run(failing())
