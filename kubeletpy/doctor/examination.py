"""All groups, looked at beside each other."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Final

from kubeletpy.doctor import (
    cgroups,
    clock,
    disks,
    firewalls,
    forwarding,
    identity,
    kernel,
    limits,
    machine,
    neighbours,
    ports,
    programs,
    runtime_check,
    security_modules,
)
from kubeletpy.doctor.finding import Finding, warning
from kubeletpy.doctor.looking import Aside
from kubeletpy.doctor.purpose import PURPOSES, Purpose

_SECONDS: Final = 5.0
"""Longest time that a group gets, besides the runtime's own check."""
_GROUPS: Final[dict[str, Callable[[Purpose], list[Finding]]]] = {
    "machine": machine.look,
    "kernel": kernel.look,
    "cgroups": cgroups.look,
    "limits": limits.look,
    "programs": programs.look,
    "disks": disks.look,
    "clock": clock.look,
    "identity": identity.look,
    "ports": ports.look,
    "neighbours": neighbours.look,
    "forwarding": forwarding.look,
    "firewalls": firewalls.look,
    "security modules": security_modules.look,
}


def examine(purpose: str = "up", api_server: str = "") -> list[Finding]:
    """Look at the machine now; nothing is changed, and nothing is waited for beyond a deadline.

    Args:
        purpose: what it shall be: ``up``, ``node`` or ``server``.
        api_server: URL of the API server to compare clocks with; "" for none.

    Returns:
        Findings, those of one group beside each other; :func:`~kubeletpy.doctor.finding.errors`
        picks what keeps the machine from being that.

    Raises:
        KeyError: there is no such purpose.
    """
    wanted = PURPOSES[purpose].asking(api_server)
    own = Aside(lambda: runtime_check.look(wanted))
    until = time.monotonic() + _SECONDS
    looks = {name: Aside(partial(look, wanted)) for name, look in _GROUPS.items()}
    found = _result("runtime", own, runtime_check.SECONDS + 1.0)
    for name, look in looks.items():
        found += _result(name, look, until - time.monotonic())
    return found


def _result(name: str, look: Aside[list[Finding]], seconds: float) -> list[Finding]:
    """Return a group's findings, or one that says why there are none."""
    try:
        return look.result(seconds)
    except Exception as reason:  # one group that cannot be looked at takes no other with it
        said = f"could not be looked at: {reason or type(reason).__name__}"
        return [warning(name, said, "doctor", "report this, with the output of `kubeletpy doctor`")]
