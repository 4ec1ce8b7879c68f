"""Whether the kubelet is well, found out when somebody asks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from kubeletpy.cri.client import CriClient, CriError

ANSWER_TIMEOUT = 2.0
"""Seconds that the runtime has to answer."""
LONGEST_LAG = 1.0
"""Seconds by which the event loop may be late."""
_NAP = 0.01

Check = Callable[[], Awaitable[str]]
"""Returns what is wrong, "" if nothing."""


@dataclass(frozen=True, slots=True)
class Report:
    """What is wrong by the name of its check; "" where all is well."""

    faults: dict[str, str]

    @property
    def healthy(self) -> bool:
        """Whether no check found a fault."""
        return not any(self.faults.values())

    def text(self, verbose: bool) -> str:
        """Return the answer of ``/healthz`` in the form of the Go daemons."""
        if self.healthy and not verbose:
            return "ok"
        lines = [
            f"[-]{name} failed: {fault}" if fault else f"[+]{name} ok"
            for name, fault in self.faults.items()
        ]
        lines.append("healthz check passed" if self.healthy else "healthz check failed")
        return "\n".join(lines) + "\n"


async def check_loop() -> str:
    """Report an event loop that is late: something blocks it."""
    loop = asyncio.get_running_loop()
    before = loop.time()
    await asyncio.sleep(_NAP)
    lag = loop.time() - before - _NAP
    return f"the event loop is {lag:.1f} s late" if lag > LONGEST_LAG else ""


async def check_runtime(cri: CriClient) -> str:
    """Report a runtime that does not answer, or is not ready itself."""
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT):
            answer = await cri.status()
    except TimeoutError:
        return f"{cri.endpoint} does not answer within {ANSWER_TIMEOUT:.0f} s"
    except CriError as error:
        return f"{cri.endpoint}: {error}"
    for condition in answer.status.conditions:
        if condition.type == "RuntimeReady" and not condition.status:
            return f"{cri.endpoint} is not ready: {condition.reason}: {condition.message}"
    return ""


async def run_checks(checks: dict[str, Check]) -> Report:
    """Run all checks at the same time."""
    names = list(checks)
    faults = await asyncio.gather(*(checks[name]() for name in names))
    return Report({"ping": "", **dict(zip(names, faults, strict=True))})
