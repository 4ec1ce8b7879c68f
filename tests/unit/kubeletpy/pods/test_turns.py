"""The order in which the containers of a pod end."""

from __future__ import annotations

import asyncio

from kubeletpy.api.container import ExecAction, Lifecycle, LifecycleHandler
from kubeletpy.pods.turns import Turns

from .build import container, pod
from .test_worker import Bench, bench, ready, until_running

__all__ = ["bench"]
SIDECARS = tuple(container(name, restart_policy="Always") for name in ("s", "t"))


async def test_sidecars_wait_for_all_that_stand_before_them() -> None:
    turns = Turns(pod("a", "b", init=("i", *SIDECARS)), {"a", "b", "s", "t"})
    order: list[str] = []

    async def end(name: str) -> None:
        await turns.wait(name, 60)
        order.append(name)

    tasks = [asyncio.create_task(end(name)) for name in ("s", "t", "b", "a", "ephemeral")]
    for name in ("a", "b", "t"):
        await asyncio.sleep(0.01)
        turns.ended(name)
    async with asyncio.timeout(30):
        await asyncio.gather(*tasks)
    assert order == ["b", "a", "ephemeral", "t", "s"]


async def test_nobody_waits_longer_than_its_grace_nor_for_what_does_not_run() -> None:
    turns = Turns(pod("a", init=SIDECARS), {"a", "s"})
    async with asyncio.timeout(30):
        await turns.wait("s", 0.01)
        await turns.wait("s", 0)
        await turns.wait("s", -3)
        turns.ended("a")
        await turns.wait("s", 60)


async def test_hooks_run_at_once_and_stops_in_order(bench: Bench) -> None:
    def hooked(name: str) -> Lifecycle:
        return Lifecycle(pre_stop=LifecycleHandler(exec=ExecAction(command=["bye", name])))

    first, second = (
        container(name, restart_policy="Always", lifecycle=hooked(name)) for name in ("s", "t")
    )
    made = pod(container("a", lifecycle=hooked("a")), init=(first, second))
    worker = bench.run(made)
    await until_running(bench, worker, "t")
    await bench.until(worker, ready)
    before = len(bench.runtime.calls)
    worker.terminate()
    await bench.gone()
    calls = bench.runtime.calls[before:]
    assert sorted(calls[:3]) == ["ExecSync bye a", "ExecSync bye s", "ExecSync bye t"]
    assert calls[3:6] == ["StopContainer a", "StopContainer t", "StopContainer s"]
