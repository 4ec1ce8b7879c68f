"""An even choice of one of many: rules that each match with a chance.

The first of n is taken with 1/n, the next of those left with 1/(n-1), the last always. That is a
walk of half the list for each new connection, so more than `GROUP` are divided into groups, chosen
by their size: 1,000 endpoints cost what 50 do. An endpoint is in a group by its own hash, so one
that comes or goes changes its group and the list of groups alone.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import cache
from typing import Final

GROUP: Final = 32
"""Targets up to which there are no groups, and about how many are in one."""
_MOST_GROUPS: Final = 256
"""Two hexadecimal digits in the name of a chain, which has no room for more."""
_ALWAYS: Final = 1 << 31
"""A chance of 1, as the kernel holds it (xt_statistic)."""


def choice(chain: str, targets: Sequence[tuple[str, str]]) -> dict[str, list[str]]:
    """Return the rules of a chain that takes one of the targets, and of chains below it.

    Args:
        chain: its name, of at most 25 characters.
        targets: match (without a chance; "" for none) and target (``-j ...``) of each.
    """
    if len(targets) <= GROUP:
        return {chain: _list([(match, target, 1) for match, target in targets])}
    count = min(1 << ((len(targets) - 1) // GROUP).bit_length(), _MOST_GROUPS)
    groups: dict[int, list[tuple[str, str, int]]] = {}
    for match, target in targets:
        groups.setdefault(zlib.crc32(target.encode()) % count, []).append((match, target, 1))
    below = {f"{chain}-{number:02x}": members for number, members in sorted(groups.items())}
    above = _list([("", f"-j {name}", len(members)) for name, members in below.items()])
    return {chain: above, **{name: _list(members) for name, members in below.items()}}


def _list(weighed: Sequence[tuple[str, str, int]]) -> list[str]:
    """Return rules that take each target as often as its weight says."""
    left = sum(weight for _, _, weight in weighed)
    rules = []
    for match, target, weight in weighed:
        chance = f"-m statistic --mode random --probability {_chance(weight, left)} "
        gap = f"{match} " if match else ""
        rules.append(f"{gap}{chance if weight < left else ''}{target}")
        left -= weight
    return rules


@cache
def _chance(part: int, whole: int) -> str:
    return f"{round(_ALWAYS * part / whole) / _ALWAYS:.11f}"
